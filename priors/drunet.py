r"""DRUNet at a size that a processor can train: residual blocks in a U-Net U without constants, told the noise level,

.. math:: D(x, \sigma) = x + U(x, \sigma 1), \qquad
          D(\alpha x, \alpha \sigma) = \alpha D(x, \sigma) \quad\text{for } \alpha > 0 .

Zhang, Li, Zuo, Zhang, Van Gool and Timofte, IEEE TPAMI 44:6360 (2022). The network is deepinv's; here are its smaller
sizes, images of any size in one piece in 3-D too, and the channels of a gray image. That U gives the noise and not the
image is ours: a small network then need not learn to pass the image through.
"""

from __future__ import annotations

from collections.abc import Sequence

import deepinv.models
import torch
from torch import Tensor

from .network import Network, noise_map, padded


class DRUNet(Network):
    """``(x, sigma) -> x``; not deepinv's class, which it holds.

    :param widths: channels at each of the four resolutions, finest first.
    :param blocks: residual blocks at each.
    :param channels: channels of an image.
    :param dim: spatial axes, 2 or 3.
    """

    def __init__(
        self, widths: Sequence[int] = (16, 32, 64, 128), blocks: int = 2, channels: int = 1, dim: int = 2
    ):  # fmt: skip
        super().__init__()
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"widths: found {list(widths)}, expected 4 numbers above 0, one for each resolution")
        self.widths, self.blocks, self.channels, self.dim = list(widths), blocks, channels, dim
        self.unet = deepinv.models.DRUNet(channels, channels, tuple(widths), blocks, pretrained=None, dim=dim)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        return x + padded(self.unet.forward_unet, torch.cat([self.checked(x), noise_map(sigma, x)], 1), 8)
