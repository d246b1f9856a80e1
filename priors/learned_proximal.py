r"""Learned proximal networks: a denoiser that is a proximal operator by construction, and the prior it belongs to.

.. math:: f = \nabla \psi, \qquad \psi \text{ convex} \quad\Longrightarrow\quad f = \operatorname{prox}_R, \qquad
          R(f(y)) = \langle y, f(y)\rangle - \tfrac12\|f(y)\|^2 - \psi(y) .

So R(x) takes the y with f(y) = x, the minimum of the convex :math:`\psi(y) - \langle x, y\rangle`. The step of
any other weight is as explicit: :math:`\operatorname{prox}_{\gamma R}(v) = f(y)` where
:math:`\gamma y + (1 - \gamma) f(y) = v`, convex again for :math:`\gamma \le 1`, with R's own inversion at 0 and
f itself at 1. Fang, Buchanan and Sulam, "What's in a prior? Learned proximal networks for inverse problems"
(ICLR 2024); the step of another weight follows from its definition.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..operators.krylov import conjugate_residuals, implicitly
from ..operators.norm import norms
from .convex_network import ConvexPotential
from .network import Network
from .prior import Aux, Prior

#: Newton steps, products with the Jacobian in each, and halvings of one step at most.
STEPS, PRODUCTS, HALVINGS = 60, 200, 12
#: Relative residual of the linear system of a derivative; of a Newton step's, the root of the equation's, at most this.
SYSTEM, LOOSE = 1e-8, 0.1


class LearnedProximalNetwork(Network):
    r"""The gradient of a strongly convex potential, :math:`f(y) = \nabla\psi(y) + \alpha y`.

    Any ``denoiser(x, sigma)``'s place is its: the noise level is the one it was trained for. In
    :class:`~resolvent.priors.Denoiser` it is plug and play as published, whatever step the solver takes; there
    a fixed point minimises the data term plus R over the step. :class:`LearnedProximal` keeps to the step.

    :param potential: convex; its zeroth derivative is all that is stated, autograd does the rest.
    :param strong_convexity: alpha, of the term ``alpha / 2 |y|^2``. With 0 a softplus potential has a bounded
        gradient: f saturates beyond the images that it was trained on, and R is infinite there.
    """

    one_level = True

    def __init__(self, potential: ConvexPotential, strong_convexity: float = 0.0):
        super().__init__()
        if not 0 <= strong_convexity < 1:
            raise ValueError(f"strong_convexity: found {strong_convexity}, expected a number from 0 to below 1")
        self.potential, self.strong_convexity = potential, strong_convexity
        self.channels, self.dim = potential.channels, 2

    def project_(self) -> None:
        self.potential.project_()

    def psi(self, y: Tensor) -> Tensor:
        """The potential with its strongly convex part, shape ``(B,)``."""
        return self.potential(y) + self.strong_convexity / 2 * y.square().flatten(1).sum(1)

    def forward(self, y: Tensor, *_: Any) -> Tensor:
        if torch.is_inference_mode_enabled():  # where nothing is recorded, and the network is a derivative
            with torch.inference_mode(False), torch.no_grad():
                return self(y.clone())
        tracked = torch.is_grad_enabled() and (y.requires_grad or any(p.requires_grad for p in self.parameters()))
        return self._gradient(y if y.requires_grad else y.detach().requires_grad_(), tracked)

    def _gradient(self, y: Tensor, tracked: bool) -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(self.psi(y).sum(), y, create_graph=tracked)[0]


class Recovered(NamedTuple):
    """R(x) up to a constant, the y with f(y) = x, and the certificate ``|f(y) - x| / max(|x|, |f(x)|)``; per image."""

    value: Tensor
    y: Tensor
    residual: Tensor


def recover(network: LearnedProximalNetwork, x: Tensor, rtol: float | None = None) -> Recovered:
    r"""The prior of a network at real images ``x``: :math:`R(x) = \langle y, x\rangle - \tfrac12\|x\|^2 - \psi(y)`.

    Where no y has f(y) = x, R is infinite and y large; the residual says so. R is differentiable in x.

    :param rtol: residual at which to stop; ten times the rounding unit if None.
    """
    y, residual = mixture(network, x, torch.zeros((), dtype=x.dtype, device=x.device), rtol)
    value = (x * (y.detach() - x / 2)).flatten(1).sum(1) - network.psi(y.detach())
    return Recovered(value, y, residual)


def mixture(
    network: LearnedProximalNetwork, v: Tensor, gamma: Tensor, rtol: float | None = None, start: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The y with :math:`\gamma y + (1 - \gamma) f(y) = v`, and the relative residual of each image.

    Differentiable once in v, gamma and the network's weights, by the implicit function theorem.

    :param start: where to look first; v if None.
    """
    start = v if start is None else start
    y, residual = _newton(network, v.detach(), gamma.detach(), rtol or 10 * torch.finfo(v.dtype).eps, start.detach())
    if not torch.is_grad_enabled():
        return y, residual
    left = v - gamma * y - (1 - gamma) * network(y)
    return implicitly(y, left, lambda g: _solve_linear(network, y, g, gamma.detach(), SYSTEM)), residual


