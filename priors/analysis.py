r"""A prior on a linear transform of the image, :math:`R(x) = R_0(K x)`.

Such as total variation, K the finite differences. In general its prox has no closed form:
:class:`~resolvent.recon.PrimalDual` takes that of R_0, and K, instead.
"""

from __future__ import annotations

from typing import Self

import deepinv.optim
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..operators import squared_norm
from .prior import Prior, largest


class Analysis(Prior):
    """``prior`` on ``transform.A(x)``; has no prox.

    :param prior: any prior; its weight is the weight.
    :param transform: K, any linear operator.
    """

    weight_over_image, weight_inside = False, True

    def __init__(self, prior: deepinv.optim.Prior, transform: LinearPhysics):
        super().__init__()
        self.prior, self.transform = prior, transform
        self.convex = bool(getattr(prior, "convex", False))
        self.explicit_prior = self.has_value

    @property
    def has_value(self) -> bool:
        inner = getattr(self, "prior", None)
        return bool(getattr(inner, "has_value", getattr(inner, "explicit_prior", False)))

    @property
    def has_grad(self) -> bool:
        return bool(getattr(self.prior, "has_grad", False))

    @property
    def lipschitz(self) -> Tensor:
        return self._squared_norm * largest(self.prior.weight) * self.prior.lipschitz

    @property
    def weak_convexity(self) -> float:
        if self.convex:
            return 0.0
        return self._squared_norm * float(largest(self.prior.weight)) * float(self.prior.weak_convexity)

    @property
    def _squared_norm(self) -> float:
        """``||K||^2``, from above."""
        device = next((b.device for b in self.transform.buffers()), None)
        image = torch.zeros(1, *(self.transform.img_size or ()), device=device)
        return squared_norm(self.transform, self.transform.A_adjoint(self.transform.A(image)))

    def fn(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.prior.fn(self.transform.A(x), *args, **kwargs)

    def grad(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.transform.A_adjoint(self.prior.grad(self.transform.A(x), *args, **kwargs))

    def scaled(self, factor: float | Tensor) -> Self:
        return type(self)(self.prior.scaled(factor), self.transform)
