"""The mean-reverting SDE: its marginals and posterior steps, samples beside posteriors in closed form, its training."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from resolvent.operators import Dense, matched
from resolvent.priors import (
    Batch,
    Conditional,
    ConditionalGaussian,
    ConditionalVelocity,
    Cosine,
    GaussianMixture,
    LowResolution,
    OrnsteinUhlenbeck,
    ResidualMatching,
    Shifted,
    TimeUNet,
    downsampling,
)
from resolvent.priors.network import Network
from resolvent.recon import DPS, MeanReverting, Problem, Sampler
from resolvent.recon.start import fitted

F64 = torch.float64
SHAPE, N, SIGMA = (1, 2, 3), 6, 0.3
#: As wide as the images below are different from what they revert to.
WIDE = OrnsteinUhlenbeck(2.0)


def covariance(seed=0):
    root = torch.randn(N, N, generator=torch.Generator().manual_seed(seed), dtype=F64)
    return root @ root.mT / N + 0.1 * torch.eye(N, dtype=F64)


def degradation():
    """What turns an image into the one that is reverted to, but for noise."""
    return Dense(0.5 * torch.randn(N, N, generator=torch.Generator().manual_seed(2), dtype=F64), SHAPE, SHAPE)


def joint(schedule=WIDE):
    """Images and conditions ``c = M x + SIGMA n``, and the prior of the images."""
    mean, c, m = torch.linspace(0, 1, N, dtype=F64).reshape(SHAPE), covariance(), degradation().matrix
    both = torch.cat([torch.eye(N, dtype=F64), m])
    noise = torch.block_diag(torch.zeros(N, N, dtype=F64), SIGMA**2 * torch.eye(N, dtype=F64))
    means = torch.stack([mean, degradation().A(mean[None])[0]])
    prior = ConditionalGaussian(means, both @ c @ both.mT + noise, schedule)
    return prior, GaussianMixture(torch.ones(1, dtype=F64), mean[None], c[None], schedule)


class Known(Conditional):
    """Of one condition, the posterior of a mixture."""

    def __init__(self, mixture, schedule=WIDE):
        super().__init__(schedule)
        self.mixture = mixture

    def given(self, condition):
        return self.mixture.posterior(condition[:1], degradation(), SIGMA)


def mixture():
    means = 2 * torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(5), dtype=F64)
    return GaussianMixture(torch.ones(2, dtype=F64), means, torch.stack([covariance(0), covariance(1)]), WIDE)


def identity():
    return Dense(torch.eye(N, dtype=F64), SHAPE, SHAPE)


def degraded(prior, seed=3):
    generator = torch.Generator().manual_seed(seed)
    clean = degradation().A(prior.sample(1, generator))
    return clean + SIGMA * torch.randn(clean.shape, generator=generator, dtype=F64)


# -- the SDE ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("std", [50 / 255, 2.0])
def test_marginals_solve_the_sde(std):
    """With theta = -a'/a the mean obeys m' = theta (mu - m), and the variance V' = -2 theta V + 2 theta lambda^2."""
    schedule, t = OrnsteinUhlenbeck(std), torch.linspace(0.01, 1, 50, dtype=F64)
    a, s, (a_rate, s_rate) = schedule.signal(t), schedule.noise(t), schedule.rates(t)
    theta, mu, x0 = -a_rate / a, 0.3, 1.7
    assert_close(a_rate * (x0 - mu), theta * (mu - (mu + a * (x0 - mu))), rtol=0, atol=1e-10)
    assert_close(2 * s * s_rate, 2 * theta * (std**2 - s.square()), rtol=0, atol=1e-10)
    assert_close(s.square(), std**2 * (1 - a.square()), rtol=1e-10, atol=0)
    assert_close(theta, -math.log(0.005) * (1 - torch.cos(math.pi * t)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("steps, offset, atol", [(100, 0.008, 0.03), (10_000, 0.0, 3e-4)], ids=["published", "limit"])
def test_schedule_is_the_limit_of_the_published_one(steps, offset, atol):
    """theta = 1 - cos^2 in steps, scaled so that 0.005 of the image is left; as published with an offset."""
    angle = ((torch.arange(steps + 3, dtype=F64) / (steps + 2)) + offset) / (1 + offset) * math.pi / 2
    theta = 1 - (angle.cos() / angle[0].cos())[1:-1].square()
    sums = theta.cumsum(0) - theta[0]
    published = torch.exp(math.log(0.005) * sums / sums[-1])
    ours = OrnsteinUhlenbeck().signal(torch.linspace(0, 1, steps + 1, dtype=F64))
    assert_close(ours[[0, -1]], torch.tensor([1, 0.005], dtype=F64))
    assert_close(published, ours, rtol=0, atol=atol)


@pytest.mark.parametrize("k", [0, 40, 98])
def test_step_is_the_posterior_given_the_image(k):
    """x_{t'} given x_t and x_0 in coordinates of the image, and that its moments are the marginals of t'."""
    prior, _ = joint()
    sampler, mu = MeanReverting(prior, 100), torch.randn(1, *SHAPE, dtype=F64)
    here, there = sampler.level(k), sampler.level(k + 1)
    problem, x_t = Problem(mu, identity(), sampler.priors), torch.randn(1, *SHAPE, dtype=F64)
    state = sampler.begin(problem, mu, torch.ones(1, dtype=torch.int64))._replace(x=x_t - (1 - here.a) * mu)
    found = sampler.move(problem, state, k).x + (1 - there.a) * mu
    x0 = prior.given(mu).estimate(state.x, here.t)
    last, whole, rest = here.a / there.a, 1 - here.a**2, 1 - there.a**2
    mean = mu + last * rest / whole * (x_t - mu) + there.a * (1 - last**2) / whole * (x0 - mu)
    std = math.sqrt(4.0 * (1 - last**2) * rest / whole)
    assert_close(found, mean + std * sampler.draw(state, x_t, k), rtol=1e-10, atol=1e-10)
    assert last * rest / whole * here.a + there.a * (1 - last**2) / whole == pytest.approx(there.a, rel=1e-10)
    assert (last * rest / whole * here.s) ** 2 + std**2 == pytest.approx(there.s**2, rel=1e-9)


def test_starts_at_the_degraded_image():
    prior, _ = joint()
    sampler, y = MeanReverting(prior, 10), torch.randn(3, 4, dtype=F64)
    physics = Dense(torch.randn(4, N, dtype=F64), SHAPE)
    problem, seed = Problem(y, physics, sampler.priors), torch.ones(3, dtype=torch.int64)
    own, given = sampler.begin(problem, None, seed), sampler.begin(problem, torch.ones(3, *SHAPE, dtype=F64), seed)
    assert_close(own.degraded, fitted(problem))
    for state in (own, given):
        x_1 = state.x + (1 - 0.005) * state.degraded
        noise = WIDE.noise(torch.ones((), dtype=F64)) * sampler.draw(state, state.x, -1)
        assert_close(x_1 - noise, state.degraded, rtol=0, atol=1e-12)


# -- samples ------------------------------------------------------------------------------------------
def test_mean_of_the_samples(monkeypatch):
    """Affine in their noise, samples of a Gaussian have the posterior's mean, however few the steps."""
    monkeypatch.setattr(Sampler, "draw", lambda self, state, like, k, which=0: torch.zeros_like(like))
    prior, images = joint()
    mu = torch.cat([degraded(images, seed) for seed in range(3)])
    found = MeanReverting(prior, 10)(mu, identity(), x0=mu)
    for one, c in zip(found, mu, strict=True):
        mean, std = images.posterior(c[None], degradation(), SIGMA).moments()
        assert float(((one - mean).abs() / std).max()) < 2e-3


@pytest.mark.parametrize("steps, randomness", [(60, 0.0), (250, 1.0)], ids=["ODE", "SDE"])
@pytest.mark.parametrize("kind", ["Gaussian", "mixture"])
def test_samples_are_of_the_posterior(kind, steps, randomness):
    """The SDE's steps make samples a little too narrow, in proportion to their length."""
    prior, images = joint() if kind == "Gaussian" else (Known(mixture()), mixture())
    mu, count = degraded(images), 2000
    mean, std = images.posterior(mu, degradation(), SIGMA).moments()
    sampler = MeanReverting(prior, steps, randomness)
    found = sampler.sample(mu, identity(), count, torch.Generator().manual_seed(0), x0=mu)
    assert float(((found.mean[0] - mean).abs() / std).max()) < 5 / math.sqrt(count) + 0.02
    assert_close(found.std[0], std, rtol=0.08, atol=0)


# -- priors given an image ----------------------------------------------------------------------------
def test_conditional_gaussian_is_the_posterior():
    prior, images = joint()
    c, x = torch.cat([degraded(images, seed) for seed in range(2)]), torch.randn(2, *SHAPE, dtype=F64)
    for t in (0.2, 0.7):
        found = prior.given(c).estimate(x, t)
        exact = [images.posterior(c[i : i + 1], degradation(), SIGMA).estimate(x[i : i + 1], t) for i in range(2)]
        assert_close(found, torch.cat(exact), rtol=1e-9, atol=1e-9)


def test_shifted():
    """The mean of centre + scale r, of r Gaussian, is that of the Gaussian moved and scaled."""
    base = GaussianMixture(torch.ones(1, dtype=F64), torch.zeros(1, *SHAPE, dtype=F64), covariance()[None])
    centre, x = torch.randn(SHAPE, dtype=F64), torch.randn(2, *SHAPE, dtype=F64)
    moved = GaussianMixture(torch.ones(1, dtype=F64), centre[None], 0.49 * covariance()[None])
    assert_close(Shifted(base, centre, 0.7).estimate(x, 0.4), moved.estimate(x, 0.4), rtol=1e-10, atol=1e-10)
    assert_close(Shifted(base, centre, 0.7).velocity(x, 0.4), moved.velocity(x, 0.4), rtol=1e-10, atol=1e-10)


class Exact(nn.Module):
    """The velocity of what conditions lack, on the schedule of the training."""

    def __init__(self, prior, scale):
        super().__init__()
        self.prior, self.scale = prior, scale

    def forward(self, r, t, condition):
        residual = Shifted(self.prior.given(condition), -condition / self.scale, 1 / self.scale, Cosine())
        return residual.velocity(r, t)


def test_network_of_what_conditions_lack():
    """A network that is exact makes the prior exact, on a path that it was not trained for."""
    prior, images = joint()
    c, x = degraded(images), torch.randn(1, *SHAPE, dtype=F64)
    found = ConditionalVelocity(Exact(prior, 0.4), 0.4, schedule=WIDE).given(c)
    for t in (0.2, 0.4, 0.6):
        assert_close(found.estimate(x, t), prior.given(c).estimate(x, t), rtol=1e-8, atol=1e-8)


class Affine(Network):
    """``w x + v c + b``."""

    channels, dim = 1, 2

    def __init__(self):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(3, dtype=F64))

    def forward(self, x, t, condition):
        return self.weights[0] * x + self.weights[1] * condition + self.weights[2]


def test_residual_matching_finds_the_velocity():
    """Of Gaussian pixels x ~ N(1/2, 0.09) and c = x / 2 + 0.1 n, at one time: one Newton step."""
    count, scale, t = 40_000, 0.4, 0.6
    x = 0.5 + 0.3 * torch.randn(count, 1, 1, 1, dtype=F64)
    c = x / 2 + 0.1 * torch.randn(count, 1, 1, 1, dtype=F64)
    batch, network, loss = Batch(x, c, torch.full((count,), t, dtype=F64)), Affine(), ResidualMatching(scale)
    torch.manual_seed(1)
    (gradient,) = torch.autograd.grad(loss(network, batch), network.weights, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(g, network.weights, retain_graph=True)[0] for g in gradient])
    with torch.no_grad():
        network.weights -= torch.linalg.solve(hessian, gradient)
    means = torch.tensor([0.5, 0.25], dtype=F64).reshape(2, 1, 1, 1)
    prior = ConditionalGaussian(means, torch.tensor([[0.09, 0.045], [0.045, 0.0325]], dtype=F64))
    r, some = torch.linspace(-1, 1, 5, dtype=F64).reshape(-1, 1, 1, 1), torch.full((5, 1, 1, 1), 0.3, dtype=F64)
    assert_close(network(r, t, some), Exact(prior, scale)(r, t, some), rtol=0.03, atol=0.03)


