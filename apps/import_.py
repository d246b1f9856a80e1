"""``resolvent import MODALITY FILE … --out FILE``: measurement files from other programs' files."""

from __future__ import annotations

import importlib
from pathlib import Path

from torch import Tensor

from ..datasets import Arrays, printable
from .arguments import new_parser, parse
from .cli import UsageError

#: Modality to module, whose ``main(source, …)`` has the modality's options as its arguments.
MODALITIES = {"blur": "import_blur", "mri": "import_mri", "ultrasound": "import_ultrasound"}


def main(argv: list[str]) -> int:
    """Run the verb."""
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: resolvent import MODALITY FILE … --out FILE\n\nmodalities: {', '.join(MODALITIES)}")
        return 0
    if not argv or argv[0] not in MODALITIES:
        found = repr(argv[0]) if argv else "none"
        raise UsageError(f"modality: found {found}, expected one of {', '.join(MODALITIES)}")
    function = importlib.import_module(f".{MODALITIES[argv[0]]}", __package__).main
    parser = new_parser(f"import {argv[0]}", (function.__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=str, help="file of any format that `resolvent info` knows")
    parser.add_argument("--config", action="config", help="YAML with any of these options")
    parser.add_function_arguments(function, skip={"source"})
    config = parse(parser, argv[1:])
    config.pop("config", None)
    function(**vars(config))
    return 0


def pick(path: Path, found: Arrays, name: str | None, candidates: list[str], option: str = "--array") -> Tensor:
    """The array called ``name``; if that is None the only one of ``candidates``."""
    if name is None and len(candidates) == 1:
        return found.arrays[candidates[0]]
    if name is None or name not in found.arrays:
        asked = "none" if name is None else repr(name)
        expected = printable(", ".join(found.arrays), 400)
        raise UsageError(f"{option}: found {asked}, expected one of {expected} in {path}")
    return found.arrays[name]
