"""NumPy's ``.npy`` and ``.npz``: arrays of numbers, never pickled objects."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from .arrays import NUMERIC, Allowance, Arrays, decoding, require_memory, to_tensor
from .errors import InputError, printable

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(path: Path) -> Arrays:
    """One array, called ``array``."""
    with decoding(path, "npy"), path.open("rb") as file:
        array = _read(file, path.stat().st_size, f"{path}: array")
    if array is None:
        raise InputError(f"{path}: array holds Python objects or text, expected numbers")
    return Arrays({"array": to_tensor(array)})


def is_npz(head: bytes, path: Path) -> bool:
    """Whether it is a zip archive of ``.npy`` files."""
    try:
        return head.startswith(b"PK\x03\x04") and any(n.endswith(".npy") for n in zipfile.ZipFile(path).namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError):
        return head.startswith(b"PK\x03\x04") and b".npy" in head


def read_npz(path: Path) -> Arrays:
    """Arrays by their names; members that are not numbers are left out, by name."""
    allowance, arrays, left_out = Allowance(path), {}, []
    with decoding(path, "npz"), zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        for info in members:
            if info.compress_type not in PACKINGS or info.flag_bits & 1:
                raise InputError(f"{path}: {printable(info.filename)} is packed otherwise than by deflate")
            allowance.take(info.filename, (info.file_size,), 1)
        for info in members:
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                array = _read(file, info.file_size, f"{path}: {printable(name)}")
            if array is None:
                left_out.append(name)
            else:
                arrays[name] = to_tensor(array)
    return Arrays(arrays, {"left out": left_out} if left_out else {})


def _read(file: IO[bytes], size: int, what: str) -> np.ndarray | None:
    """The array in a file of ``size`` bytes; None if it is not of numbers."""
    version = npy.read_magic(file)
    if version not in HEADERS:
        raise InputError(f"{what} has npy version {version}, expected 1.0 or 2.0")
    shape, _, dtype = HEADERS[version](file)
    if dtype.kind not in NUMERIC:
        return None
    declared, present = math.prod(shape) * dtype.itemsize, size - file.tell()
    if declared != present or min(shape, default=0) < 0:
        raise InputError(f"{what} of shape {printable(shape)} has {present} bytes of data, expected {declared}")
    require_memory(what, 2 * declared)
    file.seek(0)
    return npy.read_array(file, allow_pickle=False)
