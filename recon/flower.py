r"""FLOWER: the flow's image, moved to where the data want it, and noise again.

.. math:: \mu = \arg\min_x \frac{\|A x - y\|^2}{2 \sigma_y^2} + \frac{\|x - \hat x(x_t)\|^2}{2 \nu^2}, \qquad
          \nu = \frac{\tau \sigma}{\sqrt{\tau^2 + \sigma^2}}, \qquad x_{t'} = a' \mu + s' \epsilon .

Pourya, El Rawas and Unser (2025); tau = 1, the images' standard deviation, in the paper. With ``uncertain`` mu is a
sample around that mode, as the derivation has it; the published results are without, which is sharper in PSNR and less
spread than the posterior.
"""

from __future__ import annotations

import math

from ..priors import Diffusion
from .linear import data_prox
from .problem import Problem
from .sampler import Sampler, SampleState, data_sample, uncertainty


class Flower(Sampler):
    """Samples by flow, data and noise in turn.

    :param scale: tau, in units of the image.
    :param uncertain: draw mu, in place of its mode.
    :param cg_iterations: conjugate gradient steps at most where the data step has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    def __init__(
        self,
        prior: Diffusion,
        steps: int = 100,
        noise_std: float | None = None,
        scale: float = 1.0,
        uncertain: bool = False,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale: found {scale}, expected a finite number above 0")
        self.scale, self.uncertain = scale, uncertain
        self.cg_iterations, self.cg_rtol = cg_iterations, cg_rtol

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here, there = self.level(k), self.level(k + 1)
        estimate, noise = self.prior.estimate(state.x, here.t), problem.noise_level(self.noise_std)
        std, limits = uncertainty(here, self.scale), (self.cg_iterations, self.cg_rtol)
        if self.uncertain:
            z = (self.draw(state, state.x, k, 1), self.draw(state, problem.y, k, 2))
            mu = data_sample(problem, estimate, std, noise, z, *limits)
        else:
            mu = data_prox(problem, estimate, (std / noise) ** 2, estimate, *limits)
        return state._replace(x=there.a * mu + there.s * self.draw(state, state.x, k))
