r"""The proximal step of the data term: exactly where the operator can, by conjugate gradients elsewhere.

.. math:: \arg\min_x \tfrac{\gamma}{2} \|A x - y\|^2 + \tfrac12 \|x - z\|^2
          \iff S x = z + \gamma A^H y, \qquad S = I + \gamma A^H A .

From one step of a solver to the next the right-hand side changes and S does not: S x is handed on with x,
so that conjugate gradients begin without a product.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Operator, has_exact_prox
from ..operators.krylov import Map, implicitly
from .problem import Problem, inner, norms, per_image, plus


class Fit(NamedTuple):
    """The data's image ``x`` and, where conjugate gradients found it, ``S x``."""

    x: Tensor
    product: tuple[Tensor, ...] = ()


def start_fit(problem: Problem, x: Tensor, gamma: float | Tensor) -> Fit:
    """An image from which :func:`fit_data` begins."""
    return Fit(x) if has_exact_prox(problem.physics) else Fit(x, (_system(problem, gamma)(x),))


def resumed_fit(problem: Problem, last: Fit, gamma: float) -> Fit:
    """A fit of perhaps another problem, to go on from: its product is kept where it is that of this one to rounding."""
    fresh = start_fit(problem, last.x, gamma)
    if not (fresh.product and last.product):
        return fresh
    new, old = fresh.product[0], last.product[0]
    rounding = 100 * torch.finfo(new.dtype).eps * norms(new)
    return last if bool((norms(new - old) <= rounding).all()) else fresh


def fit_data(problem: Problem, z: Tensor, gamma: float | Tensor, last: Fit, max_iter: int, rtol: float) -> Fit:
    """The proximal step at ``z``; conjugate gradients begin at the ``last`` one, taken with the same ``gamma``."""
    if has_exact_prox(problem.physics):
        return Fit(problem.physics.prox_l2(z, problem.y, gamma))
    rhs, system = z + gamma * problem.back_projection, _system(problem, gamma)
    with torch.no_grad():
        near = _preconditioner(problem, gamma)
        x, product = conjugate_gradient(system, rhs, last.x, last.product[0], max_iter, rtol, near)
    if rhs.requires_grad:
        x = implicitly(x, rhs - system(x), lambda v: _solved(system, v, max_iter, rtol, near))
    return Fit(x, (product,))


def _solved(system: Map, rhs: Tensor, max_iter: int, rtol: float, near: Map) -> Tensor:
    zeros = torch.zeros_like(rhs)
    return conjugate_gradient(system, rhs, zeros, zeros, max_iter, rtol, near)[0]


def data_prox(problem: Problem, z: Tensor, gamma: float | Tensor, start: Tensor, max_iter: int, rtol: float) -> Tensor:
    """A proximal step on its own; conjugate gradients begin at the image ``start``.

    Of an operator that is not linear and has no proximal step of its own the tangent at ``start`` is fitted, a step of
    Gauss and Newton.

    :param gamma: a number, or one per image ``(B, 1, ...)``.
    """
    problem = problem if hasattr(problem.physics, "prox_l2") else problem.linearised(start)
    return fit_data(problem, z, gamma, start_fit(problem, start, gamma), max_iter, rtol).x


def data_prox_with_data(
    problem: Problem, z: Tensor, gamma: float, start: Tensor, max_iter: int, rtol: float
) -> tuple[Tensor, Tensor]:
    """The proximal step ``x`` and ``A x``, which an operator's exact step may know."""
    if isinstance(problem.physics, Operator) and has_exact_prox(problem.physics):
        return problem.physics.prox_l2_with_data(z, problem.y, gamma)
    x = data_prox(problem, z, gamma, start, max_iter, rtol)
    return x, problem.physics.A(x)


def _system(problem: Problem, gamma: float | Tensor) -> Map:
    return lambda x: plus(x, gamma, problem.physics.A_adjoint_A(x))


def _preconditioner(problem: Problem, gamma: float | Tensor) -> Map:
    known = isinstance(problem.physics, Operator)
    return partial(problem.physics.precondition, gamma=gamma) if known else unchanged


def unchanged(x: Tensor) -> Tensor:
    """``x``."""
    return x


def conjugate_gradient(
    system: Map,
    rhs: Tensor,
    start: Tensor,
    product: Tensor,
    max_iter: int,
    rtol: float,
    near: Map = unchanged,
) -> tuple[Tensor, Tensor]:
    """Solve a Hermitian positive definite system for every image of a batch; the solution and its product.

    Stops when each image's residual is below ``rtol`` times its right-hand side; a solved image
    stays as it is, and so does one along whose search direction the system is not positive.

    :param product: ``system(start)``.
    :param near: a preconditioner: an approximation of the inverse of ``system``, Hermitian positive definite too.
    """
    x, r = start, rhs - product
    p = s = near(r)
    rs = inner(r, s)
    target = rtol**2 * inner(rhs, rhs)
    tiny = torch.finfo(rs.dtype).tiny
    for _ in range(max_iter):
        open_ = (rs if s is r else inner(r, r)) > target
        if not open_.any():
            break
        sp = system(p)
        curvature = inner(p, sp)
        open_, target = open_ & (curvature > 0), torch.where(curvature > 0, target, torch.inf)
        alpha = torch.where(open_, rs / curvature.clamp_min(tiny), 0)
        x = torch.addcmul(x, per_image(alpha, x), p)
        r = torch.addcmul(r, per_image(-alpha, r), sp)
        s = near(r)
        previous, rs = rs, inner(r, s)
        p = torch.addcmul(s, per_image(torch.where(open_, rs / previous.clamp_min(tiny), 0), p), p)
    return x, rhs - r
