r"""Synthetic tissue for ultrasound, our own synthesis: speckle, cysts and points.

.. math:: x = g \cdot n, \qquad n \sim \mathcal{CN}(0, 1), \qquad g = 0 \text{ in cysts, } 1 \text{ in tissue,}

plus a few bright points. Many weak scatterers per resolution cell make fully developed speckle.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Cyst(NamedTuple):
    """A disk without echoes, in metres."""

    x: float
    z: float
    radius: float


class Phantom(NamedTuple):
    """Reflectivity ``(1, 1, n_z, n_x)`` complex64 and where its cysts are."""

    image: Tensor
    cysts: tuple[Cyst, ...]


def speckle_phantom(x: Tensor, z: Tensor, seed: int, n_points: int = 3, brightness: float = 30.0) -> Phantom:
    """A scene of two cysts and ``n_points`` bright points in speckle; the same seed gives the same scene.

    :param x: lateral pixel coordinates in metres; likewise depths ``z``.
    :param brightness: of the points, relative to the root mean square of the speckle.
    """
    generator = torch.Generator().manual_seed(seed)
    cysts = _cysts(x, z, generator)
    depth, across = torch.meshgrid(z, x, indexing="ij")
    tissue = torch.ones_like(depth)
    for cyst in cysts:
        tissue[torch.hypot(across - cyst.x, depth - cyst.z) <= cyst.radius] = 0
    image = tissue * torch.randn(depth.shape, generator=generator, dtype=torch.complex128)
    image[_points(depth.shape, n_points, generator)] = brightness
    return Phantom(image.to(torch.complex64)[None, None], cysts)


def _cysts(x: Tensor, z: Tensor, generator: torch.Generator) -> tuple[Cyst, ...]:
    """One in the upper left quarter and one in the lower right, a twelfth of the smaller side in radius and more."""
    width, height = float(x[-1] - x[0]), float(z[-1] - z[0])
    found = []
    for corner in (0.0, 0.5):
        a, b, r = torch.rand(3, generator=generator).tolist()
        radius = min(width, height) * (1 + r) / 12
        centre = (float(x[0]) + width * (corner + 0.2 + 0.1 * a), float(z[0]) + height * (corner + 0.2 + 0.1 * b))
        found.append(Cyst(*centre, radius))
    return tuple(found)


def _points(shape: torch.Size, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixels anywhere in the other two quarters."""
    rows, columns = shape
    half = torch.arange(n) % 2
    row = (0.5 * rows * (half + torch.rand(n, generator=generator))).long()
    column = (0.5 * columns * (1 - half + torch.rand(n, generator=generator))).long()
    return row.clamp(max=rows - 1), column.clamp(max=columns - 1)
