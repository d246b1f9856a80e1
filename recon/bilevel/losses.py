r"""What an upper level asks of a reconstruction: nearness to the truth or, where none is known, to the data.

.. math:: \text{MeanSquare: } \tfrac1n \|\hat x - x\|^2, \qquad
          \text{SURE: } \tfrac1m \|A\hat x(y) - y\|^2 - \sigma^2 + \tfrac{2\sigma^2}{m\tau}
          \operatorname{Re}\langle b, A\hat x(y + \tau b) - A\hat x(y)\rangle

has the mean :math:`\tfrac1m \|A\hat x - Ax\|^2` over noise of total variance sigma^2 per sample. A loss first says from
which data images are to be reconstructed, some with a change of the data that is theirs; of each image it is then a
function of that image alone, so that a lower level solved to epsilon bounds it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor
from torch.nn.functional import avg_pool2d, avg_pool3d

from ...operators import Operator, Restricted, squared_norm
from ...operators.operator import of_images
from ..linear import conjugate_gradient
from ..problem import inner, measured, norms, per_image

#: Added to the seeds of probes.
DISPLACEMENT = 7_778_742_049


class Known(NamedTuple):
    """What is known of a batch of images.

    :param y: data ``(B, *data_shape)``.
    :param noise_std: total standard deviation of one sample, if known.
    :param truth: images ``(B, C, *spatial)``, if known.
    """

    y: Tensor
    physics: LinearPhysics
    noise_std: float | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class Measure:
    """g of each image; a :class:`~resolvent.recon.bilevel.upper_level.Loss`.

    :param of: images to numbers ``(B,)``, differentiable.
    :param smoothness: the Lipschitz constant of g's gradient.
    :param floor: what g is expected to be of the true image.
    """

    of: Callable[[Tensor], Tensor]
    smoothness: float
    convex: bool
    floor: float = -math.inf

    def __call__(self, x: Tensor) -> Tensor:
        return self.of(x)


class Posed(NamedTuple):
    """The data of the images to reconstruct, maybe more than B of them, and the measure of those images.

    :param partial: whether the operator measures less than the known one, whose eigenvalues are then not its.
    """

    y: Tensor
    physics: LinearPhysics
    measure: Measure
    partial: bool = False


class UpperLoss(ABC):
    """An upper loss: its mean over the images that it asks for is what is minimised.

    :raises ValueError: by :meth:`pose`, if what the loss needs is not known.
    """

    @abstractmethod
    def pose(self, known: Known) -> Posed:
        """The reconstructions it asks for, and what it makes of them."""


class MeanSquare(UpperLoss):
    """Mean square distance to the truth over all entries of the image, phases included."""

    def pose(self, known: Known) -> Posed:
        truth = _truth(self, known)
        size = truth[0].numel()
        return Posed(known.y, known.physics, Measure(lambda x: _square(x - truth) / size, 2 / size, True))


class StructuralDissimilarity(UpperLoss):
    """One minus the structural similarity to the truth, as :func:`resolvent.recon.ssim` measures it.

    Not convex; its smoothness is that at the truth, where flat parts of it make it large, and no proven bound.

    :param data_range: the peak; that of each image's truth if None.
    """

    def __init__(self, data_range: float | None = None):
        self.data_range = data_range

    def pose(self, known: Known) -> Posed:
        truth = _magnitude(_truth(self, known))
        peak = truth.flatten(1).amax(1) if self.data_range is None else truth.new_full((len(truth),), self.data_range)
        if min(truth.shape[2:]) < 3:
            raise ValueError(f"truth: found images of {tuple(truth.shape[2:])}, expected no axis shorter than 3")

        def loss(x: Tensor) -> Tensor:
            return 1 - structural_similarity(_magnitude(x), truth, peak)

        return Posed(known.y, known.physics, Measure(loss, _curvature(loss, truth), False))


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
        sigma, samples, images = _noise(self, self.noise_std, known), _samples(known), 1 + self.probes
        directions, step = self._directions(known), 2 * sigma / samples**0.3
        y, physics = self._changed(known, directions, step)

        def loss(x: Tensor) -> Tensor:
            first, *others = physics.A(x).reshape(images, *known.y.shape)
            slope = 2 * sigma**2 / (self.probes * step)
            base = _square(first - known.y) - sigma**2 * samples - slope * sum(inner(b, first) for b in directions)
            each = [base, *(slope * inner(b, d) for b, d in zip(directions, others, strict=True))]
            return torch.cat([images / samples * part for part in each])

        norm = squared_norm(known.physics, known.physics.A_adjoint(known.y))
        return Posed(y, physics, Measure(loss, 2 * images / float(samples.min()) * norm, True))

    def _directions(self, known: Known) -> list[Tensor]:
        taken = _measured(known)
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
        sigma, directions = _noise(self, self.noise_std, known), self._directions(known)
        fitted, *seen = (self._pseudo_inverse(known.physics, data) for data in (known.y, *directions))
        step, images, size = 2 * sigma / _samples(known) ** 0.3, 1 + self.probes, fitted[0].numel()
        y, physics = self._changed(known, directions, step)
        slope, noise = 2 * sigma**2 / (self.probes * step), sigma**2 * sum(_square(u) for u in seen) / self.probes

        def loss(x: Tensor) -> Tensor:
            first, *others = x.reshape(images, *fitted.shape)
            projected = _Projected.apply(
                first - fitted, lambda v: self._pseudo_inverse(known.physics, known.physics.A(v))
            )
            base = _square(projected) - noise - slope * sum(inner(u, first) for u in seen)
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


class DiscrepancyPrinciple(UpperLoss):
    r"""Morozov's principle, :math:`(\|A \hat x - y\|^2 / (m \sigma^2) - 1)^2`: the data are met within the noise.

    Not convex; its smoothness is that where it is met. One number can be found by it, more cannot. Of the true image it
    is the variance of the noise's energy, :math:`1/m`, or :math:`2/m` of real data.

    :param noise_std: sigma; what the data's file states if None.
    """

    def __init__(self, noise_std: float | None = None):
        self.noise_std = noise_std

    def pose(self, known: Known) -> Posed:
        samples = _samples(known)
        energy = samples * _noise(self, self.noise_std, known) ** 2

        def loss(x: Tensor) -> Tensor:
            return (_square(known.physics.A(x) - known.y) / energy - 1).square()

        bend = 8 * squared_norm(known.physics, known.physics.A_adjoint(known.y)) / float(energy.min())
        floor = (1 if known.y.is_complex() else 2) * float((1 / samples).mean())
        return Posed(known.y, known.physics, Measure(loss, bend, False, floor))


class HeldOut(UpperLoss):
    r"""Data kept back, predicted from the others: the mean of :math:`|A \hat x - y|^2` over them.

    Its mean is the prediction error plus sigma^2, whatever sigma is.

    :param fraction: of the data kept back.
    :param axes: axes of the data ``(B, *data_shape)`` that count what is kept back as a whole: lines of k-space along
        the last, or antenna pairs along the last two.
    """

    def __init__(self, fraction: float = 0.2, axes: Sequence[int] = (-1,), seed: int = 0):
        if not 0 < fraction < 1:
            raise ValueError(f"fraction: found {fraction}, expected a number between 0 and 1")
        self.fraction, self.axes, self.seed = fraction, tuple(axes), seed

    def pose(self, known: Known) -> Posed:
        if not isinstance(known.physics, Operator):
            raise ValueError(f"physics: found {type(known.physics).__name__}, expected an operator of resolvent's")
        taken = _measured(known)
        back = torch.stack([self.kept_back(own) for own in taken]) * taken
        rest, held = (Restricted(known.physics, part.squeeze(0)) for part in (taken - back, back))
        count, target = back.expand(known.y.shape).flatten(1).sum(1), back * known.y

        def loss(x: Tensor) -> Tensor:
            return _square(held.A(x) - target) / count

        bend = 2 * squared_norm(held, known.physics.A_adjoint(known.y)) / float(count.min())
        return Posed((taken - back) * known.y, rest, Measure(loss, bend, True), partial=True)

    def kept_back(self, taken: Tensor) -> Tensor:
        """1 for what is kept back of an image's data ``taken``, alike along the other axes."""
        if not all(-taken.ndim <= axis <= taken.ndim and axis for axis in self.axes):
            found, last = list(self.axes), taken.ndim
            raise ValueError(f"axes: found {found}, expected 1 to {last}, or -{last} to -1 from the end, of the data")
        axes = {axis % (taken.ndim + 1) - 1 for axis in self.axes}
        others = [axis for axis in range(taken.ndim) if axis not in axes]
        units = taken.amax(others, keepdim=True) if others else taken
        candidates = units.flatten().nonzero()[:, 0]
        count = round(self.fraction * len(candidates))
        if not 0 < count < len(candidates):
            raise ValueError(f"fraction: found {self.fraction} of {len(candidates)} units, expected some and not all")
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(self.seed))
        back = torch.zeros_like(units).flatten()
        back[candidates[order[:count].to(candidates.device)]] = 1
        return back.reshape(units.shape)


