r"""Brent's search for one parameter: parabolas through three values, golden sections where they mislead.

.. math:: f(a) > f(b) < f(c): \quad \text{a minimum lies between a and c}; \qquad c - a \to 0 .

From the start and a step beside it the way down is followed, by ever longer steps, until three such places are known;
then they are drawn together, until the parabola through them promises little. Brent, "Algorithms for Minimization
without Derivatives", 1973; SciPy's implementation is asked anew at every step, from what was visited alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from .search import Search, Visited

#: SciPy's tolerance is a share of the place. Seen from so far away all places are about alike.
AFAR = 1e3
#: f where it is not to be had: parabolas through infinity are none.
HIGH = 1e200


class _Asked(Exception):
    """A place where f is not known yet."""

    def __init__(self, place: float):
        super().__init__(place)
        self.place = place


class Brent(Search):
    """Parameters as :class:`Search`; of one parameter, of f with one minimum.

    :param first: the first step, of a weight's logarithm 1 is a factor of e.
    :param resolution: of the parameter; a weight is found to about this share of itself.
    :param reach: how far from the start f is looked at.
    :param promise: done where the parabola through the best place and those beside it, no farther off than the first
        step, lies below f by less than this share of f and of all that f was seen to vary; 0 goes on to the resolution.
    """

    def __init__(
        self,
        eps: float = 1e-3,
        first: float = 1.0,
        resolution: float = 0.2,
        reach: float = 10.0,
        promise: float = 0.01,
        max_lower: int = 10_000,
    ):
        super().__init__(-math.inf, math.inf, eps, max_lower)
        if not 0 < resolution < reach < math.inf:
            raise ValueError(f"reach: found {reach} and resolution {resolution}, expected 0 < resolution < reach")
        if not 0 < abs(first) < reach:
            raise ValueError(f"first: found {first}, expected other than 0 and within reach, {reach}")
        if not 0 <= promise < 1:
            raise ValueError(f"promise: found {promise}, expected a number from 0 to below 1")
        self.first, self.resolution, self.reach, self.promise = first, resolution, reach, promise

    def propose(self, visited: Visited) -> Tensor | None:
        if promised(visited, abs(self.first)) < self.promise:
            return None
        start = _number(visited.theta[0])
        known = iter(visited.value.tolist())

        def value(place: float) -> float:
            if abs(place - AFAR) >= self.reach:
                return HIGH
            found = next(known, None)
            if found is None:
                raise _Asked(start + place - AFAR)
            return min(found, HIGH)

        try:
            minimize_scalar(value, bracket=(AFAR, AFAR + self.first), tol=self.resolution / AFAR)
        except _Asked as asked:
            return torch.tensor([asked.place], dtype=torch.float64)
        return None


def promised(visited: Visited, near: float) -> float:
    """How far a parabola's vertex is below the least f, over that or f's range; infinite without such a parabola.

    Over the smaller of the two: f may have a part that no parameter changes, as the noise of data held out, or come
    near to 0, as a discrepancy.
    """
    places, values = np.array(visited.theta[:, 0].tolist()), np.array(visited.value.tolist())
    order = np.argsort(places)
    best = int(np.argmin(values[order]))
    around = order[max(best - 1, 0) : best + 2]
    if len(around) < 3 or not np.isfinite(values[around]).all() or np.diff(places[around]).max() > 1.001 * near:
        return math.inf
    a, b, least = np.polyfit(places[around] - places[order[best]], values[around], 2)
    size = min(abs(least), float(np.ptp(values[np.isfinite(values)])))
    return b**2 / (4 * a * size) if a > 0 and size > 0 else math.inf


def _number(theta: Tensor) -> float:
    """The only parameter.

    :raises ValueError: if there are others.
    """
    if len(theta) != 1:
        raise ValueError(f"found {len(theta)} parameters, expected one for Brent's search; MAID takes several")
    return float(theta)
