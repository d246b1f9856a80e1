r"""Small energy: :math:`R(x) = \tfrac12\|x\|_2^2`, :math:`\operatorname{prox}(v) = v/(1+\gamma)`."""

from __future__ import annotations

import torch
from torch import Tensor

from .prior import Prior


class Tikhonov(Prior):
    """Half the squared norm of a real or complex image; the weight may be a map over the image."""

    convex = True

    @property
    def lipschitz(self) -> Tensor:
        return torch.ones(())

    def _value(self, x: Tensor) -> Tensor:
        return x.abs().square() / 2

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        return v / (1 + gamma)

    def _grad(self, x: Tensor) -> Tensor:
        return x
