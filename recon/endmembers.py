r"""Endmembers out of the data: vertex component analysis.

.. math:: k_{i+1} = \arg\max_p |f_i^T y_p|, \qquad f_i \perp \{y_{k_1}, \ldots, y_{k_i}\},

f_i otherwise random: shares are not below 0 and sum to 1, so that pixels lie in a simplex, whose corners are the pure
ones and extreme along every direction. Nascimento and Bioucas-Dias, IEEE Trans. Geosci. Remote Sens. 43:898 (2005).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

#: Signal over noise, dB, from which pixels are scaled to a plane; 10 log10 of the number of materials is added.
CLEAR = 15.0


def vertices(spectra: Tensor, count: int, seed: int = 0) -> Tensor:
    """The spectra ``(L, count)`` of the purest pixels, less the noise outside the subspace of all.

    :param spectra: real ``(B, L, *spatial)``.
    :param seed: of the directions.
    :raises ValueError: for fewer bands or pixels than materials, or complex spectra.
    """
    pixels = as_pixels(spectra)
    if not 2 <= count <= min(pixels.shape):
        bands, places = pixels.shape
        raise ValueError(f"count: found {count}, expected 2 to {min(bands, places)}: {bands} bands, {places} pixels")
    mean = pixels.mean(1, keepdim=True)
    if signal_to_noise(pixels, count) > CLEAR + 10 * math.log10(count):
        basis = torch.linalg.svd(pixels @ pixels.T)[0][:, :count]
        reduced = basis.T @ pixels
        corners = farthest(reduced / (reduced.mean(1) @ reduced), seed)
        return basis @ reduced[:, corners]
    basis = torch.linalg.svd((pixels - mean) @ (pixels - mean).T)[0][:, : count - 1]
    reduced = basis.T @ (pixels - mean)
    radius = reduced.norm(dim=0).amax()
    corners = farthest(torch.cat([reduced, radius.expand(1, reduced.shape[1])]), seed)
    return basis @ reduced[:, corners] + mean


def farthest(points: Tensor, seed: int) -> Tensor:
    """Indices ``(K,)`` of the points among ``(K, N)``, each extreme across those before it."""
    generator, count = Generator().manual_seed(seed), len(points)
    found, chosen = torch.zeros_like(points[:, :count]), []
    found[-1, 0] = 1
    for i in range(count):
        direction = torch.randn(count, 1, generator=generator, dtype=points.dtype).to(points.device)
        direction = direction - found @ (torch.linalg.pinv(found) @ direction)
        chosen.append(int((direction.T @ points).abs().argmax()))
        found[:, i] = points[:, chosen[-1]]
    return torch.tensor(chosen, device=points.device)


def signal_to_noise(pixels: Tensor, count: int) -> float:
    """In dB, of spectra ``(L, N)`` that are mixed of ``count``: what the others of the L directions hold is noise."""
    mean = pixels.mean(1, keepdim=True)
    basis = torch.linalg.svd((pixels - mean) @ (pixels - mean).T)[0][:, :count]
    power = float(pixels.square().sum(0).mean())
    inside = float((basis.T @ (pixels - mean)).square().sum(0).mean() + mean.square().sum())
    noise = max(power - inside, torch.finfo(pixels.dtype).tiny)
    return 10 * math.log10(max(inside - count / len(pixels) * power, torch.finfo(pixels.dtype).tiny) / noise)


def as_pixels(spectra: Tensor) -> Tensor:
    """``(B, L, *spatial)`` as ``(L, N)`` in double precision.

    :raises ValueError: for complex ones, or without an axis of pixels.
    """
    if spectra.ndim < 3 or spectra.is_complex():
        kind = str(spectra.dtype).removeprefix("torch.")
        raise ValueError(f"spectra: found {kind} of shape {tuple(spectra.shape)}, expected real ones (B, L, *spatial)")
    return spectra.double().movedim(1, 0).flatten(1)
