r"""Raw images on their way from a short exposure to a long one, and how networks learn to restore them there.

.. math:: y_\lambda \sim g\, \mathrm{Poisson}\Big(\frac{\lambda x}{g}\Big) + \mathcal{N}(0, \sigma^2), \qquad
          y_{\lambda'} = y_\lambda + g\, \mathrm{Poisson}\Big(\frac{(\lambda' - \lambda)\, x}{g}\Big)
          \quad\text{for } \lambda' > \lambda ,

exactly, since Poisson numbers add up and the frame is read out once. With an estimate in place of x the second formula
simulates the longer exposure from the shorter one: Wang, Yu, Yang, Cao, Kot and Wen (ICCV 2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from .corruption import Corruption
from .diffusion import spread
from .losses import Batch, TrainingLoss
from .network import Network
from .prior import Prior
from .time_unet import TimeUNet
from .weights_file import load_denoiser


class ExposurePrior(Prior):
    """What a denoiser of raw images knows of the brightness at exposure 1.

    :param denoiser: called as ``denoiser(y / exposure, exposure)``, the exposure from above 0 to 1, one number or one
        per image ``(B,)``; or the file or name of trained weights.
    """

    def __init__(self, denoiser: nn.Module | Callable[[Tensor, Tensor], Tensor] | str):
        super().__init__()
        self.denoiser = load_denoiser(denoiser, ProgressiveExposure.gives) if isinstance(denoiser, str) else denoiser

    def estimate(self, y: Tensor, exposure: float) -> Tensor:
        """The brightness, from raw images ``(B, C, *spatial)`` at an exposure."""
        share = y.new_tensor(exposure)
        return self.denoiser(y / share, share)


class BalancedUNet(TimeUNet):
    r"""A denoiser that weighs its two ways pixel by pixel, :math:`D(x, \lambda) = f + m\, x`, m from 0 to 1.

    At m = 0 it gives the image, at 1 what to add to the noisy one. Of Gaussian or Gamma pixels the mean is of this
    form, m the share of Wiener's filter: near 0 in short exposures, near 1 in long ones. The time that the network is
    told is the exposure. Arguments as :class:`TimeUNet`.
    """

    answers = 2

    def forward(self, x: Tensor, t: float | Tensor, *images: Tensor) -> Tensor:
        image, balance = super().forward(x, t, *images).chunk(2, 1)
        return image + balance.sigmoid() * x


class ShortExposure(Corruption):
    r"""Shot and read noise at a random exposure, amplified: :math:`y_\lambda / \lambda`; its strength is lambda.

    :param gain: g, of one photon in units of the image at exposure 1.
    :param read_noise: sigma, likewise.
    :param shortest: lambda is drawn from here to 1, its logarithm uniformly.
    """

    strength = "an exposure"

    def __init__(self, gain: float = 2e-4, read_noise: float = 2e-4, shortest: float = 0.003):
        if not 0 < gain < math.inf or not 0 <= read_noise < math.inf or not 0 < shortest <= 1:
            found = f"{gain}, {read_noise}, {shortest}"
            expected = "above 0, not below 0, above 0 and at most 1"
            raise ValueError(f"gain, read_noise, shortest: found {found}, expected {expected}")
        self.gain, self.read_noise, self.shortest = gain, read_noise, shortest

    def __call__(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        exposure = self.shortest ** torch.rand((), generator=generator)
        read = self.read_noise * torch.randn(clean.shape, generator=generator)
        return longer_exposure(read, clean, exposure, self.gain, generator) / exposure, exposure


class ProgressiveExposure(TrainingLoss):
    """Mean square error at every step of the process, its longer exposures simulated from the network's estimates.

    For batches of :class:`ShortExposure` of the same gain.

    :param gain: g.
    :param steps: of the process, 1 for a plain denoiser.
    """

    gives = "images of longer exposure"
    hears = ShortExposure.strength

    def __init__(self, gain: float = 2e-4, steps: int = 2):
        if not 0 < gain < math.inf or steps < 1:
            raise ValueError(f"gain, steps: found {gain}, {steps}, expected a number above 0, at least 1")
        self.gain, self.steps = gain, steps

    def check(self, noise: Corruption) -> None:
        super().check(noise)
        gain = getattr(noise, "gain", None)
        if gain != self.gain:
            found = f"{type(noise).__name__} of gain {gain}"
            raise ValueError(f"found ProgressiveExposure for {found}, expected gain {self.gain:g}")

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        here, errors = batch.sigma, []
        y = spread(here, batch.noisy) * batch.noisy
        for k in range(self.steps):
            estimate = network(y / spread(here, y), here)
            errors.append((estimate - batch.clean).square().mean())
            there = batch.sigma ** (1 - (k + 1) / self.steps)
            y = longer_exposure(y, estimate.detach(), spread(there - here, y), self.gain)
            here = there
        return torch.stack(errors).mean()


def longer_exposure(
    y: Tensor, image: Tensor, more: float | Tensor, gain: float, generator: Generator | None = None
) -> Tensor:
    """Raw images after ``more`` exposure of the brightness ``image``, of which what is below 0 is dark."""
    photons = (more * image / gain).clamp_min(0)
    device = photons.device if generator is None else generator.device
    return y + gain * torch.poisson(photons.to(device), generator).to(y)
