"""The delay-and-sum model against its formula written out, its geometry, and deepinv's plane waves in our solvers."""

import math
import subprocess
import sys

import deepinv
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import FullMatrixCapture, PlaneWaveIQ
from resolvent.priors import L1
from resolvent.recon import FISTA, BackProjection

F64, C128 = torch.float64, torch.complex128
SCAN = {
    "elements": [-3e-3, -1e-3, 2e-3], "x": [-2e-3, 0.0, 1e-3, 3e-3], "z": [2e-3, 5e-3, 6e-3], "n_samples": 40,
    "sampling_frequency": 4e6, "carrier_frequency": 3e6, "start_time": 1e-6, "speed_of_sound": 1500.0, "f_number": 0.9,
}  # fmt: skip
ANGLES = [-0.3, 0.0, 0.2]


def plane_waves(**kwargs):
    return PlaneWaveIQ(**({"angles": ANGLES} | SCAN | kwargs))


def full_matrix(**kwargs):
    return FullMatrixCapture(**(SCAN | kwargs))


def written_out(physics, out):
    """The matrix by its formula, one entry at a time; ``out`` gives the way out in metres."""
    matrix = torch.zeros(*physics.data_shape, *physics.image_shape, dtype=C128)
    elements, grid = SCAN["elements"], [(a, b) for a in enumerate(SCAN["z"]) for b in enumerate(SCAN["x"])]
    starts = physics.start_time.expand(physics.data_shape[1]).tolist()
    for i, start in enumerate(starts):
        for j, e in enumerate(elements):
            for (row, z), (column, x) in grid:
                delay = (out(i, x, z) + math.hypot(x - e, z)) / 1500
                gain = abs(x - e) <= z / (2 * 0.9)
                for t in range(40):
                    weight = max(0.0, 1 - abs((delay - start) * 4e6 - t))
                    phase = torch.exp(torch.tensor(-2j * math.pi * 3e6 * delay, dtype=C128))
                    matrix[0, i, j, t, 0, row, column] = gain * weight * phase
    return matrix


@pytest.mark.parametrize(
    "physics, out",
    [
        (plane_waves(), lambda i, x, z: x * math.sin(ANGLES[i]) + z * math.cos(ANGLES[i])),
        (full_matrix(), lambda i, x, z: math.hypot(x - SCAN["elements"][i], z)),
        (
            plane_waves(start_time=[1e-6, 0.0, 1.1e-6]),
            lambda i, x, z: x * math.sin(ANGLES[i]) + z * math.cos(ANGLES[i]),
        ),
        (full_matrix(transmitters=[5e-4, -2e-3]), lambda i, x, z: math.hypot(x - [5e-4, -2e-3][i], z)),
    ],
    ids=["plane waves", "full matrix", "a start for each wave", "two transmitters"],
)
def test_is_its_formula(physics, out):
    x = torch.randn(2, *physics.image_shape, dtype=C128)
    expected = torch.einsum("cijtdzx,bdzx->bcijt", written_out(physics, out), x)
    assert_close(physics.A(x), expected, rtol=0, atol=1e-10)
    assert expected.abs().sum((0, 1, 4)).count_nonzero() == 3 * physics.data_shape[1]


def test_a_full_matrix_is_reciprocal():
    """Without an aperture transmitter and receiver may change places."""
    y = full_matrix(f_number=0.0).A(torch.randn(1, 1, 3, 4, dtype=C128))
    assert_close(y, y.transpose(2, 3))


def test_opposite_angles_mirror_the_image():
    elements, x = [-3e-3, -1e-3, 1e-3, 3e-3], [-2e-3, -1e-3, 1e-3, 2e-3]
    image = torch.randn(1, 1, 3, 4, dtype=C128)
    left = plane_waves(angles=[-0.25], elements=elements, x=x).A(image)
    right = plane_waves(angles=[0.25], elements=elements, x=x).A(image.flip(-1))
    assert_close(left, right.flip(-2))


@pytest.mark.parametrize("f_number, expected", [(0.0, 81), (0.5, 81), (1.0, 41), (2.0, 21)])
def test_aperture_is_depth_over_f_number(f_number, expected):
    """A pixel 8 mm deep is heard by the elements within 8 mm / F of each other."""
    elements = torch.arange(-40, 41, dtype=F64) * 2e-4 * (1 - 1e-9)
    physics = plane_waves(angles=[0.0], elements=elements, x=[0.0], z=[8e-3], n_samples=100, f_number=f_number)
    heard = physics.A(torch.ones(1, 1, 1, 1, dtype=C128)).abs().sum(-1).flatten()
    assert int((heard > 0).sum()) == expected


