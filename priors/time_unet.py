r"""A small network of noisy images and time, such as the velocity of a flow.

.. math:: v_\theta(x, t) = U_\theta(x, \sin \omega_i t, \cos \omega_i t), \qquad \omega_i = \omega_K^{\,i / K} ,

a U-Net that sees the time as constant images beside x, and what other images are shown to it. Time features: Vaswani et
al. (NeurIPS 2017); as the velocity network of a flow, Lipman et al. (ICLR 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from .network import Network, noise_map, padded
from .unet import Layers, UNet

#: The fastest time feature, in radians from time 0 to 1.
FASTEST = 200.0


class TimeUNet(Network):
    """``(x, t, *images) -> image``; ``t`` from 0 to 1, one number or one per image.

    :param widths: channels at each resolution, finest first; multiples of 4.
    :param features: frequencies of time, each a sine and a cosine.
    :param channels: channels of an image.
    :param dim: spatial axes, 2 or 3.
    :param shown: channels of the other images, those together that are shown beside x.
    """

    #: How many images the last layer gives for one.
    answers: ClassVar[int] = 1

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        features: int = 16,
        channels: int = 1,
        dim: int = 2,
        shown: int = 0,
    ):
        super().__init__()
        if any(width % 4 for width in widths):
            raise ValueError(f"widths: found {list(widths)}, expected multiples of 4")
        self.widths, self.features, self.channels, self.dim, self.shown = list(widths), features, channels, dim, shown
        layers = Layers(dim)

        def stage(inputs: int, outputs: int) -> list[nn.Module]:
            return [layers.conv(inputs, outputs, 3, padding=1), nn.GroupNorm(4, outputs), nn.SiLU()]

        def block(inputs: int, outputs: int) -> nn.Module:
            return nn.Sequential(*stage(inputs, outputs), *stage(outputs, outputs))

        def up(inputs: int, outputs: int) -> nn.Module:
            return layers.up(inputs, outputs, 2, stride=2)

        self.unet = UNet(channels + shown + 2 * features, self.widths, block, up, layers.mean_pool(2))
        self.last = layers.conv(self.widths[0], self.answers * channels, 3, padding=1)
        self.register_buffer("frequencies", FASTEST ** torch.linspace(0, 1, features), persistent=False)

    def forward(self, x: Tensor, t: float | Tensor, *images: Tensor) -> Tensor:
        phase = noise_map(t, self.checked(x)) * self.frequencies.to(x.dtype).reshape(-1, *[1] * self.dim)
        if (found := sum(image.shape[1] for image in images)) != self.shown:
            raise ValueError(f"images: found {found} channels shown beside x, expected {self.shown}")
        seen = torch.cat([x, *images, phase.sin(), phase.cos()], 1)
        return self.last(padded(self.unet, seen, self.unet.multiple))
