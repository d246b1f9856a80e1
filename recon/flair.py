r"""FLAIR: an image that the flow holds likely at every noise level, and that has the data.

.. math:: \min_\mu \frac{\|y - A \mu\|^2}{2 \sigma_y^2}
          + \int \lambda(t)\, E\, \|v(x_t, t) - u_t\|^2\, dt, \qquad x_t = (1 - t) \mu + t \epsilon, \quad
          u_t = \epsilon - \mu ,

whose gradient, with the network's derivative left out, is :math:`v - u_t = (\mu - \hat x(x_t)) / t`. In each step, time
falling,

.. math:: \epsilon = a\, \hat\epsilon + \sqrt{1 - a^2}\, w, \qquad
          z = \mu - \tfrac{\lambda}{t} (\mu - \hat x(x_t)), \qquad
          \mu^+ = \arg\min_x \tfrac{1}{2 \sigma_y^2} \|A x - y\|^2 + \tfrac12 \|x - z\|^2 ,

epsilon-hat the noise that the flow found in the last x_t. Erbach, Narnhofer, Dombos, Schiele, Lenssen and Schindler
(NeurIPS 2025). Its spread is that of lambda, not of the posterior.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..priors import Diffusion, FlowMatching
from .linear import data_prox
from .problem import Problem
from .sampler import Level, Sampler


class FlairState(NamedTuple):
    """The image ``x``, steps and seed as in every sampler, and the noise found last."""

    x: Tensor
    steps: Tensor
    seed: Tensor
    noise: Tensor


def remaining(t: float) -> float:
    """``1 - t``: the later, the more of the noise that was found is kept."""
    return 1 - t


class FLAIR(Sampler):
    """Images by variational flow matching.

    :param prior: on the path of :class:`~resolvent.priors.FlowMatching`.
    :param weight: lambda of the time; a :class:`~resolvent.recon.CalibratedWeight`, say.
    :param noise_std: sigma_y; small, where the data have no noise: then the last step is the projection on to them.
    :param last: the time before which the steps end.
    :param adjustment: a of the time, from 0 to 1; 0 draws the noise anew every time.
    :param cg_iterations: conjugate gradient steps at most where the data step has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    def __init__(
        self,
        prior: Diffusion,
        weight: Callable[[float], float],
        steps: int = 50,
        noise_std: float | None = None,
        last: float = 0.18,
        adjustment: Callable[[float], float] = remaining,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std)
        if not isinstance(self.prior.schedule, FlowMatching):
            raise TypeError(f"prior: found {type(self.prior.schedule).__name__}, expected the schedule FlowMatching")
        if not 0 < last < 1:
            raise ValueError(f"last: found {last}, expected a time between 0 and 1")
        self.weight, self.last, self.adjustment = weight, last, adjustment
        self.cg_iterations, self.cg_rtol = cg_iterations, cg_rtol

    def level(self, k: int) -> Level:
        """Times evenly from 1 to :attr:`last`, without these two."""
        t = 1 - (1 - self.last) * (k + 1) / (self.max_iter + 1)
        return Level(t, 1 - t, t)

    def begin(self, problem: Problem, x0: Tensor | None, seed: Tensor) -> FlairState:
        nothing = torch.zeros_like(problem.back_projection)
        state = FlairState(nothing, torch.zeros_like(seed), seed, nothing)
        x = self._fit(problem, nothing) if x0 is None else x0
        return state._replace(x=x, noise=self.draw(state, nothing, -1))

    def move(self, problem: Problem, state: FlairState, k: int) -> FlairState:
        t, kept, _ = self.level(k)
        a = self.adjustment(t)
        noise = a * state.noise + math.sqrt(1 - a**2) * self.draw(state, state.x, k)
        x_t = kept * state.x + t * noise
        image = self.prior.estimate(x_t, t)
        z = state.x - self.weight(t) / t * (state.x - image)
        return state._replace(x=self._fit(problem, z), noise=(x_t - kept * image) / t)

    def _fit(self, problem: Problem, z: Tensor) -> Tensor:
        gamma = problem.noise_level(self.noise_std) ** -2
        return data_prox(problem, z, gamma, z, self.cg_iterations, self.cg_rtol)
