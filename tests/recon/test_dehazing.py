"""Joint sampling of tissue and haze: against Wiener's filter, and against a recursion over each sampler's steps.

Published figures: the exact, pseudo-inverse, released and projection rules on stationary Gaussians, four digits each.
"""

import dehazing as oracle
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Companded, Dense, Linearised, Superposition, compand, expand
from resolvent.priors import GaussianMixture, GaussianPrior, Joint, Late, VarianceExploding
from resolvent.recon import DPS, DiffPIR, MomentMatching, PiGDM, Problem, Projection, Sampler
from resolvent.recon.sampler import Level, estimate_and_pullback

F64 = torch.float64


def silent(monkeypatch):
    """Without noise an affine sampler gives the mean of its samples."""
    monkeypatch.setattr(Sampler, "draw", lambda self, state, like, k, which=0: torch.zeros_like(like))


# -- published figures ----------------------------------------------------------------------------------
PUBLISHED = {  # gain errors of tissue and haze, spread, NMSE of the tissue
    "Euler: exact, 200": (0.0011, 0.0023, 1.002, 0.0380),
    "Euler: exact, 1000": (0.0012, 0.0025, 0.994, 0.0380),
    "Euler: exact from y at time .8, 200": (0.0029, 0.0059, 0.977, 0.0380),
    "Euler: exact from y at time .4, 50": (0.0341, 0.0707, 1.228, 0.0394),
    "Euler: exact from y at time .2, 40": (0.0998, 0.2062, 0.881, 0.0505),
    "Euler: pseudo-inverse, 200": (0.0817, 0.1529, 1.251, 0.0464),
    "Euler: pseudo-inverse, 1000": (0.0715, 0.1597, 1.194, 0.0444),
    "Euler: projection, 200": (0.1619, 0.3394, 1.416, 0.0708),
    "Euler: projection, 1000": (0.1673, 0.3349, 1.448, 0.0731),
    "Euler: projection from y at time .8, 200": (0.1592, 0.3299, 1.421, 0.0697),
    "Euler: projection from y at time .2, 200": (0.1602, 0.3207, 0.984, 0.0701),
    "Euler: projection, the same with steps of 1/200": (0.0519, 0.1097, 0.798, 0.0414),
    "released, 200": (0.1763, 0.3831, 1.473, 0.0769),
    "released, 600": (0.1764, 0.3586, 1.479, 0.0770),
}


@pytest.mark.parametrize("row", PUBLISHED)
def test_recursion_has_the_published_figures(row):
    found, expected = oracle.figures(oracle.ROWS[row]()), PUBLISHED[row]
    assert found == pytest.approx(expected, abs=2e-3) and found.nmse == pytest.approx(expected[3], abs=6e-5)
    assert (found.tissue, found.haze) == pytest.approx(expected[:2], abs=6e-5)


def test_wiener():
    gain, covariance = oracle.wiener()
    prior, power = oracle.powers(), oracle.data_power()
    assert oracle.nmse(gain[:, 0], prior[:, 0], power) == pytest.approx(0.0380, abs=5e-5)
    assert float(covariance[:, 1, 1].sum() / prior[:, 1].sum()) == pytest.approx(0.1508, abs=5e-5)
    assert oracle.nmse(torch.ones_like(power), prior[:, 0], power) == pytest.approx(0.2525, abs=5e-5)
    assert_close(covariance[:, 0, 0], prior[:, 0] - prior[:, 0] ** 2 / power)


# -- the samplers -----------------------------------------------------------------------------------------
def samplers(steps, schedule=oracle.SCHEDULE):
    """Each with the recursion's rule and the range that its tissue's error must be in."""
    prior = oracle.joint_prior(schedule)
    return {
        "MomentMatching": (MomentMatching(prior, steps, oracle.SIGMA, 1.0, 100, 1e-6), oracle.EXACT, 0.0376, 0.0384),
        "PiGDM": (PiGDM(prior, steps, oracle.SIGMA), oracle.PIGDM, 0.0443, 0.0465),
        "Projection": (Projection(prior, steps), oracle.PROJECTION, 0.069, 0.074),
    }


