r"""From a beamformed image to a B-mode picture: envelope, logarithmic compression, scan conversion.

.. math:: b = \operatorname{clip}\Big(1 + \frac{20}{D} \log_{10} \frac{|x|}{\max |x|},\ 0,\ 1\Big)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def envelope(x: Tensor) -> Tensor:
    """Magnitude ``(..., n_z, n_x)``; a real image, radio frequency along depth, is made analytic first."""
    return (x if x.is_complex() else _analytic(x)).abs()


def log_compress(x: Tensor, dynamic_range: float = 60.0) -> Tensor:
    """An envelope ``(B, C, *spatial)`` in decibels: 1 at each image's peak, 0 ``dynamic_range`` dB and more below.

    :raises ValueError: for a complex or negative ``x``, or a dynamic range not above 0.
    """
    if x.is_complex() or bool((x < 0).any()):
        raise ValueError("x: found complex or negative values, expected an envelope")
    if not dynamic_range > 0:
        raise ValueError(f"dynamic_range: found {dynamic_range} dB, expected a number above 0")
    tiny = torch.finfo(x.dtype).tiny
    peak = x.flatten(1).amax(1).clamp_min(tiny).reshape(-1, *[1] * (x.ndim - 1))
    return (1 + 20 / dynamic_range * torch.log10((x / peak).clamp_min(tiny))).clamp(0, 1)


def scan_convert(image: Tensor, ranges: Tensor, angles: Tensor, x: Tensor, z: Tensor) -> Tensor:
    """A sector image on a Cartesian grid, by linear interpolation; zero outside the sector.

    :param image: ``(B, C, n_ranges, n_angles)`` real, as after :func:`log_compress`.
    :param ranges: distances from the sector's apex in metres, increasing, ``(n_ranges,)``.
    :param angles: from the z axis towards larger x, in radians, increasing, ``(n_angles,)``.
    :param x: lateral coordinates in metres, the apex at 0, ``(n_x,)``; likewise depths ``z``.
    :returns: ``(B, C, n_z, n_x)``.
    :raises ValueError: for axes that do not increase, or are not as long as the image's.
    """
    for name, axis, length in (("ranges", ranges, image.shape[-2]), ("angles", angles, image.shape[-1])):
        if tuple(axis.shape) != (length,) or not bool((axis.diff() > 0).all()):
            raise ValueError(f"{name}: found {tuple(axis.shape)} values, expected {length} that increase")
    depth, across = torch.meshgrid(z, x, indexing="ij")
    row = _fractional_index(torch.hypot(across, depth), ranges)
    column = _fractional_index(torch.atan2(across, depth), angles)
    inside = (row.abs() <= 1) & (column.abs() <= 1)
    grid = torch.stack([column, row], -1).to(image).expand(len(image), -1, -1, -1)
    return grid_sample(image, grid, padding_mode="border", align_corners=True) * inside.to(image)


def _fractional_index(values: Tensor, axis: Tensor) -> Tensor:
    """Where ``values`` lie on an axis, from -1 at its first point to 1 at its last; outside, further out."""
    index = np.interp(values.cpu(), axis.cpu(), np.linspace(-1, 1, len(axis)), left=-2, right=2)
    return torch.as_tensor(index, device=values.device)


def _analytic(x: Tensor) -> Tensor:
    """``x + j H x`` along depth: the spectrum's positive half doubled, its negative half dropped."""
    n = x.shape[-2]
    gain = torch.zeros(n, dtype=x.dtype, device=x.device)
    gain[0] = 1
    gain[1 : (n + 1) // 2] = 2
    if n % 2 == 0:
        gain[n // 2] = 1
    return torch.fft.ifft(torch.fft.fft(x, dim=-2) * gain[:, None], dim=-2)
