r"""The proximal step of the data term: exactly where the operator can, by conjugate gradients elsewhere.

.. math:: \arg\min_x \tfrac{\gamma}{2} \|A x - y\|^2 + \tfrac12 \|x - z\|^2
          \iff S x = z + \gamma A^H y, \qquad S = I + \gamma A^H A .

From one step of a solver to the next the right-hand side changes and S does not: the last two solutions are handed on
with their products, so that conjugate gradients begin where these come nearest, without a product.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Operator, has_exact_prox
from ..operators.krylov import Map, implicitly
from .problem import Problem, inner, norms, per_image, plus
from .successive import Span, empty_span, nearest, with_newest

#: Solutions that a solver hands on from step to step; more spare next to nothing.
REMEMBERED = 2


class Fit(NamedTuple):
    """The data's image ``x`` and, where conjugate gradients find it, the ``span`` of the last solutions."""

    x: Tensor
    span: Span = Span((), ())


def start_fit(problem: Problem, x0: Tensor | None, gamma: float | Tensor, remembered: int = REMEMBERED) -> Fit:
    """An image, zero if None, from which :func:`fit_data` begins."""
    x = torch.zeros_like(problem.back_projection) if x0 is None else x0
    if has_exact_prox(problem.physics):
        return Fit(x)
    with torch.no_grad():
        span = empty_span(x, remembered)
        return Fit(x, span if x0 is None else with_newest(span, x, _system(problem, gamma)(x)))


def resumed_fit(problem: Problem, last: Fit, gamma: float) -> Fit:
    """A fit of perhaps another problem, to go on from: its products are kept where they are this one's to rounding."""
    if has_exact_prox(problem.physics) or not last.span.images:
        return start_fit(problem, last.x, gamma)
    image, old = last.span.images[0], last.span.products[0]
    new = _system(problem, gamma)(image)
    rounding = 100 * torch.finfo(new.dtype).eps * norms(new)
    if bool((norms(new - old) <= rounding).all()):
        return last
    return Fit(last.x, with_newest(empty_span(image, REMEMBERED), image, new))


def fit_data(problem: Problem, z: Tensor, gamma: float | Tensor, last: Fit, max_iter: int, rtol: float) -> Fit:
    """The proximal step at ``z``; conjugate gradients begin near the ``last`` ones, taken with the same ``gamma``."""
    if has_exact_prox(problem.physics):
        return Fit(problem.physics.prox_l2(z, problem.y, gamma))
    rhs, system = z + gamma * problem.back_projection, _system(problem, gamma)
    with torch.no_grad():
        near = _preconditioner(problem, gamma)
        x, seen, product = conjugate_gradient(system, rhs, *nearest(last.span, rhs), max_iter, rtol, near)
        span = with_newest(last.span, seen, product)
    if rhs.requires_grad:
        x = implicitly(x, rhs - system(x), lambda v: _solved(system, v, max_iter, rtol, near))
    return Fit(x, span)


def _solved(system: Map, rhs: Tensor, max_iter: int, rtol: float, near: Map) -> Tensor:
    zeros = torch.zeros_like(rhs)
    return conjugate_gradient(system, rhs, zeros, zeros, max_iter, rtol, near).x


def data_prox(problem: Problem, z: Tensor, gamma: float | Tensor, start: Tensor, max_iter: int, rtol: float) -> Tensor:
    """A proximal step on its own; conjugate gradients begin at the image ``start``.

    Of an operator that is not linear and has no proximal step of its own the tangent at ``start`` is fitted, a step of
    Gauss and Newton.

    :param gamma: a number, or one per image ``(B, 1, ...)``.
    """
    problem = problem if hasattr(problem.physics, "prox_l2") else problem.linearised(start)
    return fit_data(problem, z, gamma, start_fit(problem, start, gamma, 1), max_iter, rtol).x


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


class Solved(NamedTuple):
    """A solution ``x``, and the iterate before its last step with its ``product``."""

    x: Tensor
    seen: Tensor
    product: Tensor


def conjugate_gradient(
    system: Map,
    rhs: Tensor,
    start: Tensor,
    product: Tensor,
    max_iter: int,
    rtol: float,
    near: Map = unchanged,
) -> Solved:
    """Solve a Hermitian positive definite system for every image of a batch.

    The last step is taken without a product: its direction is known, and it is made as long as the one before. Stops
    when, at the rate of two steps, that step takes each image's residual below ``rtol`` times its right-hand side; a
    solved image stays as it is, and so does one along whose search direction the system is not positive.

    :param product: ``system(start)``.
    :param max_iter: products at most.
    :param near: a preconditioner: an approximation of the inverse of ``system``, Hermitian positive definite too.
    """
    x, r = start, rhs - product
    p = s = near(r)
    rs, rr = inner(r, s), inner(r, r)
    target = rtol**2 * inner(rhs, rhs)
    tiny = torch.finfo(rs.dtype).tiny
    open_, length, before, older = rr > target, torch.zeros_like(rr), rr, rr
    for _ in range(max_iter):
        if not open_.any():
            break
        sp = system(p)
        curvature = inner(p, sp)
        open_ = open_ & (curvature > 0)
        alpha = torch.where(open_, rs / curvature.clamp_min(tiny), 0)
        length = torch.where(open_, alpha, length * (curvature > 0))
        x = torch.addcmul(x, per_image(alpha, x), p)
        r = torch.addcmul(r, per_image(-alpha, r), sp)
        s = near(r)
        previous, rs = rs, inner(r, s)
        onward = torch.addcmul(s, per_image(rs / previous.clamp_min(tiny), p), p)
        p = torch.where(per_image(open_, p), onward, p)
        older, before, rr = before, rr, rs if s is r else inner(r, r)
        open_ = open_ & (rr * (rr / older.clamp_min(tiny)).clamp_max(1).sqrt() > target)
    return Solved(torch.addcmul(x, per_image(length, x), p), x, rhs - r)
