r"""The U of a U-Net: blocks at resolutions 1, 1/2, 1/4 … going down, and again going up with what was seen before.

.. math:: e_l = E_l(\mathrm{pool}(e_{l-1})), \qquad d_l = D_l(e_l,\, \mathrm{up}(d_{l+1})), \qquad d_L = e_L .

Ronneberger, Fischer and Brox (2015). What a block is, the networks say.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Block = Callable[[int, int], nn.Module]


class UNet(nn.Module):
    """The network ``(B, inputs, *spatial) -> (B, widths[0], *spatial)``; sizes are multiples of :attr:`multiple`.

    :param inputs: channels that come in.
    :param widths: channels at each resolution, finest first.
    :param block: makes the block from so many channels to so many.
    :param up: makes the layer that doubles the resolution, likewise.
    :param pool: halves the resolution.
    """

    def __init__(self, inputs: int, widths: Sequence[int], block: Block, up: Block, pool: nn.Module):
        super().__init__()
        if not min(widths, default=0) >= 1:
            raise ValueError(f"widths: found {list(widths)}, expected numbers above 0, one for each resolution")
        steps = list(itertools.pairwise(widths))
        self.encoders = nn.ModuleList(block(a, b) for a, b in [(inputs, widths[0]), *steps])
        self.ups = nn.ModuleList(up(b, a) for a, b in reversed(steps))
        self.decoders = nn.ModuleList(block(2 * a, a) for a, _ in reversed(steps))
        self.pool = pool

    @property
    def multiple(self) -> int:
        """What every side of an image must be a multiple of."""
        return 2 ** len(self.ups)

    def forward(self, x: Tensor) -> Tensor:
        seen = []
        for encode in self.encoders[:-1]:
            seen.append(encode(x))
            x = self.pool(seen[-1])
        x = self.encoders[-1](x)
        for up, decode in zip(self.ups, self.decoders, strict=True):
            x = decode(torch.cat([seen.pop(), up(x)], 1))
        return x


class Layers:
    """torch's layers for 2 or 3 spatial axes.

    :raises ValueError: for another number.
    """

    def __init__(self, dim: int):
        if dim not in (2, 3):
            raise ValueError(f"dim: found {dim}, expected 2 or 3")
        self.conv: type[nn.Module] = (nn.Conv2d, nn.Conv3d)[dim - 2]
        self.up: type[nn.Module] = (nn.ConvTranspose2d, nn.ConvTranspose3d)[dim - 2]
        self.max_pool: type[nn.Module] = (nn.MaxPool2d, nn.MaxPool3d)[dim - 2]
        self.mean_pool: type[nn.Module] = (nn.AvgPool2d, nn.AvgPool3d)[dim - 2]
