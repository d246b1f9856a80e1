"""A hyperspectral cube as a measurement of :class:`resolvent.operators.Mixing`, its materials found in it or given."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import InputError, read_arrays, save_measurement
from ..operators import Mixing
from ..operators.norm import TINY
from ..recon import vertices
from .cli import UsageError
from .import_ import pick

CUBE, LIST = {"band", "row", "column"}, {"band", "pixel"}


def main(
    source: str,
    out: str,
    materials: int | None = None,
    endmembers: str | None = None,
    array: str | None = None,
    axes: str = "band,row,column",
    lengths: tuple[int, int] | None = None,
    columns_first: bool = False,
    normalise: bool = False,
    noise_std: float | None = None,
    seed: int = 0,
) -> None:
    """Make a measurement file from a hyperspectral image, for unmixing.

    :param source: file of any known format.
    :param out: measurement file to write.
    :param materials: how many there are; their spectra are those of the purest pixels (vertex component analysis).
    :param endmembers: in place of that the array of the file that has their spectra, one in each row or column.
    :param array: which array of the file the spectra are; the only one of as many axes if not given.
    :param axes: what its axes are, in order: band, row and column, or band and pixel.
    :param lengths: rows and columns, where there is one axis of pixels.
    :param columns_first: whether these pixels go down one column after the other, as MATLAB has them.
    :param normalise: divide the spectrum of every pixel, and given ones, by its length: where brightness differs from
        place to place.
    :param noise_std: standard deviation of one value, in the units that are written.
    :param seed: of the search for the purest pixels.
    """
    path, found = Path(source), read_arrays(source)
    names = [name.strip() for name in axes.split(",")]
    y = cube(path, pick(path, found, array, _of_axes(found.arrays, len(names))), names, lengths, columns_first)
    y = _of_length_one(y) if normalise else y
    if (materials is None) == (endmembers is None):
        beside = "none" if materials is None else "it beside --endmembers"
        raise UsageError(f"--materials: found {beside}, expected one of the two")
    if materials is not None:
        spectra = _purest(y, materials, seed)
    else:
        spectra = _given(path, pick(path, found, endmembers, [], "--endmembers"), y.shape[1])
        spectra = _of_length_one(spectra[None])[0] if normalise else spectra
    physics = Mixing(spectra.float(), y.shape[2:])
    save_measurement(out, y.float(), physics, noise_std=noise_std, meta={"source": path.name})
    bands, rows, columns = y.shape[1:]
    print(f"{out}: {bands} bands, {rows} x {columns} pixels, {spectra.shape[1]} materials")


def cube(path: Path, values: Tensor, names: list[str], lengths: tuple[int, int] | None, columns_first: bool) -> Tensor:
    """``(1, bands, rows, columns)`` in double precision."""
    if len(set(names)) < len(names) or set(names) not in (CUBE, LIST) or values.ndim != len(names):
        found = f"{','.join(names)} for shape {tuple(values.shape)} in {path}"
        raise UsageError(f"--axes: found {found}, expected band, row and column, or band and pixel, in their order")
    if values.is_complex() or not bool(torch.isfinite(values).all()) or not bool(values.any()):
        raise InputError(
            f"{path}: found complex values, NaN, infinite ones or nothing but 0, expected finite real ones"
        )
    values = values.double().movedim(names.index("band"), 0)
    if set(names) == CUBE:
        if lengths is not None or columns_first:
            raise UsageError("--lengths: found it, or --columns_first, for axes of rows and columns, expected neither")
        return (values if [n for n in names if n != "band"] == ["row", "column"] else values.mT)[None]
    if lengths is None or math.prod(lengths) != values.shape[1] or min(lengths) < 1:
        raise UsageError(
            f"--lengths: found {lengths or 'none'} for {values.shape[1]} pixels, expected [rows, columns] of as many"
        )
    rows, columns = lengths
    return (values.reshape(-1, columns, rows).mT if columns_first else values.reshape(-1, rows, columns))[None]


def _of_axes(arrays: dict[str, Tensor], count: int) -> list[str]:
    """Names of the arrays that have so many axes of more than one place."""
    return [name for name, values in arrays.items() if sum(n > 1 for n in values.shape) == values.ndim == count]


def _of_length_one(spectra: Tensor) -> Tensor:
    """Spectra along axis 1, each divided by its length."""
    return spectra / spectra.norm(dim=1, keepdim=True).clamp_min(TINY)


def _purest(y: Tensor, materials: int, seed: int) -> Tensor:
    try:
        return vertices(y, materials, seed)
    except ValueError as error:
        raise UsageError(f"--materials: {str(error).removeprefix('count: ')}") from error


def _given(path: Path, values: Tensor, bands: int) -> Tensor:
    """Spectra ``(bands, K)`` from an array of these in rows or in columns."""
    if values.ndim != 2 or bands not in values.shape or values.is_complex() or not bool(torch.isfinite(values).all()):
        shape = tuple(values.shape)
        raise InputError(f"{path}: found endmembers of shape {shape}, expected finite real ones of {bands} bands")
    return (values if len(values) == bands else values.T).double()
