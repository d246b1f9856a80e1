r"""Hyperparameter optimisation with approximate gradient: accuracies on a schedule, the step from what f does.

.. math:: \theta_{k+1} = P_{[a, b]}\big(\theta_k - z_k / M\big), \qquad \epsilon_k = \delta_k =
          \epsilon_0 r^k,\; \epsilon_0 / k^2 \text{ or } \epsilon_0 / k^3 .

M falls by 5% where g fell by as much as M promises, :math:`g_k \le g_{k-1} + C\epsilon_k + (C + M)\epsilon_{k-1}\|s\| -
M\|s\|^2` with :math:`s = \theta_k - \theta_{k-1}`; where g rose by a fifth it doubles and theta goes back. There is no
certificate, and no descent: with 1/M a little above 2 over f's curvature the rise stays below a fifth, M stays as it
is, and theta goes to and fro for ever. Pedregosa, "Hyperparameter optimization with approximate gradient", ICML (2016).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..problem import norms
from .method import Method, State, demand_solved, differentiated, first_step
from .upper_level import UpperLevel

#: C of the test.
SLACK = 0.25
#: Accuracies below so many rounding units of an image are not asked for.
ROUNDING = 1e3


class HOAG(Method):
    """The original rule of rejection.

    :param eps: the first accuracy.
    :param schedule: the accuracy over the first, of the step's number 1, 2, ...; :func:`geometric` if None.
    :param step_size: 1/M at first; if None as long as moves theta by 1 an entry in the root mean square.
    :param limits: a and b, of every entry of theta.
    """

    def __init__(
        self,
        eps: float = 0.1,
        schedule: Callable[[int], float] | None = None,
        step_size: float | None = None,
        limits: tuple[float, float] = (-6.0, 6.0),
        max_lower: int = 10_000,
    ):
        for name, value in (("eps", eps), ("step_size", 1.0 if step_size is None else step_size)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: found {value}, expected a finite number above 0")
        self.eps, self.schedule, self.step_size = eps, schedule or geometric(), step_size
        self.limits, self.max_lower = limits, max_lower

    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        """The memory is the number of steps, the theta before, and its g."""
        state = self.begin(upper, theta, self.eps, self.eps, self.step_size)
        return state._replace(memory=(torch.tensor(0), theta, torch.full_like(state.low, torch.inf)))

    def step(self, upper: UpperLevel, state: State) -> State:
        number, before, old = state.memory
        state, _ = differentiated(upper, state)
        value = upper.value(state.x, state.theta)
        step = first_step(state)
        rejected = bool(value - old >= 0.2 * old.abs())
        step = step / 2 if rejected else step / 0.95 if self._kept_promise(state, value, step) else step
        theta = before if rejected else (state.theta - step * state.gradient).clamp(*self.limits)
        eps = state.eps.new_tensor(self.eps * self.schedule(int(number) + 1)).clamp_min(finest(state.x))
        solution = upper.lower.solve(theta, float(eps), state.x, self.max_lower)
        demand_solved(solution, float(eps))
        low, high = upper.bounds(solution.x, solution.certificate, theta)
        return state._replace(
            theta=theta, x=solution.x, certificate=solution.certificate, low=low, high=high, eps=eps, delta=eps,
            step_size=step, accepted=torch.tensor(not rejected), gradients=state.gradients + solution.gradients,
            memory=(number + 1, state.theta, value),
        )  # fmt: skip

    def _kept_promise(self, state: State, value: Tensor, step: Tensor) -> bool:
        """Whether g fell by as much as M promises."""
        number, before, old = state.memory
        moved, curvature = torch.linalg.vector_norm(state.theta - before), 1 / step
        earlier = self.eps * self.schedule(max(int(number) - 1, 0))
        promised = SLACK * state.eps + (SLACK + curvature) * earlier * moved - curvature * moved.square()
        return bool(value <= old + promised)


def finest(x: Tensor) -> float:
    """The accuracy of images that rounding leaves within reach."""
    return ROUNDING * torch.finfo(x.dtype).eps * float(norms(x).max())


def geometric(ratio: float = 0.9) -> Callable[[int], float]:
    """``r^k``."""
    return lambda k: ratio**k


def polynomial(power: float) -> Callable[[int], float]:
    """``1 / k^power``, 1 at 0; quadratic and cubic are the usual ones."""
    return lambda k: max(k, 1) ** -power
