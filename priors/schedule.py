r"""How noise comes into an image as time goes from 0 (the image) to 1 (noise).

.. math:: x_t = a(t)\, x_0 + s(t)\, n, \qquad n \sim \mathcal{N}(0, I), \qquad \sigma = s / a .

Noise in complex images is circular: :math:`E|n|^2 = 1`, half of it in either part, and a standard deviation is that
of the complex number. With the score the derivative by :math:`\bar x`, every formula of diffusion then reads as it does
for real images.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Generator, Tensor


class Schedule(abc.ABC):
    """A path from images to noise; times, signals and noises are tensors of any shape. Equal if of the same numbers."""

    #: The time at which samplers begin: 1, where something is left of the image.
    first: float = 1.0

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    @abc.abstractmethod
    def signal(self, t: Tensor) -> Tensor:
        """a(t)."""

    @abc.abstractmethod
    def noise(self, t: Tensor) -> Tensor:
        """s(t)."""

    @abc.abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """The derivatives of a and s."""

    @abc.abstractmethod
    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        """The time at which s/a is ``noise / signal``; the nearest one from 0 to 1."""


class VarianceExploding(Schedule):
    r""":math:`a = 1,\; s = \sigma_0 (\sigma_1 / \sigma_0)^t`; Song et al. (ICLR 2021).

    :param low: lowest standard deviation, in units of the image.
    :param high: highest, several times the distance between two images.
    """

    def __init__(self, low: float = 0.01, high: float = 50.0):
        if not 0 < low < high < math.inf:
            raise ValueError(f"low, high: found {low}, {high}, expected 0 < low < high")
        self.low, self.high = low, high

    def signal(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def noise(self, t: Tensor) -> Tensor:
        return self.low * (self.high / self.low) ** t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), math.log(self.high / self.low) * self.noise(t)

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        return (torch.log(noise / signal / self.low) / math.log(self.high / self.low)).clamp(0, 1)


class ExponentialVariance(Schedule):
    r""":math:`a = 1,\; s^2 = (\sigma^{2t} - 1) / (2 \ln \sigma)`: the path of :math:`dx = \sigma^t\, dw`.

    :param sigma: above 1.
    """

    def __init__(self, sigma: float = 25.0):
        if not 1 < sigma < math.inf:
            raise ValueError(f"sigma: found {sigma}, expected a finite number above 1")
        self.sigma = sigma

    def signal(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def noise(self, t: Tensor) -> Tensor:
        rate = 2 * math.log(self.sigma)
        return (torch.expm1(rate * t) / rate).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(t), self.sigma ** (2 * t) / (2 * self.noise(t))

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        rate = 2 * math.log(self.sigma)
        return (torch.log1p(rate * (noise / signal).square()) / rate).clamp(0, 1)


class VariancePreserving(Schedule):
    r""":math:`a = e^{-B/2},\; s^2 = 1 - e^{-B},\; B = \beta_0 t + \tfrac12(\beta_1 - \beta_0) t^2`.

    Ho, Jain and Abbeel (NeurIPS 2020) in continuous time.

    :param low: beta_0.
    :param high: beta_1.
    """

    def __init__(self, low: float = 0.1, high: float = 20.0):
        if not 0 < low < high < math.inf:
            raise ValueError(f"low, high: found {low}, {high}, expected 0 < low < high")
        self.low, self.high = low, high

    def _integral(self, t: Tensor) -> Tensor:
        return self.low * t + 0.5 * (self.high - self.low) * t.square()

    def signal(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self._integral(t))

    def noise(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self._integral(t))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        half, a = 0.5 * (self.low + (self.high - self.low) * t), self.signal(t)
        return -half * a, half * a.square() / self.noise(t)

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        integral, slope = torch.log1p((noise / signal).square()), self.high - self.low
        return ((torch.sqrt(self.low**2 + 2 * slope * integral) - self.low) / slope).clamp(0, 1)


class Cosine(Schedule):
    r""":math:`a = \cos\theta,\; s = \sin\theta`, theta linear in time.

    :param low: a at time 1.
    :param high: a at time 0.
    """

    def __init__(self, low: float = 0.02, high: float = 0.999):
        if not 0 < low < high < 1:
            raise ValueError(f"low, high: found {low}, {high}, expected 0 < low < high < 1")
        self.low, self.high = low, high

    def _angle(self, t: Tensor) -> Tensor:
        return math.acos(self.high) + self._range * t

    @property
    def _range(self) -> float:
        return math.acos(self.low) - math.acos(self.high)

    def signal(self, t: Tensor) -> Tensor:
        return torch.cos(self._angle(t))

    def noise(self, t: Tensor) -> Tensor:
        return torch.sin(self._angle(t))

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -self._range * self.noise(t), self._range * self.signal(t)

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        return ((torch.atan2(noise, signal) - math.acos(self.high)) / self._range).clamp(0, 1)


class OrnsteinUhlenbeck(Schedule):
    r"""The path of the mean-reverting :math:`dx = -\theta x\, dt + \lambda \sqrt{2 \theta}\, dw`, theta a cosine.

    .. math:: a = e^{-\Theta},\quad s = \lambda \sqrt{1 - e^{-2 \Theta}},\quad
              \Theta = \int_0^t \theta = -\ln \epsilon\, \Big(t - \frac{\sin \pi t}{\pi}\Big) .

    Of x less the image that it reverts to: what :class:`~resolvent.recon.MeanReverting` walks. Luo, Gustafsson, Zhao,
    Sjölund and Schön (ICML 2023).

    :param std: lambda, the standard deviation at the end, in units of the image.
    :param left: epsilon, the share of x at time 1.
    """

    def __init__(self, std: float = 50 / 255, left: float = 0.005):
        if not 0 < std < math.inf or not 0 < left < 1:
            raise ValueError(f"std, left: found {std}, {left}, expected a number above 0, and one from above 0 to 1")
        self.std, self.left = std, left

    def _integral(self, t: Tensor) -> Tensor:
        exact = t.double()  # the difference is of third order in t
        return (-math.log(self.left) * (exact - torch.sin(math.pi * exact) / math.pi)).to(t.dtype)

    def signal(self, t: Tensor) -> Tensor:
        return torch.exp(-self._integral(t))

    def noise(self, t: Tensor) -> Tensor:
        return self.std * (-torch.expm1(-2 * self._integral(t))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        theta, a = -math.log(self.left) * (1 - torch.cos(math.pi * t)), self.signal(t)
        return -theta * a, theta * (self.std * a).square() / self.noise(t)

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        """Newton's method for t - sin(pi t) / pi, which is convex, from its cubic term."""
        integral = (torch.log1p((noise / signal / self.std).square()) / (-2 * math.log(self.left))).clamp(max=1)
        t = (6 * integral / math.pi**2) ** (1 / 3)
        for _ in range(6):
            slope = 1 - torch.cos(math.pi * t)
            away = t - torch.sin(math.pi * t) / math.pi - integral
            t = t - torch.where(slope > 0, away / torch.where(slope > 0, slope, 1), 0)
        return t.clamp(0, 1)


