"""The photographs beside the repository, as luminance in [0, 1]."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from skimage.color import rgb2gray
from skimage.io import imread

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def picture(path: Path) -> np.ndarray:
    """Luminance in [0, 1]."""
    values = imread(path) / 255
    return rgb2gray(values) if values.ndim == 3 else values


def middle(image: np.ndarray, size: int = 256) -> np.ndarray:
    """At most ``size`` pixels of each axis."""
    a, b = (max(0, (n - size) // 2) for n in image.shape)
    return image[a : a + size, b : b + size]


def noisy(folder: Path, sigma: float, count: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Noisy and clean ``(1, 1, H, W)`` of a folder's first ``count`` pictures by name; noise seeded by the index."""
    for i, path in enumerate(sorted(folder.glob("*.png"))[:count]):
        clean = torch.as_tensor(picture(path), dtype=torch.float32)[None, None]
        noise = np.random.default_rng(i).normal(0, sigma, clean.shape)
        yield clean + torch.as_tensor(noise, dtype=torch.float32), clean
