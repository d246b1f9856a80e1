r"""Search without derivatives: propose parameters, solve the lower level to one accuracy, keep the best.

.. math:: \theta^* \approx \arg\min_{k}\; f(\theta_k) .
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .lower_level import LowerSolution
from .method import Method, State
from .upper_level import UpperLevel


class Visited(NamedTuple):
    """What a search has seen.

    :param theta: parameters ``(k, p)``.
    :param value: their f, ``(k,)``; infinite where the lower level was not solved.
    :param x: what the next images begin from: the last ones, or where one did not come to rest, nothing. An image then
        is that of its parameters alone, whatever was visited before.
    """

    theta: Tensor
    value: Tensor
    x: Tensor


class Search(Method):
    """Base class of the searches; a subclass proposes. The state's theta is the best so far.

    :param low: the least value of each parameter, or of all; likewise ``high``.
    :param eps: accuracy of the lower level's images.
    """

    def __init__(
        self, low: float | Sequence[float], high: float | Sequence[float], eps: float, max_lower: int = 10_000
    ):
        self.low, self.high = torch.as_tensor(low, dtype=torch.float64), torch.as_tensor(high, dtype=torch.float64)
        if not bool((self.low < self.high).all()):
            raise ValueError(f"low: found {low} and high {high}, expected low below high")
        if not eps > 0:
            raise ValueError(f"eps: found {eps}, expected a number above 0")
        self.eps, self.max_lower = eps, max_lower

    @abstractmethod
    def propose(self, visited: Visited) -> Tensor | None:
        """The next parameters ``(p,)``; None at the end."""

    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        for name, ends in (("low", self.low), ("high", self.high)):
            if ends.ndim and ends.shape != theta.shape:
                raise ValueError(f"{name}: found {len(ends)} values, expected one, or one for each of {len(theta)}")
        state = self.begin(upper, theta, self.eps, self.eps, 0.0)
        return state._replace(memory=Visited(theta[None], upper.value(state.x, theta)[None], upper.lower.start()))

    def step(self, upper: UpperLevel, state: State) -> State:
        visited = Visited(*state.memory)
        theta = self.propose(visited)
        if theta is None:
            return state._replace(accepted=torch.tensor(False), finished=torch.tensor(True))
        theta = theta.to(state.theta)
        solution = upper.lower.solve(theta, self.eps, visited.x, self.max_lower)
        value = upper.value(solution.x, theta) if solution.solved else torch.full_like(visited.value[0], torch.inf)
        better = bool(value < visited.value.amin())
        seen = Visited(
            torch.cat([visited.theta, theta[None]]), torch.cat([visited.value, value[None]]),
            self._resting(upper, solution) if solution.solved else visited.x,
        )  # fmt: skip
        state = state._replace(
            accepted=torch.tensor(better), gradients=state.gradients + solution.gradients, memory=seen
        )  # fmt: skip
        if not better:
            return state
        low, high = upper.bounds(solution.x, solution.certificate, theta)
        return state._replace(theta=theta, x=solution.x, certificate=solution.certificate, low=low, high=high)

    def _resting(self, upper: UpperLevel, solution: LowerSolution) -> Tensor:
        """The images at rest, the others begun anew."""
        resting = solution.resting.reshape(-1, *[1] * (solution.x.ndim - 1))
        return torch.where(resting, solution.x, upper.lower.start())

    def limits(self, visited: Visited) -> tuple[Tensor, Tensor]:
        """``low`` and ``high`` of each parameter."""
        size = visited.theta.shape[1:]
        return self.low.expand(size), self.high.expand(size)
