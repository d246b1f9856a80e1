r"""The method of adaptive inexact descent: accuracies and step size as the descent needs them.

Of the hypergradient z, at images to :math:`\epsilon` and a linear system to :math:`\delta`, with its error bound
omega: -z is a descent direction where

.. math:: \omega \le (1 - \eta) \|z\|, \qquad\text{else}\quad
          (\epsilon, \delta) \leftarrow \underline\nu (\epsilon, \delta) .

Of the steps :math:`\alpha, \rho\alpha, \rho^2\alpha, \dots` the first with

.. math:: U\big(\theta - \alpha z\big) - \mathrm{Lo}(\theta) + \lambda \alpha \|z\|^2 \le 0

is taken, where omega is looked at more closely (:mod:`resolvent.recon.bilevel.sharpened`) before an accuracy is
refined, and f lies between Lo and U (:mod:`resolvent.recon.bilevel.upper_level`): f itself falls by
:math:`\lambda\alpha\|z\|^2` at least. A trial ends as soon as its Lo is above that; the images of the next begin
between its and those of theta. Then :math:`\alpha \leftarrow \bar\rho\alpha` and
:math:`(\epsilon, \delta) \leftarrow \bar\nu (\epsilon, \delta)`. Where none of j steps is, the accuracies shrink,
z is computed anew, and j grows by one. Salehi, Mukherjee, Roberts and Ehrhardt, "An adaptively inexact first-order
method for bilevel optimization with application to hyperparameter learning", SIAM J. Math. Data Sci. (2025).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .hypergradient import Hypergradient
from .lower_level import LowerSolution
from .method import Method, State, differentiated, first_step, solved
from .sharpened import sharpened
from .upper_level import Bounds, UpperLevel

#: Gradients of a trial after which it is first looked at; twice as many each time after.
GLANCE = 32


class Trial(NamedTuple):
    """A point that the line search accepts."""

    theta: Tensor
    step_size: Tensor
    solution: LowerSolution
    bounds: Bounds


class Attempt(NamedTuple):
    """What a step is worth.

    :param trial: where it is accepted.
    :param higher: whether it is rejected for certain, or as too dear: not for want of accuracy.
    :param x: images at theta less the step, as far as they were found.
    """

    trial: Trial | None
    higher: bool
    x: Tensor


class MAID(Method):
    r"""Descent that finds its own accuracies and steps.

    Where the lower level has no strong convexity the certificates are missing: the residuals stand in for them and
    omega is not tested.

    :param eps: first accuracy of the lower level's images, in their norm; ``delta`` of q, in the norm of grad g.
    :param step_size: alpha at first; if None what moves theta by 1 an entry in the root mean square.
    :param shrink: rho, of the step while searching; ``grow`` rho_bar after success.
    :param refine: nu below, of the accuracies after failure; ``coarsen`` nu_bar after success.
    :param descent: eta; ``decrease`` lambda.
    :param max_trials: j at first.
    :param max_trial_gradients: of the lower level's solve in one trial; a trial that needs more is rejected.
    :param max_lower: of any other solve; one that needs more ends the run: the accuracy is out of reach.
    :param limit: of the magnitude of theta's entries; a trial beyond is rejected unsolved.
    :param tol: done where ``||grad f|| <= tol`` for certain, ``||z|| + omega`` being no larger.
    """

    def __init__(
        self,
        eps: float = 0.1,
        delta: float = 0.1,
        step_size: float | None = None,
        shrink: float = 0.5,
        grow: float = 10 / 9,
        refine: float = 0.5,
        coarsen: float = 1.05,
        descent: float = 1e-4,
        decrease: float = 1e-4,
        max_trials: int = 10,
        max_trial_gradients: int = 500,
        max_lower: int = 10_000,
        limit: float = math.inf,
        tol: float = 0.0,
    ):
        for name, value in (("eps", eps), ("delta", delta), ("step_size", 1.0 if step_size is None else step_size)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: found {value}, expected a finite number above 0")
        for name, value in (("shrink", shrink), ("refine", refine), ("descent", descent), ("decrease", decrease)):
            if not 0 < value < 1:
                raise ValueError(f"{name}: found {value}, expected a number between 0 and 1")
        for name, value in (("grow", grow), ("coarsen", coarsen), ("max_trials", max_trials)):
            if not value >= 1:
                raise ValueError(f"{name}: found {value}, expected at least 1")
        self.eps, self.delta, self.step_size = eps, delta, step_size
        self.shrink, self.grow, self.refine, self.coarsen = shrink, grow, refine, coarsen
        self.descent, self.decrease, self.max_trials = descent, decrease, max_trials
        self.max_trial_gradients, self.max_lower, self.limit, self.tol = max_trial_gradients, max_lower, limit, tol

    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        state = self.begin(upper, theta, self.eps, self.delta, self.step_size)
        return state._replace(memory=(torch.tensor(self.max_trials), upper.lower.start()))

    def step(self, upper: UpperLevel, state: State) -> State:
        state = self._inexact_gradient(upper, state)
        if bool(state.finished):
            return state._replace(accepted=torch.tensor(False))
        state, trial = self._line_search(upper, state)
        return self._failed(state) if trial is None else self._succeeded(state, trial)

    def _inexact_gradient(self, upper: UpperLevel, state: State) -> State:
        """z with ``omega <= (1 - eta) ||z||``; finished where it is short enough or no accuracy suffices."""
        while True:
            state, reached = solved(upper, state, state.eps, self.max_lower)
            if not reached:
                return state._replace(finished=torch.tensor(True))
            state, found = differentiated(upper, state, other=state.memory[1])
            length = torch.linalg.vector_norm(found.value)
            if not found.bound <= (1 - self.descent) * length and upper.lower.certifies(state.theta):
                state, found = self._sharpened(upper, state, found)
            if length + found.bound <= self.tol:
                return state._replace(finished=torch.tensor(True))
            if found.bound <= (1 - self.descent) * length or not upper.lower.certifies(state.theta):
                return state
            state = self._refined(state)

    def _sharpened(self, upper: UpperLevel, state: State, found: Hypergradient) -> tuple[State, Hypergradient]:
        """A closer look at the error, cheaper than finer accuracies."""
        closer = sharpened(upper, state.theta, state.x, found)
        return state._replace(products=state.products + closer.products - found.products), closer

    def _line_search(self, upper: UpperLevel, state: State) -> tuple[State, Trial | None]:
        """The longest of the steps after which f is lower for certain."""
        alpha, x0 = self._first_step(state), state.x
        for _ in range(int(state.memory[0])):
            state, found = self._tried(upper, state, alpha, x0)
            if found.trial is not None:
                return state, found.trial
            alpha, x0 = self.shrink * alpha, torch.lerp(state.x, found.x, self.shrink)
        return state, None

    def _tried(self, upper: UpperLevel, state: State, alpha: Tensor, x0: Tensor) -> tuple[State, Attempt]:
        """A step, its images found some gradients at a time: f may be too high for certain long before eps."""
        theta = state.theta - alpha * state.gradient
        if not bool((theta.abs() <= self.limit).all()):
            return state, Attempt(None, True, state.x)
        ceiling = self._reference(state) - self.decrease * alpha * state.gradient.square().sum()
        begin, some, left = int(state.gradients), GLANCE, self._most(state)
        while True:
            solution = upper.lower.solve(theta, float(state.eps), x0, min(some, left))
            state = state._replace(gradients=state.gradients + solution.gradients)
            bounds = upper.bounds(solution.x, solution.certificate, theta)
            if solution.solved and bounds.high <= ceiling:
                whole = solution._replace(gradients=int(state.gradients) - begin)
                return state, Attempt(Trial(theta, alpha, whole, bounds), False, solution.x)
            x0, some, left = solution.x, 2 * some, left - solution.gradients
            lower = bool(bounds.low <= ceiling)
            if solution.solved or left <= 0 or not lower:
                return state, Attempt(None, not (solution.solved and lower), x0)

    def _most(self, state: State) -> int:
        """Gradients of a trial at most."""
        return self.max_trial_gradients

    def _first_step(self, state: State) -> Tensor:
        """alpha to begin the search with."""
        return first_step(state)

    def _reference(self, state: State) -> Tensor:
        """What f must fall below: its bound from below at theta."""
        return state.low

    def _succeeded(self, state: State, trial: Trial) -> State:
        """Move, with a longer step and coarser accuracies."""
        return state._replace(
            theta=trial.theta, x=trial.solution.x, certificate=trial.solution.certificate, low=trial.bounds.low,
            high=trial.bounds.high, eps=self.coarsen * state.eps, delta=self.coarsen * state.delta,
            step_size=self.grow * trial.step_size, accepted=torch.tensor(True),
            memory=(torch.tensor(self.max_trials), state.x),
        )  # fmt: skip

    def _failed(self, state: State) -> State:
        """Stay, with finer accuracies and one more trial."""
        trials, *others = state.memory
        return self._refined(state)._replace(accepted=torch.tensor(False), memory=(trials + 1, *others))

    def _refined(self, state: State) -> State:
        return state._replace(eps=self.refine * state.eps, delta=self.refine * state.delta)
