r"""Half-quadratic splitting with a falling noise level, plug-and-play's DPIR for a denoiser.

.. math:: \min_x\; \tfrac12\|Ax - y\|^2 + \lambda\sigma^2 R(x): \qquad
          x_k = \arg\min_x \tfrac12\|Ax - y\|^2 + \tfrac{\rho_k}{2}\|x - z_k\|^2, \quad
          z_{k+1} = \operatorname{prox}_{\sigma_k^2 R}(x_k) \approx D_{\sigma_k}(x_k),

.. math:: \rho_k = \lambda\sigma^2 / \sigma_k^2, \qquad
          \sigma_k \text{ from } \tfrac{49}{255} \text{ to } \sigma \text{ in even steps of } \log\sigma_k ,

sigma the standard deviation of the noise and R the negative logarithm of the images' density, so that a denoiser for
noise of variance sigma_k^2 is its proximal step. Geman and Yang, IEEE TIP 4:932 (1995); schedule and lambda = 0.23:
Zhang, Li, Zuo, Zhang, Van Gool and Timofte, IEEE TPAMI 44:6360 (2022).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from ..operators.norm import TINY
from ..priors.prior import prox_prior, start_prior
from .linear import data_prox
from .problem import Problem, norms, one_or_each
from .solver import Solver
from .start import first_image
from .stopping import Criterion, RelativeChange


class SplitState(NamedTuple):
    """``x`` is the split ``z``, the image that the prior shaped; ``steps`` counts them, per image."""

    x: Tensor
    fit: Tensor
    steps: Tensor
    aux: tuple[Tensor, ...]


class HalfQuadratic(Solver):
    r"""Half-quadratic splitting whose penalty grows as its noise level falls, in ``max_iter`` steps.

    Not a minimisation: the schedule ends it. A ``Denoiser(denoiser, sigma=None)`` follows the schedule; one with
    a noise level of its own keeps that.

    :param prior: a prior with a prox, R above.
    :param noise_std: sigma, the total standard deviation of one sample of the data; the operator's noise model
        says it if None.
    :param weight: lambda.
    :param first: the first noise level, in the units of the image.
    :param max_iter: noise levels.
    :param cg_iterations: conjugate gradient steps at most where the data step has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    takes = (1, 1)
    weighs_prior = False
    at_the_end = "completed"

    def __init__(
        self,
        prior: AnyPrior,
        noise_std: float | None = None,
        weight: float = 0.23,
        first: float = 49 / 255,
        max_iter: int = 8,
        stop: Criterion | None = None,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, max_iter, stop or RelativeChange(0))
        for name, value in (("noise_std", noise_std), ("weight", weight), ("first", first)):
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}: found {value}, expected a finite number above 0")
        self.noise_std, self.weight, self.first = noise_std, weight, first
        self.cg_iterations, self.cg_rtol = cg_iterations, cg_rtol

    def schedule(self, problem: Problem) -> Tensor:
        """The noise levels ``(max_iter, B)`` float64, first to last; the first is no lower than the data's."""
        sigma = problem.noise_level(self.noise_std)
        begin, end = sigma.clamp_min(self.first).log(), sigma.log()
        share = torch.linspace(0, 1, self.max_iter, dtype=torch.float64).flip(0)[:, None]
        return (end + share * (begin - end)).exp()

    def init(self, problem: Problem, x0: Tensor | None) -> SplitState:
        x = first_image(problem) if x0 is None else x0
        steps = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return SplitState(x, x, steps, start_prior(self.priors[0], x))

    def step(self, problem: Problem, state: SplitState) -> SplitState:
        variance = self.schedule(problem)[min(int(state.steps.max()), self.max_iter - 1)].square()
        gamma = variance / (self.weight * problem.noise_level(self.noise_std).square())
        fit = data_prox(problem, state.x, gamma, state.fit, self.cg_iterations, self.cg_rtol)
        z, aux = prox_prior(self.priors[0], fit, one_or_each(variance, fit), state.aux)
        return SplitState(z, fit, state.steps + 1, aux)

    def optimality(self, problem: Problem, state: SplitState) -> Tensor:
        """``||z_{k+1} - z_k|| / ||z_k||`` of a further step at the level that comes next, the last one at the end."""
        after = self.step(problem, state)
        return norms(after.x - state.x) / norms(state.x).clamp_min(TINY)
