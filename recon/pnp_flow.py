r"""PnP-Flow: gradient steps on the data, each followed by noise and the flow's way back from it.

.. math:: z = x - \gamma_t A^H (A x - y), \qquad \gamma_t = \frac{c\, t^\alpha}{\|A\|^2}, \qquad
          x^+ = \frac1N \sum_{i=1}^N \hat x(a z + s \epsilon_i) .

Martin, Gagneux, Hagemann and Steidl (ICLR 2025), time as here 1 at noise. An estimate rather than a sample: what is
averaged is close to the mean of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..priors import Diffusion
from .problem import Problem
from .sampler import Sampler, SampleState
from .start import first_image


class PnPFlow(Sampler):
    """An image by plug-and-play with a flow.

    :param step_size: c, below 2.
    :param power: alpha.
    :param averages: N.
    """

    def __init__(
        self, prior: Diffusion, steps: int = 100, step_size: float = 1.0, power: float = 1.0, averages: int = 5
    ):
        super().__init__(prior, steps)
        if not 0 < step_size < 2 or not power >= 0 or averages < 1:
            found = f"{step_size}, {power}, {averages}"
            raise ValueError(
                f"step_size, power, averages: found {found}, expected from 0 to 2, not below 0, at least 1"
            )
        self.step_size, self.power, self.averages = step_size, power, averages

    def begin(self, problem: Problem, x0: Tensor | None, seed: Tensor) -> SampleState:
        return SampleState(first_image(problem) if x0 is None else x0, torch.zeros_like(seed), seed)

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here = self.level(k)
        z = state.x - self.step_size * here.t**self.power / problem.lipschitz * problem.gradient(state.x)
        noise = self.draw(state, z.expand(self.averages, *z.shape), k)
        images = [self.prior.estimate(here.a * z + here.s * n, here.t) for n in noise]
        return state._replace(x=torch.stack(images).mean(0))
