r"""What an upper level asks of a reconstruction: nearness to the truth or, where none is known, to the data.

.. math:: \min_\theta \tfrac1B \sum_b g_b(\hat x_b(\theta)) .

A loss first says from which data images are to be reconstructed, some with a change of the data that is theirs; of
each image it is then a function g of that image alone, so that a lower level solved to epsilon bounds it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..problem import inner, measured

#: Added to the seeds of probes.
DISPLACEMENT = 7_778_742_049


class Known(NamedTuple):
    """What is known of a batch of images.

    :param y: data ``(B, *data_shape)``.
    :param noise_std: total standard deviation of one sample, if known.
    :param truth: images ``(B, C, *spatial)``, if known.
    """

    y: Tensor
    physics: LinearPhysics
    noise_std: float | None = None
    truth: Tensor | None = None


@dataclass(frozen=True)
class Measure:
    """g of each image; a :class:`~resolvent.recon.bilevel.upper_level.Loss`.

    :param of: images to numbers ``(B,)``, differentiable.
    :param smoothness: the Lipschitz constant of g's gradient.
    :param floor: what g is expected to be of the true image.
    """

    of: Callable[[Tensor], Tensor]
    smoothness: float
    convex: bool
    floor: float = -math.inf

    def __call__(self, x: Tensor) -> Tensor:
        return self.of(x)


class Posed(NamedTuple):
    """The data of the images to reconstruct, maybe more than B of them, and the measure of those images.

    :param partial: whether the operator measures less than the known one, whose eigenvalues are then not its.
    """

    y: Tensor
    physics: LinearPhysics
    measure: Measure
    partial: bool = False


class UpperLoss(ABC):
    """An upper loss: its mean over the images that it asks for is what is minimised.

    :raises ValueError: by :meth:`pose`, if what the loss needs is not known.
    """

    @abstractmethod
    def pose(self, known: Known) -> Posed:
        """The reconstructions it asks for, and what it makes of them."""


def probes(y: Tensor, count: int, seed: int) -> list[Tensor]:
    """Random directions like ``y`` of unit variance per sample, always the same of one seed, on any device.

    The seed is displaced: simulated noise of the same seed would be the same numbers, and a direction like the noise
    is no sample of all directions.
    """
    generator = torch.Generator().manual_seed(DISPLACEMENT + seed)
    return [torch.randn(y.shape, generator=generator, dtype=y.dtype).to(y.device) for _ in range(count)]


def taken_of(known: Known) -> Tensor:
    """1 for what is measured, ``(1, *data_shape)`` if it is the same of all images, else ``(B, *data_shape)``."""
    taken = measured(known.physics, known.physics.A_adjoint(known.y))
    return taken[:1] if bool((taken == taken[:1]).all()) else taken


def samples_of(known: Known) -> Tensor:
    """How many data are measured, per image ``(B,)``.

    :raises ValueError: if there are none of an image.
    """
    samples = taken_of(known).flatten(1).sum(1).expand(len(known.y))
    if not bool((samples > 0).all()):
        raise ValueError("data: found an image of which nothing is measured, expected some of each")
    return samples


def noise_of(loss: UpperLoss, own: float | None, known: Known) -> float:
    sigma = known.noise_std if own is None else own
    if sigma is None or not sigma > 0:
        raise ValueError(
            f"{type(loss).__name__}: found noise_std {sigma}, expected a number above 0, or the loss HeldOut"
        )
    return sigma


def square(x: Tensor) -> Tensor:
    """Squared norm per image, ``(B,)``."""
    return inner(x, x)
