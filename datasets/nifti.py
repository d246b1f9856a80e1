"""NIfTI-1 and NIfTI-2 in one file, packed by gzip or not; read by nibabel (extra ``nifti``).

Axes are the file's (i, j, k); its affine carries them to right, anterior, superior in millimetres.
"""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from ..operators.extras import require
from .arrays import NUMERIC, Allowance, Arrays, decoding, inflate, to_tensor
from .errors import InputError

GZIP = b"\x1f\x8b"
NIFTI1, NIFTI2 = b"n+1\0", b"n+2\0\r\n\x1a\n"


def is_nifti(head: bytes, path: Path) -> bool:
    """By the magic number, also inside gzip."""
    if head.startswith(GZIP):
        try:
            head = zlib.decompressobj(31).decompress(head, 1024)
        except zlib.error:
            return False
    return head[344:348] == NIFTI1 or head[4:12] == NIFTI2


def read_nifti(path: Path) -> Arrays:
    """The volume, scaled as its header says, called ``array``; size of the voxels and place of the first in metres."""
    nib, allowance = require("nibabel", "nifti"), Allowance(path)
    with decoding(path, "NIfTI"):
        data = path.read_bytes()
        data = _gunzip(data, allowance) if data.startswith(GZIP) else data
        kind = nib.Nifti2Image if data[4:12] == NIFTI2 else nib.Nifti1Image
        header = kind.header_class.from_fileobj(BytesIO(data))
        if header.get_data_dtype().kind not in NUMERIC:
            raise InputError(f"{path}: array has type {header.get_data_dtype()}, expected numbers")
        allowance.take("array", header.get_data_shape(), 2 * max(8, header.get_data_dtype().itemsize))
        image = kind.from_bytes(data)
        array = np.asanyarray(image.dataobj)
        units = image.header.get_xyzt_units()[0]
        lengths = {"voxel size (m)": image.header.get_zooms()[:3], "first voxel (m)": image.affine[:3, 3]}
    metres = {"mm": 1e-3, "micron": 1e-6, "meter": 1.0, "unknown": 1e-3}[units]
    return Arrays({"array": to_tensor(array)}, {name: [float(n) * metres for n in ns] for name, ns in lengths.items()})


def _gunzip(data: bytes, allowance: Allowance) -> bytes:
    """All members of a gzip file: programs that pack in blocks write many."""
    members = []
    while data.startswith(GZIP):
        member, data = inflate(data, allowance, 31)
        members.append(member)
    return b"".join(members)
