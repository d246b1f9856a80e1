r"""All combinations of equally spaced values, one after another.

.. math:: \theta_j \in \{a_j + i\, (b_j - a_j) / (n - 1) : i = 0, \dots, n - 1\} .
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .search import Search, Visited


class Grid(Search):
    """All combinations of some values of each parameter.

    :param low: the least entry of theta, of a weight its logarithm, for all or one each; likewise ``high``.
    :param points: n, of each parameter, evenly apart.
    :param eps: accuracy of the images.
    """

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        points: int,
        eps: float,
        max_lower: int = 10_000,
    ):
        super().__init__(low, high, eps, max_lower)
        if points < 2:
            raise ValueError(f"points: found {points}, expected at least 2")
        self.points = points

    def propose(self, visited: Visited) -> Tensor | None:
        low, high = self.limits(visited)
        index = len(visited.theta) - 1
        if index >= self.points ** len(low):
            return None
        place = torch.unravel_index(torch.tensor(index), (self.points,) * len(low))
        return low + torch.stack(place) * (high - low) / (self.points - 1)
