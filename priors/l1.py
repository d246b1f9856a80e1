r"""Sparsity: :math:`R(x) = \|x\|_1`, :math:`\operatorname{prox}(v) = \max(1 - \gamma/|v|, 0)\, v`."""

from __future__ import annotations

import torch
from torch import Tensor

from .prior import Prior


class L1(Prior):
    """Sum of magnitudes of a real or complex image; the weight may be a map over the image."""

    convex = True

    def _value(self, x: Tensor) -> Tensor:
        return x.abs()

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        magnitude = v.abs()
        kept = (magnitude - gamma).clamp_min(0)
        return v * (kept / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny))
