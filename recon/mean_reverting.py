r"""The mean-reverting SDE, backwards: from the degraded image, with noise, to one that it may come from.

.. math:: dx = \theta_t (\mu - x)\, dt + \sigma_t\, dw, \quad \sigma_t^2 = 2 \lambda^2 \theta_t
          \qquad\Longrightarrow\qquad
          x_t = \mu + e^{-\Theta_t} (x_0 - \mu) + \lambda \sqrt{1 - e^{-2 \Theta_t}}\; z .

It ends at mu with noise of variance lambda squared, where a sampler starts. With :math:`a = e^{-\Theta}` and s the
factor of z, :math:`w_t = x_t - (1 - a)\, \mu = a x_0 + s z` is the path of every other prior, begun at mu as if it were
x_0:

.. math:: w_{t'} = a' \hat x + \frac{a\, s'^2}{a' s^2}\, (w_t - a \hat x) + c\, z, \qquad
          \hat x = E[x_0 | w_t, \mu] ,

is the posterior of the step given the image, ancestral sampling. The data enter as mu alone: the samples are of
:math:`p(x_0 | \mu)` as the prior knows it. Luo, Gustafsson, Zhao, Sjölund and Schön (ICML 2023); for super-resolution,
EDiffSR: Xiao et al. (IEEE TGRS 2024).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..priors import Conditional
from .problem import Problem
from .sampler import Sampler, reverse_step
from .start import fitted


class RevertingState(NamedTuple):
    """A sampler's state, ``x`` being w, and the degraded image."""

    x: Tensor
    steps: Tensor
    seed: Tensor
    degraded: Tensor


class MeanReverting(Sampler):
    """Samples of the images that a degraded one may come from.

    mu is ``x0`` if given, such as the data interpolated as in the prior's training, else ``A^H y`` scaled to fit the
    data.

    :param prior: a :class:`~resolvent.priors.Conditional`, on the schedule
        :class:`~resolvent.priors.OrnsteinUhlenbeck`.
    :param randomness: eta of :func:`~resolvent.recon.sampler.reverse_step`: 1 is the SDE, 0 its ODE.
    """

    needs = "given, a Conditional"

    def __init__(self, prior: Conditional, steps: int = 100, randomness: float = 1.0):
        super().__init__(prior, steps)  # pyright: ignore[reportArgumentType]
        if not 0 <= randomness <= 1:
            raise ValueError(f"randomness: found {randomness}, expected a number from 0 to 1")
        self.randomness = randomness

    def accepts(self, prior: object) -> bool:
        return isinstance(prior, Conditional)

    @property
    def prior(self) -> Conditional:
        """The one prior."""
        return self.priors[0]  # pyright: ignore[reportReturnType]

    def begin(self, problem: Problem, x0: Tensor | None, seed: Tensor) -> RevertingState:
        degraded = fitted(problem) if x0 is None else x0
        return RevertingState(*super().begin(problem, degraded, seed), degraded)

    def move(self, problem: Problem, state: RevertingState, k: int) -> RevertingState:
        here, there = self.level(k), self.level(k + 1)
        estimate = self.prior.given(state.degraded).estimate(state.x, here.t)
        x = reverse_step(state.x, estimate, here, there, self.randomness, self.draw(state, state.x, k))
        return state._replace(x=x)
