r"""A solver's fixed point as the lower level: nonsmooth priors, plug and play.

.. math:: s = T(s, \theta), \qquad F(s, \theta) = s - T(s, \theta) \text{ in the gradient's place},

s the solver's whole state as one vector. F's derivative in s is not symmetric, its adjoint equations are solved by
GMRES; and the length of a step, :math:`\|x - T(x)\|` of the image alone, stands in for a certificate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ...operators.krylov import Map, gmres
from ..loop import run
from ..problem import Problem, norms
from ..solver import Solver, State
from ..start import fitted
from ..stopping import Criterion
from .layout import Layout
from .lower_level import LowerLevel, LowerSolution

#: Products of one adjoint equation at most: GMRES keeps them all.
MAX_PRODUCTS = 100


class StepLength(Criterion):
    r""":math:`\|x_{k+1} - x_k\|`, absolute; no less than the solver's own relative change of the image's norm.

    The splits and duals of an image may move while it rests: at 0 their change counts as one of ``scale``, ``(B,)``.
    """

    #: A first step may leave the image and move its duals alone.
    first = 2

    def __init__(self, tol: float, scale: Tensor):
        super().__init__(tol)
        self.scale = scale

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        size = norms(now.x)
        change = solver.change(before, now) * torch.where(size > 0, size, self.scale)
        return torch.maximum(norms(now.x - before.x), change)


class FixedPoint(LowerLevel):
    """The states ``(B, n)``, real, at which a solver stays.

    :param solver: of theta; differentiable in it.
    :param theta: at which the state's layout is found.
    """

    def __init__(self, y: Tensor, physics: LinearPhysics, solver: Callable[[Tensor], Solver], theta: Tensor):
        self.y, self.physics, self.solver = y, physics, solver
        with torch.no_grad():
            made = solver(theta.detach())
            problem = self._problem(made)
            first, self._scale = made.init(problem, None), norms(fitted(problem))
        self._layout = Layout(first)
        self._first = self._layout.flatten(first)

    def image(self, s: Tensor) -> Tensor:
        """The image ``(B, C, *spatial)`` of a state."""
        return self._layout.restore(s).x

    def gradient(self, x: Tensor, theta: Tensor) -> Tensor:
        """``s - T(s, theta)``."""
        solver = self.solver(theta)
        return x - self._layout.flatten(solver.step(self._problem(solver), self._layout.restore(x)))

    def start(self) -> Tensor:
        return self._first

    def strong_convexity(self, theta: Tensor) -> Tensor:
        """0: none is known."""
        return torch.zeros_like(theta[0])

    def smoothness(self, theta: Tensor) -> Tensor:
        """1: a step is its own unit."""
        return torch.ones_like(theta[0])

    def certificate(self, gradient: Tensor, theta: Tensor) -> Tensor:
        """The length of a step of the image."""
        return norms(self.image(gradient))

    @torch.no_grad()
    def solve(self, theta: Tensor, eps: float, x0: Tensor | None = None, max_iter: int = 10_000) -> LowerSolution:
        solver = self.solver(theta)
        problem = self._problem(solver)
        begin = self._layout.restore(self.start() if x0 is None else x0)
        progress = run(
            solver, problem, solver.restart(problem, begin), stop=StepLength(eps, self._scale), max_iter=max_iter,
            record={}, callback=None, checkpoint=None,
        )  # fmt: skip
        moved = torch.tensor(progress.history["step_length"][-1], dtype=self.y.real.dtype, device=self.y.device)
        solved = all(status == "converged" for status in progress.status)
        return LowerSolution(self._layout.flatten(progress.state), moved, progress.iteration, solved)

    def solve_adjoint(
        self, product: Map, right: Tensor, tol: Tensor, max_products: int, start: Tensor | None
    ) -> tuple[Tensor, int]:
        begin = torch.zeros_like(right) if start is None else start
        found, products = gmres(product, right - product(begin), tol, min(max_products, MAX_PRODUCTS))
        return begin + found, products + 1

    def _problem(self, solver: Solver) -> Problem:
        return Problem(self.y, self.physics, cast(Any, solver.priors))
