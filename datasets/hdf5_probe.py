"""Whether an HDF5 file's variable-length data can be read at all, tried out in a process of its own.

The HDF5 library believes the length that such an item declares, and copies from beyond the file's bytes if it
is wrong: the process ends there, or takes gigabytes. A process that ends here is only a damaged file.
Run as a script; it imports nothing of this package.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np

#: Bytes that reading may take: these, and a hundred times the file's size.
ROOM = 2**28


@lru_cache(maxsize=256)
def survives(path: Path, size: int, _changed: int) -> bool:
    """Whether all variable-length data of a file can be read; asked once for each state of a file."""
    command = [sys.executable, "-I", __file__, str(path.resolve()), str(ROOM + 100 * size)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(command, capture_output=True, timeout=30 + size / 2**20, env=one_thread, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def types(item: h5py.Group | h5py.Dataset) -> list[np.dtype]:
    """Of all attributes, and of the data themselves; nothing is read."""
    of_attributes = [item.attrs.get_id(name).dtype for name in item.attrs]
    return [*of_attributes, item.dtype] if isinstance(item, h5py.Dataset) else of_attributes


def varies(dtype: np.dtype) -> bool:
    """Whether it is of variable length, or has members that are."""
    return dtype.hasobject and h5py.check_ref_dtype(dtype) is None


def overlaps(dtype: np.dtype) -> bool:
    """Whether members of a compound lie over each other: the library would write beyond what is allocated."""
    members = sorted((dtype.fields or {}).values(), key=lambda member: member[1])
    ends = [member[1] + member[0].itemsize for member in members]
    starts = [member[1] for member in members[1:]] + [dtype.itemsize]
    return any(end > start for end, start in zip(ends, starts, strict=False)) or any(overlaps(m[0]) for m in members)


def _touch(_: str, item: h5py.Group | h5py.Dataset) -> None:
    for name in item.attrs:
        item.attrs[name]
    if isinstance(item, h5py.Dataset) and varies(item.dtype):
        for start in range(0, item.shape[0], 64) if item.shape else [()]:
            item[start : start + 64] if item.shape else item[()]


def _limit_memory(room: int) -> None:
    """Let this process grow by ``room`` bytes, where the system can be told so."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    _limit_memory(int(sys.argv[2]))
    with h5py.File(sys.argv[1], "r") as file:
        _touch("/", file)
        file.visititems(_touch)
