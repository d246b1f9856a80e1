"""The near-field radar against direct sums over voxels, antennas and frequencies."""

import cmath
import itertools
import math

import numpy as np
import pytest
import torch
from compare import relative
from deepinv.physics import LinearPhysics

from resolvent.operators import SPEED_OF_LIGHT, NearFieldMIMO, Scaled, squared_norm
from resolvent.operators.gram import GramFactor, geometry_key

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128


def radar(frequencies=(4e9, 5e9, 6e9, 7e9, 8e9), **kwargs):
    """Antennas off the plane z = 0 and off the axes, so that no symmetry hides an error."""
    generator = torch.Generator().manual_seed(11)
    arguments = {
        "transmitters": 0.05 * torch.randn(3, 3, generator=generator, dtype=F64),
        "receivers": 0.05 * torch.randn(4, 3, generator=generator, dtype=F64),
        "frequencies": torch.tensor(frequencies, dtype=F64),
        "x": [-0.03, 0.0, 0.04],
        "y": [-0.02, 0.05],
        "z": [0.2, 0.23, 0.3, 0.31],
    }
    return NearFieldMIMO(**(arguments | kwargs))


def channels(physics):
    if physics.pairs is not None:
        return [(int(t), int(r)) for t, r in physics.pairs]
    return list(itertools.product(range(len(physics.transmitters)), range(len(physics.receivers))))


def direct(physics, entry):
    """``sum`` in plain Python: ``entry(k, R_t, R_r, z_t, z_r)`` for every datum and voxel, ``(M, N)``."""
    voxels = list(itertools.product(physics.x.tolist(), physics.y.tolist(), physics.z.tolist()))
    rows = []
    for f in physics.frequencies.tolist():
        k = 2 * math.pi * f / physics.propagation_speed
        for t, r in channels(physics):
            tx, rx = physics.transmitters[t].tolist(), physics.receivers[r].tolist()
            rows.append([entry(k, math.dist(tx, v), math.dist(rx, v), v[2] - tx[2], v[2] - rx[2]) for v in voxels])
    matrix = torch.tensor(rows, dtype=C128)
    return matrix if physics.support is None else matrix * physics.support.flatten()


def born(k, rt, rr, *_):
    return cmath.exp(-1j * k * (rt + rr)) / (4 * math.pi * rt * rr)


def image(physics, dtype=C128, batch=2):
    return torch.randn(batch, *physics.image_shape, dtype=dtype)


def data(physics, dtype=C128, batch=2):
    return torch.randn(batch, *physics.data_shape, dtype=dtype)


PAIRS = [[2, 0], [0, 3], [1, 1], [0, 0]]
SETUPS = {
    "full": {},
    "nonuniform": {"frequencies": (4e9, 4.4e9, 7e9)},
    "pairs": {"pairs": PAIRS},
    "pairs, nonuniform": {"pairs": PAIRS, "frequencies": (4e9, 4.4e9, 7e9)},
    "support": {"support": torch.arange(24).reshape(3, 2, 4) % 5 > 0},
    "medium": {"propagation_speed": SPEED_OF_LIGHT / math.sqrt(8)},
}


@pytest.fixture(params=SETUPS, ids=str)
def physics(request):
    return radar(**SETUPS[request.param])


def test_forward_is_the_direct_sum(physics):
    x, y = image(physics), data(physics)
    matrix = direct(physics, born)
    assert relative(physics.A(x).flatten(1), x.flatten(1) @ matrix.mT) < 1e-12
    assert relative(physics.A_adjoint(y).flatten(1), y.flatten(1) @ matrix.conj()) < 1e-12


def test_unit_amplitudes_without_spreading():
    physics = radar(spreading=False)
    matrix = direct(physics, lambda k, rt, rr, *_: cmath.exp(-1j * k * (rt + rr)))
    x = image(physics)
    assert relative(physics.A(x).flatten(1), x.flatten(1) @ matrix.mT) < 1e-12


