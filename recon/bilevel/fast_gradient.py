r"""Accelerated gradient descent of a smooth, strongly convex function.

.. math:: z_k = w_{k-1} - \tfrac1L \nabla h(w_{k-1}), \qquad
          w_k = z_k + \frac{(t_{k-1} - 1)(1 - t_k q)}{t_k (1 - q)} (z_k - z_{k-1}), \qquad q = \mu / L,

.. math:: t_k = \tfrac12 \Big(1 - q t_{k-1}^2 + \sqrt{(1 - q t_{k-1}^2)^2 + 4 t_{k-1}^2}\Big) .

Chambolle and Pock, Acta Numerica 25:161 (2016), algorithm 5. The image is w, where the gradient is known:
what the step needs is the certificate too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..problem import norms, per_image
from ..stopping import relative_change

if TYPE_CHECKING:
    from .lower_level import LowerLevel


class Given(NamedTuple):
    """A lower level at given parameters, and its constants there."""

    lower: LowerLevel
    theta: Tensor
    strong_convexity: Tensor
    smoothness: Tensor


class FastGradientState(NamedTuple):
    """The extrapolated point w, its gradient, the descended point z and the momentum number t."""

    x: Tensor
    gradient: Tensor
    z: Tensor
    t: Tensor


class FastGradient:
    """The algorithm as the loop of all solvers runs it."""

    at_the_end = "max_iter"

    def init(self, problem: Given, x0: Tensor) -> FastGradientState:
        """At ``x0``, for one gradient."""
        t = torch.ones(len(x0), dtype=x0.real.dtype, device=x0.device)
        return FastGradientState(x0, problem.lower.gradient(x0, problem.theta), x0, t)

    def step(self, problem: Given, state: FastGradientState) -> FastGradientState:
        """One gradient."""
        w, gradient, before, t = state
        q = (problem.strong_convexity / problem.smoothness).clamp_min(0).to(t.dtype)
        slack = 1 - q * t * t
        following = (slack + torch.sqrt(slack * slack + 4 * t * t)) / 2
        tiny = torch.finfo(t.dtype).tiny
        momentum = (t - 1) * (1 - following * q) / (following * (1 - q)).clamp_min(tiny)
        z = w - gradient / problem.smoothness.to(t.dtype)
        w = torch.addcmul(z, per_image(momentum, z).to(z.dtype), z - before)
        return FastGradientState(w, problem.lower.gradient(w, problem.theta), z, following)

    def change(self, before: FastGradientState, now: FastGradientState) -> Tensor:
        """As of every solver."""
        return relative_change(before.x, now.x)

    def optimality(self, problem: Given, state: FastGradientState) -> Tensor:
        """``||grad h|| / mu``: how far the image can be from the minimiser."""
        return certificate(state.gradient, problem.strong_convexity, problem.smoothness)


def certificate(gradient: Tensor, strong_convexity: Tensor, smoothness: Tensor) -> Tensor:
    """``||grad h|| / mu`` per image; over L where mu is not above 0."""
    scale = torch.where(strong_convexity > 0, strong_convexity, smoothness)
    return norms(gradient) / scale.to(gradient.real.dtype)
