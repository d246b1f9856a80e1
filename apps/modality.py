"""A verb with a module for each modality: ``resolvent VERB MODALITY …``."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

from .arguments import keep_apart, new_parser, parse
from .cli import UsageError


def run_modality(verb: str, modalities: Mapping[str, str], argv: list[str], positional: Mapping[str, str]) -> int:
    """Call ``main`` of the modality's module; its arguments are the options.

    :param modalities: modality to module.
    :param positional: those of its arguments that are given by place, with their help.
    """
    places = " ".join(name.upper() for name in positional)
    if argv and argv[0] in ("-h", "--help"):
        usage = " ".join(["usage: resolvent", verb, "MODALITY", *places.split(), "… --out FILE"])
        print(f"{usage}\n\nmodalities: {', '.join(modalities)}")
        return 0
    if not argv or argv[0] not in modalities:
        found = repr(argv[0]) if argv else "none"
        raise UsageError(f"modality: found {found}, expected one of {', '.join(modalities)}")
    function = importlib.import_module(f".{modalities[argv[0]]}", __package__).main
    parser = new_parser(f"{verb} {argv[0]}", (function.__doc__ or "").splitlines()[0])
    for name, about in positional.items():
        parser.add_argument(name, type=str, help=about)
    parser.add_argument("--config", action="config", help="YAML with any of these options")
    parser.add_function_arguments(function, skip=set(positional))
    config = parse(parser, argv[1:])
    config.pop("config", None)
    keep_apart(config.out, [v for k, v in vars(config).items() if k != "out" and isinstance(v, str)])
    refuse_others(Path(config.out))
    function(**vars(config))
    return 0


def refuse_others(out: Path) -> None:
    """Refuse to write a measurement over anything else.

    :raises InputError: naming it.
    """
    from ..datasets import InputError
    from .info import own_format

    if out.is_file() and own_format(out) != "resolvent-measurement":
        raise InputError(f"{out}: found a file that is no measurement, expected another --out")
