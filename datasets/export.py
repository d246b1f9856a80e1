"""Images for other programs: HDF5, NIfTI, npy, BART, TIFF and PNG.

Complex images stay complex in all but pictures. TIFF has their magnitude, and real values as they are, in single
precision, a volume page by page. PNG shows :math:`|x|` between two values as 16-bit gray, and real images
as they are: a flat image by itself, of a volume the maximum along each of its axes, side by side. Three channels of a
flat real image are red, green and blue, of 8 bits.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from PIL import Image
from torch import Tensor

from ..operators.extras import require
from ..operators.files import atomic
from .errors import InputError
from .hdf5 import to_numpy, writing


class VoxelGrid(NamedTuple):
    """Where an image lies, in metres along each of its spatial axes."""

    voxel_size: Sequence[float]
    first_voxel: Sequence[float]


Writer = Callable[[Path, np.ndarray, VoxelGrid | None], None]


def export(
    path: str | os.PathLike[str],
    image: Tensor,
    grid: VoxelGrid | None = None,
    window: tuple[float, float] | None = None,
) -> None:
    """Write one image in the format of ``path``'s suffix: .h5, .nii, .nii.gz, .npy, .cfl (and .hdr), .tif or .png.

    :param image: ``(*spatial)`` or ``(C, *spatial)``; a single channel is dropped. Real ``(3, rows, columns)`` is in
        colour; a volume of that shape is ``(1, 3, rows, columns)``.
    :param grid: size of the voxels and place of the first, in metres, where known; kept by .h5 and NIfTI.
    :param window: values drawn black and white in PNG; if None from 0 to the peak of a complex image, and of a real
        one to what a thousandth of it exceeds.
    :raises InputError: for another suffix, a shape that the format cannot hold, or a place that cannot be written.
    """
    path, values = Path(path), to_numpy(image)
    coloured = values.ndim == 3 and len(values) == 3 and not np.iscomplexobj(values)
    values = values[0] if values.ndim > 2 and len(values) == 1 else values
    writers: dict[str, Writer] = {
        ".h5": _write_hdf5, ".nii": _write_nifti, ".nii.gz": _write_nifti, ".npy": _write_npy, ".cfl": _write_bart,
        ".png": lambda path, values, _: _write_png(path, values, window, coloured),
        ".tif": lambda path, values, _: _write_tiff(path, values, coloured),
        ".tiff": lambda path, values, _: _write_tiff(path, values, coloured),
    }  # fmt: skip
    suffix = next((s for s in writers if path.name.endswith(s) and path.name != s), None)
    if suffix is None:
        raise InputError(f"{path}: suffix is {path.suffix!r}, expected one of {', '.join(writers)}")
    try:
        writers[suffix](path, values, grid)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error


def _write_hdf5(path: Path, values: np.ndarray, grid: VoxelGrid | None) -> None:
    with writing(path) as file:
        file["image"] = values
        if grid is not None:
            file["image"].attrs.update({name: list(lengths) for name, lengths in grid._asdict().items()}, unit="m")


def _write_npy(path: Path, values: np.ndarray, _: VoxelGrid | None) -> None:
    with atomic(path) as partial, partial.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def _write_bart(path: Path, values: np.ndarray, _: VoxelGrid | None) -> None:
    """Both, or neither."""
    with atomic(path.with_suffix(".hdr")) as header, atomic(path) as data:
        header.write_text("# Dimensions\n" + " ".join(map(str, values.shape)) + "\n")
        data.write_bytes(values.astype("<c8").tobytes(order="F"))


def _write_nifti(path: Path, values: np.ndarray, grid: VoxelGrid | None) -> None:
    """In millimetres; of no grid voxels of one, the first in the origin. Packed files have no date in them."""
    nib = require("nibabel", "nifti")
    if values.ndim > 7:
        raise InputError(f"{path}: image has {values.ndim} axes, expected at most 7 in NIfTI")
    values = values.astype(_NIFTI_TYPES.get(values.dtype.name, values.dtype))
    affine = np.eye(4)
    for axis, (size, first) in enumerate(zip(*grid, strict=True) if grid else ()):
        affine[axis, axis], affine[axis, 3] = 1e3 * size, 1e3 * first
    volume = nib.Nifti1Image(values, affine)
    volume.header.set_xyzt_units("mm" if grid else "unknown")
    content = volume.to_bytes()
    with atomic(path) as partial:
        partial.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


#: Types that NIfTI lacks, or nibabel will not write unasked, to those that hold their values.
_NIFTI_TYPES = {"bool": "uint8", "int64": "float64", "float16": "float32"}


def _write_png(path: Path, values: np.ndarray, window: tuple[float, float] | None, coloured: bool) -> None:
    if values.ndim not in (2, 3):
        raise InputError(f"{path}: image has {values.ndim} axes, expected 2 or 3 in PNG")
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    shown = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float64)
    low, high = window or (0.0, white(values))
    flat = shown if coloured or shown.ndim == 2 else _side_by_side([shown.max(axis) for axis in (2, 1, 0)])
    level = np.clip((flat - low) / ((high - low) or 1.0), 0, 1)
    pixels = np.round(255 * level.transpose(1, 2, 0)).astype(np.uint8) if coloured else np.round(65535 * level)
    with atomic(path) as partial, partial.open("wb") as file:
        Image.fromarray(pixels if coloured else pixels.astype(np.uint16)).save(file, format="PNG")


def _write_tiff(path: Path, values: np.ndarray, coloured: bool) -> None:
    if values.ndim not in (2, 3):
        raise InputError(f"{path}: image has {values.ndim} axes, expected 2 or 3 in TIFF")
    stored = (np.abs(values) if np.iscomplexobj(values) else values).astype(np.float32)
    kind, stored = ("rgb", stored.transpose(1, 2, 0)) if coloured else ("minisblack", stored)
    with atomic(path) as partial, partial.open("wb") as file:
        tifffile.imwrite(file, stored, photometric=kind, metadata=None)


def white(values: np.ndarray) -> float:
    """The value to draw white: the peak of a complex image's magnitude; of a real one that ringing must not darken."""
    if values.size == 0:
        return 0.0
    return float(np.abs(values).max() if np.iscomplexobj(values) else max(np.quantile(values, 0.999), 0.0))


def _side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    """Panels in one row, their tops aligned, black below the shorter ones."""
    rows = max(len(p) for p in panels)
    return np.concatenate([np.pad(p, ((0, rows - len(p)), (0, 0))) for p in panels], axis=1)
