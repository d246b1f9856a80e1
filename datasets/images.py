"""Photographs and microscopy: PNG, JPEG, WebP and BMP by Pillow, TIFF by tifffile.

Values stay as stored, integers of 8 or 16 bits. Gray images are ``(rows, columns)``, colour ones
``(3, rows, columns)``, an alpha channel is an array of its own; stacks have their pages first. What integers
mean by white is among the facts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .arrays import NUMERIC, Allowance, Arrays, decoding, refuse_overfull, to_tensor
from .errors import InputError

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
WEBP, BMP = re.compile(rb"RIFF....WEBP", re.DOTALL), re.compile(rb"BM....\0\0\0\0", re.DOTALL)
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: What TIFF calls numbers that are taken as they are, or inverted where 0 is white.
BRIGHTNESS = ("MINISBLACK", "MINISWHITE", "RGB", "CFA", "LINEAR_RAW")
#: By orientation: whether rows become columns, then whether rows and columns are flipped.
TURNS = {
    1: (False, False, False), 2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
#: Pillow's modes that are taken as they are; all others become RGB.
MODES = ("1", "L", "LA", "I;16", "RGB", "RGBA")


def read_picture(path: Path) -> Arrays:
    """A PNG, JPEG, WebP or BMP as ``image`` and, where it has one, ``alpha``; turned as its EXIF tag says.

    :raises InputError: for colours of 16 bits in PNG too, of which Pillow would drop half.
    """
    with path.open("rb") as file:
        head = file.read(32)
    if head.startswith(PNG) and head[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06"):
        raise InputError(f"{path}: PNG of 16 bits in several channels, expected 8 bits, or gray; TIFF keeps all 16")
    allowance = Allowance(path)
    with decoding(path, "image"), Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP")) as picture:
        allowance.take("image", (*picture.size, 4), 2)
        turned = ImageOps.exif_transpose(picture)
        if turned.mode not in MODES:
            turned = turned.convert("RGBA" if "transparency" in turned.info else "RGB")
        values = np.asarray(turned)
    return _image(values, axis=-1 if values.ndim == 3 else None)


def read_tiff(path: Path) -> Arrays:
    """The first series of a TIFF as ``image`` and, where it has one, ``alpha``."""
    allowance = Allowance(path)
    with decoding(path, "TIFF"), tifffile.TiffFile(path) as file:
        series = file.series[0]
        if series.dtype is None or series.dtype.kind not in NUMERIC:
            raise InputError(f"{path}: image has type {series.dtype}, expected numbers")
        allowance.take("image", series.shape, 2 * series.dtype.itemsize)
        for page in series.pages:
            if page is not None:
                refuse_overfull(path, "image", sum(page.databytecounts), page.nbytes)
        kind, orientation = _photometric(path, series.keyframe), series.keyframe.tags.valueof(274, default=1)
        values, axes = series.asarray(maxworkers=1), series.axes
        if values.shape != series.shape:
            raise InputError(f"{path}: image has shape {values.shape}, its header expects {series.shape}")
        values = np.invert(values) if kind == "MINISWHITE" and values.dtype.kind in "bu" else values
        values = _turned(values, orientation, (axes.index("Y"), axes.index("X"))) if {"Y", "X"} <= set(axes) else values
        others = {"series left out": len(file.series) - 1} if len(file.series) > 1 else {}
    found = _image(values, axes.index("S") if "S" in axes else None)
    return Arrays(found.arrays, found.facts | others)


def _photometric(path: Path, page: Any) -> str:
    """What a TIFF's numbers mean.

    :raises InputError: if they are neither brightness nor red, green and blue.
    """
    kind = getattr(page.photometric, "name", str(page.photometric))
    unpacked = kind == "YCBCR" and page.compression.name in ("JPEG", "OJPEG")  # tifffile makes RGB of it
    if kind not in BRIGHTNESS and not unpacked:
        raise InputError(f"{path}: TIFF of {kind.lower()} colours, expected gray or RGB")
    return kind


def _turned(values: np.ndarray, orientation: int, axes: tuple[int, int]) -> np.ndarray:
    """As TIFF's tag 274 says: transposed first, then flipped."""
    transposed, down, across = TURNS.get(orientation, TURNS[1])
    values = values.swapaxes(*axes) if transposed else values
    return np.flip(values, [axis for axis, flipped in zip(axes, (down, across), strict=True) if flipped])


def as_photograph(path: Path, found: Arrays, values: Tensor) -> Tensor:
    """One of the arrays of a file as ``(C, rows, columns)`` float32.

    Integers of a picture become [0, 1]. Arrays of other formats keep their values, their colours come last; of four
    colours the last is transparency and left out.

    :raises InputError: if it is no picture, gray or in colour, of finite real numbers.
    """
    shape, kind = tuple(values.shape), str(values.dtype).removeprefix("torch.")
    if values.ndim not in (2, 3) or values.is_complex() or 0 in shape:
        raise InputError(f"{path}: {kind} of shape {shape}, expected real numbers (H, W), or that in colours")
    _refuse_infinite(path, values)
    axis = found.facts.get("channel_axis", -1)
    colours = values.movedim(axis, 0) if values.ndim == 3 else values[None]
    if len(colours) > 4:
        expected = f"expected at most 4 colours on axis {axis}, or --volume true"
        raise InputError(f"{path}: {kind} of shape {shape}, {expected}")
    return (colours[:3] if len(colours) == 4 else colours).to(torch.float32) / found.facts.get("white", 1)


def as_volume(path: Path, found: Arrays, values: Tensor) -> Tensor:
    """One of the arrays of a file as ``(1, depth, rows, columns)`` float32, such as a stack of pages.

    Integers of a picture become [0, 1].

    :raises InputError: if it has not three axes of finite real numbers, other than colours.
    """
    kind = str(values.dtype).removeprefix("torch.")
    if values.ndim != 3 or values.is_complex() or 0 in values.shape or "channel_axis" in found.facts:
        raise InputError(f"{path}: {kind} of shape {tuple(values.shape)}, expected real numbers (depth, rows, columns)")
    _refuse_infinite(path, values)
    return values[None].to(torch.float32) / found.facts.get("white", 1)


def _refuse_infinite(path: Path, values: Tensor) -> None:
    if wrong := int((~torch.isfinite(values)).sum()):
        raise InputError(f"{path}: found {wrong} NaN or infinite of {values.numel()} values, expected finite ones")


def as_kernel(path: Path, image: Tensor) -> Tensor:
    """A picture or volume ``(C, *spatial)`` as a kernel ``(*spatial)`` float64 of sum 1, colours averaged.

    :raises InputError: if its sum is not above 0.
    """
    kernel = image.double().mean(0)
    if not kernel.sum() > 0:
        raise InputError(f"{path}: a kernel of sum {float(kernel.sum()):g}, expected above 0")
    return kernel / kernel.sum()


def _image(values: np.ndarray, axis: int | None) -> Arrays:
    facts = {} if values.dtype.kind != "u" else {"white": int(np.iinfo(values.dtype).max)}
    return Arrays(_channels(values, axis), facts | ({} if axis is None else {"channel_axis": 0}))


def _channels(values: np.ndarray, axis: int | None) -> dict:
    """Colour first, alpha apart, gray without a channel axis."""
    if axis is None:
        return {"image": to_tensor(values)}
    values = np.moveaxis(values, axis, 0)
    colours = 3 if len(values) >= 3 else 1
    image = {"image": to_tensor(values[:colours].squeeze(0) if colours == 1 else values[:colours])}
    return image | ({"alpha": to_tensor(values[colours])} if len(values) == colours + 1 else {})
