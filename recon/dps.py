r"""Diffusion posterior sampling: after every step, one down the gradient of the data's misfit.

.. math:: x_{t'} = \mathrm{reverse}(x_t, \hat x) - \zeta\, \nabla_{x_t} \|y - A \hat x(x_t)\| .

Chung, Kim, Mccann, Klasky and Ye (ICLR 2023). The step's length is chosen, not derived: its samples are not the
posterior's, whatever the noise of the data.
"""

from __future__ import annotations

import torch

from ..priors import Diffusion
from .problem import Problem, norms
from .sampler import Sampler, SampleState, reverse_step


class DPS(Sampler):
    """Samples that descend the misfit.

    :param guidance: zeta.
    :param randomness: eta of :func:`~resolvent.recon.sampler.reverse_step`.
    """

    def __init__(self, prior: Diffusion, steps: int = 1000, guidance: float = 1.0, randomness: float = 1.0):
        super().__init__(prior, steps)
        if not guidance >= 0 or not 0 <= randomness <= 1:
            found = f"{guidance}, {randomness}"
            raise ValueError(f"guidance, randomness: found {found}, expected not below 0, and from 0 to 1")
        self.guidance, self.randomness = guidance, randomness

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here, there = self.level(k), self.level(k + 1)
        with torch.inference_mode(False), torch.enable_grad():
            x = state.x.detach().clone().requires_grad_()
            estimate = self.prior.estimate(x, here.t)
            misfit = norms(problem.physics.A(estimate) - problem.y)
            (slope,) = torch.autograd.grad(misfit.sum(), x)
        z = self.draw(state, state.x, k)
        moved = reverse_step(state.x, estimate.detach(), here, there, self.randomness, z)
        return state._replace(x=moved - self.guidance * slope)