def test_estimate_of_the_loss_is_the_mean_given_the_condition():
    prior, images = joint()
    c = degraded(images)
    mean, std = images.posterior(c, degradation(), SIGMA).moments()
    found = ResidualMatching(0.4).estimate(Exact(prior, 0.4), c, torch.zeros(1, dtype=F64))
    assert float(((found[0] - mean).abs() / std).max()) < 0.1


def test_low_resolution_is_where_the_sampler_starts():
    clean, generator = torch.rand(1, 16, 12), torch.Generator().manual_seed(0)
    low, times = zip(*(LowResolution(2)(clean, generator) for _ in range(50)), strict=True)
    physics = downsampling((1, 16, 12), 2)
    y = physics.A(clean[None])
    assert y.shape == (1, 1, 8, 6)
    assert_close(low[0][None], fitted(Problem(y, physics)))
    assert 0 <= min(times) < 0.2 and 0.8 < max(times) <= 1
    flat = torch.full((1, 16, 12), 0.6)
    assert_close(LowResolution(4)(flat, generator)[0], flat)


def test_matched_fits_best():
    physics, x, y = Dense(torch.randn(4, N, dtype=F64), SHAPE), torch.randn(2, *SHAPE, dtype=F64), torch.randn(2, 4)
    found = matched(physics, x, y.double())
    data = physics.A(x)
    for i in range(2):
        best = torch.linalg.lstsq(data[i, :, None], y[i, :, None].double()).solution
        assert_close(found[i], float(best) * x[i])


