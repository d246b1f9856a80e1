"""The exposure process: photons that add up, a conjugate prior of which all is known, and training."""

import itertools
import math
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from resolvent.datasets import load_measurement, save_measurement
from resolvent.operators import Dense, Exposure
from resolvent.priors import (
    L1,
    BalancedUNet,
    Batch,
    ExposurePrior,
    ProgressiveExposure,
    ShortExposure,
    longer_exposure,
)
from resolvent.priors.network import Network
from resolvent.recon import ExposureDiffusion, Problem

F64 = torch.float64
SHAPE, RATE, GAIN, SHORT = 2.0, 4.0, 0.05, 0.1
PIXELS = 200_000


def gamma_mean(x, exposure):
    """The mean of a brightness of Gamma(2, rate 4) given ``exposure x / GAIN`` photons."""
    return (GAIN * SHAPE + exposure * x) / (GAIN * RATE + exposure)


def scene(count=PIXELS):
    """Brightnesses, and photons at the short exposure as raw images."""
    x = torch.distributions.Gamma(SHAPE, RATE).sample((1, 1, 1, count)).to(F64)
    return x, GAIN * torch.poisson(SHORT * x / GAIN)


def physics(count=PIXELS, read_noise=0.0):
    return Exposure(SHORT, GAIN, read_noise, (1, 1, count))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pmf(counts, top=15):
    return torch.bincount(counts.flatten().round().long().clamp_max(top), minlength=top + 1).double() / counts.numel()


def poisson_pmf(mean, top=15):
    k = torch.arange(top, dtype=F64)
    below = torch.exp(k * math.log(mean) - mean - torch.lgamma(k + 1))
    return torch.cat([below, 1 - below.sum(0, keepdim=True)])


# -- photons ------------------------------------------------------------------------------------------
def test_exposures_add_up():
    """Poisson at 0.1 and, with the true brightness, 0.3 more is Poisson at 0.4."""
    x = torch.full((PIXELS,), 0.7, dtype=F64)
    short = GAIN * torch.poisson(0.1 * x / GAIN)
    long = longer_exposure(short, x, 0.3, GAIN)
    assert_close(pmf(long / GAIN), poisson_pmf(0.4 * 0.7 / GAIN), rtol=0, atol=0.005)
    assert_close(pmf((long - short) / GAIN), poisson_pmf(0.3 * 0.7 / GAIN), rtol=0, atol=0.005)


def test_a_long_exposure_thinned_is_a_short_one():
    """Both ways to a pair have one law: the joint counts of (short, long), cell by cell."""
    x = torch.full((PIXELS,), 0.7, dtype=F64)
    short = torch.poisson(0.1 * x / GAIN)
    long = longer_exposure(GAIN * short, x, 0.3, GAIN) / GAIN
    other = torch.poisson(0.4 * x / GAIN)
    thinned = torch.binomial(other, torch.full_like(other, 0.25))

    def cells(a, b):
        return torch.bincount((16 * a.clamp_max(15) + b.clamp_max(15)).round().long(), minlength=256).double() / PIXELS

    assert_close(cells(short, long), cells(thinned, other), rtol=0, atol=0.005)


def test_moments_of_the_operator():
    """Mean lambda x, variance g lambda x + sigma^2."""
    operator = Exposure(0.2, GAIN, 0.03, (1, 1, PIXELS))
    y = operator(torch.full((1, 1, 1, PIXELS), 0.6, dtype=F64))
    assert float(y.mean()) == pytest.approx(0.12, abs=1e-3)
    assert float(y.var()) == pytest.approx(GAIN * 0.12 + 0.03**2, rel=0.02)
    assert Problem(y, operator).noise_std is None, "its noise depends on the image"
    dark = operator(torch.full((1, 1, 1, PIXELS), -0.1, dtype=F64))
    assert float(dark.std()) == pytest.approx(0.03, rel=0.02)


def test_noise_of_the_mean_brightness():
    physics, x = Exposure(0.1, 0.01, 0.005, (1, 200, 200)), torch.full((1, 1, 200, 200), 2.0)
    torch.manual_seed(0)
    y = physics(x)
    assert float(physics.estimate_noise(y)) == pytest.approx(float((y - physics.A(x)).std()), rel=0.02)
    assert torch.equal(physics.column_norms(), torch.full((1, 200, 200), 0.1, dtype=torch.float64))


def test_file_and_copy_keep_the_operator(tmp_path):
    operator = Exposure(0.2, 0.01, 0.03, (1, 4, 5))
    copied, x = pickle.loads(pickle.dumps(operator)), torch.rand(1, 1, 4, 5)
    torch.manual_seed(1)
    y = operator(x)
    torch.manual_seed(1)
    assert torch.equal(copied(x), y) and not torch.equal(y, operator.A(x))
    save_measurement(tmp_path / "raw.h5", torch.rand(1, 1, 4, 5), operator)
    found = load_measurement(tmp_path / "raw.h5").physics
    assert found.geometry() == operator.geometry() and isinstance(found, Exposure)
    assert (float(found.noise_model.gain), float(found.noise_model.sigma)) == pytest.approx((0.01, 0.03))


