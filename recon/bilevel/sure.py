r"""Stein's unbiased risk estimates: the error without the truth, from the data and their noise level.

.. math:: \tfrac1m \|A\hat x(y) - y\|^2 - \sigma^2 + \tfrac{2\sigma^2}{m\tau}
          \operatorname{Re}\langle b, A\hat x(y + \tau b) - A\hat x(y)\rangle

has the mean :math:`\tfrac1m \|A\hat x - Ax\|^2` over noise of total variance sigma^2 per sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ...operators import squared_norm
from ...operators.operator import of_images
from ..linear import conjugate_gradient
from ..problem import inner, per_image
from .losses import Known, Measure, Posed, UpperLoss, noise_of, probes, samples_of, square, taken_of


class SURE(UpperLoss):
    r"""Stein's unbiased estimate of :math:`\tfrac1m\|A \hat x - A x\|^2`; of the mean square error where A is the
    identity.

    The divergence is one difference along fixed random directions of unit variance per sample, so that the loss is a
    function; its step is :math:`2 \sigma / m^{0.3}`. Deledalle, Vaiter, Fadili and Peyre, SIAM J. Imaging Sci. 7:2448
    (2014). The images asked for are those of the data, then those of the data changed along each direction.

    :param probes: directions.
    :param noise_std: sigma; what the data's file states if None.
    """

    def __init__(self, probes: int = 1, noise_std: float | None = None, seed: int = 0):
        if probes < 1:
            raise ValueError(f"probes: found {probes}, expected at least 1")
        self.probes, self.noise_std, self.seed = probes, noise_std, seed

    def pose(self, known: Known) -> Posed:
        sigma, samples, images = noise_of(self, self.noise_std, known), samples_of(known), 1 + self.probes
        directions, step = self._directions(known), 2 * sigma / samples**0.3
        y, physics = self._changed(known, directions, step)

        def loss(x: Tensor) -> Tensor:
            first, *others = physics.A(x).reshape(images, *known.y.shape)
            slope = 2 * sigma**2 / (self.probes * step)
            base = square(first - known.y) - sigma**2 * samples - slope * sum(inner(b, first) for b in directions)
            each = [base, *(slope * inner(b, d) for b, d in zip(directions, others, strict=True))]
            return torch.cat([images / samples * part for part in each])

        norm = squared_norm(known.physics, known.physics.A_adjoint(known.y))
        return Posed(y, physics, Measure(loss, 2 * images / float(samples.min()) * norm, True))

    def _directions(self, known: Known) -> list[Tensor]:
        taken = taken_of(known)
        return [taken * direction for direction in probes(known.y, self.probes, self.seed)]

    def _changed(self, known: Known, directions: Sequence[Tensor], step: Tensor) -> tuple[Tensor, LinearPhysics]:
        """The data, and after them those changed along each direction; and the operator of all of these."""
        y, physics, step = known.y, known.physics, per_image(step, known.y)
        which = torch.arange(len(y)).repeat(1 + len(directions))
        stacked = torch.cat([y, *(y + step * b for b in directions)])
        return stacked, of_images(physics, which, len(y))


class ProjectedSURE(SURE):
    r"""Unbiased estimate of :math:`\tfrac1n \|P(\hat x - x)\|^2` with P the projection on what A sees.

    .. math:: \tfrac1n\Big( \|P \hat x - A^+ y\|^2 - \sigma^2 \|A^+ b\|^2 + \tfrac{2\sigma^2}{\tau}
              \operatorname{Re}\langle A^+ b, \hat x(y + \tau b) - \hat x(y)\rangle \Big) .

    Eldar, IEEE Trans. Signal Process. 57:471 (2009). The pseudo-inverse is by conjugate gradients: sensible where
    :math:`A^H A` has no small eigenvalues but zero, such as for a mask in Fourier space.

    :param rtol: of the pseudo-inverse; likewise ``max_iter``.
    """

    def __init__(
        self, probes: int = 1, noise_std: float | None = None, seed: int = 0, rtol: float = 1e-6, max_iter: int = 200
    ):
        super().__init__(probes, noise_std, seed)
        self.rtol, self.max_iter = rtol, max_iter

    def pose(self, known: Known) -> Posed:
        sigma, directions = noise_of(self, self.noise_std, known), self._directions(known)
        fitted, *seen = (self._pseudo_inverse(known.physics, data) for data in (known.y, *directions))
        step, images, size = 2 * sigma / samples_of(known) ** 0.3, 1 + self.probes, fitted[0].numel()
        y, physics = self._changed(known, directions, step)
        slope, noise = 2 * sigma**2 / (self.probes * step), sigma**2 * sum(square(u) for u in seen) / self.probes

        def loss(x: Tensor) -> Tensor:
            first, *others = x.reshape(images, *fitted.shape)
            projected = _Projected.apply(
                first - fitted, lambda v: self._pseudo_inverse(known.physics, known.physics.A(v))
            )
            base = square(projected) - noise - slope * sum(inner(u, first) for u in seen)
            return images / size * torch.cat([base, *(slope * inner(u, o) for u, o in zip(seen, others, strict=True))])

        return Posed(y, physics, Measure(loss, 2 * images / size, True))

    @torch.no_grad()
    def _pseudo_inverse(self, physics: LinearPhysics, data: Tensor) -> Tensor:
        """``A^+ data``: conjugate gradients from 0 stay in the range of A^H."""
        rhs = physics.A_adjoint(data)
        zero = torch.zeros_like(rhs)
        return conjugate_gradient(physics.A_adjoint_A, rhs, zero, zero, self.max_iter, self.rtol).x


class _Projected(torch.autograd.Function):
    """An orthogonal projection, its own derivative and adjoint."""

    @staticmethod
    def forward(x: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        return project(x)

    @staticmethod
    def setup_context(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: Tensor) -> None:
        ctx.project = inputs[1]  # pyright: ignore[reportAttributeAccessIssue]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        return _Projected.apply(grads[0], ctx.project), None  # pyright: ignore[reportAttributeAccessIssue]
