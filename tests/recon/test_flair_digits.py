"""FLAIR on digits, whose prior and posteriors are known: figures that an implementation must come to."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.recon import FLAIR, CalibratedWeight, velocity_errors

F64 = torch.float64
pytestmark = pytest.mark.slow
TIMES = torch.linspace(1, 0, 100, dtype=F64)
SHIFTS = pytest.mark.parametrize("shift", [None, 0.0], ids=["subtracting", "released"])


def beside(name):
    """A module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


flair = beside("test_flair")


@pytest.fixture(scope="module")
def digits():
    return beside("digits").load()


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
    error = (found - truth[:, None]).square().flatten(2).mean(2) * 0.3764**2
    return float((-10 * torch.log10(error)).mean())
