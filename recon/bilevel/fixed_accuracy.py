r"""Gradient descent at accuracies that are chosen once: what a bilevel method must beat.

.. math:: g\big(x(\theta - \alpha z)\big) \le g\big(x(\theta)\big) - \lambda \alpha \|z\|^2, \qquad
          \alpha \leftarrow \bar\rho \alpha \text{ after success},

of images to :math:`\epsilon`, taken for exact. It ends where no step passes: at coarse accuracies short of the optimum.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .method import Method, State, differentiated, first_step
from .upper_level import UpperLevel


class FixedAccuracy(Method):
    """Descent with backtracking.

    :param eps: accuracy of the lower level's images; ``delta`` of q, the same if None.
    :param step_size: alpha at first; if None what moves theta by 1 an entry in the root mean square.
    :param shrink: rho; ``grow`` rho_bar.
    :param decrease: lambda.
    :param max_trials: steps tried at most.
    :param max_trial_gradients: of one trial's solve; a trial that needs more is rejected.
    """

    def __init__(
        self,
        eps: float,
        delta: float | None = None,
        step_size: float | None = None,
        shrink: float = 0.5,
        grow: float = 10 / 9,
        decrease: float = 1e-4,
        max_trials: int = 30,
        max_trial_gradients: int = 500,
    ):
        lengths = {"eps": eps, "delta": eps if delta is None else delta, "step_size": step_size or 1.0}
        for name, value in lengths.items():
            if not 0 < value < float("inf"):
                raise ValueError(f"{name}: found {value}, expected a finite number above 0")
        if max_trials < 1:
            raise ValueError(f"max_trials: found {max_trials}, expected at least 1")
        self.eps, self.delta, self.step_size = eps, eps if delta is None else delta, step_size
        self.shrink, self.grow, self.decrease = shrink, grow, decrease
        self.max_trials, self.max_trial_gradients = max_trials, max_trial_gradients

    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        return self.begin(upper, theta, self.eps, self.delta, self.step_size)

    def step(self, upper: UpperLevel, state: State) -> State:
        state, found = differentiated(upper, state)
        value, square = upper.value(state.x, state.theta), found.value.square().sum()
        longest = first_step(state)
        for i in range(self.max_trials):
            alpha = self.shrink**i * longest
            theta = state.theta - alpha * found.value
            solution = upper.lower.solve(theta, self.eps, state.x, self.max_trial_gradients)
            state = state._replace(gradients=state.gradients + solution.gradients)
            if solution.solved and upper.value(solution.x, theta) <= value - self.decrease * alpha * square:
                low, high = upper.bounds(solution.x, solution.certificate, theta)
                return state._replace(
                    theta=theta, x=solution.x, certificate=solution.certificate, low=low, high=high,
                    step_size=self.grow * alpha, accepted=torch.tensor(True),
                )  # fmt: skip
        return state._replace(accepted=torch.tensor(False), finished=torch.tensor(True))
