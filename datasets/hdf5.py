"""Reading and writing HDF5 with the doors closed: no external links, nothing half-written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from ..operators.files import atomic
from .errors import InputError

SIGNATURE = b"\x89HDF\r\n\x1a\n"


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    :raises InputError: if it is missing, empty, truncated, not HDF5, or points outside itself.
    """
    path = Path(path)
    _check_signature(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: HDF5 file cannot be opened, truncated or damaged ({_first_line(error)})") from error
    with file:
        _refuse_links(path, file)
        try:
            yield file
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: damaged HDF5 file ({_first_line(error)})") from error


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Write an HDF5 file that appears whole or not at all.

    :raises InputError: if the place cannot be written.
    """
    try:
        with atomic(path) as partial, h5py.File(partial, "w") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or _first_line(error)})") from error


def check_format(path: Path, file: h5py.File, expected: str, version: int) -> None:
    """Refuse another format or a version other than ``version``, naming both."""
    found = text(file.attrs.get("format", "none"))
    if found != expected:
        raise InputError(f"{path}: attribute 'format' is {found!r}, expected {expected!r}")
    number = np.squeeze(file.attrs.get("version", "none"))
    if not np.array_equal(number, version):
        raise InputError(f"{path}: {expected} version is {number}, expected {version}")


def text(value: Any) -> str:
    """An HDF5 attribute as a string."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def to_numpy(value: Tensor | np.ndarray | Any) -> np.ndarray:
    """A tensor, array, number or tuple as an array."""
    return value.detach().cpu().resolve_conj().numpy() if isinstance(value, Tensor) else np.asarray(value)


def read_tensor(path: Path, item: h5py.Dataset) -> Tensor:
    """A numeric dataset as a tensor; MATLAB's (real, imag) pairs become complex numbers.

    :raises InputError: if it is not numeric or larger than this machine's memory.
    """
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{path}: {item.name} is a group, expected a dataset")
    names = item.dtype.names
    if not (names in (("real", "imag"), ("r", "i")) or item.dtype.kind in "fiucb"):
        raise InputError(f"{path}: {item.name} has type {item.dtype}, expected numbers")
    size = item.size or 0
    require_memory(f"{path}: {item.name} of shape {item.shape}", 2 * size * item.dtype.itemsize)
    array = item[()]
    if names == ("real", "imag"):
        array = array["real"] + 1j * array["imag"]
    array = np.asarray(array)
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("=")))


def require_memory(what: str, needed: int) -> None:
    """Refuse what this machine's memory cannot hold, before anything is allocated."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        sizes = f"needs about {needed / 2**30:.0f} GiB, expected at most the {present / 2**30:.0f} GiB of this machine"
        raise InputError(f"{what} {sizes}")


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_signature(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(len(SIGNATURE))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected an HDF5 file") from error
    if not head:
        raise InputError(f"{path}: empty file, expected HDF5")
    if head != SIGNATURE:
        raise InputError(f"{path}: not an HDF5 file (begins with {head!r})")


def _refuse_links(path: Path, group: h5py.Group) -> None:
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise InputError(
                f"{path}: {group.name}{name} is an external link to {link.filename!r}, expected data in the file itself"
            )
        item = group.get(name)
        if item is None:
            raise InputError(f"{path}: {group.name}{name} is a broken link")
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise InputError(f"{path}: {item.name} is stored in another file, expected data in the file itself")
        if isinstance(item, h5py.Group) and isinstance(link, h5py.HardLink):
            _refuse_links(path, item)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
