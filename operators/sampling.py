"""Which lines of k-space an accelerated Cartesian scan takes; 1 where sampled, zero frequency in the middle."""

from __future__ import annotations

from collections.abc import Sequence

from deepinv.physics.generator import RandomMaskGenerator
from torch import Tensor


def cartesian_lines(shape: Sequence[int], acceleration: int, seed: int = 0, calibration: float = 0.08) -> Tensor:
    """Whole lines, chosen at random along the last axis, and all of a band in its middle; ``(*shape)``.

    :param acceleration: samples of the grid over samples taken.
    :param calibration: the band's share of the lines.
    """
    check_shape(shape)
    most = 1 / max(calibration, 1 / shape[-1])
    if not 1 < acceleration < most:
        raise ValueError(f"acceleration: found {acceleration}, expected above 1 and below {most:g}, the middle alone")
    generator = RandomMaskGenerator(tuple(shape[-2:]), acceleration=acceleration, center_fraction=calibration)
    return generator.step(seed=seed)["mask"][0, 0].expand(*shape).contiguous()


def check_shape(shape: Sequence[int]) -> None:
    """
    :raises ValueError: unless of two or three axes.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"shape: found {tuple(shape)}, expected two or three axes")
