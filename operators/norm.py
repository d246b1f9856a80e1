r"""Norms: of images, and of operators by the Lanczos process.

.. math:: \|A\|^2 = \lambda_{\max}(A^H A) \le \theta + \beta_k |s_k| ,

with the largest Ritz value theta of a k-step Krylov space and the residual of its Ritz pair, which
bounds the distance to an eigenvalue (Parlett, *The Symmetric Eigenvalue Problem*, ch. 13). A dozen
products give what the power method needs a hundred for. An operator that knows its norm is asked.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from .real_parts import real_parts

#: In place of a norm of 0 that something is divided by.
TINY = 1e-30


def above_zero(square: Tensor) -> Tensor:
    """A squared norm that something is divided by, no smaller than the smallest normal number."""
    return square.clamp_min(torch.finfo(square.dtype).tiny)


@torch.no_grad()
def squared_norm(physics: LinearPhysics, like: Tensor, *, rtol: float = 1e-3, max_iter: int = 60) -> float:
    r"""Return an upper estimate of ``||A||^2``, within ``rtol`` of it.

    :param like: an image ``(B, C, *spatial)``; its shape, dtype and device are used, its values are not.
        One image of it, unless the operator differs from image to image: then the largest norm is returned.
    :param rtol: stop when the residual bound is below ``rtol`` times the Ritz value.
    """
    known = physics.squared_norm() if hasattr(physics, "squared_norm") else None
    if known is not None:
        return known
    one = like[:1] if len(like) else like.new_zeros(1, *like.shape[1:])
    if len(like) > 1 and physics.A_adjoint_A(one).shape != one.shape:
        one = like
    return largest_eigenvalue(physics.A_adjoint_A, one, rtol=rtol, max_iter=max_iter)


@torch.no_grad()
def largest_eigenvalue(product: Callable[[Tensor], Tensor], like: Tensor, *, rtol: float, max_iter: int = 60) -> float:
    """Return an upper estimate of the largest eigenvalue of a Hermitian ``product``, within ``rtol`` of it.

    :param like: what it takes, of any shape; its values are not used.
    """
    basis, alphas, betas = [_random_unit_image(like)], [], []
    theta = residual = 0.0
    for _ in range(min(max_iter, like.numel())):
        w = product(basis[-1])
        alphas.append(_inner(basis[-1], w))
        for p in basis:
            w = w - torch.vdot(p.flatten(), w.flatten()) * p
        betas.append(float(norms(w.flatten()[None])))
        theta, residual = _ritz(alphas, betas)
        if residual <= rtol * theta:
            break
        basis.append(w / betas[-1])
    return theta + residual


def per_image(scalars: Tensor, x: Tensor) -> Tensor:
    """``(B,)`` scalars shaped to multiply ``x``."""
    return scalars.reshape(-1, *[1] * (x.ndim - 1))


def as_factor(gamma: float | Tensor, x: Tensor) -> float | Tensor:
    """``gamma``, a number or one per image ``(B,)``, to multiply ``x`` in its own precision."""
    return per_image(gamma.to(x.real.dtype), x) if isinstance(gamma, Tensor) and gamma.ndim else gamma


def norms(x: Tensor) -> Tensor:
    """Euclidean norm per image, shape ``(B,)``; of real parts: torch's norm of complex numbers is 40 times slower."""
    return torch.linalg.vector_norm(real_parts(x).flatten(1), dim=1)


def _random_unit_image(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    return q / norms(q.flatten()[None])


def _inner(a: Tensor, b: Tensor) -> float:
    return float(torch.vdot(a.flatten(), b.flatten()).real)


def _ritz(alphas: list[float], betas: list[float]) -> tuple[float, float]:
    off = torch.tensor(betas[:-1], dtype=torch.float64)
    tridiagonal = torch.diag(torch.tensor(alphas, dtype=torch.float64)) + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(tridiagonal)
    return float(values[-1]), betas[-1] * float(vectors[-1, -1].abs())