def test_pairs_are_entries_of_the_full_array():
    full, pairs = radar(), radar(pairs=PAIRS)
    x = image(full)
    t, r = torch.tensor(PAIRS).T
    assert relative(pairs.A(x), full.A(x)[..., t, r]) < 1e-13


def test_all_pairs_are_the_full_array():
    full = radar()
    pairs = radar(pairs=[[t, r] for t in range(3) for r in range(4)])
    y = data(full)
    assert relative(pairs.A_adjoint(y.flatten(3)), full.A_adjoint(y)) < 1e-13


def test_support_is_the_full_operator_on_masked_images():
    support = SETUPS["support"]["support"]
    masked, full = radar(support=support), radar()
    x, y = image(full), data(full)
    assert relative(masked.A(x), full.A(x * support)) < 1e-13
    assert relative(masked.A_adjoint(y), full.A_adjoint(y) * support) < 1e-13


def test_medium_is_a_frequency_scale():
    slow = radar(propagation_speed=SPEED_OF_LIGHT / 2)
    fast = radar(frequencies=(8e9, 10e9, 12e9, 14e9, 16e9))
    x = image(slow)
    assert relative(slow.A(x), fast.A(x)) < 1e-12


def test_recurrence_and_stored_spectrum_agree_on_many_frequencies():
    """251 frequencies: the rounding of the recurrence does not grow into the result."""
    grid = torch.linspace(4e9, 16e9, 251, dtype=F64)
    uniform, shuffled = radar(grid.tolist()), radar(grid.flip(0)[torch.arange(250, -1, -1).roll(1)].tolist())
    x = image(uniform)
    order = torch.arange(251).roll(1)
    assert relative(uniform.A(x)[:, :, order], shuffled.A(x)) < 1e-11
    single = uniform.A(x.to(C64))
    assert relative(single.to(C128), uniform.A(x)) < 2e-5


@pytest.mark.parametrize("voxels", [1, 63, 64, 65, 129, 1000])
@pytest.mark.parametrize("budget", [2000, 2**29])
def test_any_number_of_voxels_fits_the_blocks(voxels, budget):
    physics = radar(x=torch.linspace(-0.1, 0.1, voxels), y=[0.0], z=[0.3], memory_budget=budget)
    x, y = image(physics), data(physics)
    matrix = direct(physics, born)
    assert relative(physics.A(x).flatten(1), x.flatten(1) @ matrix.mT) < 1e-12
    assert relative(physics.A_adjoint(y).flatten(1), y.flatten(1) @ matrix.conj()) < 1e-12


@pytest.mark.parametrize("dtype", [C64, C128])
def test_memory_of_an_image_is_its_workspace_twice(dtype):
    engine = radar()._engine(dtype)
    two, one = (engine.workspace(engine.tx, batch) for batch in (2, 1))
    assert engine.bytes_per_image() == 2 * (two.nbytes - one.nbytes)


def test_column_norms(physics):
    expected = torch.linalg.vector_norm(direct(physics, born), dim=0).reshape(physics.image_shape)
    assert physics.column_norms().dtype == F64
    torch.testing.assert_close(physics.column_norms(), expected, rtol=1e-12, atol=0)


def test_back_projection_is_the_matched_phase(physics):
    matrix = direct(physics, lambda k, rt, rr, *_: cmath.exp(1j * k * (rt + rr)))
    y = data(physics)
    assert relative(physics.back_project(y).flatten(1), y.flatten(1) @ matrix) < 1e-12
    assert relative(physics.back_project(y.real).flatten(1), y.real.to(C128).flatten(1) @ matrix) < 1e-12


def kirchhoff(k, rt, rr, zt, zr):
    bracket = rt * rr * (1j * k) ** 2 + (rt + rr) * (1j * k) + 1
    return 4 * (zt / rt) * (zr / rr) * bracket * cmath.exp(1j * k * (rt + rr)) / (4 * rt * rr)


