r"""The upper level: how good the lower level's images are.

.. math:: f(\theta) = \frac1B \sum_i g_i(\hat x_i(\theta)) + r(\theta), \qquad
          |g_i(\hat x_i) - g_i(x_i)| \le \|\nabla g_i(x_i)\|\, \epsilon_i + \tfrac{L_g}{2} \epsilon_i^2

for images within :math:`\epsilon_i` of the minimisers: f lies between two numbers that can be computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..problem import norms
from .lower_level import LowerLevel


class Loss(Protocol):
    """g, per image."""

    #: ``L_g``, the Lipschitz constant of g's gradient.
    smoothness: float
    #: Whether g is convex.
    convex: bool
    #: What the mean of g is expected to be of the true images: less is nothing gained. -inf where it is not known.
    floor: float

    def __call__(self, x: Tensor) -> Tensor:
        """``g_i(x_i)``, shape ``(B,)``, differentiable."""
        ...


class SquaredError:
    r""":math:`g_i(x) = \tfrac12 \|x - t_i\|^2`.

    :param truth: t, images ``(B, ...)``.
    """

    smoothness, convex, floor = 1.0, True, -math.inf

    def __init__(self, truth: Tensor):
        self.truth = truth

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.truth).abs().square().flatten(1).sum(1) / 2


class Bounds(NamedTuple):
    """Two numbers between which f lies: ``low <= f <= high``."""

    low: Tensor
    high: Tensor


class UpperLevel:
    """f, to be minimised over theta.

    :param lower: what makes the images.
    :param loss: g, per image.
    :param penalty: r, of theta, a number; none if None.
    """

    def __init__(self, lower: LowerLevel, loss: Loss, penalty: Callable[[Tensor], Tensor] | None = None):
        self.lower, self.loss, self.penalty = lower, loss, penalty

    def value(self, x: Tensor, theta: Tensor) -> Tensor:
        """f as if ``x`` were the minimisers."""
        value = self.loss(x).mean()
        return value if self.penalty is None else value + self.penalty(theta)

    def image_gradient(self, x: Tensor) -> Tensor:
        """``grad g_i`` at ``x_i``, images ``(B, ...)``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.loss(x).sum(), x)[0]

    def penalty_gradient(self, theta: Tensor) -> Tensor:
        """``grad r``."""
        if self.penalty is None:
            return torch.zeros_like(theta)
        with torch.enable_grad():
            theta = theta.detach().requires_grad_()
            return torch.autograd.grad(self.penalty(theta), theta)[0]

    def bounds(self, x: Tensor, eps: Tensor, theta: Tensor) -> Bounds:
        """Between what f lies if ``||x_i - xhat_i|| <= eps_i``; a convex g needs no second order from below."""
        value, slope = self.value(x, theta), norms(self.image_gradient(x)) * eps
        bend = self.loss.smoothness / 2 * eps.square()
        low = slope if self.loss.convex else slope + bend
        return Bounds(value - low.mean(), value + (slope + bend).mean())
