r"""Variable-density Poisson-disc sampling of two phase-encoding axes.

Samples are drawn in random order over the grid; one that was drawn forbids further ones nearer than

.. math:: \rho(k) = u\, (1 + s\, |k|), \qquad |k| \text{ from the calibration block (0) to the rim of the ellipse (1)}

grid steps of the longer axis, so that they lie apart and density falls towards the rim. u, uniform from 1/2 to 1 and
another for each sample, keeps them off a lattice: the distances on a grid are few. The slope s is the steepest that
leaves as many samples as were asked for. Lustig and Pauly, Magn. Reson. Med. 64:457 (2010), whose draw knows no grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sampling import check_shape

Plane = tuple[int, int]

#: Halvings of the range of slopes, at most.
STEPS = 20


def poisson_disc(shape: Sequence[int], acceleration: float, seed: int = 0, calibration: int = 24) -> Tensor:
    """Variable-density Poisson disc over the last two axes (one readout a sample along a third), ``(*shape)``.

    :param acceleration: samples of the grid over samples taken; its corners, beyond the ellipse, are not.
    :param calibration: side of the fully sampled block.
    :raises ValueError: if the block alone is more than the samples to take, or the whole ellipse fewer.
    """
    check_shape(shape)
    plane = (shape[-2], shape[-1])
    if not 0 <= calibration < min(plane):
        raise ValueError(f"calibration: found {calibration}, expected from 0 to below {min(plane)}, the shorter side")
    block, radius = _block(plane, calibration), _radius(plane, calibration)
    least, most = math.prod(plane) / (block | (radius < 1)).sum(), math.prod(plane) / max(1, calibration**2)
    if not least <= acceleration <= most:
        bounds = f"from {least:.3g}, all but the corners, to {most:.3g}, the block for calibration alone"
        raise ValueError(f"acceleration: found {acceleration}, expected {bounds}")
    mask = block.flatten()
    mask[_samples(round(mask.size / acceleration) - int(mask.sum()), radius, ~block & (radius < 1), seed)] = True
    return torch.from_numpy(mask.reshape(plane)).to(torch.float32).expand(*shape).contiguous()


def _block(plane: Plane, calibration: int) -> NDArray[np.bool_]:
    block = np.zeros(plane, bool)
    rows, columns = (slice(n // 2 - calibration // 2, n // 2 - calibration // 2 + calibration) for n in plane)
    block[rows, columns] = True
    return block


def _radius(plane: Plane, calibration: int) -> NDArray[np.float64]:
    """|k|: 0 in the calibration block, 1 on the ellipse that touches the rim."""
    offsets = [np.maximum(abs(np.arange(n) - n // 2) - calibration / 2, 0) for n in plane]
    y, x = (offset / max(offset.max(), 0.5) for offset in offsets)
    return np.hypot(y[:, None], x)


def _samples(number: int, radius: NDArray[np.float64], eligible: NDArray[np.bool_], seed: int) -> NDArray[np.intp]:
    """The first ``number`` that are drawn with the steepest slope that leaves as many, to 1 %; places in the plane."""
    rng = np.random.default_rng(seed)
    drawn = order = rng.permutation(np.flatnonzero(eligible))
    share = rng.uniform(0.5, 1, radius.shape)
    gentle, steep = 0.0, float(max(radius.shape))
    for _ in range(STEPS):
        if len(drawn) <= 1.01 * number:
            break
        slope = (gentle + steep) / 2
        fewer = _drawn(order, share * (1 + slope * radius))
        if len(fewer) < number:
            steep = slope
        else:
            gentle, drawn = slope, fewer
    return drawn[:number]


def _drawn(order: NDArray[np.intp], distance: NDArray[np.float64]) -> NDArray[np.intp]:
    """Those in ``order`` that are no nearer to any before them than its ``distance``, in steps of the longer axis."""
    plane, taken = distance.shape, []
    reach = math.ceil(distance.max())
    y, x = (np.square(np.arange(-reach, reach + 1) * (max(plane) / n)) for n in plane)
    squares, forbidden = y[:, None] + x, np.pad(np.zeros(plane, bool), reach)
    for place in order.tolist():
        row, column = divmod(place, plane[1])
        if not forbidden[row + reach, column + reach]:
            taken.append(place)
            n = math.ceil(distance[row, column])
            around = forbidden[row + reach - n : row + reach + n + 1, column + reach - n : column + reach + n + 1]
            around |= squares[reach - n : reach + n + 1, reach - n : reach + n + 1] < distance[row, column] ** 2
    return np.array(taken, dtype=np.intp)