def test_kirchhoff_is_the_textbook_kernel(physics):
    matrix, y = direct(physics, kirchhoff), data(physics)
    assert relative(physics.kirchhoff(y).flatten(1), y.flatten(1) @ matrix) < 1e-12
    assert physics.kirchhoff(y.to(C64)).dtype == C64


@pytest.mark.parametrize("focus", ["back_project", "kirchhoff", "A_adjoint"])
def test_a_point_is_focused_where_it_is(focus):
    physics = paper_crop()
    x = torch.zeros(1, *physics.image_shape, dtype=C128)
    x[0, 0, 2, 6, 5] = 1j
    picture = getattr(physics, focus)(physics.A(x)).abs()
    assert picture.argmax() == x.abs().argmax()


def paper_crop(n_frequencies=8):
    """The paper's array and frequencies over a coarser volume."""
    fine = NearFieldMIMO.paper(n_frequencies)
    return NearFieldMIMO(
        fine.transmitters, fine.receivers, fine.frequencies, fine.x[::3], fine.y[::3], fine.z[::6]
    )  # fmt: skip


# -- exact x-update ---------------------------------------------------------------------------------
@pytest.mark.parametrize("gamma", [1e-4, 1e-2, 3.0])
def test_woodbury_is_optimal_and_returns_its_data(gamma):
    physics = radar(frequencies=(4e9, 6e9), pairs=PAIRS)
    assert physics.has_exact_prox
    z, y = image(physics), data(physics)
    x, ax = physics.prox_l2_with_data(z, y, gamma)
    gradient = (x - z) / gamma + physics.A_adjoint(physics.A(x) - y)
    assert torch.linalg.vector_norm(gradient) <= 1e-9 * torch.linalg.vector_norm((x - z) / gamma)
    assert relative(ax, physics.A(x)) < 1e-9
    assert relative(physics.prox_l2(z, y, gamma), x) == 0


def test_woodbury_agrees_with_conjugate_gradients():
    physics = radar(frequencies=(4e9, 6e9), pairs=PAIRS)
    z, y = image(physics), data(physics)
    iterative = LinearPhysics.prox_l2(radar(frequencies=(4e9, 6e9), pairs=PAIRS), z, y, 0.1, max_iter=500, tol=1e-12)
    assert relative(physics.prox_l2(z, y, 0.1), iterative) < 1e-8


def test_woodbury_in_single_precision():
    physics = radar(frequencies=(4e9, 6e9), pairs=PAIRS)
    z, y = image(physics), data(physics)
    expected = physics.prox_l2(z, y, 0.1)
    single = physics.prox_l2(z.to(C64), y.to(C64), 0.1)
    assert single.dtype == C64
    assert relative(single.to(C128), expected) < 1e-4


def test_woodbury_changes_with_gamma_and_back():
    physics = radar(frequencies=(4e9, 6e9), pairs=PAIRS)
    z, y = image(physics), data(physics)
    first = physics.prox_l2(z, y, 0.1)
    assert relative(physics.prox_l2(z, y, torch.tensor(1.0, dtype=F64)), first) > 1e-3
    assert torch.equal(physics.prox_l2(z, y, 0.1), first)


@pytest.mark.parametrize("shape", [(), (1,), (2,), (2, 1, 1, 1, 1)], ids=str)
def test_gradient_flows_through_gamma(shape):
    physics = radar(frequencies=(4e9, 6e9), pairs=PAIRS)
    z, y = image(physics), data(physics)
    gamma = (0.1 * (1 + torch.arange(math.prod(shape), dtype=F64))).reshape(shape).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: physics.prox_l2(z, y, g).abs().square().sum(), gamma)
    (through_z,) = torch.autograd.grad(physics.prox_l2(z.requires_grad_(), y, 0.1).abs().square().sum(), z)
    assert through_z.abs().max() > 0


