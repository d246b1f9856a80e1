r"""Projection: after every step, one towards the images whose data are the measured ones with as much noise.

.. math:: x_{t'} = u - \lambda\, A^H (A u - y_{t'}), \qquad u = \mathrm{reverse}(x_t, \hat x(x_t)), \qquad
          y_{t'} = a' y + s' A z .

At lambda = 1 the projection, where :math:`A A^H = I`. No derivative of the network; the data's noise is not known of,
and the samples are not the posterior's. Song, Shen, Xing and Ermon (ICLR 2022); of tissue and haze, with a lambda for
each, Stevens et al., IEEE TMI 43:3546 (2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..priors import Diffusion
from .problem import Problem
from .sampler import Sampler, SampleState, reverse_step


class Projection(Sampler):
    """Samples that are pulled towards the data.

    :param guidance: lambda: a number, or a tensor that broadcasts against ``(C, *spatial)``.
    :param randomness: eta of :func:`~resolvent.recon.sampler.reverse_step`.
    """

    def __init__(
        self, prior: Diffusion, steps: int = 200, guidance: float | Tensor = 0.5, randomness: float = 1.0
    ):  # fmt: skip
        super().__init__(prior, steps)
        if not bool((torch.as_tensor(guidance) >= 0).all()) or not 0 <= randomness <= 1:
            found = f"{guidance}, {randomness}"
            raise ValueError(f"guidance, randomness: found {found}, expected not below 0, and from 0 to 1")
        self.guidance, self.randomness = guidance, randomness

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here, there = self.level(k), self.level(k + 1)
        estimate = self.prior.estimate(state.x, here.t)
        u = reverse_step(state.x, estimate, here, there, self.randomness, self.draw(state, state.x, k))
        tangent = problem.linearised(u)
        z = tangent.physics.A(self.draw(state, u, k, 1))
        left = problem.physics.A(u) - there.a * problem.y - there.s * z
        return state._replace(x=u - self.guidance * tangent.physics.A_adjoint(left))
