r"""Moment matching: the data through the mean, with the covariance that the denoiser itself states.

.. math:: C_t = \operatorname{cov}(x_0 | x_t) = \frac{s^2}{a} J, \qquad
          E[x_0 | x_t, y] \approx \hat x + C_t A^H (A C_t A^H + \sigma_y^2)^{-1} (y - A \hat x) .

Exact where the prior is Gaussian: the sampler of the true posterior, but for the length of its steps. The system is
solved by conjugate gradients, one derivative of the denoiser each. Finzi et al. (ICML 2023); Boys et al. (TMLR 2024);
with conjugate gradients, Rozet, Andry, Lanusse and Louppe (NeurIPS 2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .linear import conjugate_gradient
from .problem import Problem, one_or_each
from .sampler import GuidedDiffusion, Level, estimate_and_pullback


class MomentMatching(GuidedDiffusion):
    """Reverse diffusion whose guidance is exact for Gaussian priors and linear operators; others by their tangent."""

    def guided(self, problem: Problem, x: Tensor, here: Level) -> Tensor:
        estimate, pullback = estimate_and_pullback(self.prior, x, here.t)
        factor, variance = here.s**2 / here.a, one_or_each(problem.noise_level(self.noise_std).square(), problem.y)
        problem = problem.linearised(estimate)

        def moved(u: Tensor) -> Tensor:
            return factor * pullback(problem.physics.A_adjoint(u))

        def system(u: Tensor) -> Tensor:
            return problem.physics.A(moved(u)) + variance * u

        left = problem.y - problem.physics.A(estimate)
        nothing = torch.zeros_like(left)
        u = conjugate_gradient(system, left, nothing, nothing, self.cg_iterations, self.cg_rtol).x
        return estimate + moved(u)
