r"""A prior on the coefficients of an orthonormal wavelet transform.

.. math:: R(x) = R_0(W x), \qquad \operatorname{prox}_{\gamma R}(v) = W^H \operatorname{prox}_{\gamma R_0}(W v),

such as ``InWavelets(L1(0.01))``, or ``InWavelets(GroupL1(0.01))`` for channels that share their support.
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from ..operators import Wavelet
from ..operators.wavelet import orthogonal_filters
from .around import OfCoefficients
from .prior import Aux, Prior, prox_prior


class InWavelets(OfCoefficients):
    """``prior`` on all wavelet coefficients of each channel, the approximation's among them.

    :param prior: one of resolvent's priors; its weight is the weight. A weight map lies over the coefficients as
        :class:`~resolvent.operators.Wavelet` lays them out; 0 in its first corner leaves the approximation free.
    :param wavelet: an orthogonal wavelet by PyWavelets' name.
    :param levels: how many; as many as the image allows if None.
    """

    def __init__(self, prior: Prior, wavelet: str = "db4", levels: int | None = None):
        super().__init__(prior)
        orthogonal_filters(wavelet)
        self.wavelet, self.levels = wavelet, levels

    @property
    def squared_norm(self) -> float:
        return 1.0

    def transform_of(self, x: Tensor) -> Wavelet:
        return _wavelet(tuple(x.shape[1:]), self.wavelet, self.levels)

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        transform = self.transform_of(v)
        coefficients, aux = prox_prior(self.prior, transform.A(v), gamma, aux)
        return transform.A_adjoint(coefficients), aux


@lru_cache(maxsize=32)
def _wavelet(image_shape: tuple[int, ...], wavelet: str, levels: int | None) -> Wavelet:
    return Wavelet(image_shape, wavelet, levels)