@pytest.mark.parametrize("name", samplers(1))
def test_mean_is_the_recursions(monkeypatch, name):
    silent(monkeypatch)
    steps = 60 if name == "MomentMatching" else 200
    sampler, rule, low, high = samplers(steps)[name]
    found = response(sampler)
    assert_close(found, oracle.ours(rule, steps).gain, rtol=0, atol=1e-5)
    assert low <= oracle.nmse(found[:, 0], oracle.powers()[:, 0], oracle.data_power()) <= high


@pytest.mark.parametrize("first", [0.8, 0.2])
@pytest.mark.parametrize("name", samplers(1))
def test_a_late_start_from_the_data(monkeypatch, name, first):
    """Both images begin as y, with the noise of that time; steps are as much shorter as there is less to go."""
    silent(monkeypatch)
    sampler, rule, *_ = samplers(20, Late(oracle.SCHEDULE, first))[name]
    found = response(sampler, x0=torch.eye(64, dtype=F64)[0].expand(1, 2, 1, 64))
    assert_close(found, oracle.ours(rule, 20, first).gain, rtol=0, atol=1e-5)
    assert sampler.level(10).t == pytest.approx(first / 2)


def response(sampler, **kwargs):
    """The gains ``(64, 2)`` of a sampler's mean, by frequency."""
    impulse = torch.zeros(1, 1, 1, 64, dtype=F64)
    impulse[..., 0] = 1
    gain = torch.fft.fft(sampler(impulse, oracle.superposition(), **kwargs)[0, :, 0])
    assert gain.imag.abs().max() < 1e-5
    return gain.real.mT


