r"""When an iteration with a learned proximal network provably converges.

.. math:: 0 < \alpha < 1, \qquad \gamma < 1 / \|A\|^2, \qquad \gamma \lambda \le 1 ,

alpha the network's strong convexity, gamma the step of proximal gradients or of ADMM (whose penalty rho is
:math:`1/\gamma`): R is not convex, so the smooth data term alone must make up for it. Fang, Buchanan and Sulam (ICLR
2024), theorem for PnP-ADMM. Proximal gradients descend at equality, too. The last keeps the proximal step of a
:class:`~resolvent.priors.LearnedProximal` of weight lambda unique; in plug and play it is always that of 1.
"""

from __future__ import annotations

from ..priors import Denoiser, LearnedProximal, LearnedProximalNetwork
from ..priors.prior import largest
from .admm import ADMM
from .problem import Problem
from .proximal_gradient import ProximalGradient
from .solver import Solver


def unmet_conditions(solver: Solver, problem: Problem) -> tuple[str, ...]:
    """One line for each condition of convergence that a solver with a learned proximal network does not meet."""
    networks = [network for prior in solver.priors if (network := learned_network(prior)) is not None]
    weak = [n.strong_convexity for n in networks if not n.strong_convexity > 0]
    unmet = [f"strong_convexity: found {alpha}, expected above 0 for a proof of convergence" for alpha in weak]
    if networks and isinstance(solver, ADMM | ProximalGradient):
        unmet += too_long(solver, problem)
        unmet += [line for prior in solver.priors if isinstance(prior, LearnedProximal)
                  for line in ambiguous(prior, solver._gamma(problem))]  # fmt: skip
    return tuple(unmet)


def learned_network(prior: object) -> LearnedProximalNetwork | None:
    """The learned proximal network of a prior or of a plug-and-play denoiser, if it is one."""
    inner = prior.network if isinstance(prior, LearnedProximal) else getattr(prior, "denoiser", None)
    return (
        inner if isinstance(prior, LearnedProximal | Denoiser) and isinstance(inner, LearnedProximalNetwork) else None
    )


def too_long(solver: ADMM | ProximalGradient, problem: Problem) -> list[str]:
    """The step's condition, if it is not met."""
    product = solver._gamma(problem) * problem.lipschitz
    limit = 1 + 1e-6 if isinstance(solver, ProximalGradient) else 1.0
    if product < limit:
        return []
    return [f"step_size: found {product:.3g} / ||A||^2, expected below 1 / ||A||^2 for a proof of convergence"]


def ambiguous(prior: LearnedProximal, gamma: float) -> list[str]:
    """The condition of a unique proximal step, if it is not met: R is weakly convex with constant 1."""
    product = gamma * float(largest(prior.weight)) * prior.weak_convexity
    if product <= 1 + 1e-6:
        return []
    return [f"step_size times weight: found {product:.3g}, expected at most 1, up to which a proximal step is unique"]
