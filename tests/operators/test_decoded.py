"""Data through a decoder: the closed form where it is linear, descent and a minimum where it is not."""

import itertools

import deepinv
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Decoded, Dense, has_exact_prox
from resolvent.priors import L1, GaussianPrior
from resolvent.recon import DPS, FISTA, FLAIR, DiffPIR, Flower, MomentMatching, PnPFlow

F64 = torch.float64
IMAGE, LATENT, M = (1, 4, 4), (2, 2, 2), 6


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(dtype=F64):
    return Dense(normal(M, 16, seed=1, dtype=dtype), IMAGE)


MATRIX = normal(16, 8, seed=2) / 3


def linear(z):
    """A decoder that is a matrix."""
    return (z.flatten(1) @ MATRIX.mT.to(z.dtype)).reshape(-1, *IMAGE)


def curved(z):
    """One that is not."""
    return linear(z) + 0.5 * torch.tanh(linear(z))


def decoded(decode=linear, steps=3, products=8, dtype=F64):
    return Decoded(dense(dtype), decode, LATENT, steps, products)


def near(seed=3):
    """Latents, and the data of others not far from them."""
    truth = normal(3, *LATENT, seed=seed)
    return truth + 0.3 * normal(3, *LATENT, seed=seed + 1), decoded(curved).A(truth)


def objective(physics, z, centre, y, gamma):
    fit = (physics.A(z) - y).abs().square().flatten(1).sum(1)
    return gamma / 2 * fit + (z - centre).square().flatten(1).sum(1) / 2


@pytest.mark.parametrize("dtype", [F64, torch.complex128], ids=str)
def test_prox_of_a_linear_decoder(dtype):
    """(I + gamma M^H M)^{-1} (v + gamma M^H y), of real latents; with as many products as latents."""
    physics, v, y = decoded(dtype=dtype), normal(3, *LATENT, seed=3), normal(3, M, seed=4, dtype=dtype)
    gamma = torch.tensor([0.1, 1.0, 30.0], dtype=F64)
    m = physics.physics.matrix @ MATRIX.to(dtype)
    for i, g in enumerate(gamma):
        system = torch.eye(8, dtype=F64) + g * (m.mH @ m).real
        expected = torch.linalg.solve(system, v[i].flatten() + g * (m.mH @ y[i]).real)
        alone = physics.prox_l2(v[i : i + 1], y[i : i + 1], float(g))
        assert_close(alone.flatten(), expected, rtol=1e-6, atol=1e-6)
    together = physics.prox_l2(v, y, gamma.reshape(-1, 1, 1, 1))
    assert_close(together[2:], alone, rtol=1e-6, atol=1e-6)


def test_adjoint_is_that_of_the_derivative():
    physics, x, y = decoded(), normal(2, *LATENT, seed=3), normal(2, M, seed=4)
    assert_close((physics.A(x) * y).sum(), (x * physics.A_adjoint(y)).sum())
    bent, h = decoded(curved), 1e-6
    slope = (bent.A(h * x) - bent.A(-h * x)) / (2 * h)
    assert_close((slope * y).sum(), (x * bent.A_adjoint(y)).sum(), rtol=1e-7, atol=1e-7)
    assert torch.equal(bent.A_vjp(torch.zeros_like(x), y), bent.A_adjoint(y))


@pytest.mark.parametrize("gamma", [1.0, 1e4])
def test_every_step_descends_to_a_minimum(gamma):
    (v, y), physics = near(), decoded(curved)
    values = [objective(physics, v, v, y, gamma)]
    values += [objective(physics, decoded(curved, n, 3).prox_l2(v, y, gamma), v, y, gamma) for n in range(1, 9)]
    for before, now in itertools.pairwise(values):
        assert (now <= before * (1 + 1e-12)).all()
    assert (values[-1] < values[0]).all()
    z = decoded(curved, 30).prox_l2(v, y, gamma)
    slope = gamma * physics.A_vjp(z, physics.A(z) - y) + z - v
    assert float(slope.norm()) < 1e-5 * float((gamma * physics.A_vjp(v, physics.A(v) - y)).norm())


