"""FLAIR: its identities, the calibrated weight, and the whole algorithm as an affine recursion in closed form."""

import itertools
import math

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.priors import Cosine, DenoiserDiffusion, FlowMatching, GaussianPrior
from resolvent.recon import FLAIR, CalibratedWeight, Problem, velocity_errors
from resolvent.recon.flair import remaining

F64 = torch.float64
TIMES = torch.linspace(1, 0, 100, dtype=F64)
N = 64


def images_covariance(n=N):
    """A covariance of 8 x 8 images with a decaying spectrum and correlated pixels."""
    generator = torch.Generator().manual_seed(0)
    axes, _ = torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=F64))
    return (axes * torch.logspace(0.6, -2, n, dtype=F64)) @ axes.mT


def gaussian(n=N):
    generator = torch.Generator().manual_seed(1)
    side = math.isqrt(n)
    return GaussianPrior.dense(0.5 * torch.randn(1, side, side, generator=generator, dtype=F64), images_covariance(n))


def gaussian_error(c, t):
    """``tr(C S^{-1}) / N``."""
    s = (1 - t) ** 2 * c + t**2 * torch.eye(len(c), dtype=F64)
    return float(torch.trace(c @ torch.linalg.inv(s))) / len(c)


def errors(c):
    return torch.tensor([gaussian_error(c, float(t)) for t in TIMES], dtype=F64)


def box():
    """All pixels of 8 x 8 but the middle 4 x 4."""
    seen = torch.ones(8, 8, dtype=torch.bool)
    seen[2:6, 2:6] = False
    return Dense(torch.eye(N, dtype=F64)[seen.flatten()], (1, 8, 8))


def test_error_curve_of_a_gaussian():
    """The closed form, 1 where the noise is gone, the mean variance where only noise is left."""
    prior, c = gaussian(), images_covariance()
    times = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.05], dtype=F64)
    images = prior.sample(4000, torch.Generator().manual_seed(2))
    found = velocity_errors(prior, images, times, torch.Generator().manual_seed(3))
    expected = torch.tensor([gaussian_error(c, float(t)) for t in times], dtype=F64)
    assert_close(found, expected, rtol=0.02, atol=0)
    assert gaussian_error(c, 1.0) == pytest.approx(float(torch.trace(c)) / N)
    assert gaussian_error(c, 1e-4) == pytest.approx(1, abs=1e-3)


def test_a_time_without_a_velocity_is_named():
    prior = DenoiserDiffusion(lambda x, sigma: x / (1 + sigma**2), FlowMatching())
    with pytest.raises(ValueError, match="times: found 1, where the prior has no finite velocity"):
        velocity_errors(prior, torch.randn(4, 1, 8, 8), torch.tensor([0.5, 1.0]))


def test_weight_is_the_inverse_error():
    e = errors(images_covariance())
    released, subtracting = CalibratedWeight(TIMES, e, shift=0.0), CalibratedWeight(TIMES, e)
    weights = 100 / e / (1 / e).sum()
    for t in (1.0, 0.803, 0.504, 0.18, 0.0):
        nearest = float(weights[int((1 - t) * 99 + 0.5)])
        assert released(t) == pytest.approx(nearest / 2)
        assert subtracting(t) == pytest.approx(max(nearest - float(weights[-1]), 0) / 2)
    assert subtracting(0.0) == 0 and subtracting.shift == pytest.approx(float(weights[-1]))
    flipped = CalibratedWeight(TIMES.flip(0), e.flip(0))
    assert [flipped(t) for t in (0.1, 0.7)] == [subtracting(t) for t in (0.1, 0.7)]


def test_gradient_of_the_regulariser():
    """E[v - u] = t S_t^{-1} (mu - m): what a step of length 1 subtracts, (mu - x-hat) / t, in the mean over noise."""
    prior, c, t, count = gaussian(), images_covariance(), 0.5, 20_000
    generator = torch.Generator().manual_seed(4)
    mu = torch.randn(1, 1, 8, 8, generator=generator, dtype=F64)
    noise = torch.randn(count, 1, 8, 8, generator=generator, dtype=F64)
    x = (1 - t) * mu + t * torch.cat([noise, -noise])
    g = prior.velocity(x, t) - (torch.cat([noise, -noise]) - mu)
    assert_close(g, (mu - prior.estimate(x, t)) / t, rtol=1e-10, atol=1e-10)
    s = (1 - t) ** 2 * c + t**2 * torch.eye(N, dtype=F64)
    expected = t * torch.linalg.solve(s, (mu - prior.centre).flatten())
    assert_close(g.mean(0).flatten(), expected, rtol=1e-9, atol=1e-9)  # noise and its negative: an affine mean is exact


def test_velocity_moves_noise_to_images():
    """Heun's method along the velocity, from 1 to 0: mean and covariance of the prior."""
    prior, c = gaussian(16), images_covariance(16)
    x = torch.randn(4000, 1, 4, 4, generator=torch.Generator().manual_seed(5), dtype=F64)
    times = torch.linspace(1, 1e-3, 41, dtype=F64).tolist()
    for now, then in itertools.pairwise(times):
        first = prior.velocity(x, now)
        second = prior.velocity(x + (then - now) * first, then)
        x = x + (then - now) * (first + second) / 2
    assert_close(x.mean(0), prior.centre, rtol=0, atol=0.12)
    found = torch.cov(x.flatten(1).mT)
    assert float(torch.linalg.matrix_norm(found - c) / torch.linalg.matrix_norm(c)) < 0.12