@pytest.mark.parametrize("count", [300, pytest.param(4000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", samplers(1))
def test_spread_is_the_recursions(name, count):
    sampler, rule, *_ = samplers(25)[name]
    y = torch.zeros(1, 1, 1, 64, dtype=F64)
    generator = torch.Generator().manual_seed(0)
    found = sampler.sample(y, oracle.superposition(), count, generator).samples[0, :, :, 0]
    spectra = torch.fft.fft(found, norm="ortho")
    covariance = torch.einsum("naf,nbf->fab", spectra, spectra.conj()).real / count
    expected = oracle.ours(rule, 25).covariance
    size = (expected[:, 0, 0] * expected[:, 1, 1]).sqrt()[:, None, None] + expected.abs()
    assert float(((covariance - expected) / size).square().mean().sqrt()) < 3 / count**0.5
    assert_close(covariance.sum(0).diagonal(), expected.sum(0).diagonal(), rtol=0.7 / count**0.5, atol=0)


def test_projection_with_a_weight_for_each(monkeypatch):
    silent(monkeypatch)
    pull = torch.tensor([0.5, 0.3], dtype=F64)
    found = response(Projection(oracle.joint_prior(), 100, pull[:, None, None]))
    assert_close(found, oracle.ours(oracle.PROJECTION._replace(pull=pull), 100).gain, rtol=0, atol=1e-8)


def test_rules_differ():
    rows = [oracle.figures(oracle.ours(rule, 200)).nmse for rule in (oracle.EXACT, oracle.PIGDM, oracle.PROJECTION)]
    assert rows[0] < 0.9 * rows[1] < 0.6 * rows[2]


# -- companded data ---------------------------------------------------------------------------------------
def test_companding():
    u = torch.tensor([0.1, 0.01, 0.2, 1.0, 0.0], dtype=F64, requires_grad=True)
    c = compand(u)
    assert_close(c[:3].detach(), torch.tensor([0.590990, 0.228477, 0.713], dtype=F64), rtol=0, atol=5e-4)
    assert_close(c.detach()[:2], torch.tensor([0.590990, 0.228477], dtype=F64), rtol=0, atol=5e-7)
    assert float(torch.autograd.grad(c.sum(), u)[0][-1]) == pytest.approx(45.986, abs=5e-4)
    line = torch.linspace(-1, 1, 201, dtype=F64)
    assert_close(expand(compand(line)), line, rtol=0, atol=1e-15)
    assert_close(compand(-line), -compand(line)) and float(compand(line[-1])) == pytest.approx(1)
    assert_close(compand(line, 1e-9), line, rtol=0, atol=1e-8)
    tilted = line * torch.exp(torch.tensor(0.7j))
    assert_close(compand(tilted), compand(line) * torch.exp(torch.tensor(0.7j)))


def companded(mu=255.0):
    return Companded(Superposition([1.0, 0.5], (1, 2, 3)), mu)


def test_echoes_add_up_expanded():
    x = torch.full((1, 2, 2, 3), 0.59099, dtype=F64)
    assert_close(companded().A(x), torch.full((1, 1, 2, 3), float(compand(torch.tensor(0.15))), dtype=F64), rtol=1e-5,
                 atol=0)  # fmt: skip
    assert float(compand(torch.tensor(0.2, dtype=F64))) == pytest.approx(0.713, abs=5e-4)
    assert 2 * float(compand(torch.tensor(0.1, dtype=F64))) == pytest.approx(1.182, abs=5e-4), "they do not companded"


def test_tangent():
    physics, x = companded(), 0.5 * torch.randn(2, 2, 2, 3, dtype=F64)
    tangent, h, u = Linearised(physics, x), torch.randn(2, 2, 2, 3, dtype=F64), torch.randn(2, 1, 2, 3, dtype=F64)
    assert_close(tangent.A(h), (physics.A(x + 1e-6 * h) - physics.A(x - 1e-6 * h)) / 2e-6, rtol=1e-6, atol=1e-8)
    assert_close((tangent.A(h) * u).sum(), (h * tangent.A_adjoint(u)).sum())
    assert_close(tangent.value, physics.A(x))
    here, y = Linearised(physics, 0 * x), torch.randn(2, 1, 2, 3, dtype=F64)
    assert_close(here.A_adjoint(y), physics.A_adjoint(y))
    linear = Problem(y, physics.physics)
    assert linear.linearised(x) is linear


def small_prior(spread=0.2, schedule=None):
    covariances = [spread**2 * torch.eye(6, dtype=F64), (spread / 2) ** 2 * torch.eye(6, dtype=F64)]
    return Joint([GaussianPrior.dense(torch.full((1, 2, 3), m, dtype=F64), c)
                  for m, c in zip((0.3, 0.4), covariances, strict=True)], schedule=schedule)  # fmt: skip


@pytest.mark.parametrize("kind", [MomentMatching, PiGDM])
def test_guidance_through_the_tangent(kind):
    """Written out: C A'^T (A' C A'^T + sigma^2)^-1 (y - A(x-hat)) with C the covariance, or J and r^2 in its place."""
    prior, physics, here = small_prior(), companded(), Level(0.4, 0.6, 0.4)
    x, y = 0.3 * torch.randn(1, 2, 2, 3, dtype=F64), 0.5 * torch.randn(1, 1, 2, 3, dtype=F64)
    sampler = kind(prior, 10, 0.1, cg_rtol=1e-12)
    found = sampler.guided(Problem(y, physics, [prior]), x, here)
    estimate, pullback = estimate_and_pullback(prior, x, here.t)
    rows = torch.cat([pullback(e.reshape(x.shape)).flatten(1) for e in torch.eye(12, dtype=F64)])
    c, slope = here.s**2 / here.a * rows, torch.autograd.functional.jacobian(physics.A, estimate).reshape(6, 12)
    sigma = here.s / here.a
    inner = c if kind is MomentMatching else sigma**2 / (1 + sigma**2) * torch.eye(12, dtype=F64)
    system = slope @ inner @ slope.mT + 0.01 * torch.eye(6, dtype=F64)
    expected = estimate.flatten() + c @ slope.mT @ torch.linalg.solve(system, (y - physics.A(estimate)).flatten())
    assert_close(found.flatten(), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("make", [
    lambda p: MomentMatching(p, 20, 0.1, cg_rtol=1e-10), lambda p: PiGDM(p, 20, 0.1, cg_rtol=1e-10),
    lambda p: DPS(p, 20), lambda p: Projection(p, 20), lambda p: DiffPIR(p, 20, 0.1, cg_rtol=1e-10),
])  # fmt: skip
def test_without_companding_it_is_the_sum(make):
    prior, y = small_prior(), 0.5 * torch.randn(1, 1, 2, 3, dtype=F64)
    found = [make(prior).sample(y, physics, 2, torch.Generator().manual_seed(0)).samples
             for physics in (companded(1e-9), companded().physics)]  # fmt: skip
    assert_close(*found, rtol=1e-5, atol=1e-6)


def test_companded_posterior():
    """The mean of each pixel against a sum over a fine grid; adding companded echoes instead misses it."""
    prior, physics, sigma = small_prior(0.04, VarianceExploding(1e-3, 1)), companded(), 0.02
    axis = torch.linspace(0, 0.8, 1601, dtype=F64)
    tissue, haze = torch.meshgrid(axis, axis, indexing="ij")
    y = compand(expand(torch.tensor(0.32, dtype=F64)) + 0.5 * expand(torch.tensor(0.41, dtype=F64)))
    fit = compand(expand(tissue) + 0.5 * expand(haze)) - y
    energy = (fit / sigma) ** 2 + ((tissue - 0.3) / 0.04) ** 2 + ((haze - 0.4) / 0.02) ** 2
    weight = torch.softmax(-energy.flatten() / 2, 0)
    exact = torch.stack([(weight * part.flatten()).sum() for part in (tissue, haze)])
    std = (weight * (tissue.flatten() - exact[0]) ** 2).sum().sqrt()
    data, generator = y.expand(1, 1, 2, 3), torch.Generator().manual_seed(0)
    found = MomentMatching(prior, 40, sigma).sample(data, physics, 200, generator)
    assert_close(found.mean[0].mean((1, 2)), exact, rtol=0, atol=0.15 * float(std))
    assert float(found.std[0, 0].mean()) == pytest.approx(float(std), rel=0.1)
    wrong = MomentMatching(prior, 40, sigma).sample(data, physics.physics, 200, generator)
    assert abs(float(wrong.mean[0, 0].mean() - exact[0])) > float(std)


# -- parts ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [F64, torch.complex128], ids=str)
def test_a_joint_prior_acts_on_its_parts(dtype):
    first = GaussianPrior.dense(torch.ones(1, 2, 3, dtype=dtype), 0.5 * torch.eye(6, dtype=dtype))
    means = torch.randn(2, 2, 2, 3, dtype=dtype)
    second = GaussianMixture(torch.ones(2), means, torch.stack([torch.eye(12, dtype=dtype)] * 2))
    prior, x, t = Joint([first, second], [1, 2]), torch.randn(4, 3, 2, 3, dtype=dtype), torch.linspace(0.2, 0.8, 4)
    for name in ("estimate", "score", "velocity", "noise", "denoise"):
        parts = [getattr(p, name)(part, t) for p, part in zip((first, second), x.split([1, 2], 1), strict=True)]
        assert_close(getattr(prior, name)(x, t), torch.cat(parts, 1))
    assert len(list(prior.buffers())) == len(list(first.buffers())) + len(list(second.buffers()))


def test_exact_step_of_a_superposition():
    physics = Superposition([1.0, 0.5, -2.0], (1, 2, 3))
    z, y, gamma = torch.randn(2, 3, 2, 3, dtype=F64), torch.randn(2, 1, 2, 3, dtype=F64), 0.7
    matrix = physics.A(torch.eye(18, dtype=F64).unflatten(1, (3, 2, 3))).flatten(1).mT
    dense = Dense(matrix, (3, 2, 3))
    system = torch.eye(18, dtype=F64) + gamma * matrix.mT @ matrix
    rhs = z.flatten(1) + gamma * dense.A_adjoint(y.flatten(1)).flatten(1)
    assert_close(physics.prox_l2(z, y, gamma).flatten(1), torch.linalg.solve(system, rhs.mT).mT)


def test_refusals():
    prior = small_prior()
    for wrong, message in [
        (lambda: Joint([]), "priors, channels: found 0 priors"),
        (lambda: Joint(list(prior.priors), [1]), "priors, channels: found 2 priors of"),
        (lambda: prior.denoise(torch.zeros(1, 3, 2, 3), 0.1), r"x: found 3 channels, expected 1 \+ 1"),
        (lambda: Superposition([0.0, 0.0], (1, 3)), "weights: found"),
        (lambda: companded(-1), "mu: found -1"),
        (lambda: Late(oracle.SCHEDULE, 1.5), "first: found 1.5, expected a time above 0 and at most 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
