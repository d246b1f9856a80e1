r"""Shares of a whole: R is 0 where :math:`x \ge 0` and :math:`\sum_c x_c = 1` at every place, infinite elsewhere.

.. math:: \operatorname{prox}(v)_c = \max(v_c - \tau, 0), \qquad \sum_c \max(v_c - \tau, 0) = 1,

with tau from the sorted values. Held, Wolfe and Crowder, Math. Program. 6:62 (1974).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .constraints import Constraint

#: How far a sum may be from 1, in units of rounding of one term.
ROUNDING = 8


class Simplex(Constraint):
    """Real images ``(B, C, *spatial)`` whose channels are shares of each voxel; of complex ones the real part."""

    def _outside(self, x: Tensor) -> Tensor:
        slack = ROUNDING * x.shape[1] * torch.finfo(x.dtype).eps
        return (x < 0).any(1) | ((x.sum(1) - 1).abs() > slack)

    def _projected(self, x: Tensor) -> Tensor:
        return (x - _excess(x)).clamp_min(0)


def _excess(v: Tensor) -> Tensor:
    """tau, ``(B, 1, *spatial)``: of the longest run of the largest values that all stay above it."""
    falling = v.sort(1, descending=True).values
    count = torch.arange(1, v.shape[1] + 1, dtype=v.dtype, device=v.device).reshape(-1, *[1] * (v.ndim - 2))
    candidates = (falling.cumsum(1) - 1) / count
    kept = (falling > candidates).sum(1, keepdim=True)
    return candidates.gather(1, kept - 1)
