"""Cartesian k-space as a measurement of :class:`resolvent.operators.CartesianMRI`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import Arrays, InputError, read_arrays, save_measurement
from ..datasets.kspace import acceleration, centred_ifft, cropped, middle, sampling_mask
from ..operators import CartesianMRI
from .cli import UsageError
from .kspace_files import (
    CoilAxis,
    about,
    chosen_kspace,
    level_of,
    maps_of,
    one_image,
    sorted_axes,
    unlike_ours,
    white,
    whitening_of,
)


def main(
    source: str,
    out: str,
    array: str | None = None,
    coil_axis: CoilAxis = "auto",
    batch_axis: int | None = None,
    slice: int | None = None,
    mask: str | None = None,
    maps: str | None = None,
    truth: bool = False,
    crop: list[int] | None = None,
    prewhiten: bool = False,
    normalise: bool = False,
    noise_std: float | None = None,
) -> None:
    """Make a measurement file from Cartesian k-space, zero frequency in the middle.

    :param source: k-space file of any known format.
    :param out: measurement file to write.
    :param array: which array of the file; the only complex one, or the one called ``kspace``, if not given.
    :param coil_axis: axis of the coils, ``none`` for a single coil without one; ``auto``: what the format says,
        else the shortest of three or more axes.
    :param batch_axis: axis of several images, if there are several; what the format says if not given.
    :param slice: of several images in the file, the one to take; all if not given.
    :param mask: file with the sampling mask, 0 and 1, of the shape of one image's k-space or one that torch
        broadcasts to it, such as (columns) or (rows, 1), or one for each image; samples outside are set to zero.
        Where k-space is not zero if not given.
    :param maps: file with coil sensitivities (coils, …) or (images, coils, …); estimated by ESPIRiT if not given.
    :param truth: store as the truth the image that all samples make, those outside the mask too.
    :param crop: lengths of the image's axes, for each: the middle of those along which k-space is fully sampled, as
        oversampled readouts are.
    :param prewhiten: make the noise of the coils white, and of level 1, by the file's scans of noise (ISMRMRD).
    :param normalise: divide the data so that the magnitude of the zero-filled image, or images, peaks at 1.
    :param noise_std: total standard deviation of one sample, in the units of the file; after prewhitening 1.
    """
    path, found = Path(source), read_arrays(source)
    if "trajectory" in found.arrays:
        raise InputError(f"{path}: its samples lie along a trajectory, expected a grid; import mri-trajectory reads it")
    stored = sorted_axes(path, found, chosen_kspace(path, found, array), coil_axis, batch_axis)
    whitening = whitening_of(path, found, stored.shape[1]) if prewhiten else None
    full = one_image(path, white(whitening, stored, 1), slice)
    lines = _calibration(found, stored)
    lines = None if lines is None else one_image(path, white(whitening, lines, 1), slice)
    sampled = sampling_mask(full) if mask is None else _read_mask(Path(mask), full)
    notes = [*cautions(full * sampled, sampled), *_hints(found, full, lines, crop, truth, prewhiten)]
    if not bool((full * sampled).any()):
        raise InputError(f"{mask}: found no sample of k-space that it keeps, expected some")
    if coil_axis == "auto" and "coil_axis" not in found.facts and stored.ndim > 4:
        notes.append("the shortest axis was taken for the coils and the others for a volume; --coil_axis, --batch_axis")
    full, lines, sampled = _cropped(full, lines, sampled, crop)
    kspace = full * sampled
    sensitivities = maps_of(path, maps, _filled(kspace, lines), whitening)
    notes += unlike_ours(sensitivities, kspace.ndim - 2)
    scale = _peak(kspace) if normalise else 1.0
    image = _of_all_samples(full, sensitivities) / scale if truth else None
    physics = CartesianMRI(sampled, sensitivities)
    level, meta = level_of(noise_std, whitening, scale, found), about(path, found, scale)
    save_measurement(out, kspace / scale, physics, image, level, meta)
    images, coils, *spatial = kspace.shape
    grid, factor = " x ".join(map(str, spatial)), acceleration(sampled)
    print(f"{out}: {images} x {coils} coils x {grid} k-space, acceleration {factor:.3g}")
    for note in notes:
        print(f"  note: {note}")


def cautions(kspace: Tensor, sampled: Tensor) -> Iterator[str]:
    """What data that were sampled elsewhere, or stored with another origin, look like."""
    power = kspace.abs().square().sum((0, 1))
    empty = int((sampled & ~(kspace != 0).any(1, keepdim=True)).sum())
    if empty:
        yield f"the mask keeps {empty} samples at which every coil is 0: is it of these data, and of their orientation?"
    corner, inside = (float(_half(p).sum()) for p in (torch.fft.ifftshift(power), power))
    if corner > inside:
        yield "k-space is stronger in its corners than in its middle, where the zero frequency is expected: fftshift?"


def _half(power: Tensor) -> Tensor:
    """The middle half of each axis."""
    for axis, n in enumerate(power.shape):
        power = middle(power, axis, n - 2 * (n // 4))
    return power


def _hints(
    found: Arrays, full: Tensor, lines: Tensor | None, crop: list[int] | None, truth: bool, prewhiten: bool
) -> Iterator[str]:
    """What the file says, or lacks, beside what was asked."""
    if crop is None and (kept := _field_of_view(found, list(full.shape[2:]))):
        yield f"the readout is oversampled; --crop {kept} keeps the scanner's field of view"
    if "calibration" in found.arrays and lines is None:
        shape = tuple(found.arrays["calibration"].shape)
        yield f"lines for calibration of shape {shape} are left out: they do not lie on the grid of the images"
    if " to " in found.facts.get("averages", ""):
        yield f"lines were taken {found.facts['averages']} times: their noise differs, and counts as the same"
    if "noise" in found.arrays and not prewhiten:
        yield "the file has scans of noise: --prewhiten makes the coils' noise white and states its level"
    missing = 1 - float((full != 0).any(1).float().mean())
    if truth and missing > 0:
        yield f"{missing:.0%} of k-space are zero in the file, and so in the truth's"


def _field_of_view(found: Arrays, lengths: list[int]) -> list[int] | None:
    """Lengths of which the readout, x of the protocol, is cut to the field of view; None if it is not longer."""
    axes = found.facts.get("protocol axes", [])[-len(lengths) :]
    wide, narrow = (found.facts.get(f"{space} field of view (m)", []) for space in ("encoded", "recon"))
    if len(axes) < len(lengths) or not wide or not narrow or not wide[0] > 1.01 * narrow[0] > 0:
        return None
    readout = axes.index("x")
    return [round(n * narrow[0] / wide[0]) if axis == readout else n for axis, n in enumerate(lengths)]


def _calibration(found: Arrays, stored: Tensor) -> Tensor | None:
    """Lines for the maps alone, where they lie on the grid of the image."""
    lines = found.arrays.get("calibration")
    return lines if lines is not None and lines.shape == stored.shape else None


def _filled(kspace: Tensor, calibration: Tensor | None) -> Tensor:
    """k-space with lines for calibration where it has none."""
    if calibration is None:
        return kspace
    return torch.where((kspace != 0).any(1, keepdim=True), kspace, calibration)


def _cropped(
    full: Tensor, lines: Tensor | None, sampled: Tensor, crop: list[int] | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """k-space, lines for calibration and mask of the middle of the image."""
    if crop is None:
        return full, lines, sampled
    spatial = full.shape[2:]
    if len(crop) != len(spatial) or not all(0 < n <= m for n, m in zip(crop, spatial, strict=True)):
        raise UsageError(f"--crop: found {crop}, expected {len(spatial)} lengths of at most {list(spatial)}")
    for axis, (n, m) in enumerate(zip(crop, spatial, strict=True), -len(spatial)):
        if n < m and not torch.equal(sampled, sampled.narrow(axis, 0, 1).expand_as(sampled)):
            raise UsageError(f"--crop: found {n} of {m} on an axis along which samples are missing, expected {m}")
        sampled = middle(sampled, axis, n)
    return cropped(full, crop), None if lines is None else cropped(lines, crop), sampled.contiguous()


def _of_all_samples(full: Tensor, maps: Tensor | None) -> Tensor:
    """The least-squares image of fully sampled k-space; 0 where no coil sees anything."""
    coils = centred_ifft(full, tuple(range(2, full.ndim)))
    if maps is None:
        return coils
    maps = maps if maps.ndim == full.ndim else maps[None]
    seen = maps.abs().square().sum(1, keepdim=True)
    return torch.where(seen > 0, (maps.conj() * coils).sum(1, keepdim=True) / seen.clamp_min(1e-12), 0)


def _peak(kspace: Tensor) -> float:
    """Greatest magnitude of the zero-filled images, coils combined by root sum of squares."""
    return float(torch.linalg.vector_norm(centred_ifft(kspace, tuple(range(2, kspace.ndim))), dim=1).max()) or 1.0


def _read_mask(path: Path, kspace: Tensor) -> Tensor:
    """``(*spatial)``, 1 where sampled, or one for each image ``(images, 1, *spatial)``."""
    images, _, *spatial = kspace.shape
    values = list(read_arrays(path).arrays.values())
    for v in [shaped for value in values for shaped in (value, value.squeeze())]:
        if images > 1 and tuple(v.shape) == (images, *spatial):
            return _ones_and_zeros(path, v)[:, None]
        if v.ndim <= len(spatial) and all(n in (1, m) for n, m in zip(v.shape[::-1], spatial[::-1], strict=False)):
            return _ones_and_zeros(path, v).expand(spatial).contiguous()
    shapes = ", ".join(str(tuple(v.shape)) for v in values)
    raise InputError(
        f"{path}: arrays of shape {shapes}, expected a mask of shape {tuple(spatial)} or {tuple(spatial[-1:])}, or "
        f"{(spatial[0], *[1] * (len(spatial) - 1))} along the first axis"
    )


def _ones_and_zeros(path: Path, mask: Tensor) -> Tensor:
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise InputError(f"{path}: found other values than 0 and 1, expected a sampling mask")
    return mask != 0
