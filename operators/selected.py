r"""A part of an operator's measurements: :math:`y = m \odot A x`, with m 1 where there are data and 0 elsewhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .operator import Operator


class Selected(Operator):
    """``mask * physics``, of the same data shape: what is not selected is 0.

    :param physics: an :class:`Operator`.
    :param mask: ``data_shape`` of ``physics``, 1 or true where it measures.
    """

    def __init__(self, physics: Operator, mask: Tensor, **kwargs: Any):
        mask = torch.as_tensor(mask)
        if tuple(mask.shape) != physics.data_shape:
            raise ValueError(f"mask: found shape {tuple(mask.shape)}, expected {physics.data_shape}")
        super().__init__(physics.image_shape, physics.data_shape, **kwargs)
        self.physics, self.relative_scale = physics, physics.relative_scale
        self.register_buffer("mask", mask)

    def geometry(self) -> dict[str, Any]:
        return {"physics": self.physics, "mask": self.mask}

    def _forward_map(self, x: Tensor) -> Tensor:
        y = self.physics.A(x)
        return y * self.mask.to(y.real.dtype)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(y * self.mask.to(y.real.dtype))