class FlowMatching(Schedule):
    r""":math:`a = 1 - t,\; s = t`: the straight line from image to noise.

    Lipman et al., Liu et al. (ICLR 2023), with time as in diffusion: 0 at the image.
    """

    first = 0.999

    def signal(self, t: Tensor) -> Tensor:
        return 1 - t

    def noise(self, t: Tensor) -> Tensor:
        return t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return -torch.ones_like(t), torch.ones_like(t)

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        return noise / (signal + noise)


class Late(Schedule):
    """A schedule on which samplers begin late, from an image with a little noise: fewer steps, and less made up.

    The image is biased towards the one begun with, the more so the later the start. Chung, Sim and Ye (CVPR 2022).

    :param schedule: the whole path.
    :param first: the time at which samplers begin, from above 0 to the schedule's own.
    """

    def __init__(self, schedule: Schedule, first: float):
        if not 0 < first <= schedule.first:
            raise ValueError(f"first: found {first}, expected a time above 0 and at most {schedule.first}")
        self.schedule, self.first = schedule, first

    def signal(self, t: Tensor) -> Tensor:
        return self.schedule.signal(t)

    def noise(self, t: Tensor) -> Tensor:
        return self.schedule.noise(t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.schedule.rates(t)

    def time(self, signal: Tensor, noise: Tensor) -> Tensor:
        return self.schedule.time(signal, noise)


def noise_like(x: Tensor, generator: Generator | None = None) -> Tensor:
    """Independent normal numbers of variance 1, circular where ``x`` is complex, on its device.

    They are drawn on the generator's device, so that a generator on the processor gives the same anywhere.
    """
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, dtype=x.dtype, device=device, generator=generator).to(x.device)
