r"""Synthetic reflectivity volumes, our own synthesis (not the one behind any published figure).

Random points inside a random compact box are smoothed by a Gaussian and passed through a steep
sigmoid: a few solid blobs of magnitude near 1 with sharp edges on an empty background, then a phase

.. math:: s = m\, e^{j\varphi}, \qquad m \in [0, 1].
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

Phase = Literal["random", "smooth", "constant"]


def blobs(shape: tuple[int, int, int], seed: int, phase: Phase = "random") -> Tensor:
    """One scene ``(1, 1, *shape)`` complex64, magnitude in [0, 1]; the same seed gives the same scene.

    :param phase: independent per voxel, smooth over the volume, or zero.
    """
    rng = np.random.default_rng(seed)
    magnitude = _solid(_smoothed_points(shape, rng))
    return torch.from_numpy((magnitude * np.exp(1j * _phase(shape, rng, phase))).astype(np.complex64))[None, None]


def _smoothed_points(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Impulses in a box of a third to two thirds of each side, blurred to blobs of about a tenth of it."""
    size = np.array([int(rng.integers(n // 3, 2 * n // 3 + 1)) for n in shape])
    corner = np.array([int(rng.integers(0, n - s + 1)) for n, s in zip(shape, size, strict=True)])
    points = np.zeros(shape)
    for _ in range(int(rng.integers(4, 12))):
        points[tuple(corner + rng.integers(0, size))] += rng.uniform(0.5, 1.0)
    return gaussian_filter(points, [0.07 * n for n in shape], mode="constant")


def _solid(field: np.ndarray, steepness: float = 60.0, level: float = 0.45) -> np.ndarray:
    magnitude = 1 / (1 + np.exp(-steepness * (field / field.max() - level)))
    magnitude = magnitude - magnitude.min()
    return magnitude / magnitude.max()


def _phase(shape: tuple[int, ...], rng: np.random.Generator, kind: Phase) -> np.ndarray:
    if kind == "constant":
        return np.zeros(shape)
    noise = rng.uniform(0, 2 * math.pi, shape)
    if kind == "random":
        return noise
    smooth = gaussian_filter(rng.standard_normal(shape), [0.15 * n for n in shape], mode="wrap")
    return 2 * math.pi * smooth / np.abs(smooth).max()
