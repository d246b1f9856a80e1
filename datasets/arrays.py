r"""Arrays out of other programs' files, and the memory that reading a file may take.

A file of a few bytes can declare any size, or unpack to it. Before anything is allocated the declared
sizes of all arrays of a file are added up and held against

.. math:: 64\,\mathrm{MiB} + 100 \times \text{the file's own size}

and against this machine's memory. Measured data shrink by a factor of two or three when packed, masks
and rendered volumes by some tens.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..operators.files import first_line
from .errors import InputError, printable

SPARE, FACTOR = 64 * 2**20, 100
#: Bytes that packing may add to an array besides as many as it has.
PACKING = 2**16

#: numpy's kinds of numbers: real, integer, unsigned, complex, boolean.
NUMERIC = "fiucb"
#: Types torch lacks, or can do nothing with, to those that hold their values.
WIDER = {"uint16": "int32", "uint32": "int64", "uint64": "float64", "float128": "float64", "complex256": "complex128"}


@dataclass(frozen=True)
class Arrays:
    """What a file holds.

    :param arrays: per name, as in the file, a tensor.
    :param facts: what else the file says: units, voxel size, header fields. ``coil_axis`` and
        ``batch_axis`` are there where the format fixes them.
    """

    arrays: dict[str, Tensor]
    facts: dict[str, Any] = field(default_factory=dict)


class Allowance:
    """The bytes that may still be allocated in reading one file."""

    def __init__(self, path: Path):
        self.path, self.size = path, path.stat().st_size
        self.left = SPARE + FACTOR * self.size

    def take(self, what: str, shape: Sequence[int], itemsize: int) -> None:
        """Book an array.

        :raises InputError: if it has a negative length, or is more than is left or than this machine has.
        """
        what = f"{self.path}: {printable(what)} of shape {printable(tuple(shape))}"
        if min(shape, default=0) < 0:
            raise InputError(f"{what}, expected no negative length")
        needed = math.prod(shape) * itemsize
        require_memory(what, needed)
        if needed > self.left:
            raise InputError(f"{what} needs {needed} bytes, expected at most {self.left} in a file of {self.size}")
        self.left -= needed


def refuse_overfull(path: Path, what: str, stored: int, unpacked: int) -> None:
    """Refuse packed bytes that unpack to more than what they are said to hold: packing adds a few bytes, no more.

    :raises InputError: naming the array.
    """
    if stored > 2 * unpacked + PACKING:
        raise InputError(f"{path}: {printable(what)} has {stored} bytes for {unpacked} unpacked, expected fewer")


def require_memory(what: str, needed: int) -> None:
    """Refuse what this machine's memory cannot hold, before anything is allocated."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        sizes = f"needs about {needed / 2**30:.0f} GiB, expected at most the {present / 2**30:.0f} GiB of this machine"
        raise InputError(f"{what} {sizes}")


def to_tensor(array: np.ndarray) -> Tensor:
    """A numeric array as a tensor of its own, in this machine's byte order."""
    native = array.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(array, dtype=WIDER.get(native.name, native), order="C"))


def inflate(data: bytes | memoryview, allowance: Allowance, wbits: int = zlib.MAX_WBITS) -> tuple[bytes, bytes]:
    """Unpack a zlib stream (``wbits`` 31: gzip), never to more than what is left of ``allowance``; and what follows it.

    :raises InputError: if it would be more.
    :raises zlib.error: if it is damaged or cut short.
    """
    stream = zlib.decompressobj(wbits)
    unpacked = stream.decompress(data, allowance.left + 1)
    allowance.take("packed data", (len(unpacked),), 1)
    if not stream.eof:
        raise zlib.error("packed data are cut short")
    return unpacked, stream.unused_data


@contextmanager
def decoding(path: Path, what: str) -> Iterator[None]:
    """Some library reads ``path``: it is kept silent, and whatever it raises becomes one line.

    Readers raise anything on damaged bytes, from ``KeyError`` to ``RecursionError``.

    :raises InputError: instead of any other exception.
    """
    muted = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"{path}: damaged {what} file ({type(error).__name__}: {reason})") from error
    finally:
        logging.disable(muted)
