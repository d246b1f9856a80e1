r"""What a diffusion or flow model knows of images: their mean given a noisy one. All else follows from it.

.. math:: \hat x(x_t) = E[x_0 | x_t], \qquad \nabla \log p_t = \frac{a \hat x - x_t}{s^2}, \qquad
          E[n | x_t] = \frac{x_t - a \hat x}{s}, \qquad
          v = E[\dot x_t | x_t] = \dot a\, \hat x + \dot s\, E[n | x_t]

(Tweedie's formula; Robbins, 1956), for x_t and complex images as in :mod:`resolvent.priors.schedule`. A model of one
of the four is a model of all, at every noise level of every schedule.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from .network import on_parts
from .prior import Prior, broadcast
from .schedule import FlowMatching, Schedule
from .trained_for import trained_levels, trained_path
from .weights_file import load_denoiser

#: Called with images and times, one for all or one per image ``(B,)``.
InTime = Callable[[Tensor, Tensor], Tensor]


class Diffusion(Prior):
    """A prior that samplers take; as a denoiser in place of a proximal step, ``Denoiser(prior.denoise, sigma)``.

    A subclass gives :meth:`mean`. Times and noise levels are numbers, or one per image ``(B,)``.

    :param schedule: the path on which :meth:`estimate`, :meth:`score` and :meth:`velocity` are asked for, and
        samplers walk; :class:`FlowMatching` if None.
    """

    def __init__(self, schedule: Schedule | None = None, weight: float | Tensor = 1.0):
        super().__init__(weight)
        self.schedule = schedule or FlowMatching()

    @abstractmethod
    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        """``E[x_0 | signal x_0 + noise n = x]``; both tensors that broadcast against ``x``."""

    def denoise(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """``E[x_0 | x_0 + sigma n = x]``, of shape ``(B, C, *spatial)`` as ``x``."""
        sigma = spread(sigma, x)
        return self.mean(x, torch.ones_like(sigma), sigma)

    def estimate(self, x: Tensor, t: float | Tensor) -> Tensor:
        """``E[x_0 | x_t = x]``."""
        t = spread(t, x)
        return self.mean(x, self.schedule.signal(t), self.schedule.noise(t))

    def noise(self, x: Tensor, t: float | Tensor) -> Tensor:
        """``E[n | x_t = x]``; 0 where an image is without noise, and says nothing of it."""
        return self._noise(x, self.estimate(x, t), spread(t, x))

    def score(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The gradient of ``log p_t`` at ``x``; by the conjugate, where ``x`` is complex."""
        return -self.noise(x, t) / self.schedule.noise(spread(t, x))

    def velocity(self, x: Tensor, t: float | Tensor) -> Tensor:
        """``E[d x_t / dt | x_t = x]``: along it images become noise without any drawn."""
        t = spread(t, x)
        estimate, (a_rate, s_rate) = self.estimate(x, t), self.schedule.rates(t)
        s_rate = torch.where(self.schedule.noise(t) > 0, s_rate, 0)
        return a_rate * estimate + s_rate * self._noise(x, estimate, t)

    def _noise(self, x: Tensor, estimate: Tensor, t: Tensor) -> Tensor:
        s = self.schedule.noise(t)
        return (x - self.schedule.signal(t) * estimate) / torch.where(s > 0, s, torch.inf)


class DenoiserDiffusion(Diffusion):
    r"""The prior of any denoiser, :math:`\hat x(x_t) = D(x_t / a,\, s / a)`.

    Of a complex image the parts are denoised at the level :math:`\sigma / \sqrt 2` of either: both at once by a network
    of twice as many channels, one at a time by any other.

    :param denoiser: called as ``denoiser(x, sigma)`` on real images, with ``(B,)`` levels or one; or the file or
        name of trained weights.
    :param schedule: if None, :class:`VarianceExploding` over the levels that the weights say they were trained for,
        those of the parts of complex images too; :class:`FlowMatching` where nothing is said.
    """

    def __init__(
        self,
        denoiser: nn.Module | Callable[[Tensor, Tensor], Tensor] | str,
        schedule: Schedule | None = None,
        weight: float | Tensor = 1.0,
    ):
        super().__init__(schedule or trained_levels(denoiser), weight)
        self.denoiser = load_denoiser(denoiser) if isinstance(denoiser, str) else denoiser

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        x, sigma = x / signal, per_image_or_one(noise / signal)
        if not x.is_complex():
            return self.denoiser(x, sigma)
        return on_parts(self.denoiser, x, sigma / math.sqrt(2))


class InTimeDiffusion(Diffusion):
    """Base class of the priors made from a network of times.

    :param network: called as ``network(x, t)`` with ``(B,)`` times or one; or the file or name of trained weights.
    :param schedule: the one that it was trained for; if None the one that the weights name, else
        :class:`FlowMatching`.
    """

    #: What the network gives.
    gives: ClassVar[str]

    def __init__(
        self, network: nn.Module | InTime | str, schedule: Schedule | None = None, weight: float | Tensor = 1.0
    ):
        super().__init__(schedule or trained_path(network), weight)
        self.network = load_denoiser(network, self.gives) if isinstance(network, str) else network

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        x, t, a, s = on_path(self.schedule, x, signal, noise)
        return self.from_output(self.network(x, per_image_or_one(t)), x, t, a, s)

    @abstractmethod
    def from_output(self, output: Tensor, x: Tensor, t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """The mean of the image from what the network says of ``x = a x_0 + s n`` at time t."""


class VelocityDiffusion(InTimeDiffusion):
    r"""The prior of a network that was trained to give the velocity of a schedule.

    .. math:: \hat x = \frac{\dot s\, x_t - s\, v}{a \dot s - \dot a\, s} .

    Parameters as :class:`InTimeDiffusion`.
    """

    gives = "a velocity"

    def from_output(self, output: Tensor, x: Tensor, t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        a_rate, s_rate = self.schedule.rates(t)
        return (s_rate * x - s * output) / (a * s_rate - a_rate * s)


class ScoreDiffusion(InTimeDiffusion):
    r"""The prior of a network that was trained to give the score of a schedule, :math:`\hat x = (x_t + s^2 S)/a`.

    Parameters as :class:`InTimeDiffusion`.
    """

    gives = "a score"

    def from_output(self, output: Tensor, x: Tensor, t: Tensor, a: Tensor, s: Tensor) -> Tensor:
        return (x + s.square() * output) / a


def on_path(schedule: Schedule, x: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``x`` scaled on to a schedule: the image there, its time, signal and noise."""
    t = schedule.time(signal, noise)
    a, s = schedule.signal(t), schedule.noise(t)
    return torch.hypot(a, s) / torch.hypot(signal, noise) * x, t, a, s


def spread(value: float | Tensor, x: Tensor) -> Tensor:
    """One number, or one per image ``(B,)``, in the precision of ``x`` and shaped to multiply it."""
    return torch.as_tensor(broadcast(torch.as_tensor(value, dtype=x.real.dtype, device=x.device), x))


def per_image_or_one(value: Tensor) -> Tensor:
    """What :func:`spread` made, as models are told it: ``(B,)`` or one number."""
    return value.flatten() if value.ndim else value