def test_one_gamma_per_image():
    physics = radar(frequencies=(4e9, 6e9), pairs=PAIRS)
    z, y = image(physics), data(physics)
    both, data_of = physics.prox_l2_with_data(z, y, torch.tensor([0.1, 2.0], dtype=F64))
    for i, gamma in enumerate((0.1, 2.0)):
        alone, data_alone = physics.prox_l2_with_data(z[i : i + 1], y[i : i + 1], gamma)
        assert relative(both[i : i + 1], alone) < 1e-12
        assert relative(data_of[i : i + 1], data_alone) < 1e-12


@pytest.mark.parametrize("relative_kappa", [1e-5, 1e-7, 1e-9])
def test_a_weak_pull_keeps_its_digits_in_single_precision(relative_kappa):
    """From kappa = 1e-7 |A|^2 the factor of ``kappa I + A A^H`` in single precision has none, or is not definite."""
    physics = radar(pairs=PAIRS)
    z, y = image(physics), data(physics)
    gamma = 1 / (relative_kappa * float(torch.linalg.matrix_norm(physics.gram(C128)[0], 2)))
    x, expected = physics.prox_l2(z.to(C64), y.to(C64), gamma), physics.prox_l2(z, y, gamma)
    assert x.dtype == C64 and relative(x.to(C128), expected) < 2e-4
    small = radar(pairs=PAIRS, memory_budget=2 * 8 * len(physics.gram(C64)[0]) ** 2)
    assert small.has_exact_prox
    if relative_kappa == 1e-5:
        assert relative(small.prox_l2(z.to(C64), y.to(C64), gamma).to(C128), expected) < 0.05


def test_too_large_a_factor_falls_back_to_iterations():
    exact, iterative = radar(pairs=PAIRS), radar(pairs=PAIRS, memory_budget=3000)
    assert exact.has_exact_prox and not iterative.has_exact_prox
    assert "Cholesky" in exact.x_update and "CG" in iterative.x_update
    z, y = image(exact), data(exact)
    assert relative(iterative.prox_l2(z, y, 0.01, max_iter=300, tol=1e-12), exact.prox_l2(z, y, 0.01)) < 1e-8


def test_more_data_than_voxels_is_not_factored():
    assert not radar().has_exact_prox, "60 data, 24 voxels"


def test_gram_is_a_times_its_adjoint(physics):
    matrix = direct(physics, born)
    (gram,) = physics.gram(C128)
    assert relative(gram, matrix @ matrix.mH) < 1e-12


def test_arrays_in_any_order_of_memory():
    axis = np.linspace(0.2, 0.4, 4)
    turned = NearFieldMIMO(
        np.arange(9.0).reshape(3, 3)[::-1], np.ones((1, 3)), axis[::-1] * 1e10, [0.0], [0.0], axis[::-1]
    )
    assert turned.frequencies.tolist() == (1e10 * axis[::-1]).tolist()
    assert turned.z.tolist() == axis[::-1].tolist() and turned.transmitters[0].tolist() == [6, 7, 8]


@pytest.mark.parametrize(
    "wrong, message", [({"z": [0.2, 0.2]}, "z: found a coordinate twice"), ({"spreading": 2}, "spreading: found 2")]
)
def test_what_describes_no_grid_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        radar(**wrong)


def test_scaled_keeps_the_exact_prox():
    physics = radar(pairs=PAIRS)
    scaled = Scaled(physics, 2 - 1j)
    z, y = image(physics), data(physics)
    x = scaled.prox_l2(z, y, 0.3)
    gradient = (x - z) / 0.3 + scaled.A_adjoint(scaled.A(x) - y)
    assert torch.linalg.vector_norm(gradient) <= 1e-9 * torch.linalg.vector_norm(scaled.A_adjoint(y))


