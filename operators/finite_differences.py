r"""Forward differences along every spatial axis, and their adjoint.

.. math:: (D_d x)_v = x_{v + e_d} - x_v, \qquad \|D\|^2 = \sum_d 4 \sin^2(\pi k_d / N_d) \le 4\, d ,

zero across the last plane of each axis (the image goes on as a ``copy`` of its border: cosines diagonalise
D^T D, k = (N - 1) / 2), or from the last plane to the first (``periodic``: exponentials, k = floor(N / 2)).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from .operator import Operator

Outside = Literal["copy", "periodic"]


class FiniteDifferences(Operator):
    """Images ``(B, C, *spatial)`` to differences ``(B, d, C, *spatial)``, one per spatial axis.

    :param image_shape: ``(C, *spatial)``.
    :param outside: what lies beyond the last plane: a ``copy`` of it, or the first plane (``periodic``).
    """

    def __init__(self, image_shape: Sequence[int], outside: Outside = "copy", **kwargs: Any):
        if outside not in ("copy", "periodic"):
            raise ValueError(f"outside: found {outside!r}, expected 'copy' or 'periodic'")
        image_shape = tuple(image_shape)
        if len(image_shape) < 2:
            raise ValueError(f"image_shape: found {image_shape}, expected (C, *spatial)")
        super().__init__(image_shape, (len(image_shape) - 1, *image_shape), **kwargs)
        self.outside: Outside = outside

    def geometry(self) -> dict[str, Any]:
        return {"image_shape": self.image_shape, "outside": self.outside}

    def squared_norm(self) -> float:
        """``||D||^2``."""
        spatial = self.image_shape[1:]
        highest = [(n - 1) / 2 if self.outside == "copy" else n // 2 for n in spatial]
        return sum(4 * math.sin(math.pi * k / n) ** 2 for k, n in zip(highest, spatial, strict=True))

    def _forward_map(self, x: Tensor) -> Tensor:
        return gradient(x, self.outside)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return divergence(y, self.outside)


def gradient(x: Tensor, outside: Outside = "copy") -> Tensor:
    """Forward differences ``(B, d, C, *spatial)``."""
    return add_gradient(x.new_zeros(len(x), x.ndim - 2, *x.shape[1:]), x, 1.0, outside)


def divergence(p: Tensor, outside: Outside = "copy") -> Tensor:
    """The adjoint of :func:`gradient`, ``(B, d, C, *spatial) -> (B, C, *spatial)``."""
    return add_divergence(torch.zeros_like(p[:, 0]), p, 1.0, outside)


def add_gradient(p: Tensor, x: Tensor, factor: float, outside: Outside = "copy") -> Tensor:
    """``p + factor D x``; overwrites ``p``."""
    for d in range(x.ndim - 2):
        n = x.shape[d + 2] - 1
        inner = p[:, d].narrow(d + 2, 0, n)
        inner.add_(x.narrow(d + 2, 1, n), alpha=factor).sub_(x.narrow(d + 2, 0, n), alpha=factor)
        if outside == "periodic":
            last = p[:, d].narrow(d + 2, n, 1)
            last.add_(x.narrow(d + 2, 0, 1), alpha=factor).sub_(x.narrow(d + 2, n, 1), alpha=factor)
    return p


def add_divergence(x: Tensor, p: Tensor, factor: float, outside: Outside = "copy") -> Tensor:
    """``x + factor D^H p``; overwrites ``x``."""
    for d in range(p.shape[1]):
        n = x.shape[d + 2] - 1
        inner = p[:, d].narrow(d + 2, 0, n)
        x.narrow(d + 2, 1, n).add_(inner, alpha=factor)
        x.narrow(d + 2, 0, n).sub_(inner, alpha=factor)
        if outside == "periodic":
            last = p[:, d].narrow(d + 2, n, 1)
            x.narrow(d + 2, 0, 1).add_(last, alpha=factor)
            x.narrow(d + 2, n, 1).sub_(last, alpha=factor)
    return x
