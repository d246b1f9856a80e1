"""The formats of other programs: each is known by a file's content, whatever the file is called.

A new format costs one file with two functions and one row in :data:`FORMATS`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .arrays import Arrays
from .bart import is_bart, read_bart
from .errors import InputError
from .fastmri import is_fastmri, read_fastmri
from .hdf5 import begins
from .hdf5_arrays import is_hdf5, read_hdf5
from .images import BMP, JPEG, PNG, TIFF, WEBP, read_picture, read_tiff
from .ismrmrd import is_ismrmrd, read_ismrmrd
from .matlab5 import is_matlab5, read_matlab5
from .matlab73 import is_matlab73, read_matlab73
from .nifti import is_nifti, read_nifti
from .numpy_files import is_npz, read_npy, read_npz


class Format(NamedTuple):
    """One format.

    :param recognises: whether a file with these first 1024 bytes, at this path, is of the format.
    :param read: all arrays of a file.
    """

    name: str
    recognises: Callable[[bytes, Path], bool]
    read: Callable[[Path], Arrays]


def _begins_with(*marks: bytes) -> Callable[[bytes, Path], bool]:
    return lambda head, path: head.startswith(marks)


def _matches(pattern: re.Pattern[bytes]) -> Callable[[bytes, Path], bool]:
    return lambda head, path: pattern.match(head) is not None


#: The first that recognises a file has it: the special before the general.
FORMATS = (
    Format("MATLAB v7.3", is_matlab73, read_matlab73),
    Format("fastMRI", is_fastmri, read_fastmri),
    Format("ISMRMRD", is_ismrmrd, read_ismrmrd),
    Format("HDF5", is_hdf5, read_hdf5),
    Format("npy", _begins_with(b"\x93NUMPY"), read_npy),
    Format("npz", is_npz, read_npz),
    Format("PNG", _begins_with(PNG), read_picture),
    Format("JPEG", _begins_with(JPEG), read_picture),
    Format("WebP", _matches(WEBP), read_picture),
    Format("BMP", _matches(BMP), read_picture),
    Format("TIFF", _begins_with(*TIFF), read_tiff),
    Format("NIfTI", is_nifti, read_nifti),
    Format("MATLAB v5", is_matlab5, read_matlab5),
    Format("BART", is_bart, read_bart),
)


def recognise(path: str | os.PathLike[str]) -> Format:
    """The format of a file, by its content.

    :raises InputError: if it cannot be read or is of none of :data:`FORMATS`.
    """
    path = Path(path)
    head = begins(path)
    for row in FORMATS:
        if row.recognises(head, path):
            return row
    known = ", ".join(row.name for row in FORMATS)
    raise InputError(f"{path}: of no known format (begins with {head[:8]!r}), expected one of {known}")


def read_arrays(path: str | os.PathLike[str]) -> Arrays:
    """All arrays of numbers in a file of any known format.

    :raises InputError: if it is damaged, holds no numbers, or unpacks to more than
        :class:`~resolvent.datasets.arrays.Allowance` has for a file of its size.
    """
    path = Path(path)
    row = recognise(path)
    found = row.read(path)
    if not found.arrays:
        raise InputError(f"{path}: {row.name} file without arrays of numbers, expected at least one")
    return found


def refuse_other_formats(path: Path, expected: str) -> None:
    """Say of a file of another program what it is, and which command makes a measurement of it.

    :raises InputError: if it is one; HDF5 without a format of its own passes.
    """
    try:
        found = recognise(path)
    except InputError:
        return
    if found.read is not read_hdf5:
        raise InputError(
            f"{path}: is a {found.name} file, expected a {expected}; `resolvent import` makes one of other formats"
        )
