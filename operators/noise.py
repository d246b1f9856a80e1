r"""How strong the noise is in numbers that are noise for the most part.

.. math:: \hat\sigma = \operatorname{median} |n| \Big/ \sqrt{\ln 2} \text{ (complex, in total)}, \qquad
          \hat\sigma = \operatorname{median} |n| \,/\, 0.6745 \text{ (real)} .
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

#: Medians of the magnitudes of complex and of real noise of standard deviation 1.
RAYLEIGH, NORMAL = math.sqrt(math.log(2)), 0.6745


def deviation(noise: Tensor) -> Tensor:
    """Standard deviation of each image's noise ``(B, ...)``, shape ``(B,)``; 0 where there are no numbers.

    What is not known is NaN, and left out.
    """
    if not noise.numel():
        return noise.real.new_zeros(len(noise))
    return noise.abs().flatten(1).nanmedian(1).values.nan_to_num(0) / (RAYLEIGH if noise.is_complex() else NORMAL)


def of_finest_details(y: Tensor, axes: Sequence[int]) -> Tensor:
    """Standard deviation of each image's noise ``(B,)``, of the finest diagonal Haar details along ``axes``.

    There a smooth scene has next to nothing (Donoho and Johnstone, Biometrika 81:425, 1994); 0, for none, where an axis
    has one pixel.
    """
    detail = y
    for axis in axes:
        pairs = detail.shape[axis] // 2
        even, odd = detail.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2)).unbind(axis)
        detail = (even - odd) / math.sqrt(2)
    return deviation(detail)


def outermost(radius: Tensor) -> Tensor:
    """Where ``radius`` is among its largest tenth, of any number; torch's quantile takes 16 million."""
    if not radius.numel():
        return radius > 0
    rank = math.ceil(0.9 * (radius.numel() - 1)) + 1
    return radius >= radius.flatten().kthvalue(rank).values
