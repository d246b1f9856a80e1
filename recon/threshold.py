r"""The universal threshold: how strong a sparsity prior must be to keep noise out.

.. math:: \lambda_v = \hat\sigma \sqrt{\ln N}\; \|a_v\|, \qquad
          \hat\sigma = \operatorname{median}_v \frac{|\langle a_v, y\rangle|}{\|a_v\|} \Big/ \sqrt{\ln 2} .

Correlated with a unit column a_v/||a_v||, circular noise of total variance sigma^2 has magnitude above
sigma sqrt(ln N) in about one of N voxels (Donoho and Johnstone, Biometrika 81:425, 1994, for complex data); real noise
has that above sigma sqrt(2 ln N), and a median of 0.6745 sigma.
Without a stated noise level the operator may know how to estimate it; otherwise sigma is that of the median of
the matched filter, so that side lobes and unmodelled clutter count as noise.
"""

from __future__ import annotations

import math

import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..operators import Operator, squared_norm
from ..operators.noise import deviation
from .problem import per_image


@torch.no_grad()
def universal_threshold(physics: LinearPhysics, y: Tensor, noise_std: float | Tensor | None = None) -> Tensor:
    """The threshold at each voxel, ``(B, C, *spatial)`` real, in the units of ``A^H y``.

    A voxel that no datum sees has the largest of its image: a prior that ties neighbours together fills it in.

    :param noise_std: standard deviation of one sample, of a complex one in total, of all images or each ``(B,)``;
        estimated from each image's own data if None.
    """
    focused = physics.A_adjoint(y)
    columns = _column_norms(physics, focused).expand(focused.shape)
    seen = columns > 0
    sigma = torch.as_tensor(0.0 if noise_std is None else noise_std).to(columns).expand(len(y))
    if noise_std is None:
        own, focus = _estimated(physics, y), deviation(torch.where(seen, focused / columns, torch.nan))
        sigma = focus if own is None else torch.where(own > 0, own, focus)
    parts = 1 if focused.is_complex() else 2
    count = seen.flatten(1).sum(1).clamp_min(2).to(columns.dtype)
    columns = torch.where(seen, columns, per_image(columns.flatten(1).amax(1), columns))
    return per_image(sigma * (parts * count.log()).sqrt(), columns) * columns


def _estimated(physics: LinearPhysics, y: Tensor) -> Tensor | None:
    return physics.estimate_noise(y) if isinstance(physics, Operator) else None


def _column_norms(physics: LinearPhysics, like: Tensor) -> Tensor:
    """The operator's own column norms; the operator norm in every voxel where it has none."""
    known = physics.column_norms() if isinstance(physics, Operator) else None
    if known is not None:
        return known.to(like.real)
    return torch.full_like(like[0].real, math.sqrt(squared_norm(physics, like)))
