r"""A solver's fixed point as the lower level: nonsmooth priors, plug and play.

.. math:: s = T(s, \theta), \qquad F(s, \theta) = s - T(s, \theta) \text{ in the gradient's place},

s the solver's whole state as one vector. F's derivative in s is not symmetric, its adjoint equations are solved by
GMRES; and how far the image still goes, by the length of its steps and the rate at which they shrink, stands in for a
certificate.
"""

from __future__ import annotations

from collections import deque
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
#: m, the steps from which their rate is told.
WINDOW = 10


class Remaining(Criterion):
    r"""How far the image still goes if its steps shrink as they did of late, absolute.

    .. math:: \sum_{j > k} d_j \approx \frac{r}{1 - r} d_k, \qquad r = (d_k / d_{k-m})^{1/m}, \qquad
              d_k = \|x_k - x_{k-1}\| ,

    and :math:`d_k` where that is more. d is no less than the solver's own relative change of the image's norm: splits
    and duals may move while the image rests; at 0 their change counts as one of ``scale``, ``(B,)``. Made for one run.
    """

    def __init__(self, tol: float, scale: Tensor):
        super().__init__(tol)
        self.scale, self._steps = scale, deque[Tensor](maxlen=WINDOW + 1)

    #: A first step may leave the image and move its duals alone.
    first = 2

    def measure(self, solver: Solver, problem: Problem, before: State, now: State) -> Tensor:
        size = norms(now.x)
        change = solver.change(before, now) * torch.where(size > 0, size, self.scale)
        self._steps.append(torch.maximum(norms(now.x - before.x), change))
        last, past = self._steps[-1], self._steps[0]
        rate = (last / past) ** (1 / max(len(self._steps) - 1, 1))
        return torch.where(last > 0, last * (rate / (1 - rate).clamp_min(0)).clamp_min(1), last)


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
            solver, problem, solver.restart(problem, begin), stop=Remaining(eps, self._scale), max_iter=max_iter,
            record={}, callback=None, checkpoint=None,
        )  # fmt: skip
        left = torch.tensor(progress.history["remaining"][-1], dtype=self.y.real.dtype, device=self.y.device)
        solved = all(status == "converged" for status in progress.status)
        return LowerSolution(self._layout.flatten(progress.state), left, progress.iteration, solved)

    def solve_adjoint(
        self, product: Map, right: Tensor, tol: Tensor, max_products: int, start: Tensor | None
    ) -> tuple[Tensor, int]:
        begin = torch.zeros_like(right) if start is None else start
        found, products = gmres(product, right - product(begin), tol, min(max_products, MAX_PRODUCTS))
        return begin + found, products + 1

    def _problem(self, solver: Solver) -> Problem:
        return Problem(self.y, self.physics, cast(Any, solver.priors))
