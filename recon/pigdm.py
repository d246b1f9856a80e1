r"""Pseudo-inverse guidance: the data through the mean, as if the image given x_t had independent pixels.

.. math:: p(x_0 | x_t) \approx \mathcal{N}(\hat x, r^2 I), \qquad
          E[x_0 | x_t, y] \approx \hat x + \frac{s^2}{a} J^H A^H (r^2 A A^H + \sigma_y^2)^{-1} (y - A \hat x), \qquad
          r^2 = \frac{\tau^2 \sigma^2}{\tau^2 + \sigma^2},

J the derivative of x-hat and tau the images' standard deviation. Song, Vahdat, Mardani and Kautz (ICLR 2023).
"""

from __future__ import annotations

import math

from torch import Tensor

from ..priors import Diffusion
from .linear import data_prox
from .problem import Problem
from .sampler import GuidedDiffusion, Level, estimate_and_pullback, uncertainty


class PiGDM(GuidedDiffusion):
    """Reverse diffusion under pseudo-inverse guidance.

    :param scale: tau, in units of the image.
    """

    def __init__(
        self,
        prior: Diffusion,
        steps: int = 200,
        noise_std: float | None = None,
        scale: float = 1.0,
        randomness: float = 1.0,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std, randomness, cg_iterations, cg_rtol)
        if not 0 < scale < math.inf:
            raise ValueError(f"scale: found {scale}, expected a finite number above 0")
        self.scale = scale

    def guided(self, problem: Problem, x: Tensor, here: Level) -> Tensor:
        estimate, pullback = estimate_and_pullback(self.prior, x, here.t)
        variance = uncertainty(here, self.scale) ** 2
        gamma = variance / problem.noise_level(self.noise_std) ** 2
        fit = data_prox(problem, estimate, gamma, estimate, self.cg_iterations, self.cg_rtol)
        return estimate + here.s**2 / here.a * pullback((fit - estimate) / variance)
