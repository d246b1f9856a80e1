"""What describes an antenna array and its voxels, checked: one line says what was found and expected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Vector = Tensor | Sequence[float]


def sunflower(n: int, radius: float, phase: float) -> Tensor:
    """``n`` antennas spread evenly over a disc in the plane z = 0, ``(n, 3)`` in metres."""
    i = torch.arange(n, dtype=torch.float64) + 0.5
    angle, r = i * math.pi * (3 - math.sqrt(5)) + phase, radius * torch.sqrt(i / n)
    return torch.stack([r * torch.cos(angle), r * torch.sin(angle), torch.zeros_like(r)], 1)


def as_float64(values: Any) -> Tensor:
    """A tensor; of arrays in any order of memory, which torch does not take."""
    return torch.as_tensor(values if isinstance(values, Tensor) else np.ascontiguousarray(values), dtype=torch.float64)


def grid_axis(name: str, values: Vector) -> Tensor:
    """Coordinates of voxels, in any order, none of them twice."""
    axis = axis_values(name, values)
    if len(axis.unique()) < len(axis):
        raise ValueError(f"{name}: found a coordinate twice, expected different ones")
    return axis


def positions(name: str, values: Tensor) -> Tensor:
    """Antenna positions ``(n, 3)`` in metres, float64."""
    p = as_float64(values)
    if p.ndim != 2 or p.shape[1] != 3 or len(p) == 0 or not torch.isfinite(p).all():
        raise ValueError(f"{name}: found shape {tuple(p.shape)}, expected finite positions (n, 3) in metres")
    return p.clone()


def refuse_coincidence(name: str, antennas: Tensor, grid: dict[str, Tensor]) -> None:
    """An antenna on a voxel would see it with infinite amplitude."""
    on_grid = [((antennas[:, d, None] - axis).abs() < 1e-6).any(1) for d, axis in enumerate(grid.values())]
    hits = (on_grid[0] & on_grid[1] & on_grid[2]).nonzero().flatten()
    if len(hits):
        where = ", ".join(f"{c:g}" for c in antennas[hits[0]])
        raise ValueError(
            f"{name}: antenna {int(hits[0])} lies on the voxel at ({where}) m, expected a distance to all voxels"
        )


def axis_values(name: str, values: Vector) -> Tensor:
    """A finite vector, float64: voxel coordinates or frequencies."""
    a = as_float64(values)
    if a.ndim != 1 or len(a) == 0 or not torch.isfinite(a).all():
        raise ValueError(f"{name}: found shape {tuple(a.shape)}, expected a finite vector")
    return a.clone()


def pair_indices(pairs: Tensor, n_tx: int, n_rx: int) -> Tensor:
    """Measured (transmitter, receiver) indices ``(P, 2)``, int64."""
    given = torch.as_tensor(pairs)
    p = given.to(torch.int64)
    if not bool((p == given).all()):
        raise ValueError(f"pairs: found {given[p != given][0].item():g}, expected integers")
    if p.ndim != 2 or p.shape[1] != 2 or len(p) == 0:
        raise ValueError(f"pairs: found shape {tuple(p.shape)}, expected (n, 2) indices")
    wrong = (p < 0).any(1) | (p[:, 0] >= n_tx) | (p[:, 1] >= n_rx)
    if wrong.any():
        raise ValueError(
            f"pairs: found {p[wrong][0].tolist()}, expected indices of {n_tx} transmitters, {n_rx} receivers"
        )
    return p.clone()


def voxel_support(support: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """The voxels that may reflect, boolean ``(X, Y, Z)``."""
    s = torch.as_tensor(support, dtype=torch.bool)
    if tuple(s.shape) != spatial or not s.any():
        raise ValueError(
            f"support: found shape {tuple(s.shape)} with {int(s.sum())} voxels, expected {spatial}, not empty"
        )
    return s.clone()
