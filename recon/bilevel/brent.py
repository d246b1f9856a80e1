r"""Brent's search for one parameter: parabolas through three values, golden sections where they mislead.

.. math:: f(\theta_{k+1}) \approx \min, \qquad |\theta_{k+1} - \theta^*| \to \text{resolution}

for an f with one minimum between two limits. Brent, "Algorithms for Minimization without Derivatives", 1973; SciPy's
implementation is asked anew at every step, from what was visited alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from .search import Search, Visited


class _Asked(Exception):
    """A place where f is not known yet."""

    def __init__(self, place: float):
        super().__init__(place)
        self.place = place


class Brent(Search):
    """Parameters as :class:`Search`; of one parameter, of f with one minimum.

    :param resolution: of the parameter; a weight, by its logarithm, is found to about this share of itself.
    """

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        eps: float,
        resolution: float = 0.1,
        max_lower: int = 10_000,
    ):
        super().__init__(low, high, eps, max_lower)
        if not resolution > 0:
            raise ValueError(f"resolution: found {resolution}, expected a number above 0")
        self.resolution = resolution

    def propose(self, visited: Visited) -> Tensor | None:
        low, high = (float(limit) for limit in self._of_one(visited))
        known = iter(visited.value[1:].tolist())

        def value(place: float) -> float:
            found = next(known, None)
            if found is None:
                raise _Asked(place)
            return found

        try:
            minimize_scalar(value, bounds=(low, high), method="bounded", options={"xatol": self.resolution})
        except _Asked as asked:
            return torch.tensor([asked.place], dtype=torch.float64)
        return None

    def _of_one(self, visited: Visited) -> tuple[Tensor, Tensor]:
        low, high = self.limits(visited)
        if len(low) != 1:
            raise ValueError(f"found {len(low)} parameters, expected one for Brent's search; MAID takes several")
        return low, high
