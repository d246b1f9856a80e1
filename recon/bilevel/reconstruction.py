r"""A reconstruction as the lower level, its parameters any tensors of its priors or operator.

.. math:: h(x, \theta) = \tfrac12 \|A x - y\|^2 + \sum_i \lambda_i R_i(x), \qquad
          \mu = \lambda_{\min}(A^H A) - \sum_i \lambda_i \rho_i, \qquad L = \|A\|^2 + \sum_i \lambda_i L_i,

with R_i smooth: its gradient has the Lipschitz constant L_i (``lipschitz``), and R_i plus
:math:`\tfrac{\rho_i}2 \|x\|^2` is convex (``weak_convexity``). Tikhonov's rho is -1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import deepinv
import torch
from torch import Tensor, nn

from ...priors import Prior, Sum, Tikhonov
from ..problem import Problem
from .lower_level import LowerLevel
from .parameters import Parameters


class Reconstruction(LowerLevel):
    """The smooth problem that :class:`~resolvent.recon.ConjugateGradient` solves, for learning.

    :param problem: data, operator and priors, each with a gradient and ``lipschitz``.
    :param learn: names such as ``prior.weight``, ``prior.layers.0``, ``priors.1.weight``, ``physics.kernel``.
    :param logarithmic: those of them whose logarithm is learned; ``relative`` those in units of their own size.
    :param least_eigenvalue: ``lambda_min(A^H A)``; if None 1 for deepinv's Denoising, 0 for all others.
    :param start: images to begin with; ``A^H y`` if None.
    :raises TypeError: if a prior is not smooth.
    """

    def __init__(
        self,
        problem: Problem,
        learn: Sequence[str],
        logarithmic: Sequence[str] = (),
        least_eigenvalue: float | None = None,
        start: Tensor | None = None,
        relative: Sequence[str] = (),
    ):
        for prior in terms(problem.priors):
            _demand_smooth(prior)
        denoising = isinstance(problem.physics, deepinv.physics.Denoising)
        self.least_eigenvalue = float(denoising) if least_eigenvalue is None else least_eigenvalue
        self.problem, self._start = problem, start
        modules = {"priors": nn.ModuleList(problem.priors), "physics": problem.physics}
        if len(problem.priors) == 1:
            modules["prior"] = problem.priors[0]
        self.parameters = Parameters(modules, learn, logarithmic, relative)
        self._operator_learned = any(name.startswith("physics.") for name in learn)

    def theta(self) -> Tensor:
        """The parameters as they are, ``(p,)``; differentiable to the modules' own."""
        return self.parameters.gather()

    def at(self, theta: Tensor) -> Problem:
        """The problem with the parameters ``theta``."""
        modules = self.parameters.substituted(theta)
        problem = Problem(self.problem.y, modules["physics"]) if self._operator_learned else copy.copy(self.problem)
        problem.priors = (modules["prior"],) if "prior" in modules else tuple(modules["priors"])
        return problem

    def gradient(self, x: Tensor, theta: Tensor) -> Tensor:
        problem = self.at(theta)
        return problem.gradient(x) + sum(p.grad(x) for p in problem.priors)

    def start(self) -> Tensor:
        return self.problem.back_projection if self._start is None else self._start

    def strong_convexity(self, theta: Tensor) -> Tensor:
        bends = [least_bend(p) for p in terms(self.at(theta).priors)]
        return sum(bends, start=torch.zeros_like(theta[0]) + self.least_eigenvalue)

    def smoothness(self, theta: Tensor) -> Tensor:
        problem = self.at(theta)
        bends = [largest_bend(p) for p in terms(problem.priors)]
        return sum(bends, start=torch.zeros_like(theta[0]) + problem.lipschitz)


def terms(priors: Sequence[Prior]) -> Iterator[Prior]:
    """The priors, those of a sum one by one."""
    for prior in priors:
        yield from terms(prior.priors) if isinstance(prior, Sum) else (prior,)


def least_bend(prior: Prior) -> Tensor:
    """A bound from below on the eigenvalues of the Hessian of ``weight R``."""
    least = 1.0 if isinstance(prior, Tikhonov) else -prior.weak_convexity
    return torch.minimum(_weights(prior) * least, _weights(prior) * prior.lipschitz).amin()


def largest_bend(prior: Prior) -> Tensor:
    """A bound from above on their magnitude."""
    return (_weights(prior).abs() * torch.as_tensor(prior.lipschitz)).amax()


def _demand_smooth(prior: Prior) -> None:
    try:
        smooth = prior.has_grad and bool(torch.as_tensor(prior.lipschitz) >= 0)
    except (AttributeError, NotImplementedError):
        smooth = False
    if not smooth:
        raise TypeError(
            f"Reconstruction: found {type(prior).__name__}, expected priors with a gradient and its Lipschitz "
            "constant; implicit_solve takes all others"
        )


def _weights(prior: Prior) -> Tensor:
    return torch.as_tensor(prior.weight)