@torch.no_grad()
def _newton(
    network: LearnedProximalNetwork, v: Tensor, gamma: Tensor, rtol: float, start: Tensor
) -> tuple[Tensor, Tensor]:
    """Newton's method with minimal residuals, every step of which shortens the residual.

    Roosta, Liu, Xu and Mahoney, "A Newton-MR algorithm with complexity guarantees" (2022); steps as exact as it pays
    far from the solution: Eisenstat and Walker, SIAM J. Sci. Comput. 17:16 (1996).
    """
    y, image = start, network(start)
    size = torch.maximum(norms(v), norms(image)).clamp_min(torch.finfo(v.dtype).tiny)
    residual = v - gamma * y - (1 - gamma) * image
    for _ in range(STEPS):
        relative = norms(residual) / size
        if (relative <= rtol).all():
            break
        exactness = torch.maximum(relative.sqrt(), rtol / (2 * relative)).clamp_max(LOOSE)
        direction = _solve_linear(network, y, residual, gamma, exactness)
        y, residual, moved = _shorten(network, v, gamma, y, residual, direction)
        if not moved:
            break
    return y, norms(residual) / size


def _solve_linear(
    network: LearnedProximalNetwork, y: Tensor, right: Tensor, gamma: Tensor, rtol: float | Tensor
) -> Tensor:
    """The d with ``gamma d + (1 - gamma) f'(y) d = right``, or the nearest that the iterations find."""
    with torch.enable_grad():
        point = y.clone().requires_grad_()
        image = network(point)

    def product(d: Tensor) -> Tensor:
        return gamma * d + (1 - gamma) * torch.autograd.grad(image, point, d, retain_graph=True)[0]

    return conjugate_residuals(product, right, rtol * norms(right), PRODUCTS)[0]


def _shorten(
    network: LearnedProximalNetwork, v: Tensor, gamma: Tensor, y: Tensor, residual: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, bool]:
    """Halve each image's step until its residual is shorter; images that no step helps stay."""
    before, step = norms(residual), y.new_ones(len(y), *[1] * (y.ndim - 1))
    for _ in range(HALVINGS):
        tried = y + step * direction
        after = v - gamma * tried - (1 - gamma) * network(tried)
        shorter = (norms(after) < before).reshape(step.shape)
        if shorter.all():
            break
        step = torch.where(shorter, step, step / 2)
    moved = bool(shorter.any())
    return torch.where(shorter, tried, y), torch.where(shorter, after, residual), moved


class LearnedProximal(Prior):
    """The prior R of a learned proximal network, with value, gradient, and the proximal step of every weight.

    Exact at step times weight 1, where it is one call of the network; else by Newton's method, unique up to 1, from
    the y of the call before, which :meth:`prox_from` hands back. ``Denoiser(network)`` costs one call at any step.
    Of a complex image R is the sum over its real and its imaginary part. Values are up to a constant.

    :param network: in whose precision everything is computed.
    :raises ArithmeticError: by value, gradient and step, if no y is found to ``rtol``: the image is outside
        the network's range, or the step too long for R.
    """

    weight_over_image = False

    def __init__(self, network: LearnedProximalNetwork, weight: float | Tensor = 1.0, rtol: float = 1e-4):
        super().__init__(weight)
        self.network, self.rtol = network, rtol

    @property
    def lipschitz(self) -> Tensor:
        """The inverse of f, whose curvature is alpha at least, less the identity."""
        alpha = self.network.strong_convexity
        return torch.tensor(max(1 / alpha - 1, 1.0), dtype=torch.float64) if alpha > 0 else super().lipschitz

    @property
    def weak_convexity(self) -> float:
        return 1.0

    def _value(self, x: Tensor) -> Tensor:
        recovered = recover(self.network, self._real(x))
        self._certify(recovered.residual)
        return recovered.value.reshape(-1, len(x)).sum(0).to(x.real.dtype)

    def _grad(self, x: Tensor) -> Tensor:
        recovered = recover(self.network, self._real(x))
        self._certify(recovered.residual)
        return self._image(recovered.y, x) - x

    def start(self, x: Tensor) -> Aux:
        """Where y is looked for first: at the image."""
        return (x,)

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        parts = self._real(v)
        steps = torch.as_tensor(self._threshold(gamma, v), dtype=parts.dtype, device=parts.device)
        if (steps == 1).all() and not steps.requires_grad:
            return self._image(self.network(parts), v), (v.detach(),)
        steps = torch.cat([steps, steps]) if v.is_complex() and steps.ndim and len(steps) > 1 else steps
        y, residual = mixture(self.network, parts, steps, start=self._real(aux[0]))
        self._certify(residual)
        return self._image(parts - steps * (y - self.network(y)), v), (self._image(y.detach(), v),)

    def _real(self, x: Tensor) -> Tensor:
        """Real images in the network's precision: a complex batch becomes its real parts, then its imaginary."""
        parts = torch.cat([x.real, x.imag]) if x.is_complex() else x
        return parts.to(next(self.network.parameters()).dtype)

    def _image(self, parts: Tensor, like: Tensor) -> Tensor:
        return (torch.complex(*parts.chunk(2)) if like.is_complex() else parts).to(like.dtype)

    def _certify(self, residual: Tensor) -> None:
        worst = float(residual.max())
        if not worst <= self.rtol:
            raise ArithmeticError(f"LearnedProximal: found no y to {worst:.1e}, expected a residual to {self.rtol:.0e}")
