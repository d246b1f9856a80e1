r"""A prior on the coefficients of an orthonormal wavelet transform.

.. math:: R(x) = R_0(W x), \qquad \operatorname{prox}_{\gamma R}(v) = W^H \operatorname{prox}_{\gamma R_0}(W v),

such as ``InWavelets(L1(0.01))``, or ``InWavelets(GroupL1(0.01))`` for channels that share their support.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Self

from torch import Tensor

from ..operators import Wavelet
from ..operators.wavelet import orthogonal_filters
from .prior import Aux, Prior, largest


class InWavelets(Prior):
    """``prior`` on all wavelet coefficients of each channel, the approximation's among them.

    :param prior: one of resolvent's priors; its weight is the weight. A weight map lies over the coefficients as
        :class:`~resolvent.operators.Wavelet` lays them out; 0 in its first corner leaves the approximation free.
    :param wavelet: an orthogonal wavelet by PyWavelets' name.
    :param levels: how many; as many as the image allows if None.
    """

    weight_over_image, weight_inside = False, True

    def __init__(self, prior: Prior, wavelet: str = "db4", levels: int | None = None):
        super().__init__()
        orthogonal_filters(wavelet)
        self.prior, self.wavelet, self.levels = prior, wavelet, levels
        self.convex, self.explicit_prior = prior.convex, prior.has_value

    @property
    def has_value(self) -> bool:
        return bool(getattr(getattr(self, "prior", None), "has_value", False))

    @property
    def has_prox(self) -> bool:
        return self.prior.has_prox

    @property
    def has_grad(self) -> bool:
        return self.prior.has_grad

    @property
    def lipschitz(self) -> Tensor:
        return largest(self.prior.weight) * self.prior.lipschitz

    @property
    def weak_convexity(self) -> float:
        return 0.0 if self.convex else float(largest(self.prior.weight)) * self.prior.weak_convexity

    def fn(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.prior.fn(self._transform(x).A(x))

    def grad(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        transform = self._transform(x)
        return transform.A_adjoint(self.prior.grad(transform.A(x)))

    def start(self, x: Tensor) -> Aux:
        return self.prior.start(x)

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        transform = self._transform(v)
        coefficients, aux = self.prior.prox_from(transform.A(v), gamma, aux)
        return transform.A_adjoint(coefficients), aux

    def scaled(self, factor: float | Tensor) -> Self:
        return type(self)(self.prior.scaled(factor), self.wavelet, self.levels)

    def _transform(self, x: Tensor) -> Wavelet:
        return _wavelet(tuple(x.shape[1:]), self.wavelet, self.levels)


@lru_cache(maxsize=32)
def _wavelet(image_shape: tuple[int, ...], wavelet: str, levels: int | None) -> Wavelet:
    return Wavelet(image_shape, wavelet, levels)
