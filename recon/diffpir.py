r"""DiffPIR: half-quadratic splitting in every step of the reverse diffusion.

.. math:: \hat x_0 = \arg\min_x \frac{\|A x - y\|^2}{2 \sigma_y^2} + \frac{\lambda}{2 \sigma^2} \|x - \hat x(x_t)\|^2,
          \qquad x_{t'} = a' \hat x_0
          + s' \Big( \sqrt{1 - \zeta}\, \frac{x_t - a \hat x_0}{s} + \sqrt{\zeta}\, z \Big) .

Zhu, Zhang, Liang, Cao, Wen, Timofte and Van Gool (CVPR-W 2023). The image given x_t is taken to be as uncertain as
the noise is strong, and its mode in place of a sample goes on: sharp images, not samples of the posterior.
"""

from __future__ import annotations

import math

from ..priors import Diffusion
from .linear import data_prox
from .problem import Problem
from .sampler import Sampler, SampleState


class DiffPIR(Sampler):
    """Images by denoising, fitting and adding noise again.

    :param weight: lambda.
    :param randomness: zeta, from 0 to 1.
    :param cg_iterations: conjugate gradient steps at most where the data step has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    def __init__(
        self,
        prior: Diffusion,
        steps: int = 100,
        noise_std: float | None = None,
        weight: float = 7.0,
        randomness: float = 0.3,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std)
        if not 0 < weight < math.inf or not 0 <= randomness <= 1:
            raise ValueError(f"weight, randomness: found {weight}, {randomness}, expected above 0, and from 0 to 1")
        self.weight, self.randomness = weight, randomness
        self.cg_iterations, self.cg_rtol = cg_iterations, cg_rtol

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here, there = self.level(k), self.level(k + 1)
        estimate = self.prior.estimate(state.x, here.t)
        gamma = (here.s / here.a / problem.noise_level(self.noise_std)) ** 2 / self.weight
        fit = data_prox(problem, estimate, gamma, estimate, self.cg_iterations, self.cg_rtol)
        old, new = (state.x - here.a * fit) / here.s, self.draw(state, state.x, k)
        noise = (1 - self.randomness) ** 0.5 * old + self.randomness**0.5 * new
        return state._replace(x=there.a * fit + there.s * noise)
