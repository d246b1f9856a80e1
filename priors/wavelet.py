r"""Sparsity in an orthonormal wavelet basis.

.. math:: R(x) = \|W x\|_1, \qquad \operatorname{prox}_{\gamma R}(v) = W^H \operatorname{soft}_\gamma(W v) .
"""

from __future__ import annotations

from functools import lru_cache

from torch import Tensor

from ..operators import Wavelet
from ..operators.wavelet import orthogonal_filters
from .l1 import L1


class WaveletL1(L1):
    """Sum of magnitudes of all wavelet coefficients, the approximation's among them.

    :param weight: a number, or a map over the coefficients as :class:`~resolvent.operators.Wavelet` lays them
        out; 0 in its first corner leaves the approximation free.
    :param wavelet: an orthogonal wavelet by PyWavelets' name.
    :param levels: how many; as many as the image allows if None.
    """

    def __init__(self, weight: float | Tensor = 1.0, wavelet: str = "db4", levels: int | None = None):
        super().__init__(weight)
        orthogonal_filters(wavelet)
        self.wavelet, self.levels = wavelet, levels

    def _value(self, x: Tensor) -> Tensor:
        return super()._value(self._transform(x).A(x))

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        transform = self._transform(v)
        return transform.A_adjoint(super()._prox(transform.A(v), gamma))

    def _transform(self, x: Tensor) -> Wavelet:
        return _wavelet(tuple(x.shape[1:]), self.wavelet, self.levels)


@lru_cache(maxsize=32)
def _wavelet(image_shape: tuple[int, ...], wavelet: str, levels: int | None) -> Wavelet:
    return Wavelet(image_shape, wavelet, levels)
