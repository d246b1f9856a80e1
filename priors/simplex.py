r"""Shares of a whole: R is 0 where :math:`x \ge 0` and :math:`\sum_c x_c = 1` at every place, infinite elsewhere.

.. math:: \operatorname{prox}(v)_c = \max(v_c - \tau, 0), \qquad \sum_c \max(v_c - \tau, 0) = 1,

with tau from the sorted values. Held, Wolfe and Crowder, Math. Program. 6:62 (1974).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .prior import Prior

#: How far a sum may be from 1, in units of rounding of one term.
ROUNDING = 8


class Simplex(Prior):
    """Real images ``(B, C, *spatial)`` whose channels are shares of each voxel; of complex ones the real part."""

    convex = True

    @property
    def weighted(self) -> bool:
        """Never: a multiple of 0 and infinity is the same."""
        return False

    def _value(self, x: Tensor) -> Tensor:
        slack = ROUNDING * x.shape[1] * torch.finfo(x.dtype).eps
        outside = (x.real < 0).any(1) | ((x.real.sum(1) - 1).abs() > slack)
        if x.is_complex():
            outside = outside | (x.imag != 0).any(1)
        return torch.where(outside.flatten(1).any(1), math.inf, 0.0)

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        return (v.real - _excess(v.real)).clamp_min(0).to(v.dtype)


def _excess(v: Tensor) -> Tensor:
    """tau, ``(B, 1, *spatial)``: of the longest run of the largest values that all stay above it."""
    falling = v.sort(1, descending=True).values
    count = torch.arange(1, v.shape[1] + 1, dtype=v.dtype, device=v.device).reshape(-1, *[1] * (v.ndim - 2))
    candidates = (falling.cumsum(1) - 1) / count
    kept = (falling > candidates).sum(1, keepdim=True)
    return candidates.gather(1, kept - 1)
