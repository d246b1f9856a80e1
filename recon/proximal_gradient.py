r"""Proximal gradient descent and its accelerated form.

.. math:: x_{k+1} = \operatorname{prox}_{\gamma \lambda R}\big(w_k - \gamma A^H(A w_k - y)\big), \qquad
          w_k = x_k + \tfrac{t_{k-1} - 1}{t_k} (x_k - x_{k-1}) .

With w = x the plain method. FISTA: Beck and Teboulle, SIAM J. Imaging Sci. 2:183 (2009); restarted where
the momentum points uphill: O'Donoghue and Candes, Found. Comput. Math. 15:715 (2015); and where the steps
:math:`d_k = x_k - x_{k-1}` turn, :math:`\|d_{k+1} - d_k\| > \|d_k\|`. Those that only grow never do. A proximal
operator that lags behind, as total variation's of few inner steps, else keeps the images going round in circles.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from ..operators.norm import TINY
from ..priors.prior import prox_prior, start_prior
from .problem import Problem, inner, norms, per_image, plus
from .solver import Solver
from .stopping import Criterion


class DescentState(NamedTuple):
    """The image and the inner state of the prior."""

    x: Tensor
    aux: tuple[Tensor, ...]


class ProximalGradient(Solver):
    """Forward-backward splitting for one prior.

    :param prior: any prior with a prox.
    :param step_size: gamma; ``1 / ||A||^2`` if None.
    """

    takes = (1, 1)

    def __init__(
        self,
        prior: AnyPrior,
        step_size: float | None = None,
        max_iter: int = 500,
        stop: Criterion | None = None,
    ):
        super().__init__(prior, max_iter, stop)
        if step_size is not None and not step_size > 0:
            raise ValueError(f"step_size: found {step_size}, expected a number above 0")
        self.step_size = step_size

    def _gamma(self, problem: Problem) -> float:
        return 1 / problem.lipschitz if self.step_size is None else self.step_size

    def _descend(self, problem: Problem, w: Tensor, aux: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        gamma = self._gamma(problem)
        return prox_prior(self.priors[0], plus(w, -gamma, problem.gradient(w)), gamma, aux)

    def init(self, problem: Problem, x0: Tensor | None) -> DescentState:
        x = torch.zeros_like(problem.back_projection) if x0 is None else x0
        return DescentState(x, start_prior(self.priors[0], x))

    def step(self, problem: Problem, state: DescentState) -> DescentState:
        return DescentState(*self._descend(problem, state.x, state.aux))

    def optimality(self, problem: Problem, state: DescentState) -> Tensor:
        r"""``||x - T(x)|| / ||x||``, the gradient mapping over the step and the image's norm."""
        x, _ = self._descend(problem, state.x, state.aux)
        return norms(x - state.x) / norms(state.x).clamp_min(TINY)


class FistaState(NamedTuple):
    """The image, the extrapolated point, the momentum number t and the inner state of the prior."""

    x: Tensor
    w: Tensor
    t: Tensor
    aux: tuple[Tensor, ...]


class FISTA(ProximalGradient):
    """Accelerated proximal gradient with per-image restart; parameters as :class:`ProximalGradient`."""

    def init(self, problem: Problem, x0: Tensor | None) -> FistaState:
        x, aux = super().init(problem, x0)
        return FistaState(x, x, torch.ones(len(x), dtype=x.real.dtype, device=x.device), aux)

    def step(self, problem: Problem, state: FistaState) -> FistaState:
        x, aux = self._descend(problem, state.w, state.aux)
        moved = x - state.x
        along, size = inner(state.w - state.x, moved), inner(moved, moved)
        uphill, turned = along > size, along < _momentum(state.t) * size / 2
        t = torch.where(uphill | turned, 1, state.t)
        following = (1 + torch.sqrt(1 + 4 * t * t)) / 2
        w = torch.addcmul(x, per_image((t - 1) / following, x), moved)
        return FistaState(x, w, following, aux)


def _momentum(t: Tensor) -> Tensor:
    """``(t_{k-1} - 1) / t_k`` from ``t_k``: the share of the last step that is taken once more."""
    return ((t * (t - 1)).clamp_min(1).sqrt() - 1) / t
