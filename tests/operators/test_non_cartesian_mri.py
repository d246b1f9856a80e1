"""Trajectories against the sum that defines them, against Cartesian sampling, and on real ones."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, NonCartesianMRI, density_compensation, extras
from resolvent.operators.non_cartesian_mri import _triangle

pytest.importorskip("finufft")
F64, C128 = torch.float64, torch.complex128


def close(a, b, rtol=1e-10):
    assert a.shape == b.shape
    assert torch.linalg.vector_norm(a - b) <= rtol * torch.linalg.vector_norm(b)


@pytest.mark.parametrize("shape", [(6, 5), (4, 3, 5)], ids=str)
def test_is_the_sum_over_voxels(shape):
    k = torch.rand(9, len(shape), dtype=F64) - 0.5
    maps, x = torch.randn(2, *shape, dtype=C128), torch.randn(3, 1, *shape, dtype=C128)
    n = torch.cartesian_prod(*(torch.arange(m, dtype=F64) - m // 2 for m in shape))
    kernel = torch.exp(-2j * math.pi * (k @ n.mT)) / math.sqrt(math.prod(shape))
    expected = (maps * x).flatten(2) @ kernel.mT
    close(NonCartesianMRI(k, (1, *shape), maps).A(x), expected)


def grid(*shape):
    return torch.cartesian_prod(*((torch.arange(n, dtype=F64) - n // 2) / n for n in shape))


def test_on_the_grid_it_is_cartesian():
    maps, x = torch.randn(3, 6, 5, dtype=C128), torch.randn(1, 1, 6, 5, dtype=C128)
    cartesian = CartesianMRI(torch.ones(6, 5), maps).A(x)
    close(NonCartesianMRI(grid(6, 5), (1, 6, 5), maps).A(x), cartesian.flatten(2))


def test_maps_of_several_images():
    """Each image through its own: as by an operator of its own, its norms too."""
    k, shape = torch.rand(9, 2, dtype=torch.float64) - 0.5, (1, 4, 5)
    maps, x, y = (torch.randn(2, n, *s, dtype=C128) for n, s in ((3, (4, 5)), (1, (4, 5)), (3, (9,))))
    together, each = NonCartesianMRI(k, shape, maps), [NonCartesianMRI(k, shape, m) for m in maps]
    close(together.A(x), torch.cat([p.A(x[i : i + 1]) for i, p in enumerate(each)]))
    close(together.A_adjoint(y), torch.cat([p.A_adjoint(y[i : i + 1]) for i, p in enumerate(each)]))
    close(together.column_norms(), torch.stack([p.column_norms() for p in each]))


def test_takes_conjugates_that_torch_has_put_off():
    physics = NonCartesianMRI(torch.rand(9, 2, dtype=torch.float64) - 0.5, (1, 4, 5))
    x = torch.randn(1, 1, 4, 5, dtype=torch.complex128)
    assert_close(physics.A(x.conj()), physics.A(x.conj().resolve_conj()))


def test_column_norms_are_those_of_the_matrix():
    generator = torch.Generator().manual_seed(0)
    trajectory = torch.rand(37, 2, generator=generator, dtype=F64) - 0.5
    maps = torch.randn(3, 4, 5, generator=generator, dtype=C128)
    for physics in (NonCartesianMRI(trajectory, (1, 4, 5), maps), NonCartesianMRI(trajectory, (1, 4, 5))):
        matrix = physics.A(torch.eye(20, dtype=C128).reshape(20, 1, 4, 5)).flatten(1)
        assert_close(physics.column_norms().flatten(), torch.linalg.vector_norm(matrix, dim=1), rtol=1e-9, atol=0)


def test_noise_is_estimated_far_out():
    """Of noise alone; and of none where an image ends before the tenth of the samples that lie farthest out."""
    trajectory = torch.rand(40_000, 2, generator=torch.Generator().manual_seed(11), dtype=F64) - 0.5
    physics, noise = NonCartesianMRI(trajectory, (1, 8, 8)), torch.randn(2, 1, 40_000, dtype=C128)
    noise = torch.tensor([0.1, 3.0]).reshape(2, 1, 1) * noise
    assert_close(physics.estimate_noise(noise), torch.tensor([0.1, 3.0], dtype=F64), rtol=0.05, atol=0)
    inside = (trajectory.square().sum(1) < 0.25) * noise
    assert (physics.estimate_noise(inside) == 0).all()


def test_gridding_finds_its_weights_where_none_are_given():
    trajectory = torch.rand(300, 2, generator=torch.Generator().manual_seed(0), dtype=F64) - 0.5
    weights, y = density_compensation(trajectory, (1, 8, 8)), torch.randn(1, 1, 300, dtype=C128)
    given = NonCartesianMRI(trajectory, (1, 8, 8), density=weights.numpy())
    close(NonCartesianMRI(trajectory, (1, 8, 8)).back_project(y), given.back_project(y))


def test_density_of_a_grid_is_one():
    close(density_compensation(grid(6, 5), (1, 6, 5)), torch.ones(30, dtype=F64), 1e-9)


def test_samples_taken_twice_count_half():
    k = grid(6, 5)
    close(density_compensation(torch.cat([k, k]), (1, 6, 5)), torch.full((60,), 0.5, dtype=F64), 1e-9)


def radial(shared_data):
    coordinates = np.load(shared_data / "mri" / "sigpy_projection_coord.npy")
    return torch.from_numpy(coordinates.reshape(-1, 2).astype(float)).clamp(-128, 127.99) / 256


def golden_angle(shared_data):
    return torch.from_numpy(np.load(shared_data / "mri" / "pysap_radial_GA_nc64_ns512.npy").astype(float))


@pytest.mark.parametrize("trajectory", [radial, golden_angle])
def test_gridding_along_a_real_trajectory(trajectory, shared_data):
    """With the density, one adjoint shows the brain at its own scale; without it, a blur of another."""
    coils = np.load(shared_data / "mri" / "moco_brain_slice_256x216x7.npz")["arr_0"]
    truth = torch.from_numpy(np.sqrt((np.abs(coils) ** 2).sum(-1)) / np.abs(coils).max()).to(torch.complex64)[
        None, None
    ]
    k, shape = trajectory(shared_data), truth.shape[1:]
    physics = NonCartesianMRI(k, shape, density=density_compensation(k, shape))
    y = physics.A(truth)
    error = torch.linalg.vector_norm(physics.back_project(y) - truth) / torch.linalg.vector_norm(truth)
    plain = physics.A_adjoint(y)
    fit = torch.vdot(plain.flatten(), truth.flatten()) / torch.vdot(plain.flatten(), plain.flatten())
    best_plain = torch.linalg.vector_norm(fit * plain - truth) / torch.linalg.vector_norm(truth)
    assert error < 0.25
    assert best_plain > 2 * error


def test_without_the_library(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    physics = NonCartesianMRI(grid(6, 5), (1, 6, 5))
    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match=r"finufft: found no such library, .* 'resolvent\[nufft\]'"):
        physics.A(torch.ones(1, 1, 6, 5) + 0j)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((torch.zeros(4, 3), (1, 5, 5)), r"trajectory: found shape \(4, 3\), expected \(samples, 2\)"),
        ((torch.full((4, 2), 3.0), (1, 5, 5)), "trajectory: found 3 cycles per voxel, expected at most 0.5"),
        ((torch.zeros(4, 2), (5, 5)), r"image_shape: found \(5, 5\), expected \(1, \*spatial\)"),
        ((torch.zeros(4, 2), (1, 5, 5), torch.ones(2, 4, 5)), r"sensitivity_maps: found shape \(2, 4, 5\)"),
        ((torch.zeros(4, 2), (1, 5, 5), None, torch.ones(5)), r"density: found shape \(5,\), expected \(4,\)"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonCartesianMRI(*arguments)


def test_density_of_a_line_of_voxels():
    pytest.importorskip("finufft")
    line = torch.stack([torch.zeros(8), torch.arange(-4, 4) / 8], 1).double()
    assert_close(density_compensation(line, (1, 1, 8)), torch.ones(8, dtype=torch.float64), rtol=1e-3, atol=1e-3)


def test_density_evens_out_what_is_gridded():
    """A T A^H w is nearly 1 at the samples, after so many steps of the rule as are taken and not after few."""
    pytest.importorskip("finufft")
    spokes = torch.pi * torch.arange(24, dtype=torch.float64) / 24
    radius = (torch.arange(32, dtype=torch.float64) - 15.5) / 64
    trajectory = torch.stack([torch.outer(spokes.cos(), radius), torch.outer(spokes.sin(), radius)], -1).flatten(0, 1)
    physics, window = NonCartesianMRI(trajectory, (1, 32, 32)), _triangle((32, 32))

    def unevenness(**steps):
        w = density_compensation(trajectory, (1, 32, 32), **steps).to(torch.complex128)
        return float((physics.A(window * physics.A_adjoint(w[None, None])).real - 1).square().mean().sqrt())

    assert unevenness() < 0.02 < 0.03 < unevenness(iterations=3)
