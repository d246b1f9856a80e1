"""Any HDF5 file: its datasets of numbers by their place, its attributes as facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from .arrays import Allowance, Arrays, decoding
from .hdf5 import is_hdf5, is_numeric, read_tensor, reading, text

__all__ = ["is_hdf5", "read_hdf5"]


def read_hdf5(path: Path) -> Arrays:
    """Arrays by their place, ``group/name``; attributes as ``group/name.attribute``."""
    allowance, arrays, facts = Allowance(path), {}, {}
    with reading(path) as file, decoding(path, "HDF5"):
        for place, item in _items(file, set()):
            facts |= {f"{place}.{key}".lstrip("."): text(value) for key, value in item.attrs.items()}
            if is_numeric(item):
                arrays[place] = read_tensor(path, item, allowance)
    return Arrays(arrays, facts)


def _items(group: h5py.Group, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Everything in the file, once, wherever links lead."""
    if group not in seen:
        seen.add(group)
        yield group.name.strip("/"), group
        for name in group:
            item = group[name]
            if isinstance(item, h5py.Group):
                yield from _items(item, seen)
            elif isinstance(item, h5py.Dataset):
                yield item.name.strip("/"), item