@pytest.mark.parametrize("f_number", [0.0, 0.9])
def test_column_norms(f_number):
    physics = plane_waves(f_number=f_number)
    matrix = physics.A(torch.eye(12, dtype=C128).reshape(12, 1, 3, 4)).flatten(1)
    expected = torch.linalg.vector_norm(matrix, dim=1).float()
    torch.set_default_dtype(torch.float64)
    try:
        assert_close(physics.column_norms().flatten(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_entries_kept_or_recomputed_give_the_same_data():
    x, y = torch.randn(2, 1, 3, 4, dtype=C128), torch.randn(2, 1, 3, 3, 40, dtype=C128)
    kept, recomputed = plane_waves(), plane_waves(memory_budget=1)
    assert_close(kept.A(x), recomputed.A(x), rtol=1e-12, atol=1e-12)
    assert_close(kept.A_adjoint(y), recomputed.A_adjoint(y), rtol=1e-12, atol=1e-12)
    assert kept._matrices(C128) is not None and recomputed._matrices(C128) is None


@pytest.mark.parametrize("dtype, per_entry", [(torch.complex64, 28), (C128, 44)])
def test_memory_budget_is_of_all_entries(dtype, per_entry):
    entries = int(plane_waves()._matrices(dtype).matrix.values().numel())
    assert plane_waves(memory_budget=entries * per_entry)._matrices(dtype) is not None
    assert plane_waves(memory_budget=entries * per_entry - 1)._matrices(dtype) is None


def test_entries_are_made_once_where_the_operator_stays(monkeypatch):
    physics, x = plane_waves(), torch.randn(1, 1, 3, 4)
    expected = physics.A(x)
    monkeypatch.setattr(physics, "_blocks", None)
    assert torch.equal(physics.cpu().float().A(x), expected)


def test_keeping_the_entries_warns_of_nothing():
    """In a process of its own, since torch says what it has to say once."""
    code = (
        "import torch; from resolvent.operators import PlaneWaveIQ;"
        "p = PlaneWaveIQ([0.0], [0.0, 1e-3], [0.0, 1e-3], [1e-3, 2e-3], 9, 4e6, 3e6);"
        "p.A(torch.ones(1, 1, 2, 2)); p.A_adjoint(torch.ones(1, 1, 1, 2, 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "beta" not in done.stderr and "invariant" not in done.stderr


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"x": [0.0, 0.0]}, "x: found a coordinate not above the one before it, expected an increasing axis"),
        ({"z": [2e-3, 1e-3]}, "z: found a coordinate not above"),
        ({"z": [-1e-3, 1e-3]}, "z: found -0.001 m, expected depths not below 0"),
        ({"elements": [[0.0, 0.0, 0.0]]}, r"elements: found shape \(1, 3\), expected a finite vector"),
        ({"n_samples": 0}, "n_samples: found 0, expected a number above 0"),
        ({"sampling_frequency": -1.0}, "sampling_frequency: found -1"),
        ({"speed_of_sound": float("inf")}, "speed_of_sound: found inf"),
        ({"memory_budget": 0}, "memory_budget: found 0"),
        ({"carrier_frequency": -1.0}, "carrier_frequency: found -1, expected a number not below 0"),
        ({"f_number": float("nan")}, "f_number: found nan"),
        ({"start_time": float("nan")}, "start_time: found nan"),
        ({"start_time": [0.0, 1e-6]}, r"start_time: found shape \(2,\), expected finite seconds, one or 3"),
        ({"angles": [2.0]}, "angles: found 2 rad, expected less than a right angle"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message):
        plane_waves(**wrong)


# -- real radio-frequency data: deepinv's operator --------------------------------------------------
#: An F-number at which no element lies on the rim of an aperture, where rounding would decide.
START, F_NUMBER, RATE, CARRIER, STEERING = 4e-6, 2**0.5, 40e6, 5e6, (-0.1, 0.1)
ELEMENTS = (torch.arange(32, dtype=F64) - 15.5) * 3e-4
X, Z = torch.linspace(-2e-3, 2e-3, 21, dtype=F64), torch.linspace(5e-3, 7e-3, 41, dtype=F64)


def radio_frequency(**kwargs):
    """deepinv's operator: a record from ``START`` on means ``t0 = -START``; its F-number is of half the aperture."""
    grid = torch.stack(torch.meshgrid(X, Z, indexing="xy"), -1).float()
    place = torch.stack([ELEMENTS, 0 * ELEMENTS], 1).float()
    return deepinv.physics.UltrasoundPlaneWave(
        (41, 21), torch.tensor(STEERING), place, 400, RATE, 1540.0, t0=-START, pixel_grid=grid, f_number=2 * F_NUMBER,
        **kwargs,
    )  # fmt: skip


def test_deepinv_is_the_same_model_without_a_carrier():
    ours = PlaneWaveIQ(STEERING, ELEMENTS, X, Z, 400, RATE, 0.0, START, 1540.0, F_NUMBER)
    x = torch.randn(1, 1, 41, 21)
    expected, found = radio_frequency().A(x), ours.A(x)
    assert found.imag.abs().max() == 0
    assert torch.linalg.vector_norm(found.real - expected) < 1e-4 * torch.linalg.vector_norm(expected)


def pulse():
    """Three cycles under a Gaussian, an odd number of samples around its centre."""
    time = torch.arange(-20, 21) / RATE
    return torch.exp(-((time / 2e-7) ** 2)) * torch.cos(2 * math.pi * CARRIER * time)


def test_our_solver_runs_deepinvs_operator():
    """Two scatterers a wavelength apart, from real RF data: sparse recovery puts them where they are."""
    physics, truth = radio_frequency(pulse=pulse()), torch.zeros(1, 1, 41, 21)
    truth[0, 0, 18, 10], truth[0, 0, 24, 13] = 1.0, -0.8
    image = FISTA(L1(0.2), max_iter=60)(physics.A(truth), physics)
    assert torch.equal(image.abs().flatten().topk(2).indices.sort().values, truth.flatten().nonzero().flatten())
    focused = BackProjection()(physics.A(truth), physics)
    assert spread(image) < 0.3 * spread(focused)


def spread(x):
    """Share of the energy outside the two brightest pixels."""
    energy = x.abs().square().flatten()
    return float(1 - energy.topk(2).values.sum() / energy.sum())
