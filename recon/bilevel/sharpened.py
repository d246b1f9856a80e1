r"""A bound on a hypergradient's error that looks where the error is, instead of at norms of operators.

The theorem's bound omega (:mod:`resolvent.recon.bilevel.hypergradient`) holds at any image and any q. Of the pair
(x, q) with its z take a better one,

.. math:: x' = x - v, \quad H(x)\, v \approx \nabla_x h(x); \qquad
          q' = q - w, \quad H(x')\, w \approx H(x')\, q - \nabla g(x'),

by a few products each, and with it :math:`z' = -J(x')^T q'`. By the triangle inequality

.. math:: \|z - \nabla f\| \le \|z - z'\| + \|z' - \nabla f\| \le \|z - z'\| + \omega(x', q') .

Nothing is assumed of how good v and w are: omega' is made of the residuals :math:`\|\nabla_x h(x')\| / \mu` and
:math:`\|H(x') q' - \nabla g(x')\|` as they are found, with :math:`\|J(x')\| \le \|J(x)\| + L_J \|x - x'\|`. The first
part is the error itself as far as the better pair sees it, along with what H, J and the curvature of g make of the
vectors at hand; only the rest, smaller by what the products took off the residuals, pays
:math:`\|J\| L_g / \mu^2`. The smaller of the two bounds is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...operators.krylov import conjugate_residuals
from ..problem import norms
from .hypergradient import Hypergradient, Linearised, error_bound
from .upper_level import UpperLevel

#: Products for v, and for w.
PRODUCTS = 2


def sharpened(upper: UpperLevel, theta: Tensor, x: Tensor, found: Hypergradient) -> Hypergradient:
    """The same hypergradient with a bound no larger, and the products that took counted.

    :param found: at ``theta`` and ``x``, of a lower level that is strongly convex.
    """
    lower, here = upper.lower, Linearised(upper.lower, theta, x)
    exactly = torch.zeros_like(found.eps)
    v, first = conjugate_residuals(here.hessian, here.residual.detach(), exactly, PRODUCTS)
    there, right = Linearised(lower, theta, x - v), upper.image_gradient(x - v)
    missed = there.hessian(found.dual) - right
    w, second = conjugate_residuals(there.hessian, missed, exactly, PRODUCTS)
    dual = found.dual - w
    delta, eps = norms(there.hessian(dual) - right), lower.certificate(there.residual.detach(), theta)
    value = upper.penalty_gradient(theta) - there.jacobian_adjoint(dual) / len(x)
    norm = here.jacobian_norm() + found.constants.jacobian * norms(v)
    rest = error_bound(upper, theta, norm, norms(right), eps, delta, found.constants)
    bound = torch.linalg.vector_norm(found.value - value) + rest
    return found._replace(
        bound=torch.minimum(found.bound, bound), products=found.products + first + second + 4
    )  # fmt: skip
