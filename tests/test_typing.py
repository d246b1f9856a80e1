"""A user's program as the type checker must see it; the checks are pyright's, running it is pytest's."""

from typing import assert_type

import torch
from torch import Tensor

from resolvent.datasets import Measurement, load_measurement, save_measurement
from resolvent.operators import Dense
from resolvent.priors import L1, TV, Magnitude
from resolvent.recon import ADMM, FISTA, Discrepancy, Problem, Solution, magnitude_psnr, objective


def test_public_types(tmp_path):
    physics = Dense(torch.randn(12, 16, dtype=torch.complex64), (1, 4, 4))
    truth = torch.randn(1, 1, 4, 4, dtype=torch.complex64)
    save_measurement(tmp_path / "m.h5", physics.A(truth), physics, truth=truth, noise_std=0.1)
    m = load_measurement(tmp_path / "m.h5")
    assert_type(m, Measurement)
    assert_type(m.noise_std, float | None)

    solver = FISTA(L1(0.1), max_iter=5, stop=Discrepancy(0.1))
    solution = solver.solve(m.y, m.physics, record={"objective": objective})
    assert_type(solution, Solution)
    assert_type(solution.image, Tensor)
    assert_type(solution.status, tuple[str, ...])
    assert_type(solution.history["objective"], Tensor)
    assert_type(solution.iterations, int)

    split = ADMM([Magnitude(TV(0.1)), L1(0.1).scaled(0.5)], max_iter=3)
    assert split(m.y, m.physics).shape == truth.shape
    assert_type(L1(0.1).scaled(0.5), L1)
    assert_type(Problem(m.y, m.physics).lipschitz, float)
    assert_type(magnitude_psnr(solution.image, truth), Tensor)
    assert solution.image.shape == truth.shape
