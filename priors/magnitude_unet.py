r"""Denoiser of magnitudes: a U-Net that is told the noise level, and whose image is nowhere negative.

.. math:: D(m, \sigma) = \max\big(0,\; h * U(m, \sigma 1)\big), \qquad m = |s| + \sigma n .

A negative value would turn the phase that the magnitude is given back by pi. In training mode the clamp is left out,
so that no voxel is without a gradient: it is the projection onto a convex set that holds every magnitude, and can
only bring an estimate nearer to the truth.
Shape of the network: Oral and Oktem, IEEE Trans. Comput. Imaging 10:762 (2024); theirs ends without the clamp.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .batch_norm import BatchNorm
from .network import Network, noise_map, padded
from .unet import Layers, UNet


class MagnitudeUNet(Network):
    """``(x, sigma) -> x >= 0`` on magnitude images of peak about 1, in evaluation mode.

    :param widths: channels at each resolution, finest first.
    :param channels: channels of an image.
    :param dim: spatial axes, 2 or 3.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128), channels: int = 1, dim: int = 3):
        super().__init__()
        self.widths, self.channels, self.dim = list(widths), channels, dim
        layers = Layers(dim)

        def block(inputs: int, outputs: int) -> nn.Sequential:
            first, second = layers.conv(inputs, outputs, 3, padding=1), layers.conv(outputs, outputs, 3, padding=1)
            return nn.Sequential(first, BatchNorm(outputs), nn.ReLU(), second, BatchNorm(outputs), nn.ReLU())

        def up(inputs: int, outputs: int) -> nn.Module:
            return layers.up(inputs, outputs, 2, stride=2)

        self.unet = UNet(channels + 1, self.widths, block, up, layers.max_pool(2))
        self.head = layers.conv(self.widths[0], channels, 1)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        seen = torch.cat([self.checked(x), noise_map(sigma, x)], 1)
        estimate = self.head(padded(self.unet, seen, self.unet.multiple))
        return estimate if self.training else estimate.clamp_min(0)
