r"""Stochastic ascent, coarse to fine, of the prior that is implicit in a denoiser.

.. math:: d_k = \operatorname{fit}_\sigma\big(D(x_k)\big) - x_k, \qquad \sigma_k^2 = \|d_k\|^2 / N, \qquad
          x_{k+1} = x_k + h_k d_k + \gamma_k z_k,

.. math:: \gamma_k^2 = \big[(1 - \beta h_k)^2 - (1 - h_k)^2\big]\, \sigma_k^2, \qquad
          h_k = \frac{h_0 k}{1 + h_0 (k - 1)} .

The residual of the denoiser says itself how much noise there is, and each step takes a part of it away: no schedule.
At beta = 1 nothing random is added. Kadkhodaie and Simoncelli (NeurIPS 2021), for data without noise: there the fit is
the projection on to the images that have these data, which the proximal step of the data tends to as their noise falls.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..priors import Diffusion
from ..priors.prior import broadcast
from .linear import data_prox
from .problem import Problem, norms
from .sampler import Sampler
from .solver import Solver, State
from .stopping import Criterion


class AscentState(NamedTuple):
    """A sampler's state, and the noise left in the image, ``(B,)``."""

    x: Tensor
    steps: Tensor
    seed: Tensor
    level: Tensor


class NoiseLeft(Criterion):
    """The standard deviation of the noise that is left in the image."""

    def __init__(self, tol: float = 0.01):
        super().__init__(tol)

    def measure(self, solver: Solver, problem: Problem, before: State, now: AscentState) -> Tensor:
        return now.level


class CoarseToFine(Sampler):
    """Samples of high density that have the data.

    :param steps: at most.
    :param noise_std: standard deviation of the data, small where they have no noise.
    :param first: the first noise level, in units of the image.
    :param beta: from 0, where noise is only added, to 1, where none is.
    :param step_size: h_0, of the first step.
    :param stop: :class:`NoiseLeft` at 0.01 if None.
    """

    def __init__(
        self,
        prior: Diffusion,
        steps: int = 1000,
        noise_std: float | None = None,
        first: float = 1.0,
        beta: float = 0.1,
        step_size: float = 0.01,
        stop: Criterion | None = None,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std, stop or NoiseLeft())
        if not first > 0 or not 0 < beta <= 1 or not 0 < step_size <= 1:
            found = f"{first}, {beta}, {step_size}"
            raise ValueError(f"first, beta, step_size: found {found}, expected above 0, the latter two at most 1")
        self.first, self.beta, self.step_size = first, beta, step_size
        self.cg_iterations, self.cg_rtol = cg_iterations, cg_rtol

    def begin(self, problem: Problem, x0: Tensor | None, seed: Tensor) -> AscentState:
        like = problem.back_projection
        state = AscentState(like, torch.zeros_like(seed), seed, like.real.new_full((len(like),), self.first))
        return state._replace(x=self.first * self.draw(state, like, -1) + (0 if x0 is None else x0))

    def move(self, problem: Problem, state: AscentState, k: int) -> AscentState:
        h = self.step_size * (k + 1) / (1 + self.step_size * k)
        image = self.prior.denoise(state.x, state.level)
        gamma = (state.level / problem.noise_level(self.noise_std).to(state.level)).square()
        d = data_prox(problem, image, gamma, image, self.cg_iterations, self.cg_rtol) - state.x
        level = norms(d) / d[0].numel() ** 0.5
        left, kept = 1 - self.beta * h, 1 - h
        noise = broadcast((left**2 - kept**2) ** 0.5 * level, d) * self.draw(state, d, k)
        return state._replace(x=state.x + h * d + noise, level=left * level)
