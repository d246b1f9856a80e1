r"""Constrained ADMM (C-SALSA) for a known noise level.

.. math:: \min_s R(s)\ \text{ subject to }\ \|y - A s\| \le \epsilon, \qquad v_1 = s,\; v_2 = A s:

.. math:: (\kappa I + A^H A)\, s = \kappa (v_1 + d_1) + A^H (v_2 + d_2), \quad
          v_1 = \operatorname{prox}_{R}(s - d_1), \quad v_2 = y + P_\epsilon(A s - d_2 - y),

.. math:: d_1 \leftarrow d_1 - (s - v_1), \qquad d_2 \leftarrow d_2 - (A s - v_2) .

Afonso, Bioucas-Dias and Figueiredo, IEEE TIP 20:681 (2011); with a magnitude prior, Oral and Oktem,
IEEE Trans. Comput. Imaging 10:762 (2024).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from ..operators.norm import TINY, above_zero
from ..priors.prior import prox_prior, start_prior
from .admm import RELATIVE_PENALTY
from .linear import data_prox_with_data
from .problem import Problem, inner, norms, per_image
from .solver import Solver
from .stopping import Criterion, MagnitudeChange


class ConstrainedState(NamedTuple):
    """The image ``s``, its data, the two splits with their duals, the inner state of the prior."""

    x: Tensor
    data: Tensor
    v1: Tensor
    v2: Tensor
    d1: Tensor
    d2: Tensor
    aux: tuple[Tensor, ...]


class ConstrainedADMM(Solver):
    r"""Regularise as strongly as the noise allows: ``||y - A s|| <= epsilon``.

    The prior's weight is its threshold in the units of the image (the prox is taken with step 1), 0.039 in
    the paper for scenes of peak 1; around the prior, :class:`~resolvent.priors.Normalised` makes it relative.

    :param prior: a prior with a prox, such as ``Magnitude(Denoiser(...))``.
    :param epsilon: expected norm of the noise; ``sqrt(M) sigma`` of the M data measured, from the operator's noise
        model, if None.
    :param kappa: penalty of the image split, in the units of ``||A||^2`` (500 for the unnormalised
        operator of the paper, whose squared norm is 4.4e4); that ratio times ``||A||^2`` if None.
    :param cg_iterations: conjugate gradient steps at most where the x-update has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    takes = (1, 1)
    weighs_prior = False

    def __init__(
        self,
        prior: AnyPrior,
        epsilon: float | None = None,
        kappa: float | None = None,
        max_iter: int = 1000,
        stop: Criterion | None = None,
        cg_iterations: int = 5,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, max_iter, stop or MagnitudeChange())
        for name, value in (("epsilon", epsilon), ("kappa", kappa)):
            if value is not None and not value > 0:
                raise ValueError(f"{name}: found {value}, expected a number above 0")
        self.epsilon, self.kappa, self.cg_iterations, self.cg_rtol = epsilon, kappa, cg_iterations, cg_rtol

    def _penalty(self, problem: Problem) -> float:
        return RELATIVE_PENALTY * problem.lipschitz if self.kappa is None else self.kappa

    def _radius(self, problem: Problem) -> float | Tensor:
        if self.epsilon is not None:
            return self.epsilon
        return problem.samples.to(problem.y.real.dtype).sqrt() * problem.noise_level().to(problem.y.real)

    def init(self, problem: Problem, x0: Tensor | None) -> ConstrainedState:
        """From ``x0``, or from ``A^H y`` scaled to fit the data best."""
        s = problem.back_projection if x0 is None else x0
        data = problem.physics.A(s)
        if x0 is None:
            fit = inner(data, problem.y) / above_zero(inner(data, data))
            s, data = per_image(fit, s) * s, per_image(fit, data) * data
        return ConstrainedState(
            s, data, s, data, torch.zeros_like(s), torch.zeros_like(data), start_prior(self.priors[0], s)
        )

    def step(self, problem: Problem, state: ConstrainedState) -> ConstrainedState:
        s, data = self._image_step(problem, state)
        v1, aux = prox_prior(self.priors[0], s - state.d1, 1.0, state.aux)
        v2 = problem.y + _shorten(data - state.d2 - problem.y, self._radius(problem))
        return ConstrainedState(s, data, v1, v2, state.d1 - (s - v1), state.d2 - (data - v2), aux)

    def _image_step(self, problem: Problem, state: ConstrainedState) -> tuple[Tensor, Tensor]:
        """``s`` and ``A s``: the proximal step of the data term at ``v1 + d1`` towards the data ``v2 + d2``."""
        towards = Problem(state.v2 + state.d2, problem.physics)
        z, gamma = state.v1 + state.d1, 1 / self._penalty(problem)
        return data_prox_with_data(towards, z, gamma, state.x, self.cg_iterations, self.cg_rtol)

    def change(self, before: ConstrainedState, now: ConstrainedState) -> Tensor:
        """Of the image, or the larger split: the first image is the point at which the first step is taken."""
        image = norms(now.x - now.v1) / norms(now.x).clamp_min(TINY)
        data = norms(now.data - now.v2) / norms(now.data).clamp_min(TINY)
        return torch.stack([super().change(before, now), image, data]).amax(0)

    def optimality(self, problem: Problem, state: ConstrainedState) -> Tensor:
        """The larger of the split ``||s - v1|| / ||s||`` and of the excess ``||y - A s|| / epsilon - 1``."""
        split = norms(state.x - state.v1) / norms(state.x).clamp_min(TINY)
        excess = norms(state.data - problem.y) / self._radius(problem) - 1
        return torch.maximum(split, excess.clamp_min(0))


def _shorten(q: Tensor, radius: float | Tensor) -> Tensor:
    """Project onto the ball of ``radius``, per image."""
    return q * per_image((radius / norms(q).clamp_min(TINY)).clamp_max(1), q)
