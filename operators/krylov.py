r"""Linear equations for every image of a batch at once, each with its own stop.

.. math:: \min_{x \in x_0 + K_k} \|b - S x\|, \qquad K_k = \operatorname{span}\{r_0, S r_0, \dots, S^{k-1} r_0\},

over the Krylov spaces of S: conjugate residuals where S is symmetric, GMRES where it is not. Complex images
are vectors of twice as many real numbers, so that S need only be linear over the reals.
Saad, *Iterative Methods for Sparse Linear Systems*, ch. 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .norm import norms, per_image
from .real_parts import real_parts

Map = Callable[[Tensor], Tensor]


def conjugate_residuals(
    product: Map, right: Tensor, tol: Tensor, max_products: int, start: Tensor | None = None
) -> tuple[Tensor, int]:
    """Solve a symmetric system per image; the residual never grows. Returns the solution and the products used.

    deepinv's MINRES takes right-hand sides below 1e-10 for zero, and a zero one runs it to the last iteration.

    :param right: right-hand sides ``(B, ...)``.
    :param tol: residual norm at which an image is done, ``(B,)``.
    :param start: where to begin, at one product more; zero if None.
    """
    x = torch.zeros_like(right) if start is None else start
    r, products = (right, 0) if start is None else (right - product(start), 1)
    p = ahead = torch.zeros_like(right)
    turn = torch.ones_like(_dots(r, r))
    while products < max_products and (active := norms(r) > tol).any():
        image, products = product(r), products + 1
        before, turn = turn, _dots(r, image)
        ratio = (turn / before).nan_to_num(0, 0, 0)
        p, ahead = r + ratio * p, image + ratio * ahead
        step = torch.where(active.reshape(turn.shape), turn / _dots(ahead, ahead), 0).nan_to_num(0, 0, 0)
        x, r = x + step * p, r - step * ahead
    return x, products


def gmres(product: Map, right: Tensor, tol: Tensor, max_products: int) -> tuple[Tensor, int]:
    """Solve any system per image, from zero; arguments and result as :func:`conjugate_residuals`.

    Every product is kept: memory for ``max_products`` images.
    """
    length = norms(right)
    basis = [right / per_image(length.clamp_min(torch.finfo(length.dtype).tiny), right)]
    columns: list[Tensor] = []
    x = torch.zeros_like(right)
    target = torch.zeros(len(right), max_products + 1, dtype=length.dtype, device=length.device)
    target[:, 0] = length
    while len(columns) < max_products and (length > tol).any():
        image, column = product(basis[-1]), []
        for _ in range(2):
            overlap = [_dots(q, image) for q in basis]
            image = image - sum(c * q for c, q in zip(overlap, basis, strict=True))
            column.append(torch.stack([c.flatten() for c in overlap], 1))
        height = norms(image)
        columns.append(torch.cat([column[0] + column[1], height[:, None]], 1))
        basis.append((image / per_image(height, image)).nan_to_num(0, 0, 0))
        k = len(columns)
        hessenberg = torch.stack([torch.nn.functional.pad(c, (0, k + 1 - c.shape[1])) for c in columns], 2)
        weights = torch.linalg.pinv(hessenberg) @ target[:, : k + 1, None]
        length = torch.linalg.vector_norm((target[:, : k + 1, None] - hessenberg @ weights).flatten(1), dim=1)
    if columns:
        x = sum((per_image(weights[:, i, 0], right) * q for i, q in enumerate(basis[:-1])), start=x)
    return x, len(columns)


def implicitly(x: Tensor, left: Tensor, solve: Map) -> Tensor:
    r"""``x`` as a function of all that an equation depends on: of value ``x``, and with the derivative of its solution.

    .. math:: F(x, \theta) = 0 \quad\Longrightarrow\quad
              dx = S^{-1}\, \partial_\theta F\, d\theta, \qquad S = -\partial_x F .

    :param x: the solution, without a graph.
    :param left: ``F(x, theta)``, with the graph of theta alone.
    :param solve: takes v to ``S^-H v``.
    :returns: x, differentiable once: a second derivative raises :class:`DifferentiableOnce`.
    """
    return _Implicit.apply(left, x, solve)


class DifferentiableOnce(RuntimeError):
    """A second derivative of an implicit function was asked for."""


class _Implicit(torch.autograd.Function):
    """``x``, whose derivative in theta is that of ``left`` through ``solve``."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, x: Tensor, solve: Map) -> Tensor:
        ctx.solve = solve
        ctx.save_for_backward(left)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor, None, None]:
        with torch.no_grad():
            found = ctx.solve(v[0])
        return _Once.apply(found, v[0], *ctx.saved_tensors), None, None


class _Once(torch.autograd.Function):
    """``found``, which depends on ``others`` in a way that is not followed."""

    @staticmethod
    def forward(ctx: Any, found: Tensor, *others: Tensor) -> Tensor:
        return found.clone()

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise DifferentiableOnce("found a second derivative of an implicit function, expected one at most")


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """Real part of the inner product per image, shaped to multiply it."""
    return per_image(torch.linalg.vecdot(real_parts(a).flatten(1), real_parts(b).flatten(1)), a)
