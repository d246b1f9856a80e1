"""Search by Optuna's samplers: the tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011) and its others.

The sampler is asked anew at every step, from what was visited and a seed of that step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...operators.extras import require
from .search import Search, Visited


class OptunaSearch(Search):
    """Parameters as :class:`Search`; needs the extra ``tune``.

    :param sampler: makes an Optuna sampler of a seed; the tree-structured Parzen estimator's if None.
    :param max_lower: gradients of one solve at most; parameters that need more count as failed.
    :raises MissingExtra: if Optuna is absent.
    """

    def __init__(
        self,
        low: float | Sequence[float],
        high: float | Sequence[float],
        eps: float,
        seed: int = 0,
        sampler: Callable[[int], Any] | None = None,
        max_lower: int = 10_000,
    ):
        super().__init__(low, high, eps, max_lower)
        self._optuna = require("optuna", "tune")
        self.seed, self.sampler = seed, sampler or (lambda seed: self._optuna.samplers.TPESampler(seed=seed))

    def propose(self, visited: Visited) -> Tensor:
        optuna, (low, high) = self._optuna, self.limits(visited)
        spaces = {
            f"theta{j}": optuna.distributions.FloatDistribution(float(a), float(b))
            for j, (a, b) in enumerate(zip(low, high, strict=True))
        }
        quiet = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            study = optuna.create_study(sampler=self.sampler(self.seed + len(visited.theta)))
            study.add_trials([self._trial(spaces, *seen) for seen in zip(visited.theta, visited.value, strict=True)])
            asked = study.ask(spaces).params
        finally:
            optuna.logging.set_verbosity(quiet)
        return torch.tensor([asked[name] for name in spaces], dtype=torch.float64)

    def _trial(self, spaces: dict[str, Any], theta: Tensor, value: Tensor) -> Any:
        """What was visited, as Optuna keeps it; the start is moved to the limits if it lies beyond."""
        inside = {name: min(max(float(t), s.low), s.high) for (name, s), t in zip(spaces.items(), theta, strict=True)}
        failed = not bool(value.isfinite())
        create, states = self._optuna.trial.create_trial, self._optuna.trial.TrialState
        if failed:
            return create(params=inside, distributions=spaces, state=states.FAIL)
        return create(params=inside, distributions=spaces, value=float(value))
