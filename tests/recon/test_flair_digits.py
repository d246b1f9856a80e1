"""FLAIR on digits, whose prior and posteriors are known: figures that an implementation must come to."""

import itertools
import math

import pytest
import test_flair as flair
import torch
from digits import load
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.priors import Batch, MovingAverage, VelocityDiffusion, VelocityMatching, cosine, train
from resolvent.priors.network import Network
from resolvent.recon import FLAIR, CalibratedWeight, velocity_errors

F64 = torch.float64
pytestmark = pytest.mark.slow
TIMES = torch.linspace(1, 0, 100, dtype=F64)
SHIFTS = pytest.mark.parametrize("shift", [None, 0.0], ids=["subtracting", "released"])


@pytest.fixture(scope="module")
def digits():
    return load()


@pytest.fixture(scope="module")
def measured_errors(digits):
    """e(t) of the mixture on digits that it was not fitted to."""
    return velocity_errors(digits.mixture, digits.held_out.repeat(4, 1, 1, 1), TIMES, torch.Generator().manual_seed(1))


def blocks(f):
    """Means of blocks of ``f x f`` pixels."""
    pixel = torch.arange(8) // f
    one = (pixel == torch.arange(8 // f)[:, None]).to(F64) / f
    return Dense(torch.kron(one, one), (1, 8, 8))


def test_the_prior(digits):
    assert digits.unit == pytest.approx(0.3760, abs=2e-4)
    assert float(digits.mixture.log_prob(digits.held_out).mean()) / 64 == pytest.approx(0, abs=0.005)
    own = digits.mixture.sample(2000, torch.Generator().manual_seed(0))
    assert float(digits.mixture.log_prob(own).mean()) / 64 == pytest.approx(-0.003, abs=0.01)


def test_error_curves(digits):
    times = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.01], dtype=F64)
    exact = torch.tensor([flair.gaussian_error(digits.covariance, float(t)) for t in times], dtype=F64)
    expected = torch.tensor([0.528, 0.720, 0.812, 0.864, 0.947, 1.011, 1.040, 1.018], dtype=F64)
    assert_close(exact, expected, rtol=0, atol=1e-3)
    images = digits.held_out.repeat(8, 1, 1, 1)  # the figures are themselves of one draw, to about .02
    found = velocity_errors(digits.mixture, images, times, torch.Generator().manual_seed(0))
    expected = torch.tensor([0.523, 0.707, 0.616, 0.583, 0.741, 0.875, 0.971, 1.017], dtype=F64)
    assert_close(found, expected, rtol=0, atol=0.03)


def test_velocity_moves_noise_to_digits(digits):
    """Heun's method along the exact velocity: mean, covariance and likelihood of the mixture's own samples."""
    prior, count = digits.mixture, 2000
    x = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(4), dtype=F64)
    for now, then in itertools.pairwise(torch.linspace(1, 1e-3, 101, dtype=F64).tolist()):
        first = prior.velocity(x, now)
        x = x + (then - now) * (first + prior.velocity(x + (then - now) * first, then)) / 2
    mean, _ = prior.moments()
    away = prior.means.flatten(1) - mean.flatten()
    covariance = torch.einsum("k,kij->ij", prior.weights, prior.covariances) + (prior.weights * away.mT) @ away
    assert float((x.mean(0) - mean).abs().max()) < 0.1
    found = torch.cov(x.flatten(1).mT)
    assert float(torch.linalg.matrix_norm(found - covariance) / torch.linalg.matrix_norm(covariance)) < 0.1
    assert float(prior.log_prob(x).mean()) / 64 == pytest.approx(0.010, abs=0.02)


FIGURES = {
    None: ([1.1378, 0.5418, 1.0025, 0.0360], [0.2510, 0.2600, 0.2671, 0.2381]),
    0.0: ([1.5736, 0.6538, 0.9474, -0.4247], [0.8402, 0.9308, 0.9243, 0.8125]),
}


@SHIFTS
def test_affine_recursion(digits, shift):
    """Pixels (3, 2..5) of digit 0 without its middle: the closed form's figures, and the samples'."""
    physics, count = flair.box(), 800
    y = physics.A(digits.held_out[:1])
    weight = CalibratedWeight(TIMES, flair.errors(digits.covariance), shift)
    times = torch.linspace(1, 0.18, 52, dtype=F64)[1:-1].tolist()
    mean, std = flair.recursion(digits.gaussian, digits.covariance, physics, y, weight, times)
    pixels = torch.arange(26, 30)
    assert_close(mean[pixels], torch.tensor(FIGURES[shift][0], dtype=F64), rtol=0, atol=1e-4)
    assert_close(std[pixels], torch.tensor(FIGURES[shift][1], dtype=F64), rtol=0, atol=1e-4)
    sampler = FLAIR(digits.gaussian, weight, noise_std=1e-4, cg_rtol=1e-10)
    found = sampler.sample(y, physics, count, torch.Generator().manual_seed(2))
    free = std > 1e-6
    away = (found.mean.flatten() - mean).abs()[free] / std[free] * count**0.5
    assert float(away.max()) < 4.5
    assert_close(found.std.flatten()[free], std[free], rtol=0.11, atol=0)


