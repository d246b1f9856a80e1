"""The conditions under which iterations with a learned proximal network converge."""

import pytest
import torch

from resolvent.operators import Dense
from resolvent.priors import L1, Denoiser, LearnedProximal, LearnedProximalNetwork, PixelPotential
from resolvent.recon import ADMM, FISTA, Problem, ProximalGradient, unmet_conditions


@pytest.fixture
def problem():
    """An operator of norm 2."""
    return Problem(torch.ones(1, 4), Dense(2 * torch.eye(4), (1, 2, 2)))


def network(alpha):
    return LearnedProximalNetwork(PixelPotential(hidden=4, layers=2), alpha)


@pytest.mark.parametrize("wrap", [LearnedProximal, Denoiser], ids=["prior", "plug and play"])
def test_steps(problem, wrap):
    prior = wrap(network(0.1))
    assert unmet_conditions(ADMM(prior, 0.24), problem) == ()
    for solver in (ADMM(prior, 0.25), ADMM(prior, 0.9), ProximalGradient(prior, 0.26), FISTA(prior, 1.0)):
        (line,) = unmet_conditions(solver, problem)
        assert line.startswith("step_size: found") and "\n" not in line
    assert unmet_conditions(ProximalGradient(prior), problem) == ()


def test_unique_steps(problem):
    """R's curvature is above -1, so that step times weight may be 1; plug and play has no weight."""
    assert unmet_conditions(ADMM(LearnedProximal(network(0.1), 4.0), 0.24), problem) == ()
    (line,) = unmet_conditions(ADMM(LearnedProximal(network(0.1), 5.0), 0.24), problem)
    assert line.startswith("step_size times weight: found 1.2, expected at most 1")
    prior = LearnedProximal(network(0.1), torch.tensor([1.0, 5.0]))
    assert len(unmet_conditions(ProximalGradient(prior, 0.25), problem)) == 1
    assert len(unmet_conditions(ADMM(Denoiser(network(0.1)), 22.0), problem)) == 1


def test_strong_convexity(problem):
    (line,) = unmet_conditions(ADMM(LearnedProximal(network(0.0)), 0.1), problem)
    assert line.startswith("strong_convexity: found 0.0")


def test_other_priors_are_not_asked(problem):
    assert unmet_conditions(ADMM([L1(), Denoiser(torch.nn.Identity())], 100.0), problem) == ()
