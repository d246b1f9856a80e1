r"""Blind denoiser without any additive constant: a U-Net F that estimates the noise,

.. math:: D(y) = y - F(y), \qquad D(\alpha y) = \alpha D(y) \text{ for } \alpha > 0, \qquad D(y) = J(y)\, y .

It is told no noise level, and works at those it was not trained for. Mohan et al., "Robust and interpretable blind
image denoising via bias-free convolutional neural networks" (2020); shape of the network: Kadkhodaie, Guth,
Simoncelli and Mallat, "Generalization in diffusion models arises from geometry-adaptive harmonic
representations" (2024).
"""

from __future__ import annotations

from torch import Tensor, nn

from .batch_norm import BiasFreeBatchNorm
from .network import Network, padded
from .unet import Layers, UNet


class BiasFreeUNet(Network):
    """``(x, sigma) -> x``, ``sigma`` ignored; homogeneous of degree one in evaluation mode.

    :param width: channels at full resolution; twice as many at each halving.
    :param halvings: how often the resolution is halved.
    :param channels: channels of an image.
    :param dim: spatial axes, 2 or 3.
    """

    def __init__(self, width: int = 64, halvings: int = 3, channels: int = 1, dim: int = 2):
        super().__init__()
        self.width, self.halvings, self.channels, self.dim = width, halvings, channels, dim
        layers = Layers(dim)

        def conv(inputs: int, outputs: int) -> nn.Module:
            return layers.conv(inputs, outputs, 3, padding=1, bias=False)

        def normed(inputs: int, outputs: int) -> list[nn.Module]:
            return [conv(inputs, outputs), BiasFreeBatchNorm(outputs), nn.ReLU()]

        def block(inputs: int, outputs: int) -> nn.Sequential:
            return nn.Sequential(*normed(inputs, outputs), *normed(outputs, outputs))

        def up(inputs: int, outputs: int) -> nn.Module:
            return layers.up(inputs, outputs, 2, stride=2, bias=False)

        widths = [width * 2**level for level in range(halvings + 1)]
        self.unet = UNet(channels, widths, block, up, layers.mean_pool(2))
        self.unet.encoders[0] = nn.Sequential(conv(channels, width), nn.ReLU(), *normed(width, width))
        self.unet.decoders[-1] = nn.Sequential(*normed(2 * width, width), conv(width, channels))

    def forward(self, x: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        return x - padded(self.unet, self.checked(x), self.unet.multiple)
