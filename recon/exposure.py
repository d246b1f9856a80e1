r"""A photograph in low light, by longer and longer exposures that are simulated from it.

.. math:: \hat x_k = D(y_k / \lambda_k, \lambda_k), \qquad
          y_{k+1} = y_k + g\, \mathrm{Poisson}\Big(\frac{(\lambda_{k+1} - \lambda_k)\, \hat x_k}{g}\Big), \qquad
          \lambda_k = \lambda^{1 - k/K} ,

begun at the raw image itself, y at exposure lambda, not at noise. Wang, Yu, Yang, Cao, Kot and Wen (ICCV 2023). One
step is the denoiser alone. Further steps can mend what a denoiser gets wrong; where it gives the mean exactly, they
only add the noise of the simulated photons.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Exposure
from ..priors import ExposurePrior
from ..priors.exposure import longer_exposure
from .problem import Problem
from .sampler import Sampler


class ExposureState(NamedTuple):
    """A sampler's state, and the raw image at the exposure that is reached."""

    x: Tensor
    steps: Tensor
    seed: Tensor
    raw: Tensor


class ExposureDiffusion(Sampler):
    """Estimates at growing exposures; an image to begin from says nothing to them.

    :param prior: an :class:`~resolvent.priors.ExposurePrior`.
    :param steps: K.
    :raises TypeError: for another operator than :class:`~resolvent.operators.Exposure`.
    """

    needs = "photon count's mean, an ExposurePrior"

    def __init__(self, prior: ExposurePrior, steps: int = 2):
        super().__init__(prior, steps)  # pyright: ignore[reportArgumentType]

    def accepts(self, prior: object) -> bool:
        return isinstance(prior, ExposurePrior)

    @property
    def prior(self) -> ExposurePrior:
        """The one prior."""
        return self.priors[0]  # pyright: ignore[reportReturnType]

    def begin(self, problem: Problem, x0: Tensor | None, seed: Tensor) -> ExposureState:
        if not isinstance(problem.physics, Exposure):
            raise TypeError(f"physics: found {type(problem.physics).__name__}, expected an Exposure")
        return ExposureState(problem.y / problem.physics.exposure, torch.zeros_like(seed), seed, problem.y)

    def move(self, problem: Problem, state: ExposureState, k: int) -> ExposureState:
        physics: Exposure = problem.physics  # pyright: ignore[reportAssignmentType]
        here, there = (physics.exposure ** (1 - j / self.max_iter) for j in (k, k + 1))
        estimate = self.prior.estimate(state.raw, here)
        raw = longer_exposure(state.raw, estimate, there - here, physics.gain, self.generator(state, k))
        return state._replace(x=estimate, raw=raw)
