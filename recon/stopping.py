"""When to stop: each criterion is one number per image, compared with its tolerance."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..operators.norm import TINY
from .problem import Problem, norms

if TYPE_CHECKING:
    from .solver import Solver, State


class Criterion(ABC):
    """One number per image; an image is done when its number is at most ``tol``.

    :param tol: tolerance; 0 runs all iterations.
    """

    #: Iterations before the first test.
    first = 1

    def __init__(self, tol: float):
        if not 0 <= tol < math.inf:
            raise ValueError(f"tol: found {tol}, expected a finite number not below 0")
        self.tol = tol

    @property
    def name(self) -> str:
        """Key under which the numbers stand in the history."""
        return "".join("_" + c.lower() if c.isupper() else c for c in type(self).__name__).lstrip("_")

    @abstractmethod
    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        """The number per image, shape ``(B,)``."""


class RelativeChange(Criterion):
    r""":math:`\|x_{k+1} - x_k\| / \|x_{k+1}\|`; for a split image no less than the splits differ."""

    def __init__(self, tol: float = 1e-4):
        super().__init__(tol)

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        return solver.change(before, now)


class MagnitudeChange(Criterion):
    r""":math:`\| |x_{k+1}| - |x_k| \| / \| |x_k| \|`, not tested at the first iteration (Oral and Oktem).

    Where the image is zero, all that moves: :meth:`Solver.change`.
    """

    first = 2

    def __init__(self, tol: float = 5e-4):
        super().__init__(tol)

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        moved = norms(now.x.abs() - before.x.abs()) / norms(before.x).clamp_min(TINY)
        rests = norms(now.x) == 0
        return torch.where(rests, solver.change(before, now), moved) if rests.any() else moved


class FixedPointResidual(Criterion):
    """The solver's own optimality measure; costs a further step of the algorithm each time."""

    def __init__(self, tol: float = 1e-5):
        super().__init__(tol)

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        return solver.optimality(problem, now)


class ObjectiveGap(Criterion):
    r""":math:`(F(x) - F^*) / |F^*|` for a known or bounding optimal value."""

    def __init__(self, target: float, tol: float = 1e-3):
        super().__init__(tol)
        self.target = target

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        return (problem.objective(now.x) - self.target) / max(abs(self.target), TINY)


class Discrepancy(Criterion):
    r""":math:`\|A x - y\| / \epsilon`, Morozov's principle: stop once the data are met within the noise.

    :param noise_norm: epsilon, the expected norm of the noise, in the units of the data; one number per image or one.
    :param tol: how many epsilon; a little above 1.
    """

    def __init__(self, noise_norm: float | Tensor, tol: float = 1.01):
        super().__init__(tol)
        if not bool((torch.as_tensor(noise_norm) > 0).all()):
            raise ValueError(f"noise_norm: found {noise_norm}, expected a number above 0")
        self.noise_norm = noise_norm

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        residual = problem.residual(now.x)
        return residual / torch.as_tensor(self.noise_norm).to(residual)


def relative_change(before: Tensor, now: Tensor) -> Tensor:
    """``||now - before|| / ||now||`` per image; 0 where nothing moved."""
    moved, size = norms(now - before), norms(now)
    return moved / size.clamp_min(TINY)
