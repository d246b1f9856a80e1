"""What a result says of its own making: cautions that follow from the run, and none that do not."""

import re
from dataclasses import replace

import pytest
import torch
from deepinv.physics import GaussianNoise

from resolvent.apps.record import assemble
from resolvent.datasets import Measurement
from resolvent.operators import Dense
from resolvent.priors import (
    L1,
    GaussianPrior,
    LearnedProximal,
    LearnedProximalNetwork,
    PixelPotential,
    VarianceExploding,
)
from resolvent.recon import (
    ADMM,
    FISTA,
    BackProjection,
    ConstrainedADMM,
    HalfQuadratic,
    MagnitudeChange,
    MomentMatching,
    RelativeChange,
)


@pytest.fixture
def measurement():
    """An operator of norm 2, integer data."""
    physics = Dense(2 * torch.eye(4), (1, 2, 2), noise_model=GaussianNoise(0.1))
    return Measurement(torch.tensor([[1, 2, 3, 4]]), physics, noise_std=0.1)


def warnings(solver, m, about=None):
    with torch.no_grad():
        return assemble(about or {}, m, solver, solver.solve(m.y.float(), m.physics)).record["warnings"]


def test_samples_far_from_the_data_are_said(measurement):
    """A prior of unit variance, data of its range and two hundred times as large."""
    prior = GaussianPrior.dense(torch.zeros(1, 2, 2), torch.eye(4), VarianceExploding(0.01, 20))
    sampler, y = MomentMatching(prior, 100), torch.tensor([[1.0, -1.0, 0.0, 1.0]])
    torch.manual_seed(0)
    assert warnings(sampler, replace(measurement, y=y)) == []
    (line,) = warnings(sampler, replace(measurement, y=200 * y))
    assert re.fullmatch(r"the samples miss the data by ([\d.]+) times the noise: expected images of the range .*", line)
    assert 4 < float(line.split()[6]) < 6, "200 (1 - 4 / 4.01) / 0.1 = 4.99"


def network(alpha):
    return LearnedProximal(LearnedProximalNetwork(PixelPotential(hidden=4, layers=2), alpha))


def test_a_step_too_long_for_a_proof_is_said(measurement):
    assert warnings(ADMM(network(0.1), 0.2, 500, RelativeChange(1e-3)), measurement) == []
    (line,) = warnings(ADMM(network(0.1), 0.5, 500, RelativeChange(1e-3)), measurement)
    assert line.startswith("step_size: found 2 / ||A||^2")


def test_a_stop_far_from_the_optimum_is_said(measurement):
    """An image that rests where a threshold above it keeps it, with the data missed by more than their noise."""
    y = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    missed = ConstrainedADMM(L1(100.0), epsilon=0.1, stop=MagnitudeChange(0.3))
    (line,) = warnings(missed, replace(measurement, y=y))
    assert re.fullmatch(
        r"it stopped moving ([\d.]+) from its optimality condition: a smaller --solver.stop.tol "
        r"\(of --solver.stop MagnitudeChange\) goes on",
        line,
    )
    assert warnings(ConstrainedADMM(L1(0.1), epsilon=0.1, stop=MagnitudeChange(1e-6)), replace(measurement, y=y)) == []


def test_a_schedule_at_its_end_is_no_failure(measurement):
    assert warnings(HalfQuadratic(L1(0.1)), measurement) == []
    assert warnings(BackProjection(), measurement) == []
    (line,) = warnings(FISTA(L1(0.1), max_iter=2, stop=RelativeChange(0)), measurement)
    assert line == "1 of 1 images stopped at max_iter = 2, not converged"


def test_a_noise_level_is_said_to_be_estimated_only_where_it_is(measurement):
    m, finish = replace(measurement, noise_std=None), RelativeChange(1)
    universal, given = {"config": {"strength": "universal"}}, {"config": {"strength": 0.1}}
    (line,) = warnings(FISTA(L1(0.1), stop=finish), m, universal)
    assert line == "the file states no noise level; it was estimated from the data"
    assert warnings(FISTA(L1(0.1), stop=finish), m, given) == []
    assert warnings(BackProjection(), m, universal) == []
    (line,) = warnings(FISTA(L1(0.1), stop=finish), replace(measurement, noise_std=0), universal)
    assert line.startswith("the file states a noise level of 0")


def test_an_image_that_explains_nothing_is_said():
    """Two pixels seen by two of four samples, which hold an eleventh of the energy or all of it."""
    physics, solver = Dense(torch.eye(4)[:, :2], (1, 1, 2)), FISTA(L1(1e-6))
    poor, good = (Measurement(torch.tensor([[1.0, 0, a, a]]), physics) for a in (5**0.5, 0.1))
    (line,) = warnings(solver, poor)
    assert line.startswith("the image explains 9.1 % of the data's energy")
    assert warnings(solver, good) == [] and warnings(solver, replace(poor, noise_std=1.0)) == []
    (line,) = warnings(solver, replace(poor, y=torch.zeros(1, 4)))
    assert line == "the image is zero everywhere: so are the data"
