"""Photographs and microscopy: PNG and JPEG by Pillow, TIFF by tifffile.

Values stay as stored, integers of 8 or 16 bits. Gray images are ``(rows, columns)``, colour ones
``(3, rows, columns)``, an alpha channel is an array of its own; stacks have their pages first.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, ImageOps

from .arrays import NUMERIC, Allowance, Arrays, decoding, to_tensor
from .errors import InputError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Pillow's modes that are taken as they are; all others become RGB.
MODES = ("1", "L", "LA", "I;16", "RGB", "RGBA")


def read_picture(path: Path) -> Arrays:
    """A PNG or JPEG as ``image`` and, where it has one, ``alpha``; turned as its EXIF tag says.

    :raises InputError: for colours of 16 bits in PNG too, of which Pillow would drop half.
    """
    with path.open("rb") as file:
        head = file.read(32)
    if head.startswith(PNG) and head[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06"):
        raise InputError(f"{path}: PNG of 16 bits in several channels, expected 8 bits, or gray; TIFF keeps all 16")
    allowance = Allowance(path)
    with decoding(path, "image"), Image.open(path, formats=("PNG", "JPEG")) as picture:
        allowance.take("image", (*picture.size, 4), 2)
        turned = ImageOps.exif_transpose(picture)
        if turned.mode not in MODES:
            turned = turned.convert("RGBA" if "transparency" in turned.info else "RGB")
        values = np.asarray(turned)
    return Arrays(_channels(values, axis=-1 if values.ndim == 3 else None))


def read_tiff(path: Path) -> Arrays:
    """The first series of a TIFF as ``image`` and, where it has one, ``alpha``."""
    allowance = Allowance(path)
    with decoding(path, "TIFF"), tifffile.TiffFile(path) as file:
        series = file.series[0]
        if series.dtype is None or series.dtype.kind not in NUMERIC:
            raise InputError(f"{path}: image has type {series.dtype}, expected numbers")
        allowance.take("image", series.shape, 2 * series.dtype.itemsize)
        values, axes = series.asarray(maxworkers=1), series.axes
        if values.shape != series.shape:
            raise InputError(f"{path}: image has shape {values.shape}, its header expects {series.shape}")
    return Arrays(_channels(values, axes.index("S") if "S" in axes else None))


def _channels(values: np.ndarray, axis: int | None) -> dict:
    """Colour first, alpha apart, gray without a channel axis."""
    if axis is None:
        return {"image": to_tensor(values)}
    values = np.moveaxis(values, axis, 0)
    colours = 3 if len(values) >= 3 else 1
    image = {"image": to_tensor(values[:colours].squeeze(0) if colours == 1 else values[:colours])}
    return image | ({"alpha": to_tensor(values[colours])} if len(values) == colours + 1 else {})
