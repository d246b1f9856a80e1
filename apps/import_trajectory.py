"""k-space along a trajectory as a measurement of :class:`resolvent.operators.NonCartesianMRI`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..datasets import Arrays, InputError, read_arrays, save_measurement
from ..datasets.kspace import batched, centred_fft
from ..operators import NonCartesianMRI, density_compensation
from .cli import UsageError
from .import_ import pick
from .kspace_files import (
    CoilAxis,
    about,
    check_axes,
    chosen_kspace,
    level_of,
    maps_of,
    one_image,
    unlike_ours,
    white,
    whitening_of,
    with_axis,
)

Unit = Literal["auto", "1/voxel", "rad/voxel", "1/fov"]


def main(
    source: str,
    out: str,
    trajectory: str | None = None,
    unit: Unit = "auto",
    size: list[int] | None = None,
    array: str | None = None,
    coil_axis: CoilAxis = "auto",
    batch_axis: int | None = None,
    slice: int | None = None,
    maps: str | None = None,
    prewhiten: bool = False,
    normalise: bool = False,
    noise_std: float | None = None,
) -> None:
    """Make a measurement file from k-space along a trajectory: radial, spiral, free.

    :param source: k-space file of any known format, readouts and samples in the order of the positions.
    :param out: measurement file to write.
    :param trajectory: file with the positions of the samples, (…, 2 or 3), a column for each axis of the image, or as
        BART has them (3, …); those in the source (ISMRMRD) if not given.
    :param unit: of the positions. ``auto``: cycles per voxel if none exceeds 0.5, radians per voxel if none
        exceeds pi, else cycles per field of view, which SigPy and BART use.
    :param size: voxels along each axis of the image; what ISMRMRD says if not given, or twice the farthest
        position in cycles per field of view.
    :param array: which array of the source; the only complex one, or the one called ``kspace``, if not given.
    :param coil_axis: axis of the coils, ``none`` for a single coil without one; ``auto``: what the format says,
        else the one beside the axes of the positions.
    :param batch_axis: axis of several images along the same trajectory; what the format says if not given.
    :param slice: of several images in the file, the one to take; all if not given.
    :param maps: file with coil sensitivities (coils, …) or (images, coils, …); estimated by ESPIRiT from the gridded
        data if not given.
    :param prewhiten: make the noise of the coils white, and of level 1, by the file's scans of noise (ISMRMRD).
    :param normalise: divide the data so that the magnitude of the gridded image, or images, peaks at 1.
    :param noise_std: total standard deviation of one sample, in the units of the file; after prewhitening 1.
    """
    path, found = Path(source), read_arrays(source)
    places = _positions(path, found, trajectory)
    stored = _along(path, found, chosen_kspace(path, found, array), places, coil_axis, batch_axis)
    whitening = whitening_of(path, found, stored.shape[1]) if prewhiten else None
    y = white(whitening, one_image(path, stored, slice), 1)
    positions, spatial, taken = _per_voxel(places.flatten(0, -2), unit, size, found)
    density = density_compensation(positions, (1, *spatial))
    coils = _gridded(y, NonCartesianMRI(positions, (1, *spatial), density=density))
    sensitivities = maps_of(path, maps, centred_fft(coils, tuple(range(2, coils.ndim))), whitening)
    scale = float(torch.linalg.vector_norm(coils, dim=1).max()) or 1.0 if normalise else 1.0
    physics = NonCartesianMRI(positions, (1, *spatial), sensitivities, density)
    level, meta = level_of(noise_std, whitening, scale, found), about(path, found, scale)
    save_measurement(out, y / scale, physics, noise_std=level, meta=meta)
    grid, shape = " x ".join(map(str, spatial)), " x ".join(map(str, places.shape[:-1]))
    print(f"{out}: {len(y)} x {y.shape[1]} coils x {shape} samples, positions in {taken}, images of {grid} voxels")
    for note in unlike_ours(sensitivities, len(spatial)):
        print(f"  note: {note}")


def _positions(path: Path, found: Arrays, given: str | None) -> Tensor:
    """``(…, dimensions)`` float64, axes of length one left out but for the last."""
    if given is None and "trajectory" not in found.arrays:
        raise UsageError(f"--trajectory: found none, expected a file with the positions of the samples in {path}")
    path, found = (path, found) if given is None else (Path(given), read_arrays(given))
    values = pick(
        path, found, "trajectory" if "trajectory" in found.arrays else None, list(found.arrays), "--trajectory"
    )
    axis = 0 if found.facts.get("axes") else -1
    values = values.real.movedim(axis, -1).to(torch.float64)
    if values.ndim < 2 or values.shape[-1] not in (2, 3) or not bool(torch.isfinite(values).all()):
        found_ = (
            "values that are not finite" if bool((~torch.isfinite(values)).any()) else f"shape {tuple(values.shape)}"
        )
        raise InputError(f"{path}: found {found_}, expected finite positions (…, 2 or 3), or (3, …) of BART")
    if values.shape[-1] == 3 and not bool(values[..., 2].any()):
        values = values[..., :2]
    return values.reshape(*(n for n in values.shape[:-1] if n > 1), values.shape[-1])


def _along(
    path: Path, found: Arrays, values: Tensor, places: Tensor, coil_axis: CoilAxis, batch_axis: int | None
) -> Tensor:
    """``(images, coils, M)`` of an array whose other axes are those of the positions, or all of them in one."""
    batch = found.facts.get("batch_axis") if batch_axis is None else batch_axis
    if coil_axis == "auto" and "coil_axis" in found.facts:
        values = with_axis(values, found.facts["coil_axis"])
    axes = [a for a in range(values.ndim) if batch is None or a != batch % values.ndim]
    if coil_axis != "auto":
        candidates = [None if coil_axis == "none" else coil_axis]
    elif "coil_axis" in found.facts:
        candidates = [found.facts["coil_axis"]]
    else:
        candidates = [None, *axes]
    check_axes(values, candidates[0], batch)
    sorted_ = [batched(values, a if a is None else a % values.ndim, batch) for a in candidates]
    fitting = [v.flatten(2) for v in sorted_ if _fits(v.shape[2:], places.shape[:-1])]
    if not fitting or not all(torch.equal(v, fitting[0]) for v in fitting):
        several = "" if batch is None else f", images on axis {batch}"
        shapes = f"k-space of shape {tuple(values.shape)}{several} and positions {tuple(places.shape[:-1])}"
        raise InputError(
            f"{path}: found {shapes}, expected the same but for the coils' axis; --coil_axis, --batch_axis"
        )
    return fitting[0]


def _fits(shape: tuple[int, ...], places: tuple[int, ...]) -> bool:
    shape, places = (tuple(n for n in s if n > 1) for s in (shape, places))
    return shape == places or (math.prod(shape) == math.prod(places) and 1 in (len(shape), len(places)))


def _per_voxel(
    positions: Tensor, unit: Unit, size: list[int] | None, found: Arrays
) -> tuple[Tensor, tuple[int, ...], str]:
    """Positions in cycles per voxel, the image's shape, and the unit in which they came."""
    dimensions, farthest = positions.shape[1], float(positions.abs().max())
    if unit == "auto":
        unit = "1/voxel" if farthest <= 0.5 else "rad/voxel" if farthest <= math.pi * (1 + 1e-6) else "1/fov"
    if size is None:
        said = [n for n in found.facts.get("encoded matrix", [])[::-1][-dimensions:] if n > 1]
        reach = 2 * positions.abs().amax(0).ceil().long()
        size = said if len(said) == dimensions else [int(n) for n in reach] if unit == "1/fov" else []
    if len(size) != dimensions or not all(n > 0 for n in size):
        raise UsageError(f"--size: found {size or 'none'}, expected the voxels along {dimensions} axes of the image")
    per = {"1/voxel": 1.0, "rad/voxel": 2 * math.pi, "1/fov": torch.tensor(size, dtype=torch.float64)}[unit]
    scaled = positions / per
    beyond = float(scaled.abs().max())
    if beyond > 0.5 * (1 + 1e-6):
        raise UsageError(f"--size: found {size}, positions in {unit} reach {beyond:.3g} cycles per voxel, expected 0.5")
    return scaled.clamp(-0.5, 0.5), tuple(size), unit


def _gridded(y: Tensor, single: NonCartesianMRI) -> Tensor:
    """The image of each coil, ``(images, coils, *spatial)``."""
    coils = single.back_project(y.flatten(0, 1)[:, None])
    return coils.reshape(*y.shape[:2], *coils.shape[2:])