# -- the process --------------------------------------------------------------------------------------
def test_one_step_is_the_denoiser():
    _, y = scene(1000)
    found = ExposureDiffusion(ExposurePrior(gamma_mean), 1)(y, physics(1000))
    assert_close(found, (SHAPE + y / GAIN) / (RATE + SHORT / GAIN), rtol=1e-12, atol=0)


def test_steps_of_an_exact_mean():
    """Estimates are a martingale: their mean stays, and each step adds what the variance of its photons says."""
    x, y = scene()
    best = gamma_mean(y / SHORT, SHORT)
    own = SHAPE / RATE * GAIN / (GAIN * RATE + SHORT)
    assert float((best - x).square().mean()) == pytest.approx(own, rel=0.02)
    for steps in (2, 3):
        levels = [SHORT ** (1 - k / steps) for k in range(steps)]
        added = sum(GAIN * SHAPE / RATE * (b - a) / (GAIN * RATE + b) ** 2 for a, b in itertools.pairwise(levels))
        found = ExposureDiffusion(ExposurePrior(gamma_mean), steps).sample(y, physics(), 1, generator(steps)).mean
        assert abs(float((found - best).mean())) < 5 * math.sqrt(added / PIXELS)
        assert float((found - best).square().mean()) == pytest.approx(added, rel=0.02)
        assert float((found - x).square().mean()) == pytest.approx(own + added, rel=0.02)


def test_expectation_of_the_longer_exposure():
    """Of one pixel's photons, many times: y + (l' - l) x-hat, and the photons' variance about it."""
    count = 50_000
    y = torch.full((1, 1, 1, count), 3 * GAIN, dtype=F64)
    sampler = ExposureDiffusion(ExposurePrior(gamma_mean), 2)
    problem = Problem(y, physics(count), sampler.priors)
    state = sampler.begin(problem, None, torch.ones(1, dtype=torch.int64))
    raw, estimate = sampler.move(problem, state, 0).raw, (3 + SHAPE) / (RATE + SHORT / GAIN)
    more = (math.sqrt(SHORT) - SHORT) * estimate
    assert float(raw.mean()) == pytest.approx(3 * GAIN + more, rel=0.01)
    assert float(raw.var()) == pytest.approx(GAIN * more, rel=0.03)
    assert torch.equal(state.raw, y)


def test_many_steps_draw_from_the_posterior():
    """Photon by photon at the mean's rate, the full exposure is negative binomial: the law of a true one given y."""
    count = 20_000
    y = torch.full((1, 1, 1, count), 3 * GAIN, dtype=F64)
    sampler = ExposureDiffusion(ExposurePrior(gamma_mean), 150)
    found = sampler.solve(y, physics(count)).state.raw
    rate = torch.distributions.Gamma(3 + SHAPE, RATE + SHORT / GAIN).sample((count,)).to(F64)
    more = (found - y) / GAIN
    exact = torch.poisson((1 - SHORT) * rate / GAIN)
    assert float(more.mean()) == pytest.approx((1 - SHORT) / GAIN * 5 / (RATE + SHORT / GAIN), rel=0.02)
    assert float(more.var()) == pytest.approx(float(exact.var()), rel=0.06)
    assert_close(pmf(more, 60).cumsum(0), pmf(exact, 60).cumsum(0), rtol=0, atol=0.02)


