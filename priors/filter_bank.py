r"""Banks of filters on images: planes one by one, real and imaginary part apart.

.. math:: (W x)_c = w_c * x, \qquad \|W\|^2 \le \max_\omega \sum_c |\hat w_c(\omega)|^2 .
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

#: Side of the frequency grid on which the filters' norm is bounded.
GRID = 128


def planes(x: Tensor, dtype: torch.dtype) -> Tensor:
    """One-channel images ``(parts * B * C, 1, H, W)`` of an image ``(B, C, H, W)``, in the precision of the filters."""
    parts = torch.stack([x.real, x.imag]) if x.is_complex() else x[None]
    return parts.flatten(0, 2)[:, None].to(dtype)


def image(found: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`planes`."""
    parts = found.reshape(-1, *like.shape)
    return (torch.complex(*parts) if like.is_complex() else parts[0]).to(like.dtype)


def total(potential: Tensor, like: Tensor) -> Tensor:
    """The sum over all but the batch of what was computed from :func:`planes`, ``(B,)``."""
    return potential.sum((1, 2, 3)).reshape(-1, *like.shape[:2]).sum((0, 2)).to(like.real.dtype)


def respond(x: Tensor, filters: Tensor) -> Tensor:
    """``W x`` of planes with zeros around them, ``(N, channels, H, W)``."""
    return conv2d(x, filters, padding=filters.shape[-1] // 2)


def respond_back(responses: Tensor, filters: Tensor) -> Tensor:
    """The adjoint of :func:`respond`."""
    return conv_transpose2d(responses, filters, padding=filters.shape[-1] // 2)


def norm_bound(filters: Tensor) -> Tensor:
    r"""A bound on the norm of a bank of filters ``(channels, 1, n, n)``, on images of any size.

    Its square is the largest :math:`\sum_c |\hat w_c(\omega)|^2`, a trigonometric polynomial of degree
    n - 1: on a grid of N points along either axis it is found to a factor :math:`\cos^2(\pi (n - 1) / N)`
    (Ehlich and Zeller, 1964).
    """
    n = filters.shape[-1]
    own = filters.movedim(1, 0)
    correlation = conv2d(own, own, padding=n - 1)
    spectrum = torch.fft.rfft2(pad(correlation, (0, GRID - 2 * n + 1) * 2)).abs()
    return (spectrum.max() / math.cos(math.pi * (n - 1) / GRID) ** 2).sqrt()
