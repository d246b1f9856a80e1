"""Reading and writing HDF5 with the doors closed: no external links, nothing half-written."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torch import Tensor

from ..operators.files import atomic, first_line
from .arrays import NUMERIC, Allowance, refuse_overfull, require_memory, to_tensor
from .errors import InputError, printable
from .hdf5_probe import overlaps, survives, types, varies

SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: MATLAB puts 512 bytes of its own before the signature.
USER_BLOCKS = (0, 512)
LONGEST_ATTRIBUTE = 60_000
PAIRS = (("real", "imag"), ("r", "i"))


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading.

    Whatever is raised in reading it becomes one line.

    :raises InputError: if it is missing, empty, truncated, damaged, not HDF5, or points outside itself.
    """
    path = Path(path)
    _check_signature(path)
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        raise InputError(f"{path}: HDF5 file cannot be opened, truncated or damaged ({first_line(error)})") from error
    with file:
        try:
            _refuse_links(path, file, set())
            _refuse_unsafe_types(path, file)
            yield file
        except InputError:
            raise
        except Exception as error:  # h5py raises any kind on damaged bytes
            raise InputError(f"{path}: damaged HDF5 file ({first_line(error)})") from error


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Write an HDF5 file that appears whole or not at all.

    It is made in memory: what the library cannot write when it closes a file it does not tell.

    :raises InputError: if the place cannot be written.
    """
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        yield file
    try:
        with atomic(path) as partial:
            partial.write_bytes(content.getbuffer())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or first_line(error)})") from error


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


def stored_text(value: str) -> np.bytes_ | str:
    """Text for an attribute: of fixed length, which is safe to read, unless too long for HDF5 to keep so."""
    content = value.encode()
    return np.bytes_(content) if 0 < len(content) < LONGEST_ATTRIBUTE and not content.endswith(b"\0") else value


def to_numpy(value: Tensor | np.ndarray | Any) -> np.ndarray:
    """A tensor, array, number or tuple as an array."""
    return value.detach().cpu().resolve_conj().numpy() if isinstance(value, Tensor) else np.asarray(value)


def is_numeric(item: Any) -> bool:
    """Whether it is a dataset of numbers, MATLAB's (real, imag) pairs among them."""
    return isinstance(item, h5py.Dataset) and (item.dtype.names in PAIRS or item.dtype.kind in NUMERIC)


def read_tensor(path: Path, item: h5py.Dataset, allowance: Allowance | None = None) -> Tensor:
    """A numeric dataset as a tensor; MATLAB's (real, imag) pairs become complex numbers.

    :param allowance: what the file's other arrays have left; a fresh one if None.
    :raises InputError: if it is not numeric or larger than ``allowance`` or this machine's memory.
    """
    if not isinstance(item, h5py.Dataset):
        raise InputError(f"{path}: {printable(item.name)} is a group, expected a dataset")
    if not is_numeric(item):
        raise InputError(f"{path}: {printable(item.name)} has type {printable(item.dtype)}, expected numbers")
    _check_storage(path, item, allowance or Allowance(path))
    array = item[()]
    if item.dtype.names in PAIRS:
        real, imaginary = (array[name] for name in item.dtype.names)
        array = real + np.complex64(1j) * imaginary
    return to_tensor(np.asarray(array))


def _check_storage(path: Path, item: h5py.Dataset, allowance: Allowance) -> None:
    """Refuse sizes a file of this length cannot mean: chunks that were never written read as zeros of any shape."""
    shape = item.shape if item.shape is not None else (0,)
    require_memory(f"{path}: {printable(item.name)} of shape {shape}", 2 * math.prod(shape) * item.dtype.itemsize)
    allowance.take(item.name, shape, item.dtype.itemsize)
    if item.chunks:
        allowance.take(f"a chunk of {item.name}", item.chunks, item.dtype.itemsize)
        refuse_overfull(path, item.name, item.id.get_storage_size(), math.prod(_chunked(item)) * item.dtype.itemsize)
    packers = item.id.get_create_plist()
    filters = [packers.get_filter(i)[0] for i in range(packers.get_nfilters())]
    if filters.count(h5py.h5z.FILTER_DEFLATE) > 1:
        raise InputError(f"{path}: {printable(item.name)} is packed more than once, expected once")


def _chunked(item: h5py.Dataset) -> list[int]:
    """The shape of an array in whole chunks."""
    return [-(-n // c) * c for n, c in zip(item.shape, item.chunks, strict=True)]


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def begins(path: Path, length: int = 1024) -> bytes:
    """A file's first bytes.

    :raises InputError: if it cannot be read, or is no file of bytes but a folder, a device or a pipe.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: is a folder or a device, expected a file")
        with path.open("rb") as file:
            return file.read(length)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def is_hdf5(head: bytes, path: Path) -> bool:
    """By the signature, at the front or behind MATLAB's header."""
    return any(head[at : at + len(SIGNATURE)] == SIGNATURE for at in USER_BLOCKS)


def link_names(head: bytes, path: Path, group: str = "/") -> list[str]:
    """Names in a group of an HDF5 file, followed nowhere; none where they cannot be read."""
    if not is_hdf5(head, path):
        return []
    try:
        with h5py.File(path, "r") as file:
            inside = group == "/" or isinstance(file.get(group, getlink=True), h5py.HardLink)
            return list(file[group]) if inside and file.get(group, getclass=True) is h5py.Group else []
    except Exception:  # h5py raises any kind on damaged bytes; the reader will say what is wrong
        return []


def _check_signature(path: Path) -> None:
    head = begins(path)
    if not head:
        raise InputError(f"{path}: empty file, expected HDF5")
    if not is_hdf5(head, path):
        raise InputError(f"{path}: not an HDF5 file (begins with {head[: len(SIGNATURE)]!r})")


def _refuse_links(path: Path, group: h5py.Group, seen: set[Any]) -> None:
    """Refuse what lies outside the file; a group that is linked twice is looked at once."""
    seen.add(group)
    for name in group:
        link, where = group.get(name, getlink=True), f"{path}: {printable(group.name)}{printable(name)}"
        if isinstance(link, h5py.ExternalLink):
            raise InputError(f"{where} is an external link to {link.filename!r}, expected data in the file itself")
        item = group.get(name)
        if item is None:
            raise InputError(f"{where} is a broken link")
        if isinstance(item, h5py.Dataset) and (item.external or item.is_virtual):
            raise InputError(f"{where} is stored in another file, expected data in the file itself")
        if isinstance(item, h5py.Group) and isinstance(link, h5py.HardLink) and item not in seen:
            _refuse_links(path, item, seen)


def _refuse_unsafe_types(path: Path, file: h5py.File) -> None:
    """Refuse data that the HDF5 library would not survive reading."""
    found = types(file)
    file.visititems(lambda _, item: found.extend(types(item)))
    about = path.stat()
    if any(map(overlaps, found)):
        raise InputError(f"{path}: damaged HDF5 file, expected members of compound types side by side")
    if any(map(varies, found)) and not survives(path, about.st_size, about.st_mtime_ns):
        raise InputError(f"{path}: damaged HDF5 file, expected text and lists of the length they declare")
