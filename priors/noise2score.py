r"""Noise2Score: denoise with the score of the noisy images, learned from noisy images alone.

.. math:: \min_S\; E\,\|u + s\,S(y + s u)\|^2, \quad u \sim N(0, I), \qquad S \to \nabla \log p(y) \;(s \to 0),

then one formula of Tweedie's for each noise: a network learns one score, and the noise level may be found
afterwards. Kim and Ye, "Noise2Score: Tweedie's approach to self-supervised image denoising without clean images"
(NeurIPS 2021); the residual denoising loss is that of Lim, Courville, Pal and Huang, "AR-DAE" (ICML 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .losses import Batch, TrainingLoss
from .network import Network

Score = Callable[[Tensor], Tensor]

#: Under the root of total variation, so that it has a derivative.
SMOOTHING = 1e-12


def residual_denoising_loss(score: Score, y: Tensor, level: float) -> Tensor:
    """``|u + s S(y + s u)|^2`` per pixel of each noisy image ``(B, C, *spatial)``, shape ``(B,)``; s is ``level``."""
    u = torch.randn_like(y)
    return (u + level * score(y + level * u)).square().flatten(1).mean(1)


def annealed(step: float, steps: float, first: float = 0.05, last: float = 0.001) -> float:
    """The level of a training step: from ``first`` down to ``last`` in ``steps``, which it keeps."""
    return first + min(step / steps, 1.0) * (last - first)


class ResidualDenoising(TrainingLoss):
    r"""A denoiser for Gaussian noise of known level, learned as the score of the noisy images alone.

    .. math:: S(y + s u) = \frac{D_\tau(y + s u) - (y + s u)}{\tau^2}, \qquad \tau^2 = \sigma^2 + s^2 ,

    Tweedie's formula for the noise of both: what s adds is no bias of a network that is told the level.

    :param first: s at first, in units of the image.
    :param last: s at the end of the training.
    """

    needs_clean = False

    def __init__(self, first: float = 0.05, last: float = 0.001):
        if not (first > 0 and last > 0):
            raise ValueError(f"first, last: found {first}, {last}, expected numbers above 0")
        self.first, self.last = first, last

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        level = annealed(batch.progress, 1, self.first, self.last)
        both = torch.hypot(batch.sigma, torch.as_tensor(level).to(batch.sigma))
        variance = both.square().reshape(-1, *[1] * (batch.noisy.ndim - 1))
        return residual_denoising_loss(lambda y: (network(y, both) - y) / variance, batch.noisy, level).mean()


class Tweedie(Protocol):
    """A noise model of one parameter: how its score is asked for, Tweedie's formula, and how good a guess looks."""

    @property
    def grid(self) -> tuple[float, ...]:
        """Parameters that a blind search tries."""
        ...

    def score_at(self, score: Score, y: Tensor) -> Callable[[float], Tensor]:
        """The score of the noisy images ``y`` for a parameter."""
        ...

    def estimate(self, y: Tensor, score: Tensor, parameter: float) -> Tensor:
        """The clean image."""
        ...

    def quality(self, y: Tensor, x: Tensor) -> Tensor:
        """Lower is better, per image ``(B,)``."""
        ...


@dataclass(frozen=True)
class GaussianTweedie:
    r""":math:`y = x + \sigma n`; the posterior mean :math:`y + \sigma^2 S(y)`."""

    grid: tuple[float, ...] = tuple(55 / 255 - i / 255 for i in range(50))

    def score_at(self, score: Score, y: Tensor) -> Callable[[float], Tensor]:
        found = score(y)
        return lambda _: found

    def estimate(self, y: Tensor, score: Tensor, parameter: float) -> Tensor:
        return y + parameter**2 * score

    def quality(self, y: Tensor, x: Tensor) -> Tensor:
        return total_variation(x)


@dataclass(frozen=True)
class PoissonTweedie:
    r""":math:`y = \zeta z, z \sim \text{Poisson}(x / \zeta)`; :math:`(y + \zeta/2) \exp S(y / \zeta)`.

    S is the score of the counts z. Close to :math:`\exp E[\log x | y]`, which lies below the posterior mean.
    """

    grid: tuple[float, ...] = tuple(0.1 - i * 0.095 / 100 for i in range(100))

    def score_at(self, score: Score, y: Tensor) -> Callable[[float], Tensor]:
        return lambda parameter: score(y / parameter)

    def estimate(self, y: Tensor, score: Tensor, parameter: float) -> Tensor:
        return (y + parameter / 2) * score.exp()

    def quality(self, y: Tensor, x: Tensor) -> Tensor:
        return 0.1 * total_variation(x) + positive_mean(x, lambda safe: safe - y * safe.log())


@dataclass(frozen=True)
class GammaTweedie:
    r""":math:`y = x n, n \sim \Gamma(k, 1/k)`; :math:`k y / (k - 1 - y S(y))`.

    Exactly :math:`1 / E[1/x | y]`, which lies below the posterior mean.
    """

    grid: tuple[float, ...] = tuple(120.0 - i for i in range(80))

    def score_at(self, score: Score, y: Tensor) -> Callable[[float], Tensor]:
        found = score(y)
        return lambda _: found

    def estimate(self, y: Tensor, score: Tensor, parameter: float) -> Tensor:
        return parameter * y / (parameter - 1 - y * score)

    def quality(self, y: Tensor, x: Tensor) -> Tensor:
        misfit = positive_mean(x, lambda safe: safe.log() + y / safe + (y / safe).square())
        return total_variation(x) + misfit


class Noise2Score(torch.nn.Module):
    """A denoiser ``(y, parameter) -> x`` from a score and a noise model.

    :param score: maps noisy images (for Poisson noise, counts) to their score, of the same shape.
    :param noise: :class:`GaussianTweedie`, :class:`PoissonTweedie` or :class:`GammaTweedie`.
    """

    def __init__(self, score: Score, noise: Tweedie):
        super().__init__()
        self.score, self.noise = score, noise

    def forward(self, y: Tensor, parameter: float) -> Tensor:
        return self.noise.estimate(y, self.noise.score_at(self.score, y)(parameter), parameter)

    def blind(self, y: Tensor, grid: Sequence[float] | None = None) -> tuple[Tensor, Tensor]:
        """The estimate of best quality among those of a grid of parameters, and each image's parameter ``(B,)``."""
        score = self.noise.score_at(self.score, y)
        best, chosen, lowest = y, y.new_full((len(y),), torch.nan), y.new_full((len(y),), torch.inf)
        for parameter in grid or self.noise.grid:
            x = self.noise.estimate(y, score(parameter), parameter)
            quality = self.noise.quality(y, x)
            better = quality < lowest
            best = torch.where(better.reshape(-1, *[1] * (y.ndim - 1)), x, best)
            chosen, lowest = torch.where(better, parameter, chosen), torch.where(better, quality, lowest)
        return best, chosen


def total_variation(x: Tensor) -> Tensor:
    """The sum over the spatial axes of the mean absolute difference, per image ``(B,)``."""
    differences = [x.diff(dim=axis) for axis in range(2, x.ndim)]
    return torch.stack([(d.square() + SMOOTHING).sqrt().flatten(1).mean(1) for d in differences]).sum(0)


def positive_mean(x: Tensor, term: Callable[[Tensor], Tensor]) -> Tensor:
    """The mean of a term over the pixels above 0, per image ``(B,)``; infinite where there is none."""
    positive = x > 0
    values = torch.where(positive, term(torch.where(positive, x, 1)), 0)
    count = positive.flatten(1).sum(1)
    return torch.where(count > 0, values.flatten(1).sum(1) / count, torch.inf)
