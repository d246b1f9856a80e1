r"""How clean images become the noisy ones that a denoiser learns from.

.. math:: y = x + \sigma n, \quad n \sim \mathcal{N}(0, I), \qquad
          \sigma = \big(a^{1/p} + u\,(b^{1/p} - a^{1/p})\big)^p, \quad u \sim \mathcal{U}(0, 1) .
"""

from __future__ import annotations

import abc
from typing import ClassVar

import torch
from torch import Generator, Tensor

from .schedule import FlowMatching, Schedule


class Corruption(abc.ABC):
    """A model of noise of random strength."""

    #: Whether the images were clean before.
    from_clean: ClassVar[bool] = True
    #: What the number is that it gives with each image, as losses ask for it.
    strength: ClassVar[str] = "a noise level"

    @abc.abstractmethod
    def __call__(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """One noisy image and its strength, a number; all that is random comes from ``generator``."""


class Gaussian(Corruption):
    """Independent Gaussian noise, its level drawn anew for each image.

    :param low: lowest standard deviation a, in units of the image.
    :param high: highest standard deviation b.
    :param power: p; 1 draws levels uniformly, 2 draws low ones more often.
    """

    def __init__(self, low: float = 0.0, high: float = 0.2, power: float = 1.0):
        if not 0 <= low <= high < float("inf") or not power > 0:
            raise ValueError(f"low, high, power: found {low}, {high}, {power}, expected 0 <= low <= high, power > 0")
        self.low, self.high, self.power = low, high, power

    def __call__(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        a, b = self.low ** (1 / self.power), self.high ** (1 / self.power)
        sigma = (a + (b - a) * torch.rand((), generator=generator)) ** self.power
        return clean + sigma * torch.randn(clean.shape, generator=generator), sigma


class OnPath(Corruption):
    r"""The image on its way to noise, :math:`y = a(t)\, x + s(t)\, n`, at a time drawn uniformly; its strength is t.

    :param schedule: the path; :class:`~resolvent.priors.FlowMatching` if None.
    :param low: lowest time.
    :param high: highest.
    """

    strength = "a time"

    def __init__(self, schedule: Schedule | None = None, low: float = 1e-3, high: float = 1.0):
        if not 0 < low < high <= 1:
            raise ValueError(f"low, high: found {low}, {high}, expected 0 < low < high <= 1")
        self.schedule, self.low, self.high = schedule or FlowMatching(), low, high

    def __call__(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        t = self.low + (self.high - self.low) * torch.rand((), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        return self.schedule.signal(t) * clean + self.schedule.noise(t) * noise, t


class AsMeasured(Corruption):
    """Nothing is added: the images are noisy already, and there are no clean ones.

    :param sigma: the noise's standard deviation, in units of the image.
    """

    from_clean = False

    def __init__(self, sigma: float):
        if not 0 <= sigma < float("inf"):
            raise ValueError(f"sigma: found {sigma}, expected a finite standard deviation not below 0")
        self.sigma = sigma

    def __call__(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        return clean, torch.tensor(self.sigma)
