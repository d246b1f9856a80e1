r"""Joint sparsity: :math:`R(x) = \sum_g \|x_g\|_2`, each group shrunk by its norm.

.. math:: \operatorname{prox}(v)_g = (1 - \gamma/\max(\|v_g\|_2, \gamma))\, v_g .
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .prior import Prior, group_axes, length, squared_length


class GroupL1(Prior):
    """Mixed norm l2,1: groups run along ``axes`` and share their support (channels by default).

    :param axes: axes of ``(B, C, *spatial)`` that form a group; not the batch axis 0.
    """

    convex = True

    def __init__(self, weight: float | Tensor = 1.0, axes: Sequence[int] = (1,)):
        super().__init__(weight)
        if not axes:
            raise ValueError("axes: found (), expected image axes other than the batch axis 0")
        self.axes = group_axes(axes)

    def _value(self, x: Tensor) -> Tensor:
        return length(x, self.axes)

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        square = squared_length(v, self.axes)
        norms = square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()
        return v * (1 - gamma / norms.clamp_min(gamma))
