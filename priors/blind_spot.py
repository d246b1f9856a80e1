r"""C-BSN: one network, blind to a pixel or not, trained on noisy images whose noise is correlated.

.. math:: \ell = |b(P_5 y) - y|_1 + s\,\big( |d(y) - y|_1 + 2\,|R_2\, d(y) - b(R_2\, y)|_1 \big),

with b the blind network, d the same one with the middle of its masked convolutions switched on, :math:`P_5` its
application to each of 25 interleaved images, in which correlated noise is nearly independent, :math:`R_2` one random
pixel of every 2 x 2, and s rising from 0 to 1. Mean absolute errors; nothing is learned through the last term's
target. Jang, Lee, Park, Kim and Lee, "Self-supervised image denoising with downsampled invariance loss and conditional
blind-spot network" (ICCV 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_shuffle, pixel_unshuffle, relu

from .losses import Batch, TrainingLoss
from .network import Network

#: Pixels in steps of which sides are multiples: those of the interleaved and of the subsampled images.
CELLS = 10
#: Sides of the masked convolutions and the dilations behind them: no sum of steps leads back to the pixel.
BRANCHES = ((3, 2), (5, 3))
#: Pixels reflected around an image to be denoised.
MARGIN = 32
#: Share of a training in which s rises.
RISE = 0.4


class ConditionalConv(nn.Conv2d):
    """A convolution that leaves out its middle where it is to be blind."""

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        return conv2d(x, self.weight * self.ring if blind else self.weight, self.bias, padding=self.padding)

    @property
    def ring(self) -> Tensor:
        """1 but for the middle, which is 0."""
        mask = torch.ones_like(self.weight)
        mask[..., self.kernel_size[0] // 2, self.kernel_size[1] // 2] = 0
        return mask


class DilatedModule(nn.Module):
    """``x + ReLU(1x1(ReLU(dilated 3x3(x))))``."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.wide = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + relu(self.mix(relu(self.wide(x))))


class Branch(nn.Module):
    """A masked convolution and dilated modules that keep clear of what it left out."""

    def __init__(self, width: int, side: int, dilation: int, modules: int):
        super().__init__()
        self.masked = ConditionalConv(width, width, side, padding=side // 2)
        self.before = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())
        self.dilated = nn.Sequential(*(DilatedModule(width, dilation) for _ in range(modules)))
        self.after = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, blind: bool) -> Tensor:
        return relu(self.after(self.dilated(self.before(relu(self.masked(x, blind))))))


class BlindSpotNetwork(Network):
    """The conditional blind-spot network on real images ``(B, C, H, W)``.

    In any ``denoiser(x, sigma)``'s place it is not blind, and the level is the one it was trained on.

    :param channels: of the image.
    :param width: of the layers, a multiple of 2.
    :param depth: dilated modules in each branch.
    """

    dim = 2
    one_level = True

    def __init__(self, channels: int = 1, width: int = 128, depth: int = 9):
        super().__init__()
        self.channels, self.width, self.depth = channels, width, depth
        self.first = nn.Conv2d(channels, width, 1)
        self.branches = nn.ModuleList(Branch(width, side, dilation, depth) for side, dilation in BRANCHES)
        self.head = nn.Sequential(
            nn.Conv2d(2 * width, width, 1), nn.ReLU(), nn.Conv2d(width, width // 2, 1), nn.ReLU(),
            nn.Conv2d(width // 2, width // 2, 1), nn.ReLU(), nn.Conv2d(width // 2, channels, 1),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def estimate(self, x: Tensor, blind: bool) -> Tensor:
        """An image in the normalised domain, from all pixels or, blind, from all but the pixel itself."""
        z = relu(self.first(x))
        return self.head(torch.cat([branch(z, blind) for branch in self.branches], 1))

    def forward(self, x: Tensor, *_: object) -> Tensor:
        margin = min(MARGIN, *(n - 1 for n in self.checked(x).shape[2:]))
        normal, mean, scale = normalised(x)
        wide = self.estimate(pad(normal, (margin,) * 4, mode="reflect"), blind=False)
        return scale * wide[..., margin : margin + x.shape[2], margin : margin + x.shape[3]] + mean


def normalised(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each image and channel less its mean, over its deviation (floored at one over the image's side); and both."""
    mean = y.mean((2, 3), keepdim=True)
    floor = (y.shape[2] * y.shape[3]) ** -0.5
    scale = y.std((2, 3), keepdim=True, correction=0).clamp_min(floor)
    return (y - mean) / scale, mean, scale


def interleaved(network: BlindSpotNetwork, y: Tensor, stride: int = 5) -> Tensor:
    """The blind network on each of ``stride^2`` interleaved images; the sides are multiples of the stride."""
    apart = pixel_unshuffle(y, stride)
    images = apart.unflatten(1, (y.shape[1], stride**2)).transpose(1, 2).flatten(0, 1)
    found = network.estimate(images, blind=True).unflatten(0, (len(y), stride**2))
    return pixel_shuffle(found.transpose(1, 2).flatten(1, 2), stride)


def random_cells(y: Tensor) -> Tensor:
    """Which of the pixels of every 2 x 2 to take, ``(B, 1, H/2, W/2)``, each as likely."""
    return torch.randint(0, 4, (len(y), 1, y.shape[2] // 2, y.shape[3] // 2), device=y.device)


def subsampled(y: Tensor, cells: Tensor) -> Tensor:
    """The chosen pixel of every 2 x 2."""
    quarters = pixel_unshuffle(y, 2).unflatten(1, (y.shape[1], 4))
    index = cells[:, :, None].expand(-1, y.shape[1], 1, -1, -1)
    return quarters.gather(2, index).squeeze(2)


def blind_spot_loss(network: BlindSpotNetwork, y: Tensor, share: float) -> Tensor:
    """The loss of noisy images ``(B, C, H, W)``, the sides multiples of 10; a number.

    :param share: s, from 0 at the start of training to 1.
    """
    y, _, _ = normalised(y)
    loss = (interleaved(network, y) - y).abs().mean()
    if not share:
        return loss
    seeing, cells = network.estimate(y, blind=False), random_cells(y)
    with torch.no_grad():
        target = network.estimate(subsampled(y, cells), blind=True)
    invariance = (subsampled(seeing, cells) - target).abs().mean()
    return loss + share * ((seeing - y).abs().mean() + 2 * invariance)


class BlindSpot(TrainingLoss):
    """:func:`blind_spot_loss` of a :class:`BlindSpotNetwork`, s rising over the first part of the training."""

    needs_clean = False

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        if not isinstance(network, BlindSpotNetwork):
            raise ValueError(f"loss: found BlindSpot for a {type(network).__name__}, expected a BlindSpotNetwork")
        if any(n % CELLS for n in batch.noisy.shape[2:]):
            sides = " x ".join(map(str, batch.noisy.shape[2:]))
            raise ValueError(f"images: found {sides} pixels, expected sides that are multiples of {CELLS}: --data.size")
        return blind_spot_loss(network, batch.noisy, min(batch.progress / RISE, 1.0))
