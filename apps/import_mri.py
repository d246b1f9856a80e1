"""Cartesian k-space as a measurement of :class:`resolvent.operators.CartesianMRI`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
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
    batch_axis: int | None = None,
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
    :param batch_axis: axis of several images, if there are several; what the format says if not given.
    :param slice: of several images in the file, the one to take; all if not given.
    :param mask: file with the sampling mask, 0 and 1, of the shape of one image's k-space or one that torch
        broadcasts to it, such as (columns) or (rows, 1), or one for each image; samples outside are set to zero.
        Where k-space is not zero if not given.
    :param maps: file with coil sensitivities (coils, …) or (images, coils, …); estimated by ESPIRiT if not given.
    :param normalise: divide the data so that the magnitude of the zero-filled image, or images, peaks at 1.
    :param noise_std: total standard deviation of one sample, in the units of the file.
    """
    from ..operators import CartesianMRI

    found = read_arrays(source)
    whole = _kspace(Path(source), found, array, coil_axis, batch_axis)
    kspace = _images(Path(source), whole, slice)
    sampled = sampling_mask(kspace) if mask is None else _read_mask(Path(mask), kspace)
    notes = list(cautions(kspace, sampled))
    kspace = kspace * sampled
    if not bool(kspace.any()):
        raise InputError(f"{mask}: found no sample of k-space that it keeps, expected some")
    scale = _peak(kspace) if normalise else 1.0
    lines = found.arrays.get("calibration")
    fits = lines is not None and lines.shape == whole.shape
    reference = _filled(kspace, _images(Path(source), lines, slice)) if fits else kspace
    physics = CartesianMRI(sampled, _sensitivities(Path(source), maps, reference))
    level = None if noise_std is None else noise_std / scale
    meta = {"source": Path(source).name, "scale": scale} | {k: v for k, v in found.facts.items() if _plain(v)}
    save_measurement(out, kspace / scale, physics, noise_std=level, meta=meta)
    images, coils, *spatial = kspace.shape
    grid, factor = " x ".join(map(str, spatial)), acceleration(sampled)
    print(f"{out}: {images} x {coils} coils x {grid} k-space, acceleration {factor:.3g}")
    if coil_axis == "auto" and "coil_axis" not in found.facts and whole.ndim > 4:
        notes.append("the shortest axis was taken for the coils and the others for a volume; --coil_axis, --batch_axis")
    for note in notes:
        print(f"  note: {note}")


def cautions(kspace: Tensor, sampled: Tensor) -> Iterator[str]:
    """What data that were sampled elsewhere, or stored with another origin, look like."""
    power = kspace.abs().square().sum((0, 1))
    empty = int((sampled & ~(kspace != 0).any(1, keepdim=True)).sum())
    if empty:
        yield f"the mask keeps {empty} samples at which every coil is 0: is it of these data, and of their orientation?"
    corner, middle = (float(_middle(p).sum()) for p in (torch.fft.ifftshift(power), power))
    if corner > middle:
        yield "k-space is stronger in its corners than in its middle, where the zero frequency is expected: fftshift?"


