r"""Several priors at once, :math:`R(x) = \sum_i R_i(x)`.

.. math:: \operatorname{prox}_{\gamma R}(v) = v - \sum_i p_i, \qquad
          p_i \leftarrow w_i - \tfrac1m \operatorname{prox}_{m\gamma R_i}(m w_i), \quad
          w_i = p_i + \tfrac1m \Big(v - \sum_j p_j\Big) .

The dual of m terms by proximal gradient steps, which are Dykstra's method in parallel (Combettes, J. Convex
Anal. 16:727, 2009), accelerated as in :mod:`resolvent.priors.tv`. Exact in the limit where all R_i are convex.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from .prior import Aux, Prior, largest
from .tv import MOMENTUM


class Sum(Prior):
    """The sum of ``priors``, each with its own weight.

    :param priors: one or more; for a prox, each with one.
    :param iterations: inner steps of one proximal call. A solver hands the dual back, so that few suffice.
    """

    weight_inside = True

    def __init__(self, priors: Sequence[Prior], iterations: int = 20):
        super().__init__()
        if not priors:
            raise ValueError("priors: found none, expected at least one")
        if iterations < 1:
            raise ValueError(f"iterations: found {iterations}, expected at least 1")
        self.priors, self.iterations = torch.nn.ModuleList(priors), iterations
        self.convex = all(p.convex for p in priors)
        self.explicit_prior = self.has_value
        self.weight_over_image = all(p.weight_over_image for p in priors)

    @property
    def has_value(self) -> bool:
        return all(p.has_value for p in getattr(self, "priors", ()))

    @property
    def has_prox(self) -> bool:
        return all(p.has_prox for p in self.priors)

    @property
    def has_grad(self) -> bool:
        return all(p.has_grad for p in self.priors)

    @property
    def lipschitz(self) -> Tensor:
        return torch.stack([largest(p.weight) * p.lipschitz for p in self.priors]).sum()

    @property
    def weak_convexity(self) -> float:
        return sum(float(largest(p.weight)) * float(p.weak_convexity) for p in self.priors if not p.convex)

    def fn(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.stack([p.fn(x, *args, **kwargs) for p in self.priors]).sum(0)

    def grad(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return torch.stack([p.grad(x, *args, **kwargs) for p in self.priors]).sum(0)

    def start(self, x: Tensor) -> Aux:
        """The dual ``(B, m, C, *spatial)``, its extrapolation, and the inner states of the terms."""
        p = torch.stack([torch.zeros_like(x)] * len(self.priors), 1)
        return p, p, tuple(prior.start(x) for prior in self.priors)

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        p, q, inner = aux
        t, m = MOMENTUM, len(self.priors)
        for _ in range(self.iterations):
            w = q + (v - q.sum(1)).unsqueeze(1) / m
            shaped = [r.prox_from(m * w[:, i], m * gamma, inner[i]) for i, r in enumerate(self.priors)]
            ahead = w - torch.stack([z for z, _ in shaped], 1) / m
            t, previous = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
            q = (ahead - p).mul_((previous - 1) / t).add_(ahead)
            p, inner = ahead, tuple(state for _, state in shaped)
        return v - p.sum(1), (p, q, inner)

    @property
    def weighted(self) -> bool:
        return any(p.weighted for p in self.priors)

    def scaled(self, factor: float | Tensor) -> Self:
        return type(self)([p.scaled(factor) for p in self.priors], self.iterations)
