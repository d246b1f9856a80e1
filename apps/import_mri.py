"""Cartesian k-space as a measurement of :class:`resolvent.operators.CartesianMRI`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..datasets import Arrays, InputError, read_arrays, save_measurement
from ..datasets.kspace import acceleration, batched, sampling_mask
from .cli import UsageError
from .import_ import pick

CoilAxis = int | Literal["auto", "none"]


def main(
    source: str,
    out: str,
    array: str | None = None,
    coil_axis: CoilAxis = "auto",
    slice: int | None = None,
    mask: str | None = None,
    maps: str | None = None,
    normalise: bool = False,
    noise_std: float | None = None,
) -> None:
    """Make a measurement file from Cartesian k-space, zero frequency in the middle.

    :param source: k-space file of any known format.
    :param out: measurement file to write.
    :param array: which array of the file; the only complex one, or the one called ``kspace``, if not given.
    :param coil_axis: axis of the coils, ``none`` for a single coil without one; ``auto``: what the format says,
        else the shortest of three or more axes.
    :param slice: of several images in the file, the one to take; all if not given.
    :param mask: file with the sampling mask, along the last axis or over all of them; samples outside are
        set to zero. Where k-space is not zero if not given.
    :param maps: file with coil sensitivities (coils, …) or (images, coils, …); estimated by ESPIRiT if not given.
    :param normalise: divide the data so that the magnitude of the zero-filled image, or images, peaks at 1.
    :param noise_std: total standard deviation of one sample, in the units of the file.
    """
    from ..operators import CartesianMRI

    found = read_arrays(source)
    kspace = _images(Path(source), _sorted(Path(source), found, array, coil_axis), slice)
    sampled = sampling_mask(kspace) if mask is None else _read_mask(Path(mask), tuple(kspace.shape[2:]))
    kspace = kspace * sampled
    scale = _peak(kspace) if normalise else 1.0
    physics = CartesianMRI(sampled, _sensitivities(Path(source), maps, kspace))
    level = None if noise_std is None else noise_std / scale
    meta = {"source": Path(source).name, "scale": scale} | {k: v for k, v in found.facts.items() if _plain(v)}
    save_measurement(out, kspace / scale, physics, noise_std=level, meta=meta)
    images, coils, *spatial = kspace.shape
    grid, factor = " x ".join(map(str, spatial)), acceleration(sampled)
    print(f"{out}: {images} x {coils} coils x {grid} k-space, acceleration {factor:.3g}")


def _sorted(path: Path, found: Arrays, name: str | None, coil_axis: CoilAxis) -> Tensor:
    """``(images, coils, *spatial)`` of the chosen array."""
    values = {n: v for n, v in found.arrays.items() if v.is_complex()}
    if not values and name is None:
        raise InputError(f"{path}: found no complex array among {', '.join(found.arrays)}, expected k-space")
    kspace = pick(path, found, name, ["kspace"] if "kspace" in values else list(values))
    if not kspace.is_complex():
        raise InputError(f"{path}: {name} is {str(kspace.dtype).removeprefix('torch.')}, expected complex k-space")
    batch, axis = found.facts.get("batch_axis"), coil_axis
    if axis == "auto":
        guess = min(range(kspace.ndim), key=lambda a: kspace.shape[a]) if kspace.ndim > 2 else None
        axis = found.facts.get("coil_axis", guess)
    axis = None if axis == "none" else axis
    if axis is not None and not -kspace.ndim <= axis < kspace.ndim:
        raise UsageError(f"--coil_axis: found {axis}, expected an axis of shape {tuple(kspace.shape)}")
    sorted_ = batched(kspace, None if axis is None else axis % kspace.ndim, batch)
    spatial = tuple(n for n in sorted_.shape[2:] if n > 1)
    if len(spatial) not in (2, 3):
        shape = tuple(kspace.shape)
        raise InputError(f"{path}: array of shape {shape} with coils on axis {axis}, expected two or three others")
    bad = int((~torch.isfinite(sorted_)).sum())
    if bad or not bool(sorted_.any()):
        values_found = f"{bad} NaN or infinite values" if bad else "only zeros"
        raise InputError(f"{path}: found {values_found}, expected k-space")
    return sorted_.reshape(*sorted_.shape[:2], *spatial)


def _images(path: Path, kspace: Tensor, slice: int | None) -> Tensor:
    if slice is None:
        return kspace
    if not 0 <= slice < len(kspace):
        raise UsageError(f"--slice: found {slice}, expected 0 to {len(kspace) - 1} in {path}")
    return kspace[slice : slice + 1]


def _read_mask(path: Path, spatial: tuple[int, ...]) -> Tensor:
    """``(*spatial)``, 1 where sampled, from a mask over all axes or along the last."""
    values = [v.squeeze() for v in read_arrays(path).arrays.values()]
    mask = next((v for v in values if tuple(v.shape) in (spatial, spatial[-1:])), None)
    if mask is None:
        shapes = ", ".join(str(tuple(v.shape)) for v in values)
        raise InputError(f"{path}: arrays of shape {shapes}, expected a mask of shape {spatial} or {spatial[-1:]}")
    return (mask != 0).expand(spatial).contiguous()


def _sensitivities(source: Path, path: str | None, kspace: Tensor) -> Tensor | None:
    """Maps from a file, or estimated image by image; None for a single coil."""
    if path is None:
        return None if kspace.shape[1] == 1 else _estimated(source, kspace)
    expected = (tuple(kspace.shape), tuple(kspace.shape[1:]))
    values = [v for v in read_arrays(path).arrays.values() if tuple(v.shape) in expected]
    if not values:
        raise InputError(f"{path}: no array of shape {expected[0]} or {expected[1]}, expected sensitivity maps")
    return values[0].to(kspace.dtype)


def _estimated(source: Path, kspace: Tensor) -> Tensor:
    from ..operators import sensitivity_maps

    try:
        maps = torch.stack([sensitivity_maps(image) for image in kspace])
    except ValueError as error:
        coils, grid = kspace.shape[1], " x ".join(map(str, kspace.shape[2:]))
        raise InputError(
            f"{source}: no maps can be estimated of {coils} coils x {grid} samples, zero frequency in the middle "
            f"({error}); --coil_axis names another axis, --maps a file of maps"
        ) from error
    if not bool(maps.flatten(1).any(1).all()):
        raise InputError(
            f"{source}: the maps estimated of it are zero, expected an object; --maps names a file of maps"
        )
    return maps


def _peak(kspace: Tensor) -> float:
    """Greatest magnitude of the zero-filled images, coils combined by root sum of squares."""
    axes = tuple(range(2, kspace.ndim))
    images = torch.fft.ifftn(torch.fft.ifftshift(kspace, axes), dim=axes, norm="ortho")
    return float(torch.linalg.vector_norm(images, dim=1).max()) or 1.0


def _plain(value: Any) -> bool:
    """Whether JSON and a table can hold it."""
    return isinstance(value, str | int | float | list) and len(str(value)) < 200