def _middle(power: Tensor) -> Tensor:
    """Half of each axis."""
    for axis, n in enumerate(power.shape):
        power = power.narrow(axis, n // 4, n - 2 * (n // 4))
    return power


def _filled(kspace: Tensor, calibration: Tensor) -> Tensor:
    """k-space with lines for calibration where it has none."""
    return torch.where((kspace != 0).any(1, keepdim=True), kspace, calibration)


def _kspace(path: Path, found: Arrays, name: str | None, coil_axis: CoilAxis, batch_axis: int | None) -> Tensor:
    """``(images, coils, *spatial)`` of the chosen array."""
    values = {n: v for n, v in found.arrays.items() if v.is_complex()}
    if not values and name is None:
        pairs = [name for name, v in found.arrays.items() if v.ndim > 2 and v.shape[-1] == 2]
        hint = f"; is the last axis of {pairs[0]} real and imaginary part? a[..., 0] + 1j * a[..., 1]" if pairs else ""
        raise InputError(f"{path}: found no complex array among {', '.join(found.arrays)}, expected k-space{hint}")
    kspace = pick(path, found, name, ["kspace"] if "kspace" in values else list(values))
    if not kspace.is_complex():
        raise InputError(f"{path}: {name} is {str(kspace.dtype).removeprefix('torch.')}, expected complex k-space")
    kspace = _sorted(path, found, kspace, coil_axis, batch_axis)
    bad = int((~torch.isfinite(kspace)).sum())
    if bad or not bool(kspace.any()):
        values_found = f"{bad} NaN or infinite values" if bad else "only zeros"
        raise InputError(f"{path}: found {values_found}, expected k-space")
    return kspace


def _sorted(path: Path, found: Arrays, values: Tensor, coil_axis: CoilAxis, batch_axis: int | None) -> Tensor:
    """``(images, coils, *spatial)``; axes of length one that are neither of the first two are dropped."""
    values, batch = _one_batch_axis(path, found, values, batch_axis)
    axis = found.facts.get("coil_axis", _shortest(values, batch)) if coil_axis == "auto" else coil_axis
    axis = None if axis == "none" else axis
    if axis is not None and coil_axis == "auto":
        values = values.reshape(*values.shape, *[1] * (axis + 1 - values.ndim))
    for option, chosen in (("--coil_axis", axis), ("--batch_axis", batch)):
        if chosen is not None and not -values.ndim <= chosen < values.ndim:
            raise UsageError(f"{option}: found {chosen}, expected an axis of shape {tuple(values.shape)}")
    axis, batch = (None if a is None else a % values.ndim for a in (axis, batch))
    if axis is not None and axis == batch:
        raise UsageError(f"--batch_axis: found {batch}, the axis of the coils, expected another")
    sorted_ = batched(values, axis, batch)
    spatial = tuple(n for n in sorted_.shape[2:] if n > 1)
    if len(spatial) not in (2, 3):
        shape, several = tuple(values.shape), "" if batch is None else f" and images on axis {batch}"
        raise InputError(
            f"{path}: array of shape {shape} with coils on axis {axis}{several}, expected two or three others"
        )
    return sorted_.reshape(*sorted_.shape[:2], *spatial)


def _one_batch_axis(path: Path, found: Arrays, values: Tensor, chosen: int | None) -> tuple[Tensor, int | None]:
    """The axis of images: the chosen one, or that of the format; several become one, the last."""
    axes = found.facts.get("image_axes", [])
    if chosen is not None:
        if others := [axis for axis in axes if axis != chosen % values.ndim]:
            asked = f"--batch_axis: found {chosen}, and images along axis {others[0]} of {tuple(values.shape)} too"
            raise UsageError(f"{asked}, expected one such axis in {path}; without the option all are taken")
        return values, chosen
    if len(axes) > 1:
        return values.movedim(axes, [*range(-len(axes), 0)]).flatten(-len(axes)), -1
    return values, axes[0] if axes else found.facts.get("batch_axis")


def _shortest(values: Tensor, batch: int | None) -> int | None:
    """Of more than two axes of one image the shortest."""
    axes = [a for a in range(values.ndim) if batch is None or a != batch % values.ndim]
    return min(axes, key=lambda a: values.shape[a]) if len(axes) > 2 else None


def _images(path: Path, kspace: Tensor, slice: int | None) -> Tensor:
    if slice is None:
        return kspace
    if not 0 <= slice < len(kspace):
        raise UsageError(f"--slice: found {slice}, expected 0 to {len(kspace) - 1} in {path}")
    return kspace[slice : slice + 1]


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


def _sensitivities(source: Path, path: str | None, kspace: Tensor) -> Tensor | None:
    """Maps from a file, or estimated image by image; None for a single coil."""
    if path is None:
        return None if kspace.shape[1] == 1 else _estimated(source, kspace)
    expected, found = (tuple(kspace.shape), tuple(kspace.shape[1:])), read_arrays(path)
    maps = next((v for v in _arranged(Path(path), found) if tuple(v.shape) in expected), None)
    if maps is None:
        shapes = ", ".join(str(tuple(v.shape)) for v in found.arrays.values())
        raise InputError(
            f"{path}: arrays of shape {shapes}, expected one set of sensitivity maps {expected[0]} or {expected[1]}"
        )
    if not (bool(torch.isfinite(maps).all()) and bool(maps.any())):
        raise InputError(f"{path}: found maps that are zero, or not finite, expected others")
    return maps.to(kspace.dtype)


def _arranged(path: Path, found: Arrays) -> Iterator[Tensor]:
    """The arrays of a file as they are, and with the axes of its format in our order."""
    for values in found.arrays.values():
        yield values
        if values.is_complex() and "coil_axis" in found.facts:
            with contextlib.suppress(InputError):
                yield _sorted(path, found, values, "auto", None).squeeze(0)


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
