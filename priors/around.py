r"""Priors made of another one, whose weight is the weight.

.. math:: R(x) = R_0(K x), \qquad L = \|K\|^2 L_0, \quad \rho = \|K\|^2 \rho_0

for a linear K: the Lipschitz constant of the gradient and the weak convexity follow from those of R_0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Self

from deepinv.optim import Prior as AnyPrior
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..operators.substitute import substitute
from .prior import Aux, Prior, largest, start_prior


class Around(Prior):
    """Base class: of value, gradient and prox it has what it overrides and the prior inside has.

    :param prior: the prior inside; its weight is the weight.
    """

    weight_inside = True

    def __init__(self, prior: AnyPrior):
        super().__init__()
        self.prior = prior
        self.explicit_prior = self.has_value
        self.weight_over_image = bool(getattr(prior, "weight_over_image", False))

    @property
    def has_value(self) -> bool:
        inner = getattr(self, "prior", None)
        own = type(self).fn is not Prior.fn
        return own and bool(getattr(inner, "has_value", getattr(inner, "explicit_prior", False)))

    @property
    def has_prox(self) -> bool:
        return type(self).prox_from is not Prior.prox_from and bool(getattr(self.prior, "has_prox", True))

    @property
    def has_grad(self) -> bool:
        return type(self).grad is not Prior.grad and bool(getattr(self.prior, "has_grad", False))

    def start(self, x: Tensor) -> Aux:
        return start_prior(self.prior, x)

    @property
    def weighted(self) -> bool:
        return bool(getattr(self.prior, "weighted", True))

    def scaled(self, factor: float | Tensor) -> Self:
        return substitute(self, "prior", self.prior.scaled(factor))


class OfCoefficients(Around):
    """``prior`` on the coefficients ``K x``: a subclass gives K for an image, and its norm."""

    def __init__(self, prior: AnyPrior):
        super().__init__(prior)
        self.weight_over_image = False
        self.convex = bool(getattr(prior, "convex", False))

    @abstractmethod
    def transform_of(self, x: Tensor) -> LinearPhysics:
        """K for images ``(B, C, *spatial)`` like ``x``."""

    @property
    @abstractmethod
    def squared_norm(self) -> float:
        """``||K||^2``, or more."""

    @property
    def lipschitz(self) -> Tensor:
        return self.squared_norm * largest(self.prior.weight) * self.prior.lipschitz

    @property
    def weak_convexity(self) -> float:
        if self.convex:
            return 0.0
        return self.squared_norm * float(largest(self.prior.weight)) * float(self.prior.weak_convexity)

    def fn(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.prior.fn(self.transform_of(x).A(x), *args, **kwargs)

    def grad(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        transform = self.transform_of(x)
        return transform.A_adjoint(self.prior.grad(transform.A(x), *args, **kwargs))
