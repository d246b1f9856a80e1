r"""A reconstruction as one node of autograd, differentiated where it stands and not through its iterations.

.. math:: \nabla_x h(\hat x, \theta) = 0: \quad
          \partial_\theta \hat x^T v = -J^T q, \quad H q = v; \qquad
          s = T(s, \theta): \quad
          \partial_\theta s^T v = \partial_\theta T^T q, \quad (I - \partial_s T^T)\, q = v .

The first for smooth lower levels, the second for whatever a solver steps to: nonsmooth priors, plug and play. So any
loss of the image goes backward to any parameter, at the memory of one step. The derivative is as accurate as the
image and q are: an image far from its fixed point has a wrong one, and its certificate says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ...operators.krylov import Map, conjugate_residuals, gmres, implicitly
from ..problem import Problem, norms
from ..solver import Solution, Solver
from .hypergradient import Linearised
from .layout import Layout
from .lower_level import LowerLevel, LowerSolution
from .method import demand_solved
from .parameters import Parameters


def implicit(
    lower: LowerLevel,
    theta: Tensor,
    eps: float,
    *,
    x0: Tensor | None = None,
    rtol: float = 1e-4,
    max_iter: int = 10_000,
    max_products: int = 1000,
) -> LowerSolution:
    """The lower level's images to ``eps``, differentiable in ``theta``.

    :param theta: ``(p,)``; such as :meth:`Reconstruction.theta`, which leads back to the modules' own tensors.
    :param rtol: residual of q over that of the loss's gradient.
    :raises Diverged: if the images do not come to ``eps``.
    """
    solution = lower.solve(theta.detach(), eps, x0, max_iter)
    demand_solved(solution, eps)

    def solve(v: Tensor) -> Tensor:
        here, tol = Linearised(lower, theta, solution.x), rtol * norms(v)
        q, _ = conjugate_residuals(here.hessian, v, tol, max_products)
        _warn_missed(norms(here.hessian(q) - v), tol)
        return q

    return solution._replace(x=implicitly(solution.x, -lower.gradient(solution.x, theta), solve))


def implicit_solve(
    solver: Solver,
    y: Tensor,
    physics: LinearPhysics,
    learn: Sequence[str],
    theta: Tensor | None = None,
    *,
    state: Any = None,
    rtol: float = 1e-4,
    max_products: int = 200,
) -> tuple[Tensor, Solution]:
    """The image at a solver's fixed point, differentiable in the parameters ``learn``, and the solver's own account.

    :param learn: names such as ``solver.priors.0.weight`` or ``physics.kernel``.
    :param theta: their values as :meth:`Parameters.gather` has them, which it is if None.
    :param state: of an earlier solution, to start from.
    :param rtol: residual of q over that of the loss's gradient.
    """
    parameters = Parameters({"solver": solver, "physics": physics}, learn)
    theta = parameters.gather() if theta is None else theta
    with torch.no_grad():
        there = parameters.substituted(theta.detach())
        solution = there["solver"].solve(y, there["physics"], state=state)
    if not theta.requires_grad:
        return solution.image, solution
    layout = Layout(solution.state)
    flat = layout.flatten(solution.state)

    def advance(s: Tensor, theta: Tensor) -> Tensor:
        modules = parameters.substituted(theta)
        problem = Problem(y, modules["physics"], modules["solver"].priors)
        return layout.flatten(modules["solver"].fixed_point_step(problem, layout.restore(s)))

    after = advance(flat, theta)
    if not after.requires_grad:
        raise ValueError(f"learn: found {', '.join(learn)}, on which a step has no derivative, expected others")

    def solve(v: Tensor) -> Tensor:
        with torch.enable_grad():
            here = flat.clone().requires_grad_()
            there = advance(here, theta.detach())
        product: Map = lambda q: q - torch.autograd.grad(there, here, q, retain_graph=True)[0]  # noqa: E731
        tol = rtol * norms(v)
        q, _ = gmres(product, v, tol, max_products)
        _warn_missed(norms(product(q) - v), tol)
        return q

    return layout.restore(implicitly(flat, after - flat, solve)).x, solution


def _warn_missed(residual: Tensor, tol: Tensor) -> None:
    worst = float((residual / tol.clamp_min(torch.finfo(tol.dtype).tiny)).max())
    if not worst <= 1.01:
        warnings.warn(
            f"implicit gradient: found a residual {worst:.3g} times the tolerance, expected 1; "
            "solve the image more accurately, allow more products, or make the problem strongly convex",
            stacklevel=3,
        )