def structural_similarity(x: Tensor, truth: Tensor, peak: Tensor) -> Tensor:
    """Of real images per image, windows of 7 pixels at most, those across the border left out; ``(B,)``.

    :param peak: data range per image, ``(B,)``.
    """
    smallest = min(x.shape[2:])
    window = min(7, smallest - 1 + smallest % 2)
    pool = cast(Callable[..., Tensor], avg_pool2d if x.ndim == 4 else avg_pool3d)

    def mean(z: Tensor) -> Tensor:
        return pool(z, window, stride=1)

    c1, c2 = ((k * peak.reshape(-1, *[1] * (x.ndim - 1))) ** 2 for k in (0.01, 0.03))
    mx, mt, many = mean(x), mean(truth), window ** (x.ndim - 2)
    vx, vt, vxt = ((mean(a * b) - ma * mb) * many / (many - 1) for a, b, ma, mb in
                   ((x, x, mx, mx), (truth, truth, mt, mt), (x, truth, mx, mt)))  # fmt: skip
    likeness = (2 * mx * mt + c1) * (2 * vxt + c2) / ((mx.square() + mt.square() + c1) * (vx + vt + c2))
    return likeness.flatten(1).mean(1)


def probes(y: Tensor, count: int, seed: int) -> list[Tensor]:
    """Random directions like ``y`` of unit variance per sample, always the same of one seed, on any device.

    The seed is displaced: simulated noise of the same seed would be the same numbers, and a direction like the noise
    is no sample of all directions.
    """
    generator = torch.Generator().manual_seed(DISPLACEMENT + seed)
    return [torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) for _ in range(count)]


