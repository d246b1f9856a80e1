r"""A solver's fixed point as the lower level: nonsmooth priors, plug and play.

.. math:: s = T(s, \theta), \qquad F(s, \theta) = s - T(s, \theta) \text{ in the gradient's place},

s the solver's whole state as one vector. F's derivative in s is not symmetric, its adjoint equations are solved by
GMRES; and how far the image still goes, by the length of its steps and the rate at which they shrink, stands in for a
certificate.
"""

from __future__ import annotations

import math
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
#: Of all steps the part whose length, and its ratio to the part before, tell how far the image still goes.
QUARTER = 4


class Remaining(Criterion):
    r"""How far the image still goes if quarters of its way shrink as they did of late, absolute.

    .. math:: S \max\Big(1, \frac{q}{1 - q}\Big), \qquad S = \sum_{3k/4 < j \le k} d_j, \quad
              q = S \Big/ \sum_{k/2 < j \le 3k/4} d_j, \qquad d_j = \|x_j - x_{j-1}\| ,

    infinite while they grow. A rate told from a few steps would be taken in by momentum that starts anew: the steps are
    short then for about as long as it had grown. A geometric sequence costs a third more steps than its own rate would
    ask for. d is no less than the solver's own relative change of the image's norm: splits and duals may move while
    the image rests; at 0 their change counts as one of ``scale``, ``(B,)``. Made for one run.
    """

    def __init__(self, tol: float, scale: Tensor):
        super().__init__(tol)
        self.scale, self._steps = scale, scale.new_empty(0, len(scale))

    #: The first steps may leave the image and move its duals alone, or rest until there is momentum.
    first = 10

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        size = norms(now.x)
        change = solver.change(before, now) * torch.where(size > 0, size, self.scale)
        step = torch.maximum(norms(now.x - before.x), change)
        self._steps = torch.cat([self._steps, step[None]])
        quarter = max(len(self._steps) // QUARTER, 1)
        way, before_that = self._steps[-quarter:].sum(0), self._steps[-2 * quarter : -quarter].sum(0)
        ratio = way / before_that
        return torch.where(way > 0, way * (ratio / (1 - ratio).clamp_min(0)).clamp_min(1), way)


class FixedPoint(LowerLevel):
    """The states ``(B, n)``, real, at which a solver stays.

    :param solver: of theta; differentiable in it.
    :param theta: at which the state's layout is found.
    :param longest: steps after which an image is taken as it is, with the length of its last step: those that its
        reconstruction would have. Images of few data may drift for thousands.
    """

    def __init__(
        self,
        y: Tensor,
        physics: LinearPhysics,
        solver: Callable[[Tensor], Solver],
        theta: Tensor,
        longest: float = math.inf,
    ):
        self.y, self.physics, self.solver, self.longest = y, physics, solver, longest
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
            solver, problem, solver.restart(problem, begin), stop=Remaining(eps, self._scale),
            max_iter=int(min(max_iter, self.longest)), record={}, callback=None, checkpoint=None,
        )  # fmt: skip
        x = self._layout.flatten(progress.state)
        left = torch.tensor(progress.history["remaining"][-1], dtype=self.y.real.dtype, device=self.y.device)
        moving = torch.tensor([status != "converged" for status in progress.status], device=left.device)
        if not moving.any() or progress.iteration < self.longest:
            return LowerSolution(x, left, progress.iteration, not moving.any(), ~moving)
        step = self.certificate(self.gradient(x, theta), theta).to(left)
        return LowerSolution(x, torch.where(moving, step, left), progress.iteration + 1, True, ~moving)

    def solve_adjoint(
        self, product: Map, right: Tensor, tol: Tensor, max_products: int, start: Tensor | None
    ) -> tuple[Tensor, int]:
        begin = torch.zeros_like(right) if start is None else start
        found, products = gmres(product, right - product(begin), tol, min(max_products, MAX_PRODUCTS))
        return begin + found, products + 1

    def _problem(self, solver: Solver) -> Problem:
        return Problem(self.y, self.physics, cast(Any, solver.priors))