#: PSNR in dB, subtracting and released.
PSNR = {"box": (flair.box(), 18.76, 17.08), "SR x 2": (blocks(2), 16.95, 15.44), "SR x 4": (blocks(4), 11.76, 9.90)}


def test_weights_of_the_mixture(measured_errors):
    """lambda at t = 1, where it is largest, and at the last step."""
    for shift, first, last in ((None, 0.303, 0.104), (0.0, 0.632, 0.434)):
        weight = CalibratedWeight(TIMES, measured_errors, shift)
        assert weight(1.0) == pytest.approx(first, abs=0.02) and weight(0.18) == pytest.approx(last, abs=0.02)


@pytest.mark.parametrize("task", PSNR)
def test_quality_on_digits(digits, measured_errors, task):
    """The figures are of one draw of 60 images, and from draw to draw the mean PSNR scatters by 0.3 to 0.4 dB."""
    physics, *expected = PSNR[task]
    truth = digits.held_out[:60]
    noise = torch.randn(60, *physics.data_shape, generator=torch.Generator().manual_seed(5), dtype=F64)
    y = physics.A(truth) + 0.01 * noise
    found = [draws(digits, measured_errors, shift, physics, truth, y) for shift in (None, 0.0)]
    assert found == pytest.approx(expected, abs=0.9) and found[0] > found[1] + 0.5


def draws(digits, measured_errors, shift, physics, truth, y):
    """Mean PSNR of two samples for each image, in the units of the digits."""
    sampler = FLAIR(digits.mixture, CalibratedWeight(TIMES, measured_errors, shift), noise_std=1e-4, cg_rtol=1e-9)
    found = sampler.sample(y, physics, 2, torch.Generator().manual_seed(3)).samples
    return quality(found, truth)


def quality(samples, truth):
    """Mean PSNR of samples ``(n, N, 1, 8, 8)``, in the units of the digits."""
    error = (samples - truth[:, None]).square().flatten(2).mean(2) * 0.3764**2
    return float((-10 * torch.log10(error)).mean())


class Loose(FLAIR):
    """Without hard consistency: from the pseudo-inverse, and one gradient step on the data in place of the fit."""

    def begin(self, problem, x0, seed):
        image = problem.y @ torch.linalg.pinv(problem.physics.matrix).mT
        return super().begin(problem, image.reshape(problem.back_projection.shape), seed)

    def _fit(self, problem, z):
        return z - 0.5 * problem.gradient(z)


def anew(t):
    """Noise drawn anew in every step."""
    return 0.0


def half(t):
    """The weight that no error was measured for."""
    return t / 2


def ablated(digits, measured_errors, shift, without):
    """FLAIR without some of its parts."""
    weight = half if "CRW" in without else CalibratedWeight(TIMES, measured_errors, shift)
    adjustment = {"adjustment": anew} if "DTA" in without else {}
    kind = Loose if "HDC" in without else FLAIR
    return kind(digits.mixture, weight, noise_std=1e-4, cg_rtol=1e-9, **adjustment)


#: By shift and what is left out: PSNR in dB, and root mean square of A x - y where it is not 0, task by task.
ABLATIONS = {
    (None, ()): ((18.76, 16.95, 11.76), None),
    (None, ("DTA",)): ((18.84, 17.18, 12.41), None),
    (None, ("CRW",)): ((18.32, 17.52, 12.10), None),
    (None, ("HDC",)): ((18.28, 14.52, 9.75), (0.037, 0.146, 0.280)),
    (None, ("DTA", "CRW", "HDC")): ((18.55, 13.44, 10.19), (0.058, 0.219, 0.294)),
    (0.0, ("DTA",)): ((16.59, 14.98, 10.52), None),
    (0.0, ("HDC",)): ((16.15, 11.43, 8.29), (0.118, 0.320, 0.353)),
}


@pytest.mark.parametrize(("shift", "without"), ABLATIONS, ids=lambda v: "-".join(v) if isinstance(v, tuple) else str(v))
def test_ablations_on_digits(digits, measured_errors, shift, without):
    """Each part left out: PSNR, and how far the image is from the data, which only the hard consistency keeps it at."""
    expected, away = ABLATIONS[shift, without]
    truth, found, misfit = digits.held_out[:60], [], []
    for physics, *_ in PSNR.values():
        noise = torch.randn(60, *physics.data_shape, generator=torch.Generator().manual_seed(5), dtype=F64)
        y = physics.A(truth) + 0.01 * noise
        sampler = ablated(digits, measured_errors, shift, without)
        samples = sampler.sample(y, physics, 2, torch.Generator().manual_seed(3)).samples
        found.append(quality(samples, truth))
        left = physics.A(samples.flatten(0, 1)) - y.repeat_interleave(2, 0)
        misfit.append(float(left.square().mean().sqrt()))
    assert found == pytest.approx(expected, abs=0.9)
    assert misfit == pytest.approx(away, rel=0.15) if away else max(misfit) < 1e-6


