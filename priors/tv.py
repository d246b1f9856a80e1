r"""Isotropic total variation in any number of dimensions.

.. math:: R(x) = \sum_v \Big(\sum_d |(D_d x)_v|^2\Big)^{1/2}, \qquad
          \operatorname{prox}_{\gamma R}(v) = v - D^T p^*, \quad
          p^* = \arg\min_{|p_v| \le \gamma} \tfrac12 \|D^T p - v\|^2 .

Forward differences, zero across the last plane (with ``outside = "zero"``, across that of a frame of
zeros). The dual is solved by accelerated projected gradient (Beck and Teboulle, IEEE TIP 18:2419, 2009);
||D||^2 <= 4 per dimension. On a complex image the differences of real and imaginary part are taken jointly.
"""

from __future__ import annotations

from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.finite_differences import add_divergence, add_gradient, divergence, gradient
from .prior import Aux, Prior, length, squared_length, summed

#: Momentum number at the start of a proximal call. Above Beck and Teboulle's 1, so that momentum is carried
#: from one call of a solver to the next; 8 to 12 serve alike, and a cold start loses nothing.
MOMENTUM = 8.0


class TV(Prior):
    """Isotropic total variation over the spatial axes of ``(B, C, *spatial)``; channels count separately.

    :param iterations: inner steps of one proximal call. A solver hands the dual back, so that few suffice; under
        FISTA, whose momentum runs ahead of a dual that lags behind, 10 and more.
    :param outside: what surrounds the image: a ``copy`` of its border, which costs nothing, or ``zero``, empty
        space. On the magnitude of an image of random phase only ``zero`` makes a constant background cost.
        It takes one weight per image, not a map.
    """

    convex = True

    def __init__(self, weight: float | Tensor = 1.0, iterations: int = 20, outside: Literal["copy", "zero"] = "copy"):
        super().__init__(weight)
        if iterations < 1:
            raise ValueError(f"iterations: found {iterations}, expected at least 1")
        if outside not in ("copy", "zero"):
            raise ValueError(f"outside: found {outside!r}, expected 'copy' or 'zero'")
        self.iterations, self.outside = iterations, outside
        self.weight_over_image = outside == "copy"

    def _framed(self, x: Tensor) -> Tensor:
        """The image within the plane that surrounds it, where that plane is not free."""
        return x if self.outside == "copy" else F.pad(x, (1, 1) * (x.ndim - 2))

    def _unframed(self, x: Tensor) -> Tensor:
        """The adjoint of :meth:`_framed`."""
        return x if self.outside == "copy" else x[(..., *[slice(1, -1)] * (x.ndim - 2))]

    def _value(self, x: Tensor) -> Tensor:
        lengths = length(gradient(self._framed(x)), (1,)).squeeze(1)
        return lengths if self.outside == "copy" else summed(lengths)

    def start(self, x: Tensor) -> Aux:
        """The dual and its extrapolation."""
        p = torch.zeros_like(gradient(self._framed(x)))
        return p, p

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        bound = torch.as_tensor(self._threshold(gamma, v), dtype=v.real.dtype, device=v.device)
        p, q = aux
        t, step = MOMENTUM, 1 / (4 * (v.ndim - 2))
        for _ in range(self.iterations):
            ahead = _project(add_gradient(q.clone(), self._framed(self._primal(v, q)), step), bound)
            t, previous = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            q = (ahead - p).mul_((previous - 1) / t).add_(ahead)
            p = ahead
        return self._primal(v, p), (p, q)

    def _primal(self, v: Tensor, p: Tensor) -> Tensor:
        """The image that belongs to a dual, ``v - D^T p``."""
        return v - self._unframed(divergence(p)) if self.outside == "zero" else add_divergence(v.clone(), p, -1.0)


def _project(p: Tensor, bound: Tensor) -> Tensor:
    """Onto ``|p_v| <= bound``."""
    square = reduce(torch.add, (squared_length(direction, ()) for direction in p.unbind(1)))
    longest = torch.maximum(square, bound.square().clamp_min(torch.finfo(square.dtype).tiny))
    return p * (bound * longest.rsqrt_()).unsqueeze(1)