# -- Gram matrix on disk ----------------------------------------------------------------------------
def test_gram_is_made_once_for_one_geometry(tmp_path, monkeypatch):
    made = []
    build = NearFieldMIMO.gram
    monkeypatch.setattr(NearFieldMIMO, "gram", lambda self, dtype: made.append(dtype) or build(self, dtype))
    z, y = image(radar()), data(radar(pairs=PAIRS))
    first = radar(pairs=PAIRS, cache_dir=tmp_path / "new").prox_l2(z, y, 0.1)
    assert made == [C128]
    second = radar(pairs=PAIRS, cache_dir=tmp_path / "new").prox_l2(z, y, 0.1)
    assert made == [C128], "a second operator reads what the first one left"
    assert torch.equal(first, second)
    radar(pairs=PAIRS, cache_dir=tmp_path / "new").prox_l2(z.to(C64), y.to(C64), 0.1)
    assert made == [C128, C64], "another precision is another matrix"
    radar(pairs=PAIRS, cache_dir=tmp_path / "new", z=[0.2, 0.23, 0.3, 0.32]).prox_l2(z, y, 0.1)
    assert made == [C128, C64, C128], "another geometry is another matrix"
    assert sorted(p.suffix for p in (tmp_path / "new").iterdir()) == [".safetensors"] * 3, "no partial files"


def test_key_tells_geometries_apart():
    variants = [
        radar(), radar(pairs=PAIRS), radar(spreading=False), radar(propagation_speed=1e8), radar(z=[0.2, 0.3]),
        radar(frequencies=(4e9, 5e9)), radar(support=SETUPS["support"]["support"]), radar(transmitters=torch.eye(3)),
    ]  # fmt: skip
    assert len({geometry_key(p) for p in variants}) == len(variants)
    assert geometry_key(radar(memory_budget=10**6)) == geometry_key(radar())


def test_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("resolvent.operators.gram.save_tensors", fail)
    with pytest.raises(KeyboardInterrupt):
        GramFactor.of(radar(pairs=PAIRS), C128, tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- the paper's set-up -----------------------------------------------------------------------------
def test_paper_shapes_and_scale():
    physics = NearFieldMIMO.paper()
    assert physics.image_shape == (1, 25, 25, 49)
    assert physics.data_shape == (1, 20, 12, 13)
    assert float(physics.frequencies[0]) == 4e9 and float(physics.frequencies[-1]) == 16e9
    assert float(physics.column_norms().square().mean()) == pytest.approx(323, abs=0.5)


@pytest.mark.parametrize("n, share", [(5, 2.55), (10, 5.09), (15, 7.64), (20, 10.19), (30, 15.28), (40, 20.38)])
def test_paper_sampling_ratios(n, share):
    physics = NearFieldMIMO.paper(n)
    m = math.prod(physics.data_shape)
    assert m == 156 * n
    assert 100 * m / math.prod(physics.image_shape) == pytest.approx(share, abs=0.005)


def test_experiment_shapes():
    physics = NearFieldMIMO.experiment()
    assert physics.image_shape == (1, 61, 61, 61)
    assert math.prod(physics.data_shape) == 1584
    assert float(physics.z[1] - physics.z[0]) == pytest.approx(5e-3)


def test_paper_norm_is_the_largest_gram_eigenvalue():
    physics = paper_crop(n_frequencies=2)
    largest = max(float(torch.linalg.eigvalsh(part)[-1]) for part in physics.gram(C128))
    like = torch.empty(1, *physics.image_shape, dtype=C64)
    assert squared_norm(physics, like) == pytest.approx(largest, rel=1e-3)


@pytest.mark.slow
def test_paper_adjoint_and_norm_at_full_size():
    physics = NearFieldMIMO.paper()
    x, y = image(physics, batch=1), data(physics, batch=1)
    left, right = torch.vdot(physics.A(x).flatten(), y.flatten()), torch.vdot(
        x.flatten(), physics.A_adjoint(y).flatten()
    )  # fmt: skip
    assert (left - right).abs() < 1e-11 * torch.linalg.vector_norm(physics.A(x)) * torch.linalg.vector_norm(y)
    assert squared_norm(physics, x.to(C64)) == pytest.approx(4.401e4, rel=1e-3), "largest eigenvalue of A A^H"


# -- refusals ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "argument, value, message",
    [
        ("transmitters", torch.zeros(3, 2), r"transmitters: found shape \(3, 2\), expected finite positions"),
        ("receivers", torch.zeros(0, 3), r"receivers: found shape \(0, 3\)"),
        ("receivers", torch.full((2, 3), float("nan")), "receivers: .* expected finite"),
        ("frequencies", [0.0, 1e9], "frequencies: found 0 Hz, expected values above 0"),
        ("frequencies", [], r"frequencies: found shape \(0,\), expected a finite vector"),
        ("x", [[0.0]], r"x: found shape \(1, 1\)"),
        ("z", [float("inf")], "z: .* expected a finite vector"),
        ("propagation_speed", 0.0, "propagation_speed: found 0 m/s"),
        ("propagation_speed", float("nan"), "propagation_speed: found nan m/s"),
        ("memory_budget", 0, "memory_budget: found 0"),
        ("pairs", [[0, 0], [0, 4]], r"pairs: found \[0, 4\], expected indices of 3 transmitters, 4 receivers"),
        ("pairs", [[-1, 0]], r"pairs: found \[-1, 0\]"),
        ("pairs", [0, 1], r"pairs: found shape \(2,\), expected \(n, 2\)"),
        ("support", torch.ones(2, 2, 4), r"support: found shape \(2, 2, 4\)"),
        ("support", torch.zeros(3, 2, 4), "0 voxels"),
    ],
)
def test_refuses(argument, value, message):
    with pytest.raises(ValueError, match=message):
        radar(**{argument: value})


