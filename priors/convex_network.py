r"""Input-convex networks: potentials :math:`\psi` whose gradient is a proximal operator.

.. math:: z_1 = s(H_1 x), \qquad z_{k+1} = s(W_k z_k + H_k x + b_k), \qquad \psi(x) = w^T z_K + h^T x,
          \qquad W_k, w \ge 0,

with s the softplus of sharpness beta: convex, increasing and smooth, so that :math:`\psi` is convex and smooth.
Amos, Xu and Kolter (ICML 2017); as learned proximal networks, Fang, Buchanan and Sulam (ICLR 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, softplus

from .network import Described

#: Mean and standard deviation of the logarithm of the initial weights of a convolutional chain.
LOG_WEIGHT = (-10.0, 0.1)


class ConvexPotential(Described):
    """A convex function of images ``(B, C, *spatial)``, one number for each, shape ``(B,)``.

    Convex as long as the :meth:`constrained` weights are not below 0: :meth:`project_` after every training step.
    """

    #: Channels of an image.
    channels: int

    def constrained(self) -> Iterator[Any]:
        """The weights that must not be below 0; none, unless overridden."""
        return iter(())

    @torch.no_grad()
    def project_(self) -> None:
        """Set what is below 0 of the constrained weights to 0."""
        for weight in self.constrained():
            weight.clamp_(min=0)


class PixelPotential(ConvexPotential):
    r"""One potential for every pixel, :math:`\psi(x) = \sum_p \psi_1(x_p)`, a pixel being a vector of channels.

    On images without spatial axes, ``(B, C)``, a potential of vectors.

    :param channels: length of the vector.
    :param hidden: width of the chain.
    :param layers: number of activations, K.
    :param beta: sharpness of the softplus.
    """

    def __init__(self, channels: int = 1, hidden: int = 50, layers: int = 4, beta: float = 10.0):
        super().__init__()
        self.channels, self.hidden, self.layers, self.beta = channels, hidden, layers, beta
        self.first = nn.Linear(channels, hidden, bias=False)
        self.chain = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(layers - 1))
        self.skips = nn.ModuleList(nn.Linear(channels, hidden) for _ in range(layers - 1))
        self.last = nn.Linear(hidden, 1, bias=False)
        self.last_skip = nn.Linear(channels, 1, bias=False)
        self.project_()

    def constrained(self) -> Iterator[Any]:
        yield from (layer.weight for layer in (*self.chain, self.last))

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.movedim(1, -1)
        z = softplus(self.first(pixels), self.beta)
        for chain, skip in zip(self.chain, self.skips, strict=True):
            z = softplus(chain(z) + skip(pixels), self.beta)
        return (self.last(z) + self.last_skip(pixels)).flatten(1).sum(1)


class ConvolutionalPotential(ConvexPotential):
    """A potential of images of any size: strided convolutions, then the sum over all places.

    Every layer also sees the image, bilinearly reduced to the layer's size.

    :param channels: of the image.
    :param hidden: width of the chain.
    :param strides: of the 3 x 3 convolutions.
    :param beta: sharpness of the softplus.
    """

    def __init__(
        self, channels: int = 1, hidden: int = 64, strides: Sequence[int] = (1, 2, 1, 2), beta: float = 100.0
    ):  # fmt: skip
        super().__init__()
        self.channels, self.hidden, self.strides, self.beta = channels, hidden, list(strides), beta
        kernels = [(3, stride, 1) for stride in strides[1:]] + self.ending()
        self.first = nn.Conv2d(channels, hidden, 3, strides[0], 1, bias=False)
        self.chain = nn.ModuleList(nn.Conv2d(hidden, hidden, *k, bias=False) for k in kernels)
        self.skips = nn.ModuleList(nn.Conv2d(channels, hidden, *k) for k in kernels)
        self.last = nn.Linear(hidden, 1, bias=False)
        for weight in self.constrained():
            nn.init.normal_(weight, *LOG_WEIGHT)
            weight.data.exp_()

    def ending(self) -> list[tuple[int, int, int]]:
        """Kernel, stride and padding of the convolutions after the strided ones."""
        return []

    def constrained(self) -> Iterator[Any]:
        yield from (layer.weight for layer in (*self.chain, self.last))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != self.channels or x.is_complex():
            found = f"{str(x.dtype).removeprefix('torch.')} of shape {tuple(x.shape)}"
            raise ValueError(f"image: found {found}, expected real (B, {self.channels}, n, n)")
        z = softplus(self.first(x), self.beta)
        for chain, skip in zip(self.chain, self.skips, strict=True):
            reduced = x if z.shape[2:] == x.shape[2:] else interpolate(x, z.shape[2:], mode="bilinear")
            z = softplus(chain(z) + skip(reduced), self.beta)
        return self.last(z.flatten(2).sum(2)).squeeze(1)


class ImagePotential(ConvolutionalPotential):
    """A potential of square images of one size: the convolutions end with one kernel over all that is left.

    :param channels: of the image.
    :param size: pixels along either side, a multiple of the product of ``strides``.
    :param hidden: width of the chain.
    :param strides: of the 3 x 3 convolutions; (1, 2, 1, 2) for 28 pixels, (1, 2, 1, 2, 1, 2) for 128.
    :param beta: sharpness of the softplus.
    """

    def __init__(
        self,
        channels: int = 1,
        size: int = 28,
        hidden: int = 64,
        strides: Sequence[int] = (1, 2, 1, 2),
        beta: float = 10.0,
    ):
        reduction = math.prod(strides)
        if size % reduction:
            raise ValueError(f"size: found {size}, expected a multiple of {reduction}, the product of the strides")
        self.size, self.reduction = size, reduction
        super().__init__(channels, hidden, strides, beta)

    def ending(self) -> list[tuple[int, int, int]]:
        return [(self.size // self.reduction, 1, 0)]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(f"image: found {tuple(x.shape[2:])} pixels, expected {self.size} x {self.size}")
        return super().forward(x)


class PatchCovering(ConvexPotential):
    r"""A potential of patches, on images of any size: :math:`\psi(x) = \frac{1}{k^2} \sum_p \psi_1(P_p x)`.

    Zeros around the image let every pixel lie in exactly :math:`k^2` patches, k the patch size over the stride.
    The gradient is then the average of the patches' gradients, at the border, too: one exact proximal operator.

    :param potential: of square patches.
    :param size: pixels along either side of a patch.
    :param stride: between patches; divides ``size``.
    """

    def __init__(self, potential: ConvexPotential, size: int, stride: int):
        super().__init__()
        if stride < 1 or size % stride:
            raise ValueError(f"stride: found {stride}, expected a divisor of the patch size {size}")
        self.potential, self.size, self.stride = potential, size, stride
        self.channels = potential.channels

    def constrained(self) -> Iterator[Any]:
        yield from self.potential.constrained()

    def _margins(self, length: int) -> tuple[int, int]:
        """Zeros before and after one axis."""
        before = self.size - self.stride
        return before, (before + length - 1) // self.stride * self.stride + self.size - before - length

    def patches(self, x: Tensor) -> Tensor:
        """All patches ``(B, P, C, size, size)`` of images ``(B, C, H, W)``."""
        padded = pad(x, (*self._margins(x.shape[3]), *self._margins(x.shape[2])))
        tiles = padded.unfold(2, self.size, self.stride).unfold(3, self.size, self.stride)
        return tiles.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x)
        values = self.potential(patches.flatten(0, 1)).reshape(len(x), -1)
        return values.sum(1) * (self.stride / self.size) ** 2
