r"""Sensitivities of an ideal ring of receive coils, for synthetic scans.

.. math:: s_c(r) \propto \frac{e^{\,j \arg(r - r_c)}}{|r - r_c|}, \qquad \sum_c |s_c(r)|^2 = 1,

each coil a long wire parallel to the first axis of a volume, at r_c on a ring around the field of view.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def ring_coils(coils: int, spatial: Sequence[int], radius: float = 1.5) -> Tensor:
    """Maps ``(coils, *spatial)`` complex64 in two or three dimensions.

    :param radius: of the ring, in halves of the field of view.
    """
    y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in spatial[-2:])
    position = torch.complex(*torch.meshgrid(x, y, indexing="xy"))
    angle = 2 * math.pi * torch.arange(coils, dtype=torch.float64) / coils
    away = position - torch.polar(torch.full_like(angle, radius), angle)[:, None, None]
    maps = torch.sgn(away) / away.abs()
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    shape = (coils, *[1] * (len(spatial) - 2), *spatial[-2:])
    return maps.reshape(shape).expand(coils, *spatial).to(torch.complex64).contiguous()