@pytest.mark.parametrize("task", PSNR)
def test_exact_posterior_on_digits(digits, task):
    """What FLAIR is to be compared with: the pseudo-inverse, the posterior's mean and its samples."""
    physics, truth = PSNR[task][0], digits.held_out[:60]
    noise = torch.randn(60, *physics.data_shape, generator=torch.Generator().manual_seed(5), dtype=F64)
    y, generator = physics.A(truth) + 0.01 * noise, torch.Generator().manual_seed(6)
    exact = [digits.mixture.posterior(each[None], physics, 0.01) for each in y]
    means = torch.stack([posterior.moments()[0] for posterior in exact])[:, None]
    drawn = torch.stack([posterior.sample(2, generator) for posterior in exact])
    inverse = (y @ torch.linalg.pinv(physics.matrix).mT).reshape(means.shape)
    found = [quality(images, truth) for images in (inverse, means, drawn)]
    assert found == pytest.approx(EXACT[task], abs=0.5)


#: PSNR in dB of the pseudo-inverse, the posterior's mean and its samples.
EXACT = {"box": (13.20, 20.46, 18.05), "SR x 2": (13.05, 19.71, 16.55), "SR x 4": (8.91, 14.75, 12.11)}


# -- trained ------------------------------------------------------------------------------------------
class Perceptron(Network):
    """Three hidden layers, each told the time."""

    def __init__(self, width: int = 256, channels: int = 1, dim: int = 2):
        super().__init__()
        self.width, self.channels, self.dim = width, channels, dim
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(n + 32, width) for n in (64, width, width))
        self.last = torch.nn.Linear(width, 64)
        self.register_buffer("frequencies", torch.logspace(0, math.log10(200), 16))

    def forward(self, x, sigma):
        phase = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))[:, None] * self.frequencies
        time, h = torch.cat([phase.sin(), phase.cos()], 1), x.flatten(1)
        for layer in self.hidden:
            h = torch.nn.functional.silu(layer(torch.cat([h, time], 1)))
        return self.last(h).reshape(x.shape)


@pytest.fixture(scope="module")
def trained(digits):
    """The velocity learned from the digits that the mixture was fitted to."""
    images = digits.fitted.float()

    def batch(k):
        generator = torch.Generator().manual_seed(k)
        clean = images[torch.randint(len(images), (128,), generator=generator)]
        t = 1e-3 + (1 - 1e-3) * torch.rand(128, generator=generator)
        mixed = t.reshape(-1, 1, 1, 1)
        return Batch(clean, (1 - mixed) * clean + mixed * torch.randn(clean.shape, generator=generator), t)

    torch.manual_seed(0)
    network = Perceptron()
    average = MovingAverage(network, 0.995)
    train(network, batch, VelocityMatching(), 3000, cosine(1e-3, 0.0, 3000), average=average)
    return VelocityDiffusion(average.network)


def test_learned_velocity(digits, trained):
    """Held-out error between the exact velocity's and what such a network comes to."""
    times = torch.tensor([0.8, 0.4, 0.1], dtype=F64)
    images = digits.held_out.repeat(8, 1, 1, 1).float()
    exact, found = (
        velocity_errors(p, images, times, torch.Generator().manual_seed(0)) for p in (digits.mixture, trained)
    )
    assert_close(found.double(), torch.tensor([0.730, 0.716, 0.948], dtype=F64), rtol=0, atol=0.05)
    assert (found > exact).all()


def test_flair_with_a_learned_velocity(digits, trained):
    """In place of the exact one; a mean of eight samples is nearer than one."""
    truth = digits.held_out[:100].float()
    errors = velocity_errors(
        trained, digits.held_out.repeat(4, 1, 1, 1).float(), TIMES, torch.Generator().manual_seed(1)
    )
    for task, one, mean in (("box", 16.74, 17.76), ("SR x 2", 15.84, 17.13)):
        physics = PSNR[task][0]
        y = physics.A(truth) + 0.01 * torch.randn(100, *physics.data_shape, generator=torch.Generator().manual_seed(5))
        sampler = FLAIR(trained, CalibratedWeight(TIMES, errors), noise_std=1e-3, cg_rtol=1e-6)
        found = sampler.sample(y, physics, 8, torch.Generator().manual_seed(3))
        figures = quality(found.samples, truth), quality(found.mean[:, None], truth)
        assert figures == pytest.approx((one, mean), abs=0.9) and figures[1] > figures[0] + 0.5
