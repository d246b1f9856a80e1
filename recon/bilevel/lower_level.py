r"""The lower level: what an image is for given parameters.

.. math:: \hat x(\theta) = \arg\min_x h(x, \theta), \qquad \mu I \preceq \nabla_x^2 h \preceq L I,

each image of a batch a problem of its own, theta shared by all. The constants make a residual a certificate:

.. math:: \|x - \hat x\| \le \|\nabla_x h(x, \theta)\| / \mu .
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ...operators.krylov import Map, conjugate_residuals
from ..loop import run
from ..stopping import FixedPointResidual
from .fast_gradient import FastGradient, Given, certificate


class LowerSolution(NamedTuple):
    """An image and how good it is.

    :param x: ``(B, ...)``.
    :param certificate: bound on ``||x - xhat||`` per image, ``(B,)``; where mu is not above 0 no bound, but the
        length of a gradient step.
    :param gradients: evaluations of the gradient, of the whole batch.
    :param solved: whether every image has come within the accuracy asked for, or is taken as it is.
    :param resting: which have come within it, ``(B,)``; the others depend on where they began.
    """

    x: Tensor
    certificate: Tensor
    gradients: int
    solved: bool
    resting: Tensor


class LowerLevel(ABC):
    """Base class of the lower levels: a subclass states the gradient, a start and the two constants."""

    #: ``L_J`` and ``L_{H^-1}``, the Lipschitz constants in x of J and of the Hessian's inverse, as known for all x
    #: and theta (0 for a quadratic); None where not known: then they are estimated on the way.
    jacobian_lipschitz: float | None = None
    inverse_lipschitz: float | None = None

    @abstractmethod
    def gradient(self, x: Tensor, theta: Tensor) -> Tensor:
        """``grad_x h`` for images ``(B, ...)`` and theta ``(p,)``; autograd must know its derivative in both."""

    @abstractmethod
    def start(self) -> Tensor:
        """The images ``(B, ...)`` from which a solve begins where nothing better is known."""

    @abstractmethod
    def strong_convexity(self, theta: Tensor) -> Tensor:
        """mu, a bound from below on the eigenvalues of h's Hessian; not above 0 where none is known."""

    @abstractmethod
    def smoothness(self, theta: Tensor) -> Tensor:
        """L, a bound from above on them."""

    def certifies(self, theta: Tensor) -> bool:
        """Whether h is known to be strongly convex, so that a residual bounds an error."""
        return bool(self.strong_convexity(theta) > 0)

    def certificate(self, gradient: Tensor, theta: Tensor) -> Tensor:
        """``||grad_x h|| / mu`` per image; over L where mu is not above 0."""
        return certificate(gradient, self.strong_convexity(theta), self.smoothness(theta))

    def solve_adjoint(
        self, product: Map, right: Tensor, tol: Tensor, max_products: int, start: Tensor | None
    ) -> tuple[Tensor, int]:
        """The q with ``H^T q = right`` and the products used; H is symmetric here."""
        return conjugate_residuals(product, right, tol, max_products, start)

    @torch.no_grad()
    def solve(self, theta: Tensor, eps: float, x0: Tensor | None = None, max_iter: int = 10_000) -> LowerSolution:
        """Find each image to ``eps``, from ``x0``; stops there at once if it is good enough."""
        solver = FastGradient()
        problem = Given(self, theta, self.strong_convexity(theta), self.smoothness(theta))
        state = solver.init(problem, self.start() if x0 is None else x0)
        bound, steps = solver.optimality(problem, state), 0
        if not bool((bound <= eps).all()) and bool(bound.isfinite().all()):
            progress = run(
                solver, problem, state, stop=FixedPointResidual(eps), max_iter=max_iter, record={},
                callback=None, checkpoint=None,
            )  # fmt: skip
            state, steps = progress.state, progress.iteration
            bound = solver.optimality(problem, state)
        return LowerSolution(state.x, bound, 1 + steps, bool((bound <= eps).all()), bound <= eps)


class Energy(LowerLevel):
    """A lower level stated by its value.

    :param value: ``h(x, theta)`` per image, shape ``(B,)``, twice differentiable by autograd.
    :param start: images ``(B, ...)``.
    :param strong_convexity: mu of theta; likewise ``smoothness`` L.
    """

    def __init__(
        self,
        value: Callable[[Tensor, Tensor], Tensor],
        start: Tensor,
        strong_convexity: Callable[[Tensor], Tensor],
        smoothness: Callable[[Tensor], Tensor],
    ):
        self._value, self._start = value, start
        self._strong_convexity, self._smoothness = strong_convexity, smoothness

    def gradient(self, x: Tensor, theta: Tensor) -> Tensor:
        tracked = torch.is_grad_enabled() and (x.requires_grad or theta.requires_grad)
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            return torch.autograd.grad(self._value(x, theta).sum(), x, create_graph=tracked)[0]

    def start(self) -> Tensor:
        return self._start

    def strong_convexity(self, theta: Tensor) -> Tensor:
        return self._strong_convexity(theta)

    def smoothness(self, theta: Tensor) -> Tensor:
        return self._smoothness(theta)
