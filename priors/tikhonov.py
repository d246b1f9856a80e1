r"""Small energy: :math:`R(x) = \tfrac12\|x\|_2^2`, :math:`\operatorname{prox}(v) = v/(1+\gamma)`."""

from __future__ import annotations

from torch import Tensor

from .prior import Prior, broadcast


class Tikhonov(Prior):
    """Half the squared norm of a real or complex image; the weight may be a map over the image."""

    convex = True

    def _value(self, x: Tensor) -> Tensor:
        energy = x.abs().square() / 2
        return energy if isinstance(self.weight, Tensor) else energy.flatten(1).sum(1)

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        return v / (1 + broadcast(gamma, v))

    def _grad(self, x: Tensor) -> Tensor:
        return x
