"""Noise2Score on densities whose score and posterior are known."""

import math

import pytest
import torch
from torch.special import psi
from torch.testing import assert_close

from resolvent.priors import Batch
from resolvent.priors.noise2score import (
    GammaTweedie,
    GaussianTweedie,
    Noise2Score,
    PoissonTweedie,
    ResidualDenoising,
    annealed,
    positive_mean,
    residual_denoising_loss,
    total_variation,
)

F64 = torch.float64


def images(*values):
    return torch.tensor(values, dtype=F64).reshape(-1, 1, 1, 1)


def test_gaussian_is_the_posterior_mean():
    """x ~ N(m, t^2): the mean of x given y weights y and m by t^2 and sigma^2."""
    m, t, sigma = 0.3, 0.8, 0.5
    y = torch.randn(3, 2, 4, 5, dtype=F64)
    denoise = Noise2Score(lambda y: -(y - m) / (t**2 + sigma**2), GaussianTweedie())
    assert_close(denoise(y, sigma), (t**2 * y + sigma**2 * m) / (t**2 + sigma**2), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("zeta", [1.0, 0.05])
def test_poisson_is_nearly_the_geometric_posterior_mean(zeta):
    """x / zeta ~ Gamma(3, rate 1/2), so that of z counts log p(z) has a known derivative."""
    a, b = 3.0, 0.5
    z = images(0.0, 1.0, 2.0, 5.0, 20.0)

    def score(z):
        return psi(z + a) - psi(z + 1) - math.log(1 + b)

    found = Noise2Score(score, PoissonTweedie())(zeta * z, zeta) / zeta
    assert_close(found, images(1.494, 2.301, 2.987, 4.997, 14.9997), rtol=0, atol=6e-4)
    geometric = psi(z + a).exp() / (1 + b)
    assert ((found - geometric).abs() / geometric)[1:].max() < 0.02
    assert (found < (z + a) / (1 + b)).all()


def test_gamma_is_the_harmonic_posterior_mean():
    """x ~ inverse Gamma(al, be): the posterior is inverse Gamma too, and 1 / E[1/x | y] is (be + k y) / (al + k)."""
    k, al, be = 10.0, 4.0, 2.0
    y = images(0.2, 1.0, 3.0)

    def score(y):
        return (k - 1) / y - (al + k) * k / (be + k * y)

    found = Noise2Score(score, GammaTweedie())(y, k)
    assert_close(found, (be + k * y) / (al + k), rtol=1e-13, atol=0)
    assert_close(found, images(0.285714, 0.857143, 2.285714), rtol=1e-5, atol=0)


def test_training_finds_the_score():
    """An affine score on Gaussian data: both numbers, and the loss's own minimum t_s^2 / (t_s^2 + s^2)."""
    m, t, sigma, level, steps = 0.3, 0.8, 0.6, 0.3, 1500
    score = torch.nn.Conv2d(1, 1, 1)
    optimiser = torch.optim.Adam(score.parameters(), 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        y = m + (t**2 + sigma**2) ** 0.5 * torch.randn(512, 1, 1, 1)
        loss = residual_denoising_loss(score, y, level).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    variance = t**2 + sigma**2
    assert float(score.weight.detach()) == pytest.approx(-1 / (variance + level**2), abs=0.02)
    assert float(score.bias.detach()) == pytest.approx(m / (variance + level**2), abs=0.02)
    y = m + variance**0.5 * torch.randn(200_000, 1, 1, 1)
    with torch.no_grad():
        reached = float(residual_denoising_loss(score, y, level).mean())
    assert reached == pytest.approx(variance / (variance + level**2), abs=0.01)


@pytest.mark.parametrize("error", [0.0, 0.2])
def test_best_denoiser_of_both_noises_has_the_least_loss(error):
    """x ~ N(m, t^2): the posterior mean at level tau has the least loss; an error e adds (s e / tau^2)^2."""
    m, t, sigma, level = 0.3, 0.8, 0.4, 0.5

    def denoise(y, tau):
        tau = tau.reshape(-1, 1, 1, 1)
        return (t**2 * y + tau**2 * m) / (t**2 + tau**2) + error

    n = 200_000
    noisy = m + (t**2 + sigma**2) ** 0.5 * torch.randn(n, 1, 1, 1, dtype=F64)
    loss = ResidualDenoising(1.0, level)
    found = float(loss(denoise, Batch(noisy, noisy, torch.full((n,), sigma, dtype=F64), 1.0)))
    variance, both = t**2 + sigma**2, sigma**2 + level**2
    assert found == pytest.approx(variance / (variance + level**2) + (level * error / both) ** 2, abs=0.01)
    assert not loss.needs_clean


def test_level_falls_and_stays():
    assert [annealed(step, 10, 0.5, 0.1) for step in (0, 5, 10, 99)] == pytest.approx([0.5, 0.3, 0.1, 0.1])


def test_loss_is_that_of_its_definition():
    y = torch.randn(3, 1, 4, 4, dtype=F64)
    torch.manual_seed(1)
    found = residual_denoising_loss(lambda v: 2 * v, y, 0.1)
    torch.manual_seed(1)
    u = torch.randn_like(y)
    assert_close(found, (u + 0.2 * (y + 0.1 * u)).square().mean((1, 2, 3)))


@pytest.mark.parametrize("noise", [GaussianTweedie(), PoissonTweedie(), GammaTweedie()], ids=lambda n: type(n).__name__)
def test_deterministic_and_leaves_the_image(noise):
    y = torch.rand(2, 1, 5, 4, dtype=F64) + 0.1
    kept, denoise = y.clone(), Noise2Score(lambda v: 0.1 - 0.2 * v, noise)
    first = denoise(y, noise.grid[3])
    assert torch.equal(denoise(y, noise.grid[3]), first) and torch.equal(y, kept)
    alone = torch.cat([denoise.blind(one[None])[0] for one in y])
    assert_close(denoise.blind(y)[0], alone)


def test_blind_takes_the_best_of_the_grid():
    """Of each image its own: what total variation prefers, tried one by one."""
    y = torch.randn(3, 1, 6, 6, dtype=F64) * images(0.1, 1.0, 2.0)
    denoise = Noise2Score(lambda v: -v / (0.2 + v.square().mean((1, 2, 3), keepdim=True)), GaussianTweedie())
    grid = (0.2, 0.4, 0.6, 1.5)
    best, chosen = denoise.blind(y, grid)
    every = torch.stack([total_variation(denoise(y, p)) for p in grid])
    assert torch.equal(chosen, torch.tensor(grid, dtype=F64)[every.argmin(0)])
    assert_close(total_variation(best), every.amin(0))


@pytest.mark.parametrize("noise, low, high, count", [
    (GaussianTweedie(), 5 / 255, 55 / 255, 50), (PoissonTweedie(), 0.005, 0.1, 100), (GammaTweedie(), 40, 120, 80),
])  # fmt: skip
def test_grids_include_the_upper_end(noise, low, high, count):
    assert len(noise.grid) == count and max(noise.grid) == high and low < min(noise.grid)


def test_measures():
    ramp = torch.arange(4.0, dtype=F64).expand(1, 1, 3, 4)
    assert_close(total_variation(ramp), torch.tensor([1.0], dtype=F64), rtol=0, atol=2e-6)
    x = images(-1.0, 2.0)
    assert_close(positive_mean(x, torch.log), torch.tensor([float("inf"), 0.6931471805599453], dtype=F64))
