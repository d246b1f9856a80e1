r"""One-step reconstructions: the data, focused.

.. math:: \hat s = \sum_m e^{+j\varphi_m}\, y_m \quad\text{(back-projection)}, \qquad
          \hat s = K y \quad\text{(Kirchhoff migration)} .
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from .problem import Problem
from .solver import Solver
from .stopping import RelativeChange


class Focused(NamedTuple):
    """The image, there from the start."""

    x: Tensor


class Migration(Solver):
    """A reconstruction in one step, with nothing to iterate.

    :param prior: unused; every solver's first parameter.
    """

    def __init__(self, prior: AnyPrior | None = None):
        super().__init__(None, max_iter=1, stop=RelativeChange(1.0))

    @abstractmethod
    def focus(self, problem: Problem) -> Tensor:
        """The image ``(B, C, *spatial)`` from the data."""

    def init(self, problem: Problem, x0: Tensor | None) -> Focused:
        return Focused(self.focus(problem))

    def step(self, problem: Problem, state: Focused) -> Focused:
        return state

    def optimality(self, problem: Problem, state: Focused) -> Tensor:
        """Zero: there is nothing to optimise."""
        return state.x.real.new_zeros(len(state.x))


class BackProjection(Migration):
    """Matched phase: the operator's own back-projection where it has one, ``A^H y`` elsewhere."""

    def focus(self, problem: Problem) -> Tensor:
        return getattr(problem.physics, "back_project", problem.physics.A_adjoint)(problem.y)


class Kirchhoff(Migration):
    """Kirchhoff migration, for operators that define it.

    :raises TypeError: for an operator without a Kirchhoff kernel.
    """

    def focus(self, problem: Problem) -> Tensor:
        kernel = getattr(problem.physics, "kirchhoff", None)
        if kernel is None:
            name = type(problem.physics).__name__
            raise TypeError(f"Kirchhoff: found {name}, expected an operator with a Kirchhoff kernel")
        return kernel(problem.y)
