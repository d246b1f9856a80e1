r"""Brent's search for one parameter: parabolas through three values, golden sections where they mislead.

.. math:: f(\theta_{k+1}) \approx \min, \qquad |\theta_{k+1} - \theta^*| \to \text{resolution}

for an f with one minimum between two limits. Brent, "Algorithms for Minimization without Derivatives", 1973; SciPy's
implementation is asked anew at every step, from what was visited alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from .search import Search, Visited

#: SciPy's tolerance is a share of the place. Seen from so far away all places are about alike.
AFAR = 1e3


class _Asked(Exception):
    """A place where f is not known yet."""

    def __init__(self, place: float):
        super().__init__(place)
        self.place = place


class Brent(Search):
    """Parameters as :class:`Search`; of one parameter, of f with one minimum. The first place is the start.

    :param resolution: of the parameter; a weight, by its logarithm, is found to about this share of itself.
    """

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        eps: float,
        resolution: float = 0.2,
        max_lower: int = 10_000,
    ):
        super().__init__(low, high, eps, max_lower)
        if not resolution > 0:
            raise ValueError(f"resolution: found {resolution}, expected a number above 0")
        self.resolution = resolution

    def propose(self, visited: Visited) -> Tensor | None:
        low, start, high = (float(place) for place in self._interval(visited))
        known = iter(visited.value.tolist())

        def value(away: float) -> float:
            place = start + away - AFAR
            if place <= low or place >= high:
                return math.inf
            found = next(known, None)
            if found is None:
                raise _Asked(place)
            return found

        interval = tuple(place - start + AFAR for place in (low, start, high))
        try:
            minimize_scalar(value, bracket=interval, tol=self.resolution / AFAR)
        except _Asked as asked:
            return torch.tensor([asked.place], dtype=torch.float64)
        return None

    def _interval(self, visited: Visited) -> tuple[Tensor, Tensor, Tensor]:
        """The limits and, between them, the start."""
        low, high = self.limits(visited)
        start = visited.theta[0]
        if len(low) != 1:
            raise ValueError(f"found {len(low)} parameters, expected one for Brent's search; MAID takes several")
        if not low < start < high:
            raise ValueError(f"found a start at {float(start):g}, expected between {float(low):g} and {float(high):g}")
        return low, start, high
