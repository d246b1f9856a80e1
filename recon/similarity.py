r"""Structural similarity, with a derivative.

.. math:: \mathrm{SSIM} = \operatorname{mean}_p \frac{(2 \mu_x \mu_t + c_1)(2 \sigma_{xt} + c_2)}
          {(\mu_x^2 + \mu_t^2 + c_1)(\sigma_x^2 + \sigma_t^2 + c_2)}, \qquad c_i = (k_i L)^2,

with means, variances and covariance over the window at p, (k_1, k_2) = (0.01, 0.03) and L the peak. Wang, Bovik, Sheikh
and Simoncelli, IEEE TIP 13:600 (2004); windows are uniform and variances unbiased, as scikit-image has them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..operators.norm import per_image

#: Pixels along a window at most, and at least.
LONGEST, SHORTEST = 7, 3
CONSTANTS = (0.01, 0.03)


def structural_similarity(x: Tensor, truth: Tensor, peak: Tensor) -> Tensor:
    """Of real images ``(B, C, *spatial)``, the mean over channels and places, per image ``(B,)``.

    Windows are as long as the shortest axis allows, 7 pixels at most, and none lies across the border. Axes of one
    pixel are none: a plane is compared as a plane. NaN where there is no room for a window of 3.

    :param peak: data range per image, ``(B,)``.
    """
    window = window_of(x)
    if not window:
        return torch.full((len(x),), math.nan, dtype=x.dtype, device=x.device)
    axes = [axis for axis, n in enumerate(x.shape) if axis > 1 and n > 1]
    many = window ** len(axes)

    def mean(z: Tensor) -> Tensor:
        for axis in axes:
            z = z.unfold(axis, window, 1).mean(-1)
        return z

    c1, c2 = (per_image((k * peak) ** 2, x) for k in CONSTANTS)
    mx, mt = mean(x), mean(truth)
    vx, vt, vxt = ((mean(a * b) - ma * mb) * many / (many - 1) for a, b, ma, mb in
                   ((x, x, mx, mx), (truth, truth, mt, mt), (x, truth, mx, mt)))  # fmt: skip
    likeness = (2 * mx * mt + c1) * (2 * vxt + c2) / ((mx.square() + mt.square() + c1) * (vx + vt + c2))
    return likeness.flatten(1).mean(1)


def magnitude_of(x: Tensor) -> Tensor:
    """Of complex images; real ones as they are, signs included."""
    return x.abs() if x.is_complex() else x


def window_of(image: Tensor) -> int:
    """Length of the windows on images ``(B, C, *spatial)``, odd; 0 where there is no room for one."""
    shortest = min((n for n in image.shape[2:] if n > 1), default=0)
    return min(LONGEST, shortest - 1 + shortest % 2) if shortest >= SHORTEST else 0