def test_images_shown_to_a_network():
    network, x = TimeUNet([4], 2, shown=2).double(), torch.randn(2, 1, 5, 4, dtype=F64)
    first, other = (torch.randn(2, 2, 5, 4, dtype=F64) for _ in range(2))
    assert not torch.equal(network(x, 0.3, first), network(x, 0.3, other))
    assert_close(network(x, 0.3, *first.split(1, 1)), network(x, 0.3, first))
    with pytest.raises(ValueError, match="images: found 0 channels shown beside x, expected 2"):
        network(x, 0.3)


def test_refusals():
    prior, images = joint()
    with pytest.raises(TypeError, match="MeanReverting: found GaussianMixture, expected a prior with a given"):
        MeanReverting(images)
    with pytest.raises(TypeError, match="DPS: found ConditionalGaussian, expected a prior with a mean"):
        DPS(prior)
    for wrong, message in [
        (lambda: MeanReverting(prior, randomness=2), "randomness: found 2"),
        (lambda: OrnsteinUhlenbeck(0), "std, left: found 0"),
        (lambda: OrnsteinUhlenbeck(1, 1), "std, left: found 1, 1"),
        (lambda: ConditionalVelocity(TimeUNet([4], shown=1), scale=0), "scale: found 0"),
        (lambda: ResidualMatching(scale=-1), "scale: found -1"),
        (lambda: LowResolution(1), "factor: found 1, expected at least 2"),
        (lambda: ConditionalGaussian(torch.zeros(2, *SHAPE), torch.eye(3)), r"covariance: found shape \(3, 3\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
