"""The pair ``.cfl`` and ``.hdr`` of the BART toolbox: complex64, first axis fastest, dimensions as text.

Axes are BART's own: readout, first and second phase encoding, coil, maps, echo time and further ones.
Axes of length one at the end are dropped. Those after the maps that are longer are of several images.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from .arrays import Arrays, decoding, require_memory, to_tensor
from .errors import InputError, printable

MAGIC = b"# Dimensions"
COIL, MAPS = 3, 4
AXES = ("readout", "phase encoding 1", "phase encoding 2", "coil", "maps", "echo")


def is_bart(head: bytes, path: Path) -> bool:
    """Whether it is a header, or raw data beside one."""
    if head.startswith(MAGIC):
        return True
    return path.suffix == ".cfl" and _header(path.with_suffix(".hdr")).startswith(MAGIC)


def read_bart(path: Path) -> Arrays:
    """One complex64 array, called ``array``."""
    data = path.with_suffix(".cfl")
    with decoding(path, "BART"):
        shape = _dimensions(path)
        if not data.is_file():
            raise InputError(f"{path}: found no {data.name} beside it, expected the data there")
        if data.stat().st_size != 8 * math.prod(shape):
            found = f"{data.name} has {data.stat().st_size} bytes"
            raise InputError(f"{path}: {found}, dimensions {shape} expect {8 * math.prod(shape)}")
        require_memory(f"{path}: array", 16 * math.prod(shape))
        array = np.fromfile(data, "<c8").reshape(shape, order="F")
    facts: dict[str, object] = {"axes": ", ".join(AXES[: len(shape)]), "coil_axis": COIL}
    several = [axis for axis in range(MAPS + 1, len(shape)) if shape[axis] > 1]
    facts |= {"image_axes": several} if several else {}
    return Arrays({"array": to_tensor(array)}, facts | ({"batch_axis": several[0]} if len(several) == 1 else {}))


def _dimensions(path: Path) -> tuple[int, ...]:
    lines = _header(path.with_suffix(".hdr")).decode(errors="replace").splitlines()
    line = lines[1] if len(lines) > 1 else ""
    if not re.fullmatch(r"\s*[0-9]{1,18}(\s+[0-9]{1,18}){0,31}\s*", line):
        raise InputError(f"{path}: dimensions are {printable(line)!r}, expected up to 32 whole numbers")
    shape = [int(n) for n in line.split()]
    while len(shape) > 1 and shape[-1] == 1:
        shape.pop()
    return tuple(shape)


def _header(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4096)
