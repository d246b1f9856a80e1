r"""Ways between antennas and voxels: their lengths R, and the amplitude a with which each is gone.

.. math:: E_{tv} = a_{tv}\, e^{-j k R_{tv}} , \qquad R_{tv} = \|x_t - x_v\| , \qquad a_{tv} = a(z_v - z_t, R_{tv}) .
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Amplitude = Callable[[Tensor, Tensor], Tensor]


def spherical(_: Tensor, distance: Tensor) -> Tensor:
    return 1 / distance


def spherical_over_4pi(_: Tensor, distance: Tensor) -> Tensor:
    return 1 / (4 * math.pi * distance)


def unit(_: Tensor, distance: Tensor) -> Tensor:
    return torch.ones_like(distance)


def far_obliquity(depth: Tensor, distance: Tensor) -> Tensor:
    return depth / distance


def near_obliquity(depth: Tensor, distance: Tensor) -> Tensor:
    return depth / distance**2


@dataclass(frozen=True)
class Paths:
    """Path length (metres) and amplitude of each antenna row at given voxels.

    :param length: ``indices (lanes, width) -> (lanes, rows, width)`` float64, metres.
    :param amplitude: the same for the real amplitude.
    """

    rows: int
    length: Callable[[Tensor], Tensor]
    amplitude: Callable[[Tensor], Tensor]

    def over(self, voxels: Tensor, order: Tensor) -> Paths:
        """The same to some of the voxels, numbered anew, with the rows in another order."""
        return Paths(
            self.rows, lambda v: self.length(voxels[v])[:, order], lambda v: self.amplitude(voxels[v])[:, order]
        )


def antenna_paths(antennas: Tensor, amplitude: Amplitude, position: Callable[[Tensor], Tensor]) -> Paths:
    """From antennas ``(rows, 3)`` to voxels, whose ``position`` is ``(lanes, 1, width, 3)`` in metres."""

    def length(voxels: Tensor) -> Tensor:
        return _distance(antennas, position(voxels))

    def gain(voxels: Tensor) -> Tensor:
        where = position(voxels)
        return amplitude(_depth(antennas, where), _distance(antennas, where))

    return Paths(len(antennas), length, gain)


def two_way(there: Paths, back: Paths) -> tuple[Paths, Paths]:
    """Each pair of rows as one antenna with the two-way path, seen by one receiver at no distance."""
    both = Paths(
        there.rows, lambda v: there.length(v) + back.length(v), lambda v: there.amplitude(v) * back.amplitude(v)
    )
    return both, Paths(1, lambda v: _constant(v, 0.0), lambda v: _constant(v, 1.0))


def _distance(antennas: Tensor, position: Tensor) -> Tensor:
    antennas = antennas.expand(len(position), -1, -1)
    return torch.cdist(antennas, position[:, 0], compute_mode="donot_use_mm_for_euclid_dist")


def _depth(antennas: Tensor, position: Tensor) -> Tensor:
    return position[..., 2] - antennas[:, None, 2]


def _constant(voxels: Tensor, value: float) -> Tensor:
    return torch.full((len(voxels), 1, voxels.shape[1]), value, dtype=torch.float64, device=voxels.device)
