r"""The gradient of the upper level by the implicit function theorem, with a bound on its error.

.. math:: H q = \nabla g(x), \qquad z = -J^T q, \qquad
          H = \nabla_x^2 h(x, \theta), \quad J = \partial_\theta \nabla_x h(x, \theta) .

At an x within epsilon of the minimiser and a q of residual :math:`\|H q - \nabla g\| \le \delta`,

.. math:: \|z - \nabla f\| \le \omega = c\,\epsilon + \frac{\|J\|}{\mu}\delta + \frac{L_J L_g}{\mu} \epsilon^2, \qquad
          c = \frac{L_g \|J\|}{\mu} + L_{H^{-1}} \|\nabla g\| \|J\| + \frac{L_J \|\nabla g\|}{\mu} .

Of many images z and omega are means. Salehi, Mukherjee, Roberts and Ehrhardt, SIAM J. Math. Data Sci. (2025),
theorem 2.1.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from ...operators.krylov import DifferentiableOnce
from ...operators.norm import TINY, largest_eigenvalue
from ...operators.real_parts import real_parts
from ..problem import norms
from .lower_level import LowerLevel
from .upper_level import UpperLevel

#: theta of no more entries has J's norm from all its columns; a longer one by the Lanczos process.
COLUMNS = 32
#: Residual of q, over the norm of grad g, at most where no bound tells that delta is too coarse.
COARSEST = 0.1


class Constants(NamedTuple):
    """``L_J`` and ``L_{H^-1}``: known, or the largest seen so far."""

    jacobian: Tensor
    inverse: Tensor


class Hypergradient(NamedTuple):
    """The inexact gradient of f and what is known of it.

    :param value: z, shape ``(p,)``.
    :param dual: q, images ``(B, ...)``.
    :param eps: ``||grad_x h|| / mu`` at x per image.
    :param delta: ``||H q - grad g||`` per image, of the q returned.
    :param bound: omega; infinite where mu is not above 0.
    :param constants: what omega was computed with.
    :param products: products with H.
    """

    value: Tensor
    dual: Tensor
    eps: Tensor
    delta: Tensor
    bound: Tensor
    constants: Constants
    products: int


class Linearised:
    """The lower level's first-order condition at a point: its residual ``grad_x h``, and products with H and J."""

    def __init__(self, lower: LowerLevel, theta: Tensor, x: Tensor):
        self.lower = lower
        with torch.enable_grad():
            self.x, self.theta = x.detach().requires_grad_(), theta.detach().requires_grad_()
            self.residual = lower.gradient(self.x, self.theta)

    def hessian(self, v: Tensor) -> Tensor:
        """``H v``, images ``(B, ...)``."""
        return torch.autograd.grad(self.residual, self.x, v, retain_graph=True)[0]

    def jacobian_adjoint(self, q: Tensor) -> Tensor:
        """``sum_i J_i^T q_i``, shape ``(p,)``.

        :raises ValueError: if the residual does not depend on theta.
        """
        (z,) = torch.autograd.grad(self.residual, self.theta, q, retain_graph=True, allow_unused=True)
        if z is None:
            raise ValueError("theta: found a lower level whose gradient has no derivative in theta, expected one")
        return z

    def jacobian(self, direction: Tensor) -> Tensor:
        """``J direction``, images ``(B, ...)``; by a difference where a prior's gradient is differentiable but once."""
        with torch.enable_grad():
            dummy = torch.zeros_like(self.residual, requires_grad=True)
            (z,) = torch.autograd.grad(self.residual, self.theta, dummy, create_graph=True)
            with contextlib.suppress(DifferentiableOnce):
                return torch.autograd.grad(z, dummy, direction, materialize_grads=True)[0]
        return self._difference(direction)

    def _difference(self, direction: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(direction).clamp_min(TINY)
        rounding = torch.finfo(self.theta.dtype).eps ** (1 / 3)
        h = rounding * (1 + torch.linalg.vector_norm(self.theta.detach())) / length
        ends = [self.lower.gradient(self.x.detach(), self.theta.detach() + s * direction).detach() for s in (h, -h)]
        return (ends[0] - ends[1]) / (2 * h)

    def jacobian_norm(self) -> Tensor:
        """``||J_i||`` per image for a short theta, exactly; else an upper estimate of that of all images together."""
        p = len(self.theta)
        if p > COLUMNS:
            return self._joint_norm().expand(len(self.x))
        columns = [self.jacobian(e).flatten(1) for e in torch.eye(p, dtype=self.theta.dtype, device=self.theta.device)]
        columns = torch.stack([real_parts(c).flatten(1) for c in columns], 2)
        return torch.linalg.matrix_norm(columns, 2)

    def _joint_norm(self) -> Tensor:
        """The Lanczos process on ``J^T J``."""
        squared = largest_eigenvalue(lambda v: self.jacobian_adjoint(self.jacobian(v)), self.theta, rtol=1e-2)
        return torch.as_tensor(squared, dtype=self.theta.dtype, device=self.theta.device).sqrt()


def hypergradient(
    upper: UpperLevel,
    theta: Tensor,
    x: Tensor,
    delta: float,
    *,
    dual: Tensor | None = None,
    other: Tensor | None = None,
    seen: Constants | None = None,
    max_products: int = 1000,
) -> Hypergradient:
    """z at ``theta`` from images ``x`` near the minimisers.

    Where the lower level does not know ``L_J`` and ``L_{H^-1}`` they are estimated between ``x`` and ``other``, and
    omega with them: no longer a certificate.

    :param delta: residual of q to reach, per image; no coarser than :data:`COARSEST` where the lower level does not
        certify.
    :param dual: q to begin with, of an earlier call.
    :param other: images to estimate the constants with; the lower level's start if None.
    :param seen: constants of an earlier call, which the estimates do not fall below.
    """
    lower = upper.lower
    here, right = Linearised(lower, theta, x), upper.image_gradient(x)
    tol = torch.full((len(x),), delta, dtype=x.real.dtype, device=x.device)
    if not lower.certifies(theta):
        tol = torch.minimum(tol, COARSEST * norms(right))
    q, products = lower.solve_adjoint(here.hessian, right, tol, max_products, dual)
    missed = norms(here.hessian(q) - right)
    eps = lower.certificate(here.residual.detach(), theta)
    value = upper.penalty_gradient(theta) - here.jacobian_adjoint(q) / len(x)
    if not lower.certifies(theta):
        _warn_uncertified(float(lower.strong_convexity(theta)))
        zero = torch.zeros_like(theta[0])
        return Hypergradient(value, q, eps, missed, zero + torch.inf, seen or Constants(zero, zero), products + 1)
    there = lower.start() if other is None else other
    constants, extra = constants_at(lower, theta, here, q, right, there, seen)
    bound = error_bound(upper, theta, here.jacobian_norm(), norms(right), eps, missed, constants)
    return Hypergradient(value, q, eps, missed, bound, constants, products + 1 + extra)


def error_bound(
    upper: UpperLevel, theta: Tensor, norm: Tensor, slope: Tensor, eps: Tensor, delta: Tensor, constants: Constants
) -> Tensor:
    """omega, the mean over the images, ``norm`` being ``||J||`` and ``slope`` ``||grad g||``."""
    mu, curvature = upper.lower.strong_convexity(theta), upper.loss.smoothness
    c = curvature * norm / mu + constants.inverse * slope * norm + constants.jacobian * slope / mu
    return (c * eps + norm / mu * delta + constants.jacobian * curvature / mu * eps.square()).mean()


def constants_at(
    lower: LowerLevel, theta: Tensor, here: Linearised, q: Tensor, right: Tensor, other: Tensor, seen: Constants | None
) -> tuple[Constants, int]:
    r"""The constants, known or estimated from two images x and x', and the products that took.

    .. math:: L_J \ge \frac{\|\sum_i (J(x_i) - J(x'_i))^T q_i\|}{\sum_i \|x_i - x'_i\| \|q_i\|}, \qquad
              L_{H^{-1}} \approx \max_i \frac{\|(H(x_i) - H(x'_i))\, q_i\|}{\mu \|x_i - x'_i\| \|\nabla g_i\|} .
    """
    zero = torch.zeros_like(theta[0])
    known = lower.jacobian_lipschitz, lower.inverse_lipschitz
    if None not in known:
        return Constants(zero + known[0], zero + known[1]), 0
    there, moved = Linearised(lower, theta, other), norms(here.x.detach() - other)
    turned = torch.linalg.vector_norm(here.jacobian_adjoint(q) - there.jacobian_adjoint(q))
    bent = norms(here.hessian(q) - there.hessian(q)) / (lower.strong_convexity(theta) * moved * norms(right))
    found = [(turned / (moved * norms(q)).sum()).nan_to_num(0, 0, 0), bent.nan_to_num(0, 0, 0).amax()]
    if seen is not None:
        found = [torch.maximum(new, old) for new, old in zip(found, seen, strict=True)]
    return Constants(*(f if k is None else zero + k for f, k in zip(found, known, strict=True))), 2


def _warn_uncertified(mu: float) -> None:
    warnings.warn(
        f"hypergradient: found strong convexity {mu:.3g}, expected above 0 for a bound on its error: "
        "add a Tikhonov prior, state the least eigenvalue of A^H A, or lower the weight of a prior that is not convex",
        stacklevel=3,
    )
