r"""What every method of the upper level is: ``init`` and ``step`` over one state, run by one loop.

.. math:: \min_\theta\; f(\theta) = \frac1B \sum_i g_i\big(\hat x_i(\theta)\big) + r(\theta) .

The state is all there is: a run taken up from it goes the same way bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..solver import Diverged
from .hypergradient import Constants, Hypergradient, hypergradient
from .lower_level import LowerSolution
from .upper_level import UpperLevel


class State(NamedTuple):
    """Where a run stands; tensors all, those without a shape numbers.

    :param theta: ``(p,)``.
    :param x: the lower level's images at theta, ``(B, ...)``.
    :param certificate: bound on their distances from the minimisers, ``(B,)``.
    :param dual: q of the last hypergradient, ``(B, ...)``.
    :param gradient: z of the last hypergradient, ``(p,)``.
    :param low: bound on f(theta) from below; likewise ``high``.
    :param eps: accuracy asked of the lower level; ``delta`` of q.
    :param step_size: alpha.
    :param accepted: whether the last step moved theta.
    :param finished: whether the method has nothing left to do.
    :param gradients: evaluations of ``grad_x h`` so far; likewise ``products`` with H.
    :param constants: the largest ``L_J`` and ``L_{H^-1}`` seen.
    :param memory: what else a method keeps.
    """

    theta: Tensor
    x: Tensor
    certificate: Tensor
    dual: Tensor
    gradient: Tensor
    low: Tensor
    high: Tensor
    eps: Tensor
    delta: Tensor
    step_size: Tensor
    accepted: Tensor
    finished: Tensor
    gradients: Tensor
    products: Tensor
    constants: Constants
    memory: tuple[Tensor, ...]


#: What of a state the history keeps.
RECORDED = ("theta", "low", "high", "eps", "delta", "step_size", "accepted", "gradients", "products")


@dataclass(frozen=True)
class Learned:
    """What a method returns.

    :param theta: ``(p,)``.
    :param image: the lower level's images there.
    :param status: ``finished``, ``max_steps``, ``budget`` or ``interrupted``.
    :param history: per name of :data:`RECORDED`, the state's numbers where the run began and after every step.
    :param state: from which :meth:`Method.minimise` goes on.
    """

    theta: Tensor
    image: Tensor
    status: str
    history: dict[str, Tensor]
    state: State

    @property
    def cost(self) -> Tensor:
        """Gradients and products with H so far, one number a row of the history."""
        return self.history["gradients"] + self.history["products"]


class Method(ABC):
    """Base class of the methods.

    :param max_lower: gradients of one solve of the lower level at most.
    """

    max_lower: int = 10_000

    @abstractmethod
    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        """The state at the start."""

    @abstractmethod
    def step(self, upper: UpperLevel, state: State) -> State:
        """The next state; nothing given is changed."""

    def minimise(
        self,
        upper: UpperLevel,
        theta: Tensor | None = None,
        *,
        state: State | None = None,
        max_steps: int = 1000,
        budget: float = float("inf"),
        callback: Callable[[State], bool | None] | None = None,
    ) -> Learned:
        """Minimise f from ``theta``, or go on from ``state``.

        :param max_steps: further steps at most.
        :param budget: gradients and products with H at which no further step begins.
        :param callback: called after every step; returning False ends the run.
        :raises ValueError: if theta is not a vector of finite real numbers.
        :raises Diverged: if the lower level cannot be solved at the start.
        """
        if state is None:
            state = self.init(upper, _checked(theta))
        rows, status = [_recorded(state)], _status(state, budget)
        while status == "running" and len(rows) <= max_steps:
            state = self.step(upper, state)
            rows.append(_recorded(state))
            status = _status(state, budget)
            if callback is not None and callback(state) is False:
                status = "interrupted"
        history = {name: torch.stack(column) for name, column in zip(RECORDED, zip(*rows, strict=True), strict=True)}
        return Learned(state.theta, state.x, "max_steps" if status == "running" else status, history, state)

    def begin(self, upper: UpperLevel, theta: Tensor, eps: float, delta: float, step_size: float | None) -> State:
        """A state at ``theta``, its images to ``eps``; alpha is 0 where none was chosen."""
        solution = upper.lower.solve(theta, eps, max_iter=self.max_lower)
        demand_solved(solution, eps)
        low, high = upper.bounds(solution.x, solution.certificate, theta)
        zero, no = torch.zeros_like(theta[0]), torch.tensor(False)
        return State(
            theta=theta, x=solution.x, certificate=solution.certificate, dual=torch.zeros_like(solution.x),
            gradient=torch.zeros_like(theta), low=low, high=high, eps=zero + eps, delta=zero + delta,
            step_size=zero + (step_size or 0.0), accepted=no, finished=no, gradients=torch.tensor(solution.gradients),
            products=torch.tensor(0), constants=Constants(zero, zero), memory=(),
        )  # fmt: skip


def first_step(state: State) -> Tensor:
    """alpha; where none was chosen, what moves theta by 1 an entry in the root mean square, 0 where nothing does."""
    if state.step_size > 0:
        return state.step_size
    length = torch.linalg.vector_norm(state.gradient)
    return torch.where(length > 0, len(state.theta) ** 0.5 / length, 0)


def demand_solved(solution: LowerSolution, eps: float) -> None:
    """Refuse a lower level that was not solved.

    :raises Diverged: saying how far it came.
    """
    if not solution.solved:
        found = f"{float(solution.certificate.max()):.3g} after {solution.gradients} gradients"
        raise Diverged(f"lower level: found an accuracy of {found}, expected {float(eps):.3g}; is L too small?")


def solved(upper: UpperLevel, state: State, eps: Tensor, max_iter: int) -> tuple[State, bool]:
    """The state with its images to ``eps``, warm-started, and whether they came to it."""
    if bool((state.certificate <= eps).all()):
        return state._replace(eps=eps), True
    solution = upper.lower.solve(state.theta, float(eps), state.x, max_iter)
    low, high = upper.bounds(solution.x, solution.certificate, state.theta)
    state = state._replace(
        x=solution.x, certificate=solution.certificate, low=low, high=high, eps=eps,
        gradients=state.gradients + solution.gradients,
    )  # fmt: skip
    return state, solution.solved


def differentiated(upper: UpperLevel, state: State, other: Tensor | None = None) -> tuple[State, Hypergradient]:
    """The hypergradient at the state, warm-started, and the state with what it cost."""
    found = hypergradient(
        upper, state.theta, state.x, float(state.delta), dual=state.dual, other=other, seen=state.constants
    )  # fmt: skip
    state = state._replace(
        dual=found.dual, gradient=found.value, constants=found.constants,
        gradients=state.gradients + 1, products=state.products + found.products,
    )  # fmt: skip
    return state, found


def _checked(theta: Tensor | None) -> Tensor:
    if theta is None or theta.ndim != 1 or not theta.is_floating_point() or not bool(theta.isfinite().all()):
        found = "none" if theta is None else f"{theta.dtype} of shape {tuple(theta.shape)}"
        raise ValueError(f"theta: found {found}, expected a vector of finite real numbers")
    return theta.detach()


def _recorded(state: State) -> tuple[Tensor, ...]:
    return tuple(getattr(state, name) for name in RECORDED)


def _status(state: State, budget: float) -> str:
    if bool(state.finished):
        return "finished"
    return "budget" if float(state.gradients + state.products) >= budget else "running"
