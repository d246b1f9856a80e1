r"""Alternating direction method of multipliers, one split per prior.

.. math:: x = \arg\min_x \tfrac12\|Ax - y\|^2 + \tfrac{1}{2\gamma}\sum_i \|x - z_i + u_i\|^2, \quad
          z_i = \operatorname{prox}_{\gamma \lambda_i R_i}(x + u_i), \quad u_i \leftarrow u_i + x - z_i .

Boyd, Parikh, Chu, Peleato and Eckstein, Found. Trends Mach. Learn. 3:1 (2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from ..operators.norm import TINY
from ..priors.prior import prox_prior, start_prior
from .linear import Fit, fit_data, left, resumed_fit, start_fit
from .problem import Problem, norms
from .solver import Solver
from .stopping import Criterion

#: Penalty over ``||A||^2`` where none is given: the ratio of the near-field radar set-up (500 / 4.4e4).
RELATIVE_PENALTY = 0.0114


class ADMMState(NamedTuple):
    """``x`` is the first split ``z_1``, the image that its prior shaped; ``fit`` is the data's image."""

    x: Tensor
    fit: Fit
    splits: tuple[Tensor, ...]
    duals: tuple[Tensor, ...]
    aux: tuple[tuple[Tensor, ...], ...]


class ADMM(Solver):
    """ADMM with as many splits as priors.

    The data step is exact where the operator has a closed form, else conjugate gradients that begin near the last ones.

    :param prior: one prior or several, each with a prox; the image returned is the first one's.
    :param step_size: gamma; ``1 / (0.0114 ||A||^2)`` if None.
    :param cg_iterations: conjugate gradient steps at most in one data step.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    takes = (1, math.inf)

    def __init__(
        self,
        prior: AnyPrior | Sequence[AnyPrior],
        step_size: float | None = None,
        max_iter: int = 200,
        stop: Criterion | None = None,
        cg_iterations: int = 20,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, max_iter, stop)
        if step_size is not None and not step_size > 0:
            raise ValueError(f"step_size: found {step_size}, expected a number above 0")
        self.step_size, self.cg_iterations, self.cg_rtol = step_size, cg_iterations, cg_rtol

    def _gamma(self, problem: Problem) -> float:
        return 1 / (RELATIVE_PENALTY * problem.lipschitz) if self.step_size is None else self.step_size

    def init(self, problem: Problem, x0: Tensor | None) -> ADMMState:
        x = torch.zeros_like(problem.back_projection) if x0 is None else x0
        zeros = torch.zeros_like(x)
        n = len(self.priors)
        fit = start_fit(problem, x0, self._gamma(problem) / n)
        return ADMMState(x, fit, (x,) * n, (zeros,) * n, tuple(start_prior(p, x) for p in self.priors))

    def restart(self, problem: Problem, state: ADMMState) -> ADMMState:
        return state._replace(fit=resumed_fit(problem, state.fit, self._gamma(problem) / len(self.priors)))

    def step(self, problem: Problem, state: ADMMState) -> ADMMState:
        gamma, n = self._gamma(problem), len(self.priors)
        fit = fit_data(problem, self._centre(state), gamma / n, state.fit, self.cg_iterations, self.cg_rtol)
        lifted = [fit.x + u for u in state.duals]
        shaped = [prox_prior(p, v, gamma, a) for p, v, a in zip(self.priors, lifted, state.aux, strict=True)]
        splits = tuple(z for z, _ in shaped)
        duals = tuple(v - z for v, z in zip(lifted, splits, strict=True))
        return ADMMState(splits[0], fit, splits, duals, tuple(a for _, a in shaped))

    def _centre(self, state: ADMMState) -> Tensor:
        """The mean of ``z_i - u_i``."""
        differences = [z - u for z, u in zip(state.splits, state.duals, strict=True)]
        return differences[0] if len(differences) == 1 else torch.stack(differences).mean(0)

    def change(self, before: ADMMState, now: ADMMState) -> Tensor:
        """Of the image, or the largest ``||x - z_i||``: thresholded to zero an image rests while its dual grows."""
        gaps = [norms(now.fit.x - z) / _size(now) for z in now.splits]
        return torch.stack([super().change(before, now), *gaps]).amax(0)

    def optimality(self, problem: Problem, state: ADMMState) -> Tensor:
        """The largest of what is left of a step, relative: ``||x - z_i||``, ``||z_i - z_i'||``, the data step's own."""
        after = self.step(problem, state)
        primal = [norms(after.fit.x - z) for z in after.splits]
        dual = [norms(z - old) for z, old in zip(after.splits, state.splits, strict=True)]
        inexact = left(problem, self._centre(state), self._gamma(problem) / len(self.priors), after.fit)
        return torch.maximum(torch.stack(primal + dual).amax(0) / _size(state), inexact)


def _size(state: ADMMState) -> Tensor:
    """What lengths are compared with: the images', or where they vanish that of a thousandth of the duals."""
    images = torch.maximum(norms(state.fit.x), norms(state.x))
    return torch.stack([images, *(1e-3 * norms(u) for u in state.duals)]).amax(0).clamp_min(TINY)