def _measured(known: Known) -> Tensor:
    """1 for what is measured, ``(1, *data_shape)`` if it is the same of all images, else ``(B, *data_shape)``."""
    taken = measured(known.physics, known.physics.A_adjoint(known.y))
    return taken[:1] if bool((taken == taken[:1]).all()) else taken


def _samples(known: Known) -> Tensor:
    """How many data are measured, per image ``(B,)``.

    :raises ValueError: if there are none of an image.
    """
    samples = _measured(known).flatten(1).sum(1).expand(len(known.y))
    if not bool((samples > 0).all()):
        raise ValueError("data: found an image of which nothing is measured, expected some of each")
    return samples


def _truth(loss: UpperLoss, known: Known) -> Tensor:
    if known.truth is None:
        raise ValueError(
            f"{type(loss).__name__}: found no truth, expected it in the file, or a loss that needs none: "
            "SURE, ProjectedSURE, DiscrepancyPrinciple or HeldOut"
        )
    return known.truth


def _noise(loss: UpperLoss, own: float | None, known: Known) -> float:
    sigma = known.noise_std if own is None else own
    if sigma is None or not sigma > 0:
        raise ValueError(
            f"{type(loss).__name__}: found noise_std {sigma}, expected a number above 0, or the loss HeldOut"
        )
    return sigma


def _square(x: Tensor) -> Tensor:
    """Squared norm per image, ``(B,)``."""
    return inner(x, x)


def _magnitude(x: Tensor) -> Tensor:
    return x.abs() if x.is_complex() else x


def _curvature(loss: Callable[[Tensor], Tensor], at: Tensor, iterations: int = 20) -> float:
    """The largest of the curvatures of ``loss`` at images ``at``, by the power method."""
    v, size = probes(at, 1, 0)[0], torch.zeros(())
    point = at.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(point).sum(), point, create_graph=True)
    for _ in range(iterations):
        (v,) = torch.autograd.grad(slope, point, v / norms(v).max(), retain_graph=True)
        size = norms(v).max()
    return float(size)
