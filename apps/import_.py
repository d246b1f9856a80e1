"""``resolvent import MODALITY FILE … --out FILE``: measurement files from other programs' files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..datasets import Arrays, printable
from .cli import UsageError
from .modality import run_modality

#: Modality to module, whose ``main(source, …)`` has the modality's options as its arguments.
MODALITIES = {
    "blur": "import_blur",
    "mri": "import_mri",
    "mri-trajectory": "import_trajectory",
    "spectra": "import_spectra",
    "ultrasound": "import_ultrasound",
}


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_modality("import", MODALITIES, argv, {"source": "file of any format that `resolvent info` knows"})


def pick(path: Path, found: Arrays, name: str | None, candidates: list[str], option: str = "--array") -> Tensor:
    """The array called ``name``; if that is None the only one of ``candidates``."""
    if name is None and len(candidates) == 1:
        return found.arrays[candidates[0]]
    if name is None or name not in found.arrays:
        asked = "none" if name is None else repr(name)
        expected = printable(", ".join(found.arrays), 400)
        raise UsageError(f"{option}: found {asked}, expected one of {expected} in {path}")
    return found.arrays[name]
