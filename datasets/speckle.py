r"""Beamformed speckle to learn from, our own synthesis: echoes of tissue, and the haze over them.

.. math:: u = p * (g \odot n), \qquad n \sim \mathcal{CN}(0, I), \qquad
          p(v) \propto e^{-v_z^2 / (2 \sigma_z^2) - v_x^2 / (2 \sigma_x^2)}, \qquad \|p\|_2 = 1,

at base band, depth along the first axis. Many scatterers in a resolution cell make the echoes normal given how strong
they are, g: in tissue so in each of a few regions, one of them at 0 dB; in haze, which has come many ways, changing
slowly over the image and spread out across the beam.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from .sources import Source

#: Root mean square of the strongest echoes: their real parts then seldom leave [-1, 1].
STRONGEST = 0.4


class Speckle(Source):
    """Real parts of simulated speckle ``(1, *shape)``; a subclass says how strong the echoes are.

    :param shape: of an image, pixels along depth and across.
    :param axial: lowest and highest width sigma_z, pixels; likewise ``lateral``.
    :param count: how many different images.
    :param first_seed: seed of the first; the others' follow.
    """

    def __init__(
        self,
        axial: Sequence[float],
        lateral: Sequence[float],
        shape: Sequence[int] = (64, 64),
        count: int = 4000,
        first_seed: int = 2_000_000,
    ):
        for name, (low, high) in (("axial", axial), ("lateral", lateral)):
            if not 0 < low <= high:
                raise ValueError(f"{name}: found {low}, {high}, expected two widths above 0, the lower one first")
        self.axial, self.lateral, self.shape = tuple(axial), tuple(lateral), tuple(shape)
        self.count, self.first_seed = count, first_seed

    @abstractmethod
    def strength(self, generator: Generator) -> Tensor:
        """g, of the image's shape."""

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, generator: Generator) -> Tensor:
        own = Generator().manual_seed(self.first_seed + index)
        widths = [uniform(low, high, own) for low, high in (self.axial, self.lateral)]
        gain = STRONGEST * 10 ** uniform(-0.5, 0, own)
        return gain * echoes(self.strength(own), widths, own).real[None]

    def origin(self) -> list[dict[str, Any]]:
        seeds = [self.first_seed, self.first_seed + self.count]
        widths = {"axial": list(self.axial), "lateral": list(self.lateral)}
        return [{"name": type(self).__name__, "synthetic": True, "shape": list(self.shape), "seeds": seeds, **widths}]


class Tissue(Speckle):
    """Fine speckle in three regions at 0, -3 to -15 and -15 to -50 dB.

    Parameters as :class:`Speckle`; the widths are those of a beam at base band.
    """

    def __init__(
        self,
        axial: Sequence[float] = (1.3, 2.5),
        lateral: Sequence[float] = (1.1, 2.2),
        shape: Sequence[int] = (64, 64),
        count: int = 4000,
        first_seed: int = 2_000_000,
    ):
        super().__init__(axial, lateral, shape, count, first_seed)

    def strength(self, generator: Generator) -> Tensor:
        decibels = torch.tensor([0.0, uniform(-15, -3, generator), uniform(-50, -15, generator)])
        decibels = decibels[torch.randperm(3, generator=generator)]
        edges = torch.tensor([uniform(-1.0, 0, generator), uniform(0, 1.0, generator)])
        return 10 ** (decibels[torch.bucketize(smooth(self.shape, 0.2, generator), edges)] / 20)


class Haze(Speckle):
    """Speckle spread out across the beam, of slowly changing strength.

    Parameters as :class:`Speckle`.
    """

    def __init__(
        self,
        axial: Sequence[float] = (1.3, 2.5),
        lateral: Sequence[float] = (4.0, 12.0),
        shape: Sequence[int] = (64, 64),
        count: int = 4000,
        first_seed: int = 3_000_000,
    ):
        super().__init__(axial, lateral, shape, count, first_seed)

    def strength(self, generator: Generator) -> Tensor:
        return torch.exp(0.5 * smooth(self.shape, 0.4, generator))


def echoes(strength: Tensor, widths: Sequence[float], generator: Generator) -> Tensor:
    """u, complex of the shape of g; periodic, of variance 1 where g is 1.

    :param widths: standard deviations of the pulse along each axis, in pixels.
    """
    noise = torch.randn(strength.shape, generator=generator, dtype=strength.dtype.to_complex())
    spectrum = gaussian_spectrum(strength.shape, widths).to(strength.dtype)
    return torch.fft.ifftn(torch.fft.fftn(strength * noise) * spectrum / spectrum.square().mean().sqrt())


def smooth(shape: Sequence[int], width: float, generator: Generator) -> Tensor:
    """A normal field of variance 1, as wide a part of each side as ``width``."""
    return echoes(torch.ones(tuple(shape)), [width * n for n in shape], generator).real * math.sqrt(2)


def gaussian_spectrum(shape: Sequence[int], widths: Sequence[float]) -> Tensor:
    """The transform of a periodic Gaussian of sum 1."""
    parts = [torch.exp(-2 * (math.pi * w * torch.fft.fftfreq(n)) ** 2) for n, w in zip(shape, widths, strict=True)]
    return parts[0][:, None] * parts[1]


def uniform(low: float, high: float, generator: Generator) -> float:
    """A number drawn between two."""
    return low + (high - low) * float(torch.rand((), generator=generator))
