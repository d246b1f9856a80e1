r"""MAID with spectral steps and a reference that f may exceed for a while.

.. math:: \alpha = \frac{\langle s, s\rangle}{\langle s, y\rangle}, \qquad
          s = \theta_k - \theta_{k-1},\; y = z_k - z_{k-1}; \qquad
          C_k = \frac{\kappa Q_{k-1} C_{k-1} + \mathrm{Lo}(\theta_k)}{Q_k}, \quad Q_k = \kappa Q_{k-1} + 1,

with C in place of Lo in MAID's line search: each accepted f lies below a mean of those before by
:math:`\lambda\alpha\|z\|^2` for certain. Barzilai and Borwein, IMA J. Numer. Anal. 8:141 (1988); Zhang and Hager,
SIAM J. Optim. 14:1043 (2004).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .maid import MAID, Trial
from .method import State
from .upper_level import UpperLevel


class AcceleratedMAID(MAID):
    """Parameters as :class:`MAID`.

    :param inertia: kappa, from 0 (monotone) to 1 (the mean of all).
    :param limits: of alpha; where f is not convex along s it stays as it is.
    """

    def __init__(
        self, *args: float, inertia: float = 0.85, limits: tuple[float, float] = (1e-10, 1e10), **kwargs: float
    ):
        super().__init__(*args, **kwargs)
        if not 0 <= inertia <= 1:
            raise ValueError(f"inertia: found {inertia}, expected a number from 0 to 1")
        self.inertia, self.limits = inertia, limits

    def init(self, upper: UpperLevel, theta: Tensor) -> State:
        """The memory is MAID's, the theta and z before, C and Q."""
        state = super().init(upper, theta)
        none = torch.full_like(theta, torch.nan)
        return state._replace(memory=(*state.memory, none, none, state.low, torch.ones_like(state.low)))

    def _first_step(self, state: State) -> Tensor:
        s, y = state.theta - state.memory[2], state.gradient - state.memory[3]
        bend = torch.dot(s, y)
        return (s.square().sum() / bend).clamp(*self.limits) if bend > 0 else super()._first_step(state) / self.shrink

    def _reference(self, state: State) -> Tensor:
        return torch.maximum(state.memory[4], state.low)

    def _succeeded(self, state: State, trial: Trial) -> State:
        *_, reference, mass = state.memory
        heavier = self.inertia * mass + 1
        reference = (self.inertia * mass * reference + trial.bounds.low) / heavier
        moved = super()._succeeded(state, trial)
        return moved._replace(memory=(*moved.memory, state.theta, state.gradient, reference, heavier))
