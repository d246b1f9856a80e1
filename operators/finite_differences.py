r"""Forward differences along every spatial axis, and their adjoint.

.. math:: (D_d x)_v = x_{v + e_d} - x_v, \qquad \|D\|^2 \le 4\, d ,

zero across the last plane of each axis (the image goes on as a ``copy`` of its border), or from the last
plane to the first (``periodic``).
"""

from __future__ import annotations

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

    def _forward_map(self, x: Tensor) -> Tensor:
        return gradient(x, self.outside)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return divergence(y, self.outside)


def gradient(x: Tensor, outside: Outside = "copy") -> Tensor:
    """Forward differences ``(B, d, C, *spatial)``."""
    g = x.new_zeros(len(x), x.ndim - 2, *x.shape[1:])
    for d in range(x.ndim - 2):
        n = x.shape[d + 2] - 1
        g[:, d].narrow(d + 2, 0, n).copy_(x.narrow(d + 2, 1, n) - x.narrow(d + 2, 0, n))
        if outside == "periodic":
            g[:, d].narrow(d + 2, n, 1).copy_(x.narrow(d + 2, 0, 1) - x.narrow(d + 2, n, 1))
    return g


def divergence(p: Tensor, outside: Outside = "copy") -> Tensor:
    """The adjoint of :func:`gradient`, ``(B, d, C, *spatial) -> (B, C, *spatial)``."""
    x = torch.zeros_like(p[:, 0])
    for d in range(p.shape[1]):
        n = x.shape[d + 2] - 1
        part = p[:, d].narrow(d + 2, 0, n)
        x.narrow(d + 2, 1, n).add_(part)
        x.narrow(d + 2, 0, n).sub_(part)
        if outside == "periodic":
            last = p[:, d].narrow(d + 2, n, 1)
            x.narrow(d + 2, 0, 1).add_(last)
            x.narrow(d + 2, n, 1).sub_(last)
    return x
