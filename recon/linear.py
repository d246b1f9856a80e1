r"""The proximal step of the data term: exactly where the operator can, by conjugate gradients elsewhere.

.. math:: \arg\min_x \tfrac{\gamma}{2} \|A x - y\|^2 + \tfrac12 \|x - z\|^2
          \iff (I + \gamma A^H A)\, x = z + \gamma A^H y .
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..operators import has_exact_prox
from .problem import Problem, inner, per_image


def data_prox(problem: Problem, z: Tensor, gamma: float, start: Tensor, max_iter: int, rtol: float) -> Tensor:
    """The proximal step at ``z``; conjugate gradients begin at ``start``."""
    if has_exact_prox(problem.physics):
        return problem.physics.prox_l2(z, problem.y, gamma)

    def system(x: Tensor) -> Tensor:
        return torch.add(x, problem.physics.A_adjoint_A(x), alpha=gamma)

    rhs = torch.add(z, problem.back_projection, alpha=gamma)
    return conjugate_gradient(system, rhs, start, max_iter, rtol)


def conjugate_gradient(
    system: Callable[[Tensor], Tensor], rhs: Tensor, start: Tensor, max_iter: int, rtol: float
) -> Tensor:
    """Solve a Hermitian positive definite system for every image of a batch.

    Stops when each image's residual is below ``rtol`` times its right-hand side; a solved image
    stays as it is.
    """
    x, r = start, rhs - system(start)
    p, rr = r, inner(r, r)
    target = rtol**2 * inner(rhs, rhs)
    tiny = torch.finfo(rr.dtype).tiny
    for _ in range(max_iter):
        open_ = rr > target
        if not open_.any():
            break
        sp = system(p)
        alpha = torch.where(open_, rr / inner(p, sp).clamp_min(tiny), 0)
        x = torch.addcmul(x, per_image(alpha, x), p)
        r = torch.addcmul(r, per_image(-alpha, r), sp)
        previous, rr = rr, inner(r, r)
        p = torch.addcmul(r, per_image(torch.where(open_, rr / previous.clamp_min(tiny), 0), p), p)
    return x
