r"""At most k groups that are not zero: the convex envelope of that constraint with the energy.

.. math:: S_k(x) = \tfrac12 \min_u \Big\{ \sum_g \frac{\|x_g\|^2}{u_g} : 0 \le u_g \le 1,\;
          \sum_g d_g u_g \le k \Big\}, \qquad
          \operatorname{prox}_{\gamma S_k}(v)_g = \frac{u_g}{u_g + \gamma}\, v_g,

.. math:: u_g = \min\big(\max(c\,\|v_g\| / \sqrt{d_g} - \gamma,\, 0),\, 1\big), \qquad \sum_g d_g u_g = k .

The sum grows piecewise linearly with c: a binary search among the breakpoints finds the piece, and one
division the root. With d = 1 and groups of one it is half the squared k-support norm (Argyriou, Foygel and
Srebro, NIPS 2012; groups and weights: Refael, Arbel and Huleihel, arXiv 2212.12921).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .prior import Prior, group_axes, length


class KSupport(Prior):
    """Sparse group envelope: states how many groups are not zero where :class:`GroupL1` states a threshold.

    The budget is soft, as u may be fractional, and what is kept shrinks by ``1 / (1 + gamma lambda)``.

    :param k: the budget, above 0: the number of groups if they all weigh 1.
    :param axes: axes of ``(B, C, *spatial)`` that form a group; none if every voxel is one.
    :param group_weights: d, above 0; a number, or a tensor that broadcasts against the groups' norms.
    """

    convex = True
    weight_over_image = False

    def __init__(
        self,
        weight: float | Tensor = 1.0,
        k: float = 1,
        axes: Sequence[int] = (),
        group_weights: float | Tensor = 1.0,
    ):
        super().__init__(weight)
        if not k > 0:
            raise ValueError(f"k: found {k}, expected a number above 0")
        if not bool((torch.as_tensor(group_weights) > 0).all()):
            raise ValueError(
                f"group_weights: found {float(torch.as_tensor(group_weights).min())}, expected all above 0"
            )
        self.k, self.axes, self.group_weights = k, group_axes(axes), group_weights

    def _value(self, x: Tensor) -> Tensor:
        norms = length(x, self.axes)
        u = self._shares(norms, 0.0)
        return (norms.square() / torch.where(u > 0, u, 1)).flatten(1).sum(1) / 2

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        u = self._shares(length(v, self.axes), gamma)
        return v * (u / (u + gamma).clamp_min(_tiny(u)))

    def _shares(self, norms: Tensor, gamma: float | Tensor) -> Tensor:
        """u, shaped like the groups' norms ``(B, ...)``."""
        d = torch.as_tensor(self.group_weights, dtype=norms.dtype, device=norms.device).expand(norms.shape).flatten(1)
        gamma = torch.as_tensor(gamma, dtype=norms.dtype, device=norms.device).reshape(-1, 1)
        return shares(norms.flatten(1) / d.sqrt(), d, gamma, self.k).reshape(norms.shape)


def shares(s: Tensor, d: Tensor, gamma: Tensor, k: float) -> Tensor:
    r"""``u = clip(c s - gamma, 0, 1)`` with ``sum d u = k``, or 1 where all that is not zero fits into k.

    :param s: ``(B, N)``, not below 0.
    :param gamma: ``(B, 1)`` or ``(1, 1)``.
    """
    middle = _piece(s.detach(), d, gamma.detach(), k)
    full = middle * s >= 1 + gamma
    part = (middle * s > gamma) & ~full
    slope = (d * s * part).sum(1, keepdim=True)
    root = (k - (d * full).sum(1, keepdim=True) + gamma * (d * part).sum(1, keepdim=True)) / slope.clamp_min(_tiny(s))
    u = (torch.where(slope > 0, root, middle) * s - gamma).clamp(0, 1)
    fits = (d * (s > 0)).sum(1, keepdim=True) <= k
    return torch.where(fits, (s > 0).to(s.dtype), u)


def _piece(s: Tensor, d: Tensor, gamma: Tensor, k: float) -> Tensor:
    """A point ``(B, 1)`` inside the piece between two breakpoints in which the sum reaches k."""
    seen = s.clamp_min(_tiny(s))
    ends = torch.cat([gamma / seen, (1 + gamma) / seen], 1) * (s > 0).repeat(1, 2)
    ends = ends.sort(1).values
    low = torch.zeros(len(s), 1, dtype=torch.int64, device=s.device)
    high = torch.full_like(low, ends.shape[1] - 1)
    for _ in range(math.ceil(math.log2(ends.shape[1]))):
        middle = (low + high) // 2
        below = (d * (ends.gather(1, middle) * s - gamma).clamp(0, 1)).sum(1, keepdim=True) <= k
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (ends.gather(1, low) + ends.gather(1, high)) / 2


def _tiny(s: Tensor) -> float:
    return torch.finfo(s.dtype).tiny
