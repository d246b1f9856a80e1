r"""The proximal step of the data term: exactly where the operator can, by conjugate gradients elsewhere.

.. math:: \arg\min_x \tfrac{\gamma}{2} \|A x - y\|^2 + \tfrac12 \|x - z\|^2
          \iff S x = z + \gamma A^H y, \qquad S = I + \gamma A^H A .

From one step of a solver to the next the right-hand side b changes and S does not. The last solution x and its last
change d are handed on with their products, so that conjugate gradients begin without one, at the point of the line
through the last two solutions that is nearest in the norm of S:

.. math:: x + t d, \qquad t = \langle d, b - S x \rangle / \langle d, S d \rangle .

P. F. Fischer, Comput. Methods Appl. Mech. Eng. 163:193 (1998), with one image.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Operator, has_exact_prox
from ..operators.krylov import Map, implicitly
from ..operators.norm import TINY
from .problem import Problem, inner, norms, one_or_each, per_image, plus

#: Relative residual of a data step from which its derivative is said to be that of another step.
INEXACT = 1e-3


class Known(NamedTuple):
    """An image and its product with S."""

    image: Tensor
    product: Tensor


class Fit(NamedTuple):
    """The data's image ``x`` and, where conjugate gradients find it, the last solution and change ``known``."""

    x: Tensor
    known: tuple[Known, ...] = ()


def start_fit(problem: Problem, x0: Tensor | None, gamma: float | Tensor) -> Fit:
    """An image, zero if None, from which :func:`fit_data` begins."""
    x = torch.zeros_like(problem.back_projection) if x0 is None else x0
    if has_exact_prox(problem.physics):
        return Fit(x)
    zero = Known(torch.zeros_like(x), torch.zeros_like(x))
    return Fit(x, (zero if x0 is None else Known(x, _system(problem, gamma)(x)), zero))


def resumed_fit(problem: Problem, fit: Fit, gamma: float) -> Fit:
    """A fit of perhaps another problem, to go on from: its products are kept where they are this one's to rounding."""
    if not fit.known or has_exact_prox(problem.physics):
        return start_fit(problem, fit.x, gamma)
    fresh = start_fit(problem, fit.known[0].image, gamma)
    new, old = fresh.known[0].product, fit.known[0].product
    rounding = 100 * torch.finfo(new.dtype).eps * norms(new)
    return fit if bool((norms(new - old) <= rounding).all()) else fresh


def fit_data(problem: Problem, z: Tensor, gamma: float | Tensor, fit: Fit, max_iter: int, rtol: float) -> Fit:
    """The proximal step at ``z``; conjugate gradients begin near those of ``fit``, taken with the same ``gamma``."""
    if has_exact_prox(problem.physics):
        return Fit(problem.physics.prox_l2(z, problem.y, gamma))
    rhs, system = z + gamma * problem.back_projection, _system(problem, gamma)
    last, change = fit.known
    with torch.no_grad():
        near, left = _preconditioner(problem, gamma), rhs - last.product
        found = conjugate_gradient(system, left, *along(change, left), max_iter, rtol, near, norms(rhs))
        x, change = last.image + found.x, Known(found.seen, found.product)
        last = Known(last.image + change.image, last.product + change.product)
    if rhs.requires_grad:
        residual = rhs - system(x)
        _warn_inexact(residual.detach(), rhs.detach(), rtol)
        x = implicitly(x, residual, lambda v: _solved(system, v, max_iter, rtol, near))
    return Fit(x, (last, change))


def left(problem: Problem, z: Tensor, gamma: float | Tensor, fit: Fit) -> Tensor:
    """``||b - S x|| / ||b||`` per image of the proximal step at ``z``; 0 of a closed form."""
    if not fit.known:
        return fit.x.real.new_zeros(len(fit.x))
    rhs = z + gamma * problem.back_projection
    return norms(rhs - fit.known[0].product) / norms(rhs).clamp_min(TINY)


def along(change: Known, rhs: Tensor) -> Known:
    """Of the multiples of an image the nearest to the solution for ``rhs``, in the norm of S.

    None of an image shorter in that norm than in its own: S is no less than I, so its product is rounding.
    """
    length, own = inner(change.image, change.product), inner(change.image, change.image)
    trusted = (length > 0) & (length >= 0.999 * own)
    t = torch.where(trusted, inner(change.image, rhs) / length.clamp_min(torch.finfo(length.dtype).tiny), 0)
    return Known(per_image(t, rhs) * change.image, per_image(t, rhs) * change.product)


def _warn_inexact(residual: Tensor, rhs: Tensor, rtol: float) -> None:
    """The derivative is that of the exact step, whatever conjugate gradients left of it."""
    left_over = norms(residual) / norms(rhs).clamp_min(TINY)
    if bool((left_over > max(INEXACT, 10 * rtol)).any()):
        worst = float(left_over.max())
        text = f"data step: found a residual of {worst:.1g}, but its derivative is of the exact one; more cg_iterations"
        warnings.warn(text, stacklevel=2)


def _solved(system: Map, rhs: Tensor, max_iter: int, rtol: float, near: Map) -> Tensor:
    zeros = torch.zeros_like(rhs)
    return conjugate_gradient(system, rhs, zeros, zeros, max_iter, rtol, near).x


def data_prox(problem: Problem, z: Tensor, gamma: float | Tensor, start: Tensor, max_iter: int, rtol: float) -> Tensor:
    """A proximal step on its own; conjugate gradients begin at the image ``start``.

    Of an operator that is not linear and has no proximal step of its own the tangent at ``start`` is fitted, a step of
    Gauss and Newton.

    :param gamma: a number, or one per image ``(B,)``.
    """
    gamma = one_or_each(gamma, z) if isinstance(gamma, Tensor) else gamma
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
    scale: Tensor | None = None,
) -> Solved:
    """Solve a Hermitian positive definite system for every image of a batch.

    The last step is taken without a product: its direction is known, and it is made as long as the one before. Stops
    when, at the rate of two steps, that step takes each image's residual below ``rtol`` times ``scale``; a solved image
    stays as it is, and so does one along whose search direction the system is not positive.

    :param product: ``system(start)``.
    :param max_iter: products at most.
    :param near: a preconditioner: an approximation of the inverse of ``system``, Hermitian positive definite too.
    :param scale: ``(B,)``; the norms of the right-hand sides if None.
    """
    if max_iter < 1 or not rtol >= 0:
        found = f"cg_iterations, cg_rtol: found {max_iter}, {rtol}"
        raise ValueError(f"{found}, expected at least 1 and a number not below 0")
    x, r = start, rhs - product
    p = s = near(r)
    rs, rr = inner(r, s), inner(r, r)
    target = (rtol * (norms(rhs) if scale is None else scale)) ** 2
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
