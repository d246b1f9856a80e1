r"""The data of an image that a decoder makes of latents: an operator that is not linear.

.. math:: y = A\, D(z), \qquad
          \operatorname{prox}(v) = \arg\min_z\; \tfrac{\gamma}{2} \|A\, D(z) - y\|^2 + \tfrac12 \|z - v\|^2 ,

by Gauss and Newton's method from v, the only place where the decoder is differentiated: D is taken for its tangent,
conjugate residuals go some way to the minimum, and of the step as much is taken as lowers the objective. One step is
enough where D is linear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor

from .krylov import Map, conjugate_residuals
from .norm import norms, per_image

#: How often a step is halved at most.
HALVINGS = 20


class Point(NamedTuple):
    """Latents, the objective of each image ``(B,)``, its gradient, and the product with its Gauss-Newton matrix."""

    x: Tensor
    value: Tensor
    slope: Tensor
    curve: Map


class Decoded(Physics):
    """``A D``, for samplers whose data step is proximal or goes through ``A`` alone; the image they find is latents.

    :param physics: a linear operator A on images; its noise model is this one's.
    :param decode: D, differentiable, from latents ``(B, *latent_shape)`` to images; in their precision, since it is
        differentiated by differences, too.
    :param latent_shape: ``(c, h, w)``.
    :param steps: of a proximal step.
    :param products: of conjugate residuals in each; one calls D twice, and its derivative once.
    """

    def __init__(
        self,
        physics: LinearPhysics,
        decode: Map,
        latent_shape: Sequence[int],
        steps: int = 3,
        products: int = 6,
    ):
        if steps < 1 or products < 1:
            raise ValueError(f"steps, products: found {steps}, {products}, expected at least 1")
        super().__init__(noise_model=physics.noise_model)
        self.physics, self.decode, self.latent_shape = physics, decode, tuple(latent_shape)
        self.steps, self.products = steps, products

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """The data of latents ``(B, *latent_shape)``."""
        return self.physics.A(self.decode(x))

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        """The adjoint of the derivative at latents 0."""
        return self.A_vjp(y.real.new_zeros(len(y), *self.latent_shape), y)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The adjoint of the derivative at ``x``, applied to data ``v``."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.A(x), x, v)[0]

    def A_adjoint_A(self, x: Tensor, **_: Any) -> Tensor:
        """There is none.

        :raises NotImplementedError: always.
        """
        raise NotImplementedError("Decoded: found a solver that asks for A^H A, expected one with a proximal data step")

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any) -> Tensor:
        """The proximal step at latents ``z``, without a graph; gamma a number, or one per image ``(B, 1, ...)``."""
        gamma = torch.as_tensor(gamma, dtype=z.dtype, device=z.device).flatten()
        here = self._point(z, z, y, gamma)
        for _ in range(self.steps):
            move, _ = conjugate_residuals(here.curve, -here.slope, torch.zeros_like(here.value), self.products)
            here = self._descended(here, move, z, y, gamma)
        return here.x

    def _point(self, x: Tensor, z: Tensor, y: Tensor, gamma: Tensor) -> Point:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            data = self.A(x)

        def adjoint(v: Tensor) -> Tensor:
            return torch.autograd.grad(data, x, v, retain_graph=True)[0]

        def curve(u: Tensor) -> Tensor:
            return u + per_image(gamma, u) * adjoint(self._tangent(x.detach(), u))

        left, away = data.detach() - y, x.detach() - z
        value = (gamma * _squared(left) + _squared(away)) / 2
        return Point(x.detach(), value, away + per_image(gamma, away) * adjoint(left), curve)

    @torch.no_grad()
    def _tangent(self, x: Tensor, u: Tensor) -> Tensor:
        """The derivative along ``u`` by a central difference, exact where D is linear."""
        size = _squared(u)
        h = torch.finfo(u.dtype).eps ** (1 / 3) * torch.where(size > 0, (1 + _squared(x)) / size, 1).sqrt()
        ahead, behind = (self.A(x + per_image(s, u) * u) for s in (h, -h))
        return (ahead - behind) / per_image(2 * h, ahead)

    def _descended(self, here: Point, move: Tensor, *problem: Tensor) -> Point:
        """The point after as much of ``move`` as makes the objective fall; ``here``, where none does."""
        slack = 10 * torch.finfo(move.dtype).eps * here.value
        length = torch.ones_like(here.value)
        for _ in range(HALVINGS):
            there = self._point(here.x + per_image(length, move) * move, *problem)
            rises = ~(there.value <= here.value + slack)
            if not rises.any():
                return there
            length = torch.where(rises, length / 2, length)
        return self._point(here.x + per_image(torch.where(rises, 0, length), move) * move, *problem)


def _squared(x: Tensor) -> Tensor:
    """Squared norm per image ``(B,)``."""
    return norms(x).square()
