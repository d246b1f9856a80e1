r"""Nonlinear conjugate gradients for smooth problems.

.. math:: d_k = -g_k + \beta_k d_{k-1}, \qquad
          \beta_k = \max\Big(0, \frac{\langle g_k, g_k - g_{k-1}\rangle}{\|g_{k-1}\|^2}\Big), \qquad
          \alpha_k = -\frac{\langle g_k, d_k\rangle}{\langle d_k, \nabla^2 F\, d_k\rangle}

(Polak-Ribiere with restart), halving alpha until F falls. On a quadratic alpha is exact and the method
is linear conjugate gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from ..operators.norm import TINY, above_zero
from .problem import Problem, inner, norms, per_image
from .solver import Solver
from .stopping import Criterion, RelativeChange


class CGState(NamedTuple):
    """Image, gradient and search direction."""

    x: Tensor
    gradient: Tensor
    direction: Tensor


class ConjugateGradient(Solver):
    """Minimise ``1/2 ||A x - y||^2`` plus smooth priors (with value and gradient; none is least squares)."""

    needs = "grad"

    takes = (0, math.inf)

    def __init__(
        self,
        prior: AnyPrior | Sequence[AnyPrior] | None = None,
        max_iter: int = 100,
        stop: Criterion | None = None,
    ):
        super().__init__(prior, max_iter, stop or RelativeChange(1e-6))

    def _gradient(self, problem: Problem, x: Tensor) -> Tensor:
        return problem.gradient(x) + self._prior_gradient(x)

    def _prior_gradient(self, x: Tensor) -> Tensor:
        total = sum((p.grad(x.clone()) for p in self.priors), start=torch.zeros_like(x))
        return total if torch.is_grad_enabled() else total.detach()

    def _curvature(self, problem: Problem, x: Tensor, d: Tensor) -> Tensor:
        """``<d, F''(x) d>``: the data's exactly, the priors' by a central difference of their gradients."""
        data = norms(problem.physics.A(d)).square()
        if not len(self.priors):
            return data
        h = 1e-4 * (norms(x) + norms(d)) / norms(d).clamp_min(TINY)
        shift = per_image(h, d) * d
        bend = inner(d, self._prior_gradient(x + shift) - self._prior_gradient(x - shift))
        return data + bend / above_zero(2 * h)

    def init(self, problem: Problem, x0: Tensor | None) -> CGState:
        x = torch.zeros_like(problem.back_projection) if x0 is None else x0
        g = self._gradient(problem, x)
        return CGState(x, g, -g)

    def restart(self, problem: Problem, state: CGState) -> CGState:
        """The direction is kept where the gradient is that of this problem to rounding."""
        fresh = self.init(problem, state.x)
        rounding = 100 * torch.finfo(fresh.gradient.dtype).eps * norms(fresh.gradient)
        return state if bool((norms(fresh.gradient - state.gradient) <= rounding).all()) else fresh

    def step(self, problem: Problem, state: CGState) -> CGState:
        x, g, d = state
        slope = inner(g, d)
        alpha = -slope / above_zero(self._curvature(problem, x, d).abs())
        x_new = self._backtrack(problem, x, d, alpha, slope)
        g_new = self._gradient(problem, x_new)
        beta = (inner(g_new, g_new - g) / above_zero(inner(g, g))).clamp_min(0)
        d_new = per_image(beta, d) * d - g_new
        descends = inner(g_new, d_new) < 0
        return CGState(x_new, g_new, torch.where(per_image(descends, d), d_new, -g_new))

    def _backtrack(self, problem: Problem, x: Tensor, d: Tensor, alpha: Tensor, slope: Tensor) -> Tensor:
        """Halve each image's step until its objective falls; on a quadratic the first step is right."""
        if not len(self.priors):
            return torch.addcmul(x, per_image(alpha, d), d)
        before = problem.objective(x)
        slack = 10 * torch.finfo(before.dtype).eps * before.abs()
        for _ in range(30):
            after = problem.objective(torch.addcmul(x, per_image(alpha, d), d))
            rises = ~(after <= before + 1e-4 * alpha * slope + slack)
            if not rises.any():
                break
            alpha = torch.where(rises, alpha / 2, alpha)
        else:
            alpha = torch.where(rises, 0, alpha)
        return torch.addcmul(x, per_image(alpha, d), d)

    def fixed_point_step(self, problem: Problem, state: CGState) -> CGState:
        """A gradient step: at the solution, where directions end, conjugate gradients have no derivative."""
        g = self._gradient(problem, state.x)
        return CGState(state.x - g / problem.lipschitz, g, -g)

    def optimality(self, problem: Problem, state: CGState) -> Tensor:
        """``||F'(x)|| / ||A^H y||``."""
        return norms(state.gradient) / norms(problem.back_projection).clamp_min(TINY)