def recursion(prior, c, physics, y, weight, times):
    """Mean and covariance of the image after all steps, of noise that is normal: FLAIR with the exact projection."""
    eye, zero = torch.eye(N, dtype=F64), torch.zeros(N, N, dtype=F64)
    inverse = torch.linalg.pinv(physics.matrix)
    p, fit, m = eye - inverse @ physics.matrix, inverse @ y.flatten(), prior.centre.flatten()
    mean, cov = torch.cat([fit, 0 * fit]), torch.block_diag(zero, eye)
    image = torch.cat([eye, zero], 1)
    for t in times:
        a, lam = 1 - t, weight(t)
        b, k = math.sqrt(1 - a**2), (1 - t) * c @ torch.linalg.inv((1 - t) ** 2 * c + t**2 * eye)
        x = torch.cat([(1 - t) * eye, t * a * eye], 1)
        still = m - (1 - t) * k @ m
        step = torch.cat([p @ (image - lam / t * (image - k @ x)), (x - (1 - t) * k @ x) / t])
        shift = torch.cat([p @ (lam / t * still) + fit, -(1 - t) * still / t])
        noise = torch.cat([p @ (lam * b * k), b * (eye - (1 - t) * k)])
        mean, cov = step @ mean + shift, step @ cov @ step.mT + noise @ noise.mT
    return mean[:N], cov[:N, :N].diagonal().sqrt()


@pytest.mark.parametrize("shift", [None, 0.0], ids=["subtracting", "released"])
def test_is_its_affine_recursion(shift):
    """Of a Gaussian prior every step is affine: mean and spread of the samples are known."""
    prior, c, physics, count = gaussian(), images_covariance(), box(), 1500
    y = physics.A(prior.sample(1, torch.Generator().manual_seed(6)))
    weight = CalibratedWeight(TIMES, errors(c), shift)
    times = torch.linspace(1, 0.18, 52, dtype=F64)[1:-1].tolist()
    mean, std = recursion(prior, c, physics, y, weight, times)
    sampler = FLAIR(prior, weight, noise_std=1e-4, cg_rtol=1e-12)
    found = sampler.sample(y, physics, count, torch.Generator().manual_seed(7))
    assert [sampler.level(k).t for k in range(50)] == pytest.approx(times)
    free = std > 1e-6
    assert int(free.sum()) == 16
    away = (found.mean.flatten() - mean).abs()[free] / std[free] * math.sqrt(count)
    assert float(away.max()) < 4.5, "standard errors"
    assert_close(found.std.flatten()[free], std[free], rtol=0.08, atol=0)
    assert_close(found.mean.flatten()[~free], mean[~free], rtol=1e-5, atol=1e-5)
    assert_close(physics.A(found.samples[0]), y.expand(count, -1), rtol=1e-5, atol=1e-5)


def test_without_data_between_prior_and_start():
    """With weight t each step takes the flow's image itself."""
    prior, physics = gaussian(), box()
    y = physics.A(prior.sample(1))
    sampler = FLAIR(prior, lambda t: t, 50, noise_std=1e6, adjustment=lambda t: 0.0)
    one = sampler.solve(y, physics)
    state = one.state
    t = sampler.level(49).t
    moved = sampler.move(Problem(y, physics), state, 49)
    noise = sampler.draw(state, state.x, 49)
    assert_close(moved.x, prior.estimate((1 - t) * state.x + t * noise, t), rtol=1e-6, atol=1e-6)
    x_t = (1 - t) * state.x + t * noise
    assert_close(moved.noise, prior.noise(x_t, t))


@pytest.mark.parametrize("dtype", [torch.complex128, torch.complex64, torch.float32], ids=str)
def test_kinds_of_images(dtype):
    prior, physics = gaussian(16), Dense(torch.randn(5, 16, dtype=dtype), (1, 4, 4))
    y = torch.randn(2, 5, dtype=dtype)
    found = FLAIR(prior, lambda t: t / 2, 10, 1e-2).sample(y, physics, 3)
    assert found.samples.dtype == dtype and found.samples.shape == (2, 3, 1, 4, 4)
    assert_close(physics.A(found.samples[1]), y[1].expand(3, -1), rtol=2e-2, atol=2e-2)


def test_refusals():
    prior = gaussian(16)
    with pytest.raises(TypeError, match="prior: found Cosine, expected the schedule FlowMatching"):
        FLAIR(GaussianPrior.dense(prior.centre, images_covariance(16), Cosine()), remaining)
    with pytest.raises(ValueError, match="last: found 1, expected a time between 0 and 1"):
        FLAIR(prior, remaining, last=1)
    with pytest.raises(ValueError, match=r"errors: found shape \(1,\), expected one above 0 for each of 2 times"):
        CalibratedWeight([0.0, 1.0], [1.0])
