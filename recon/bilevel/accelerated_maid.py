r"""MAID with spectral steps and a reference that f may exceed for a while.

.. math:: \alpha = \frac{\langle s, s\rangle}{\langle s, y\rangle}, \qquad
          s = \theta_k - \theta_{k-1},\; y = z_k - z_{k-1}; \qquad
          C_k = \frac{\kappa Q_{k-1} C_{k-1} + \mathrm{Lo}(\theta_k)}{Q_k}, \quad Q_k = \kappa Q_{k-1} + 1,

with C in place of Lo in MAID's line search, which goes on to longer steps where the accuracy does not tell: each
accepted f lies below a mean of those before by :math:`\lambda\alpha\|z\|^2` for certain. Barzilai and Borwein, IMA J.
Numer. Anal. 8:141 (1988); Zhang and Hager, SIAM J. Optim. 14:1043 (2004).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .maid import GLANCE, MAID, Trial
from .method import State
from .upper_level import UpperLevel

#: Gradients of a trial over those of the last step that was taken, at most; a dearer one is too long a step.
DEARER = 4
#: Ever shorter steps whose f is not told from the reference before the search gives up.
UNCLEAR = 2


class AcceleratedMAID(MAID):
    r"""Parameters as :class:`MAID`.

    :param inertia: kappa, from 0 (monotone) to 1 (the mean of all).
    :param limits: of alpha; where f is not convex along s it grows by 1 / rho.
    :param gain: done where a spectral step promises to lower f by less than this share of it,
        :math:`\tfrac12 \alpha \|z\|^2 \le \text{gain} \cdot |f|`; or where f is no more than the truth's would be.
    """

    def __init__(
        self,
        *args: float,
        inertia: float = 0.85,
        limits: tuple[float, float] = (1e-10, 1e10),
        gain: float = 0.0,
        **kwargs: float,
    ):
        super().__init__(*args, **kwargs)
        if not 0 <= inertia <= 1:
            raise ValueError(f"inertia: found {inertia}, expected a number from 0 to 1")
        if not 0 <= gain < 1:
            raise ValueError(f"gain: found {gain}, expected a number from 0 to below 1")
        self.inertia, self.limits, self.gain = inertia, limits, gain

    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        """The memory is MAID's, the theta and z before, C and Q, and what the last images cost."""
        state = super().init(upper, theta)
        none, one = torch.full_like(theta, torch.nan), torch.ones_like(state.low)
        return state._replace(memory=(*state.memory, none, none, state.low, one, state.gradients))

    def _inexact_gradient(self, upper: UpperLevel, state: State) -> State:
        if state.high <= upper.loss.floor:
            return state._replace(finished=torch.tensor(True))
        state = super()._inexact_gradient(upper, state)
        alpha = self._spectral(state)
        little = alpha is not None and alpha * state.gradient.square().sum() / 2 <= self.gain * state.high.abs()
        return state._replace(finished=torch.tensor(True)) if little else state

    def _first_step(self, state: State) -> Tensor:
        alpha, kept = self._spectral(state), super()._first_step(state)
        first = bool(state.memory[2].isnan().any())
        return kept if first else kept / self.shrink if alpha is None else alpha

    def _spectral(self, state: State) -> Tensor | None:
        """alpha, where f is convex along the last step; None elsewhere and before any."""
        s, y = state.theta - state.memory[2], state.gradient - state.memory[3]
        bend = torch.dot(s, y)
        return (s.square().sum() / bend).clamp(*self.limits) if bend > 0 else None

    def _line_search(self, upper: UpperLevel, state: State) -> tuple[State, Trial | None]:
        """Longer steps until f can be told from what it must fall below, or shorter ones while it can be."""
        alpha, x0, factor, unclear = self._first_step(state), state.x, None, 0
        for _ in range(int(state.memory[0])):
            state, found = self._tried(upper, state, alpha, x0)
            if found.trial is not None:
                return state, found.trial
            factor = factor or (self.shrink if found.higher else 1 / self.shrink)
            unclear = 0 if found.higher else unclear + 1
            if (factor > 1 and found.higher) or (factor < 1 and unclear == UNCLEAR):
                break
            alpha, x0 = factor * alpha, torch.lerp(state.x, found.x, factor)
        return state, None

    def _reference(self, state: State) -> Tensor:
        return torch.maximum(state.memory[4], state.low)

    def _succeeded(self, state: State, trial: Trial) -> State:
        *_, reference, mass, _ = state.memory
        heavier = self.inertia * mass + 1
        reference = (self.inertia * mass * reference + trial.bounds.low) / heavier
        moved = super()._succeeded(state, trial)
        cost = torch.tensor(trial.solution.gradients)
        return moved._replace(memory=(*moved.memory, state.theta, state.gradient, reference, heavier, cost))

    def _failed(self, state: State) -> State:
        failed = super()._failed(state)
        *others, cost = failed.memory
        return failed._replace(memory=(*others, 2 * cost))

    def _most(self, state: State) -> int:
        return min(self.max_trial_gradients, max(2 * GLANCE, DEARER * int(state.memory[6])))
