"""MATLAB's ``.mat`` of version 7.3: HDF5 behind 512 bytes of its own.

MATLAB counts axes from the other end, keeps complex numbers as pairs (real, imag), and cells as
references to arrays elsewhere in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from .arrays import Allowance, Arrays, decoding
from .hdf5 import is_numeric, read_tensor, reading, text

MAGIC = b"MATLAB 7.3 MAT-file"
DEEPEST = 16
#: Bytes that an array is counted as besides its values.
OBJECT = 4096


def is_matlab73(head: bytes, path: Path) -> bool:
    """By MATLAB's own header."""
    return head.startswith(MAGIC)


def read_matlab73(path: Path) -> Arrays:
    """Variables by name; ``s.field`` of structs, ``c{3}`` of cell arrays, as MATLAB would write it."""
    allowance, arrays, facts, left_out = Allowance(path), {}, {}, []
    with reading(path) as file, decoding(path, "MATLAB"):
        for name in file:
            if name.startswith("#"):
                continue
            for place, item in _leaves(file, name, file[name], allowance):
                kind = text(item.attrs.get("MATLAB_class", ""))
                if kind == "char":
                    allowance.take(place, item.shape, 8)
                    facts[place] = "".join(map(chr, np.ravel(item[()]).tolist())) if item.dtype.kind == "u" else ""
                elif isinstance(item, h5py.Dataset) and is_numeric(item):
                    arrays[place] = _as_matlab_has_it(path, item, allowance)
                else:
                    left_out.append(place)
    return Arrays(arrays, facts | ({"left out": left_out} if left_out else {}))


def _as_matlab_has_it(path: Path, item: h5py.Dataset, allowance: Allowance) -> torch.Tensor:
    values = read_tensor(path, item, allowance)
    if item.attrs.get("MATLAB_empty", 0):
        shape = [int(n) for n in values.flatten()]
        return torch.zeros(shape if 0 in shape else [0])
    values = values.permute(*range(values.ndim - 1, -1, -1)).contiguous()
    return values.bool() if text(item.attrs.get("MATLAB_class", "")) == "logical" else values


def _leaves(file: h5py.File, name: str, item: Any, allowance: Allowance, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """The arrays below ``item``; each costs its share of the allowance, for cells may hold the same ones again."""
    allowance.take(name, (OBJECT,), 1)
    if depth > DEEPEST:
        raise ValueError(f"cells more than {DEEPEST} deep")
    if isinstance(item, h5py.Group):
        if "MATLAB_sparse" in item.attrs:
            yield name, item
            return
        for key in item:
            yield from _leaves(file, f"{name}.{key}", item[key], allowance, depth + 1)
    elif h5py.check_ref_dtype(item.dtype) is h5py.Reference:
        allowance.take(name, item.shape, 8)
        for i, reference in enumerate(np.ravel(item[()]), 1):
            found = file[reference]
            if not found.name:  # its links were not looked at
                raise ValueError("a cell that no name leads to")
            yield from _leaves(file, f"{name}{{{i}}}", found, allowance, depth + 1)
    else:
        yield name, item
