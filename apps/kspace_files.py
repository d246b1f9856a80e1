"""k-space out of other programs' files, and the coil sensitivities that go with it, for both ways of sampling."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..datasets import Arrays, InputError, read_arrays
from ..datasets.kspace import batched, mixed, whitening
from ..operators import sensitivity_maps
from .cli import UsageError
from .import_ import pick

CoilAxis = int | Literal["auto", "none"]


def chosen_kspace(path: Path, found: Arrays, name: str | None) -> Tensor:
    """The chosen array, complex and finite."""
    values = {n: v for n, v in found.arrays.items() if v.is_complex()}
    if not values and name is None:
        pairs = {name: v.shape[-1] for name, v in found.arrays.items() if v.ndim > 2 and 2 in (v.shape[0], v.shape[-1])}
        hint = "".join(_of_pairs(*pair) for pair in list(pairs.items())[:1])
        raise InputError(f"{path}: found no complex array among {', '.join(found.arrays)}, expected k-space{hint}")
    kspace = pick(path, found, name, ["kspace"] if "kspace" in values else list(values))
    if not kspace.is_complex():
        raise InputError(f"{path}: {name} is {str(kspace.dtype).removeprefix('torch.')}, expected complex k-space")
    bad = int((~torch.isfinite(kspace)).sum())
    if bad or not bool(kspace.any()):
        values_found = f"{bad} NaN or infinite values" if bad else "only zeros"
        raise InputError(f"{path}: found {values_found}, expected k-space")
    return kspace


def _of_pairs(name: str, last: int) -> str:
    place, formula = ("last", "a[..., 0] + 1j * a[..., 1]") if last == 2 else ("first", "a[0] + 1j * a[1]")
    return f"; is the {place} axis of {name} real and imaginary part? {formula}"


def sorted_axes(path: Path, found: Arrays, values: Tensor, coil_axis: CoilAxis, batch_axis: int | None) -> Tensor:
    """``(images, coils, *spatial)``; axes of length one that are neither of the first two are dropped."""
    values, batch = one_batch_axis(path, found, values, batch_axis)
    axis = found.facts.get("coil_axis", _shortest(values, batch)) if coil_axis == "auto" else coil_axis
    axis = None if axis == "none" else axis
    if axis is not None and coil_axis == "auto":
        values = with_axis(values, axis)
    check_axes(values, axis, batch)
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


def with_axis(values: Tensor, axis: int) -> Tensor:
    """With as many axes as one of a format has, of which the last of length one are often not written."""
    return values.reshape(*values.shape, *[1] * (axis + 1 - values.ndim))


def one_batch_axis(path: Path, found: Arrays, values: Tensor, chosen: int | None) -> tuple[Tensor, int | None]:
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


def check_axes(values: Tensor, coil_axis: int | None, batch_axis: int | None) -> None:
    """Refuse axes that ``values`` has not.

    :raises UsageError: naming the option.
    """
    for option, chosen in (("--coil_axis", coil_axis), ("--batch_axis", batch_axis)):
        if chosen is not None and not -values.ndim <= chosen < values.ndim:
            raise UsageError(f"{option}: found {chosen}, expected an axis of shape {tuple(values.shape)}")


def one_image(path: Path, kspace: Tensor, slice: int | None) -> Tensor:
    """The chosen one of several images, or all."""
    if slice is None:
        return kspace
    if not 0 <= slice < len(kspace):
        raise UsageError(f"--slice: found {slice}, expected 0 to {len(kspace) - 1} in {path}")
    return kspace[slice : slice + 1]


def whitening_of(path: Path, found: Arrays, coils: int) -> Tensor:
    """The matrix that makes the coils' noise white, from the scans of noise in a file."""
    noise = found.arrays.get("noise")
    if noise is None:
        raise InputError(f"{path}: --prewhiten found no scans of noise among {', '.join(found.arrays)}, expected some")
    if len(noise) != coils:
        raise InputError(f"{path}: found scans of noise of {len(noise)} coils, expected {coils}")
    try:
        return whitening(noise)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error


def white(matrix: Tensor | None, coils: Tensor, axis: int) -> Tensor:
    """k-space or maps of prewhitened coils, which lie along ``axis``."""
    return coils if matrix is None else mixed(matrix, coils, axis)


def level_of(noise_std: float | None, whitening: Tensor | None, scale: float, found: Arrays) -> float | None:
    """The noise level of data divided by ``scale``: the stated one, or 1 of prewhitened coils, less by averages."""
    level = found.facts.get("averaged noise", 1.0) if noise_std is None and whitening is not None else noise_std
    return None if level is None else level / scale


def maps_of(source: Path, given: str | None, kspace: Tensor, whitening: Tensor | None) -> Tensor | None:
    """Sensitivities of a file, the coils mixed as the data's are, or estimated from Cartesian k-space."""
    if given is None:
        return _estimated(source, kspace)
    return white(whitening, _read_maps(given, kspace), 1 - kspace.ndim)


def _read_maps(path: str, kspace: Tensor) -> Tensor:
    """One set for all images, or one for each, of k-space ``(images, coils, *spatial)``."""
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
                yield sorted_axes(path, found, values, "auto", None).squeeze(0)


def _estimated(source: Path, kspace: Tensor) -> Tensor | None:
    """Maps image by image from Cartesian k-space; None for a single coil."""
    if kspace.shape[1] == 1:
        return None
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


def unlike_ours(maps: Tensor | None, axes: int) -> Iterator[str]:
    """A note of maps, on ``axes`` spatial axes, whose squares do not sum to 1: images have another scale then."""
    if maps is None:
        return
    squares = maps.abs().square().sum(-1 - axes)
    typical = float(squares[squares > 0].median())
    if not 0.8 < typical < 1.25:
        yield (
            f"the maps' squares sum to about {typical:.3g}, not 1: images are divided by their root, "
            f"{typical**0.5:.3g}, and back-projections multiplied by it"
        )


def about(path: Path, found: Arrays, scale: float) -> dict[str, Any]:
    """What a measurement keeps of where it comes from."""
    return {"source": path.name, "scale": scale} | {k: v for k, v in found.facts.items() if _plain(v)}


def _plain(value: Any) -> bool:
    """Whether JSON and a table can hold it."""
    return isinstance(value, str | int | float | list) and len(str(value)) < 200
