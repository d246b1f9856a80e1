r"""Primal-dual splitting: priors on transforms of the image, without inner iterations.

.. math:: \min_x\; \tfrac12 \|Ax - y\|^2 + R_0(x) + \sum_i R_i(K_i x), \qquad
          x = \operatorname{prox}_{\tau R_0}(z), \quad w = x - \tau A^H (A x - y),

.. math:: u_i \leftarrow \operatorname{prox}_{\sigma_i R_i^*}\Big(u_i + \sigma_i K_i
          \big(x + w - z - \tau \textstyle\sum_j K_j^H u_j\big)\Big), \qquad
          z \leftarrow w - \tau \textstyle\sum_i K_i^H u_i .

PD3O: Yan, J. Sci. Comput. 76:1698 (2018). It converges for tau < 2 / ||A||^2 and tau ||sum_i sigma_i K_i^H K_i|| <= 1,
so that the data's step does not shrink as the priors' grow (Condat, J. Optim. Theory Appl. 158:460, 2013, asks
for 1 / tau >= ||A||^2 / 2 + ||sum_i sigma_i K_i^H K_i||), at one A^H A and one K_i and K_i^H per step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from ..operators.norm import TINY
from ..priors import Analysis
from ..priors.prior import prox_prior, start_prior
from .problem import Problem, norms, plus
from .solver import Solver
from .stopping import Criterion

#: tau times ``||A||^2`` where no step is given; the limit is 2.
RELATIVE_STEP = 1.8


class PrimalDualState(NamedTuple):
    """The image, the point whose proximal step it is, the duals and the sum of their ``K_i^H u_i``."""

    x: Tensor
    z: Tensor
    duals: tuple[Tensor, ...]
    pull: Tensor
    aux: tuple[tuple[Tensor, ...], ...]


class Term(NamedTuple):
    """``R(K x)``, with the prior R that has the prox."""

    prior: AnyPrior
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]
    squared_norm: float


class PrimalDual(Solver):
    """Any number of priors, those of :class:`~resolvent.priors.Analysis` without a prox of their own.

    :param prior: one prior or several. The first one that is not an ``Analysis`` acts on the image itself, so
        that the image satisfies it; every other one has a dual.
    :param step_size: tau, below ``2 / ||A||^2``; 1.8 of 2 if None. A smaller one moves the duals faster:
        ``sigma_i = 1 / (m tau ||K_i||^2)`` for m duals.
    """

    takes = (0, math.inf)

    def __init__(
        self,
        prior: AnyPrior | Sequence[AnyPrior],
        step_size: float | None = None,
        max_iter: int = 1000,
        stop: Criterion | None = None,
    ):
        super().__init__(prior, max_iter, stop)
        if step_size is not None and not step_size > 0:
            raise ValueError(f"step_size: found {step_size}, expected a number above 0")
        self.step_size = step_size

    def accepts(self, prior: AnyPrior) -> bool:
        """Whether ``prior``, or what it does to a transform, has a prox."""
        return super().accepts(prior.prior if isinstance(prior, Analysis) else prior)

    def _tau(self, problem: Problem) -> float:
        return RELATIVE_STEP / problem.lipschitz if self.step_size is None else self.step_size

    def _sigmas(self, problem: Problem) -> list[float]:
        terms = self._terms(problem)
        return [1 / (len(terms) * self._tau(problem) * (t.squared_norm or 1.0)) for t in terms]

    def _primal(self) -> AnyPrior | None:
        """The prior that acts on the image itself."""
        return next((p for p in self.priors if isinstance(p, AnyPrior) and not isinstance(p, Analysis)), None)

    def _terms(self, problem: Problem) -> list[Term]:
        """The priors that have a dual."""
        primal, squared = self._primal(), problem.transform_norms
        return [_term(p, n) for p, n in zip(self.priors, squared, strict=True) if p is not primal]

    def _shape(self, problem: Problem, z: Tensor, aux: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        primal = self._primal()
        return (z, aux) if primal is None else prox_prior(primal, z, self._tau(problem), aux)

    def init(self, problem: Problem, x0: Tensor | None) -> PrimalDualState:
        x = torch.zeros_like(problem.back_projection) if x0 is None else x0
        primal, terms = self._primal(), self._terms(problem)
        duals = tuple(torch.zeros_like(t.push(x)) for t in terms)
        inner = tuple(start_prior(t.prior, u) for t, u in zip(terms, duals, strict=True))
        return PrimalDualState(
            x, x, duals, torch.zeros_like(x), (() if primal is None else start_prior(primal, x), *inner)
        )

    def step(self, problem: Problem, state: PrimalDualState) -> PrimalDualState:
        tau = self._tau(problem)
        x, inner = self._shape(problem, state.z, state.aux[0])
        w = plus(x, -tau, problem.gradient(x))
        ahead = plus((x + w).sub_(state.z), -tau, state.pull)
        pull, duals, aux = torch.zeros_like(x), [], [inner]
        for term, sigma, u, a in zip(
            self._terms(problem), self._sigmas(problem), state.duals, state.aux[1:], strict=True
        ):
            u, a = _dual_prox(term.prior, plus(u, sigma, term.push(ahead)), sigma, a)
            pull = pull + term.pull(u)
            duals.append(u)
            aux.append(a)
        return PrimalDualState(x, plus(w, -tau, pull), tuple(duals), pull, tuple(aux))

    def change(self, before: PrimalDualState, now: PrimalDualState) -> Tensor:
        """Of the image, or of z: an image held by its prior rests while its duals grow."""
        return torch.maximum(super().change(before, now), norms(now.z - before.z) / _size(now))

    def optimality(self, problem: Problem, state: PrimalDualState) -> Tensor:
        r"""How far a further step moves x, z and ``sqrt(tau / sigma_i) u_i`` at most, over the larger of x and z."""
        after, tau = self.step(problem, state), self._tau(problem)
        moved = [norms(after.x - state.x), norms(after.z - state.z)]
        for sigma, new, old in zip(self._sigmas(problem), after.duals, state.duals, strict=True):
            moved.append((tau / sigma) ** 0.5 * norms(new - old))
        return torch.stack(moved).amax(0) / _size(after)


def _size(state: PrimalDualState) -> Tensor:
    """Of the image or z, per image; z is not zero where the prior leaves nothing of the image."""
    return torch.maximum(norms(state.x), norms(state.z)).clamp_min(TINY)


def _term(prior: AnyPrior, squared_norm: float) -> Term:
    if isinstance(prior, Analysis):
        return Term(prior.prior, prior.transform.A, prior.transform.A_adjoint, squared_norm)
    return Term(prior, torch.clone, torch.clone, squared_norm)


def _dual_prox(prior: AnyPrior, u: Tensor, sigma: float, aux: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
    r"""The proximal step of ``sigma R^*``, by Moreau's identity ``u - sigma prox_{R / sigma}(u / sigma)``."""
    shaped, aux = prox_prior(prior, u / sigma, 1 / sigma, aux)
    return torch.sub(u, shaped, alpha=sigma), aux