def test_images_of_a_batch_do_not_meet():
    (v, y), physics = near(), decoded(curved, 3, 5)
    alone = torch.cat([physics.prox_l2(v[i : i + 1], y[i : i + 1], 10.0) for i in range(3)])
    assert_close(physics.prox_l2(v, y, 10.0), alone, rtol=1e-9, atol=1e-9)


def test_an_image_that_fits_already_disturbs_no_other():
    (v, y), physics = near(), decoded(curved, 3, 5)
    y[0] = physics.A(v)[0]
    found = physics.prox_l2(v, y, 10.0)
    assert_close(found[:1], v[:1])
    assert_close(found[1:], physics.prox_l2(v[1:], y[1:], 10.0), rtol=1e-9, atol=1e-9)


def test_little_noise_is_hard_consistency():
    """Fewer data than latents, and data of some image: they are had."""
    (v, y), physics = near(), decoded(curved, 20)
    z = physics.prox_l2(v, y, 1e8)
    assert float((physics.A(z) - y).abs().max()) < 1e-6 < 0.1 < float((physics.A(v) - y).abs().max())
    assert not z.requires_grad


SAMPLERS = {
    "FLAIR": lambda p: FLAIR(p, lambda t: t / 2, 10, 0.1, cg_rtol=1e-12),
    "DiffPIR": lambda p: DiffPIR(p, 10, 0.1, cg_rtol=1e-12),
    "Flower": lambda p: Flower(p, 10, 0.1, uncertain=True, cg_rtol=1e-12),
    "DPS": lambda p: DPS(p, 10, 0.3),
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_samplers_through_a_linear_decoder(make):
    """As through the product of the two matrices."""
    root = normal(8, 8, seed=5)
    prior = GaussianPrior.dense(normal(*LATENT, seed=6), root @ root.mT / 8 + 0.1 * torch.eye(8, dtype=F64))
    physics, y = decoded(), normal(1, M, seed=4)
    product = Dense(physics.physics.matrix @ MATRIX, LATENT)
    found, expected = (
        make(prior).sample(y, p, 3, torch.Generator().manual_seed(0)).samples for p in (physics, product)
    )
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_noise_level_is_the_operators():
    physics = Dense(normal(M, 16), IMAGE, noise_model=deepinv.physics.GaussianNoise(0.2))
    assert float(Decoded(physics, linear, LATENT).noise_model.sigma) == pytest.approx(0.2)
    assert has_exact_prox(decoded())


def test_refusals():
    prior, y = GaussianPrior.dense(torch.zeros(LATENT, dtype=F64), torch.eye(8, dtype=F64)), normal(1, M)
    with pytest.raises(ValueError, match="steps, products: found 0, 8, expected at least 1"):
        decoded(steps=0)
    for solver in (FISTA(L1()), PnPFlow(prior)):
        with pytest.raises(NotImplementedError, match=r"A\^H A, expected one with a proximal data step"):
            solver(y, decoded())


def test_moment_matching_takes_the_tangent():
    """Of a linear decoder the whole: the sampler of one matrix."""
    prior, y = GaussianPrior.dense(torch.zeros(LATENT, dtype=F64), torch.eye(8, dtype=F64)), normal(1, M)
    through = decoded()
    matrix = through.A(torch.eye(8, dtype=F64).reshape(8, *LATENT)).mT
    found = [MomentMatching(prior, 10, 0.1, cg_rtol=1e-12).sample(y, physics, 2, torch.Generator().manual_seed(0)).mean
             for physics in (through, Dense(matrix, LATENT))]  # fmt: skip
    assert_close(*found)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3, 1e6])
def test_tangent_whatever_the_direction_is_as_long_as(size):
    physics, x, u = decoded(curved), normal(2, *LATENT), size * normal(2, *LATENT, seed=5)
    expected = torch.func.jvp(physics.A, (x,), (u,))[1]
    assert_close(physics._tangent(x, u) / size, expected / size, rtol=1e-4, atol=1e-4)


def test_no_direction_has_no_tangent():
    physics, x = decoded(curved), normal(2, *LATENT)
    assert not physics._tangent(x, torch.zeros_like(x)).any()
