r"""Decoupled annealing: an image from the ODE, a sample of it given the data, noise again.

.. math:: \hat x_0 = \mathrm{ODE}(x_t), \qquad
          x_0 \sim p(x_0 | x_t, y) \approx \mathcal{N}(x_0; \hat x_0, r^2)\, \mathcal{N}(y; A x_0, \sigma_y^2), \qquad
          x_{t'} = a' x_0 + s' z, \qquad r = \sigma .

Zhang, Chu, Berner, Meng, Anandkumar and Song (CVPR 2025). A linear operator and Gaussian noise let the second step
be drawn exactly, where the paper has Langevin's dynamics; that r = sigma remains a guess.
"""

from __future__ import annotations

import itertools

from torch import Tensor

from ..priors import Diffusion
from .problem import Problem
from .sampler import Sampler, SampleState, data_sample, reverse_step


class DAPS(Sampler):
    """Samples by decoupled annealing, its likelihood exact.

    :param ode_steps: steps of the ODE from each time to 0.
    :param cg_iterations: conjugate gradient steps at most where the data step has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    def __init__(
        self,
        prior: Diffusion,
        steps: int = 100,
        noise_std: float | None = None,
        ode_steps: int = 5,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std)
        if ode_steps < 1:
            raise ValueError(f"ode_steps: found {ode_steps}, expected at least 1")
        self.ode_steps, self.cg_iterations, self.cg_rtol = ode_steps, cg_iterations, cg_rtol

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here, there = self.level(k), self.level(k + 1)
        image, noise = self._image(state.x, k), problem.noise_level(self.noise_std)
        z = (self.draw(state, state.x, k, 1), self.draw(state, problem.y, k, 2))
        drawn = data_sample(problem, image, here.s / here.a, noise, z, self.cg_iterations, self.cg_rtol)
        return state._replace(x=there.a * drawn + there.s * self.draw(state, state.x, k))

    def _image(self, x: Tensor, k: int) -> Tensor:
        """The end of the probability flow that starts at ``x``."""
        t = self.level(k).t
        levels = [self.at(t * (1 - i / self.ode_steps)) for i in range(self.ode_steps + 1)]
        for here, there in itertools.pairwise(levels):
            x = reverse_step(x, self.prior.estimate(x, here.t), here, there, 0.0, x)
        return x