@pytest.mark.parametrize("method", ["back_project", "kirchhoff"])
def test_migrations_refuse_wrong_data(method):
    with pytest.raises(ValueError, match="NearFieldMIMO: data has shape"):
        getattr(radar(), method)(torch.zeros(1, 1, 5, 4, 3, dtype=C64))


def test_does_not_share_memory_with_its_arguments():
    z = torch.tensor([0.2, 0.23, 0.3, 0.31], dtype=F64)
    physics = radar(z=z)
    z[0] = 5.0
    assert float(physics.z[0]) == 0.2


def test_an_antenna_on_a_voxel_is_refused_where_its_amplitude_would_be_infinite():
    grid = {"x": [0.0, 0.1], "y": [0.0, 0.1], "z": [0.0, 0.2]}
    antennas = torch.tensor([[0.3, 0.0, 0.0], [0.1, 0.0, 0.2]])
    with pytest.raises(ValueError, match=r"transmitters: antenna 1 lies on the voxel at \(0.1, 0, 0.2\) m"):
        radar(transmitters=antennas, receivers=antennas, **grid)
    assert torch.isfinite(
        radar(transmitters=antennas, receivers=antennas, spreading=False, **grid).column_norms()
    ).all()


def test_groups_are_antennas_pairs_and_frequencies():
    """One group's data are those of its antenna, with all pairs and with a list of them."""
    full = radar()
    frequencies, transmitters, receivers = torch.meshgrid(*map(torch.arange, full.data_shape[1:]), indexing="ij")
    groups = full.groups()
    expected = {"transmitters": transmitters, "receivers": receivers, "frequencies": frequencies}
    assert list(groups) == ["transmitters", "receivers", "pairs", "frequencies"]
    assert all(torch.equal(groups[name][0], numbers) for name, numbers in expected.items())
    assert torch.equal(groups["pairs"][0], transmitters * full.data_shape[3] + receivers)
    listed = radar(pairs=[[0, 1], [2, 0], [0, 0]]).groups()
    assert listed["transmitters"][0, 1].tolist() == [0, 2, 0] and listed["receivers"][0, 0].tolist() == [1, 0, 0]
    assert listed["pairs"][0, 1].tolist() == [0, 1, 2] and listed["frequencies"][0, :, 0].tolist() == [0, 1, 2, 3, 4]


def test_pairs_are_whole_numbers():
    with pytest.raises(ValueError, match=r"pairs: found 0\.5, expected integers"):
        radar(pairs=torch.tensor([[0.5, 1.0]]))
