r"""k-space as it was measured: masks, acceleration, the calibration block, noise of the coils, field of view.

Noise of covariance :math:`\Psi = L L^H` between the coils is white and of total variance 1 in :math:`L^{-1} y`
(Pruessmann et al., Magn. Reson. Med. 46:638, 2001).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sampling_mask(kspace: Tensor) -> Tensor:
    """Where any coil has a sample that is not zero, ``(B, 1, *spatial)`` of k-space ``(B, coils, *spatial)``.

    One mask ``(*spatial)`` if it is the same for all images of the batch.
    """
    mask = (kspace != 0).any(1, keepdim=True)
    return mask[0, 0] if bool((mask == mask[:1]).all()) else mask


def acceleration(mask: Tensor) -> float:
    """Samples on the grid over samples taken; infinite if there are none."""
    taken = int(mask.sum())
    return mask.numel() / taken if taken else float("inf")


def calibration_block(mask: Tensor) -> tuple[int, ...]:
    """Side lengths of a fully sampled box about the middle of ``mask`` ``(*spatial)``.

    It grows from the middle by one layer at a time, on each side in turn, for as long as the layer is full.
    """
    low = [n // 2 for n in mask.shape]
    high = [n // 2 + 1 for n in mask.shape]
    if not bool(mask[tuple(low)]):
        return (0,) * mask.ndim
    open_sides = [(axis, side) for axis in range(mask.ndim) for side in (-1, 1)]
    while open_sides:
        axis, side = open_sides.pop(0)
        layer = low[axis] - 1 if side < 0 else high[axis]
        if 0 <= layer < mask.shape[axis] and bool(_layer(mask, low, high, axis, layer).all()):
            low[axis], high[axis] = min(low[axis], layer), max(high[axis], layer + 1)
            open_sides.append((axis, side))
    return tuple(h - b for b, h in zip(low, high, strict=True))


def _layer(mask: Tensor, low: list[int], high: list[int], axis: int, layer: int) -> Tensor:
    box = [slice(b, h) for b, h in zip(low, high, strict=True)]
    box[axis] = slice(layer, layer + 1)
    return mask[tuple(box)]


def batched(kspace: Tensor, coil_axis: int | None, batch_axis: int | None) -> Tensor:
    """``(B, coils, *spatial)`` complex64, or complex128 of double precision."""
    if batch_axis is None:
        kspace, batch_axis = kspace[None], 0
        coil_axis = None if coil_axis is None else coil_axis + 1
    if coil_axis is None:
        kspace, coil_axis = kspace.unsqueeze(1), 1
    return kspace.movedim((batch_axis, coil_axis), (0, 1)).to(torch.promote_types(kspace.dtype, torch.complex64))


def centred_fft(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Unitary, origins in the middle: images to k-space."""
    return torch.fft.fftshift(torch.fft.fftn(torch.fft.ifftshift(x, axes), dim=axes, norm="ortho"), axes)


def centred_ifft(k: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The inverse of :func:`centred_fft`."""
    return torch.fft.fftshift(torch.fft.ifftn(torch.fft.ifftshift(k, axes), dim=axes, norm="ortho"), axes)


def cropped(kspace: Tensor, lengths: Sequence[int]) -> Tensor:
    """k-space ``(B, coils, *lengths)`` of the middle of the images: oversampling taken away, white noise as it was."""
    axes = tuple(a for a, n in enumerate(lengths, 2) if n != kspace.shape[a])
    if not axes:
        return kspace
    image = centred_ifft(kspace, axes)
    for axis in axes:
        image = middle(image, axis, lengths[axis - 2])
    return centred_fft(image, axes)


def middle(x: Tensor, axis: int, length: int) -> Tensor:
    """``length`` values about the origin at ``n // 2``."""
    return x.narrow(axis, x.shape[axis] // 2 - length // 2, length)


def whitening(noise: Tensor) -> Tensor:
    """``L^-1`` ``(coils, coils)`` of samples of noise alone ``(coils, samples)``.

    :raises ValueError: if they are too few, or a coil has no noise of its own.
    """
    noise = noise.to(torch.complex128)
    covariance = noise @ noise.mH / noise.shape[1]
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if noise.shape[1] < len(noise) or int(failed):
        raise ValueError(f"noise: found {tuple(noise.shape)} samples, expected more, independent in every coil")
    return torch.linalg.solve_triangular(factor, torch.eye(len(noise), dtype=factor.dtype), upper=False)


def mixed(matrix: Tensor, coils: Tensor, axis: int) -> Tensor:
    """``matrix`` applied along the axis of the coils."""
    return torch.tensordot(matrix.to(coils.dtype), coils, ([1], [axis])).movedim(0, axis)
