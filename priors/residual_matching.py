r"""Training of a restorer that samples: flow matching of what a degraded image c lacks, c shown to the network.

.. math:: L = E\, \|v_\theta(a r + s n,\, t,\, c) - (\dot a\, r + \dot s\, n)\|^2, \qquad r = \frac{x - c}{\lambda} .

On the path of angles, a = cos and s = sin, the network gives at time 1 what c lacks, at time 0 the noise, and a target
of like size in between (Salimans and Ho, ICLR 2022). A prior of it is one on every other path, the mean-reverting SDE's
too.
"""

from __future__ import annotations

import torch
from deepinv.physics import Downsampling
from torch import Generator, Tensor

from ..operators import matched
from .conditional import ConditionalVelocity
from .corruption import Corruption
from .losses import Batch, TrainingLoss
from .network import Network
from .prior import broadcast
from .schedule import Cosine, Schedule, noise_like


class LowResolution(Corruption):
    r"""The image as it looks at a lower resolution, :math:`c\, A^H A x`, c fitted; its strength a time drawn uniformly.

    Where :class:`~resolvent.recon.MeanReverting` starts from data of :func:`downsampling`. For
    :class:`ResidualMatching`.

    :param factor: so many pixels along either side become one.
    """

    strength = "a time for the residual"

    def __init__(self, factor: int = 4):
        if factor < 2:
            raise ValueError(f"factor: found {factor}, expected at least 2")
        self.factor = factor

    def __call__(self, clean: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        physics = downsampling(tuple(clean.shape), self.factor)
        y = physics.A(clean[None])
        return matched(physics, physics.A_adjoint(y), y)[0], torch.rand((), generator=generator)


def downsampling(image_shape: tuple[int, ...], factor: int) -> Downsampling:
    """deepinv's bicubic filter and decimation of images ``(C, H, W)``, borders circular."""
    return Downsampling(image_shape, filter="bicubic", factor=factor, padding="circular")


class ResidualMatching(TrainingLoss):
    """The loss, for batches of :class:`LowResolution` or another degradation with times of the same strength.

    :param scale: lambda, about the standard deviation of what the degraded images lack.
    :param schedule: the path; :class:`Cosine` if None.
    """

    gives = ConditionalVelocity.gives
    hears = LowResolution.strength

    def __init__(self, scale: float = 50 / 255, schedule: Schedule | None = None):
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale: found {scale}, expected a finite number above 0")
        self.scale, self.schedule = scale, schedule or Cosine()

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        residual, t = (batch.clean - batch.noisy) / self.scale, broadcast(batch.sigma, batch.noisy)
        noise, (a_rate, s_rate) = torch.randn_like(residual), self.schedule.rates(t)
        x = self.schedule.signal(t) * residual + self.schedule.noise(t) * noise
        return (network(x, batch.sigma, batch.noisy) - a_rate * residual - s_rate * noise).square().mean()

    def estimate(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The mean of the image given the degraded one: the first step of a sampler, whatever the time."""
        prior = ConditionalVelocity(network, self.scale, self.schedule).given(noisy)
        start, noise = torch.ones_like(sigma), noise_like(noisy, Generator().manual_seed(0))
        a, s = (broadcast(level(start), noisy) for level in (self.schedule.signal, self.schedule.noise))
        return prior.mean(a * noisy + self.scale * s * noise, a, self.scale * s)
