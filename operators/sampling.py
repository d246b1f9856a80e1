"""Which samples of k-space an accelerated Cartesian scan takes; 1 where sampled, zero frequency in the middle."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from deepinv.physics.generator import RandomMaskGenerator
from torch import Tensor

from .extras import require


def cartesian_lines(shape: Sequence[int], acceleration: int, seed: int = 0, calibration: float = 0.08) -> Tensor:
    """Whole lines, chosen at random along the last axis, and all of a band in its middle; ``(*shape)``.

    :param acceleration: samples of the grid over samples taken.
    :param calibration: the band's share of the lines.
    """
    _check(shape, acceleration)
    if not acceleration * calibration < 1:
        raise ValueError(f"acceleration: found {acceleration}, expected below {1 / calibration:g}, the middle alone")
    generator = RandomMaskGenerator(tuple(shape[-2:]), acceleration=acceleration, center_fraction=calibration)
    return generator.step(seed=seed)["mask"][0, 0].expand(*shape).contiguous()


def poisson_disc(shape: Sequence[int], acceleration: float, seed: int = 0, calibration: int = 24) -> Tensor:
    """Variable-density Poisson disc over the last two axes (one readout a sample along a third), ``(*shape)``.

    Lustig and Pauly, Magn. Reson. Med. 64:457 (2010); the implementation is SigPy's.

    :param calibration: side of the fully sampled block.
    :raises MissingExtra: without the extra ``mri``.
    """
    _check(shape, acceleration)
    samples = require("sigpy.mri", "mri")
    mask = samples.poisson(tuple(shape[-2:]), acceleration, (calibration,) * 2, dtype=float, seed=seed)
    return torch.from_numpy(mask).to(torch.float32).expand(*shape).contiguous()


def _check(shape: Sequence[int], acceleration: float) -> None:
    if len(shape) not in (2, 3):
        raise ValueError(f"shape: found {tuple(shape)}, expected two or three axes")
    if not 1 < acceleration < shape[-1] * shape[-2]:
        raise ValueError(f"acceleration: found {acceleration}, expected more than 1 and fewer than the samples")