def test_a_perfect_estimate_brings_the_true_exposures():
    """With the truth as estimate, what is wrong with the amplified raw image falls as g x / l + sigma^2 / l^2."""
    count, read, steps = 50_000, 0.02, 4
    x = torch.full((1, 1, 1, count), 0.7, dtype=F64)
    operator = physics(count, read)
    sampler = ExposureDiffusion(ExposurePrior(lambda *_: x), steps)
    y, errors = operator(x), []
    problem = Problem(y, operator, sampler.priors)
    state = sampler.begin(problem, None, torch.ones(1, dtype=torch.int64))
    for k in range(steps + 1):
        exposure = SHORT ** (1 - k / steps)
        errors.append(float((state.raw / exposure - x).square().mean()))
        assert errors[-1] == pytest.approx(GAIN * 0.7 / exposure + (read / exposure) ** 2, rel=0.04)
        state = sampler.move(problem, state, k) if k < steps else state
    assert all(a > b for a, b in itertools.pairwise(errors))
    assert torch.equal(state.x, x)


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_runs(dtype):
    """The generator decides, a run goes on bit for bit, and nothing given is changed."""
    y = scene(30)[1].to(dtype)
    kept, sampler = y.clone(), ExposureDiffusion(ExposurePrior(gamma_mean), 5)
    first, again, other = (sampler.sample(y, physics(30), 3, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.samples, again.samples) and not torch.equal(first.samples, other.samples)
    assert first.samples.dtype == dtype and first.samples.shape == (1, 3, 1, 1, 30) and torch.equal(y, kept)
    stopped = sampler.solve(y, physics(30), callback=lambda p: p.iteration < 2)
    whole = sampler.solve(y, physics(30), state=stopped.state)
    assert stopped.iterations == 2 and whole.status == ("completed",)
    torch.manual_seed(4)
    one = sampler(y, physics(30))
    torch.manual_seed(4)
    assert torch.equal(one, sampler(y, physics(30)))


# -- training -----------------------------------------------------------------------------------------
def test_short_exposures():
    """Shot and read noise of the exposure that they say, amplified to the image's brightness."""
    clean, draw = torch.full((1, 200, 200), 0.5), generator()
    pairs = [ShortExposure(0.001, 0.002, 0.01)(clean, draw) for _ in range(40)]
    for noisy, exposure in ((noisy, float(exposure)) for noisy, exposure in pairs):
        assert 0.01 <= exposure <= 1
        assert float(noisy.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(noisy.var()) == pytest.approx(0.001 * 0.5 / exposure + (0.002 / exposure) ** 2, rel=0.05)
    logs = torch.stack([exposure for _, exposure in pairs]).log() / math.log(0.01)
    assert float(logs.mean()) == pytest.approx(0.5, abs=0.2)


class Watched(nn.Module):
    """A denoiser that keeps what it is shown."""

    def __init__(self, denoise):
        super().__init__()
        self.denoise, self.seen = denoise, []

    def forward(self, x, exposure):
        self.seen.append((x, exposure))
        return self.denoise(x, exposure)


def test_progressive_loss():
    """The mean of the errors at the exposures l, l^(2/3), l^(1/3), the later ones from photons of the estimate."""
    x, y = scene(50_000)
    batch = Batch(x, y / SHORT, torch.full((1,), SHORT, dtype=F64))
    network, loss = Watched(lambda z, e: gamma_mean(z, e.reshape(-1, 1, 1, 1))), ProgressiveExposure(GAIN, 3)
    found = loss(network, batch)
    exposures = torch.cat([e for _, e in network.seen])
    assert_close(exposures, SHORT ** torch.tensor([1, 2 / 3, 1 / 3], dtype=F64))
    own = SHAPE / RATE * GAIN / (GAIN * RATE + SHORT)
    a, b, c = (float(e) for e in exposures)
    second = own + GAIN * SHAPE / RATE * (b - a) / (GAIN * RATE + b) ** 2
    third = second + GAIN * SHAPE / RATE * (c - b) / (GAIN * RATE + c) ** 2
    assert float(found) == pytest.approx((own + second + third) / 3, rel=0.03)
    assert_close(network.seen[0][0], batch.noisy)
    assert float(ProgressiveExposure(GAIN, 1)(network, batch)) == pytest.approx(own, rel=0.03)


def test_progressive_loss_is_differentiated_step_by_step():
    """Photons have no derivative: the gradient of the second step's error is that with its input held."""

    class Scaled(Network):
        channels, dim = 1, 2

        def __init__(self):
            super().__init__()
            self.factor, self.seen = nn.Parameter(torch.tensor(0.8)), []

        def forward(self, x, exposure):
            self.seen.append(x)
            return self.factor * x

    network, clean = Scaled(), torch.rand(2, 1, 6, 6)
    batch = Batch(clean, clean + 0.1, torch.tensor([0.1, 0.3]))
    (found,) = torch.autograd.grad(ProgressiveExposure(0.01, 2)(network, batch), network.factor)
    parts = [(2 * x * (network.factor * x - clean)).mean() for x in network.seen]
    assert_close(found, torch.stack(parts).mean())


def test_mask_weighs_image_and_residual():
    """With a constant answer the network is the conjugate prior's mean: f + m x with m = l / (g b + l)."""
    network, x = BalancedUNet([4], 2).double(), torch.rand(2, 1, 5, 4, dtype=F64)
    m = SHORT / (GAIN * RATE + SHORT)
    nn.init.zeros_(network.last.weight)
    with torch.no_grad():
        network.last.bias.copy_(torch.tensor([GAIN * SHAPE / (GAIN * RATE + SHORT), math.log(m / (1 - m))], dtype=F64))
    assert_close(network(x, SHORT), gamma_mean(x, SHORT), rtol=1e-12, atol=0)
    assert network.description["architecture"] == "BalancedUNet"
    assert type(network)(**network.arguments).last.weight.shape == network.last.weight.shape


def test_refusals():
    with pytest.raises(TypeError, match="ExposureDiffusion: found L1, expected a prior with a photon"):
        ExposureDiffusion(L1())
    with pytest.raises(TypeError, match="physics: found Dense, expected an Exposure"):
        ExposureDiffusion(ExposurePrior(gamma_mean))(torch.rand(1, 5), Dense(torch.eye(5), (1, 1, 5)))
    for wrong, message in [
        (lambda: Exposure(0, 1, 1, (1, 2, 2)), "exposure, gain, read_noise: found 0.0"),
        (lambda: Exposure(2, 1, 1, (1, 2, 2)), "exposure, gain, read_noise: found 2.0"),
        (lambda: ShortExposure(shortest=0), "gain, read_noise, shortest: found"),
        (lambda: ProgressiveExposure(steps=0), "gain, steps: found"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
