"""A denoiser of one noise level at all of them."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.priors import SingleLevel

LEVEL = 0.1


def halve(x, sigma):
    assert sigma == LEVEL
    return x / 2 + x.square()


def wiener(variance):
    """The best denoiser of Gaussian images at its one level."""
    return lambda x, sigma: variance / (variance + sigma**2) * x


def test_it_is_the_denoiser_at_its_own_level_and_nothing_at_none():
    x = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    assert_close(SingleLevel(halve, LEVEL)(x, LEVEL), halve(x, LEVEL))
    assert torch.equal(SingleLevel(halve, LEVEL)(x, 0.0), x)


def test_stronger_noise_comes_down_to_the_level():
    seen = []
    noise = torch.randn(1, 1, 200, 200)
    SingleLevel(lambda x, s: seen.append(x.std()) or x, LEVEL)(3 * LEVEL * noise, 3 * LEVEL)
    assert_close(seen[0], LEVEL * noise.std())
    x = torch.rand(1, 1, 4, 4)
    assert_close(SingleLevel(halve, LEVEL)(x, 4 * LEVEL), 4 * halve(x / 4, LEVEL))


def test_weaker_noise_takes_a_step_of_the_score():
    """For Gaussian images of variance v the score at the level is -x / (v + level^2)."""
    x, v = torch.randn(2, 1, 4, 4, dtype=torch.float64), 0.7
    for sigma in (0.01, 0.05):
        assert_close(SingleLevel(wiener(v), LEVEL)(x, sigma), x - sigma**2 * x / (v + LEVEL**2))


def test_one_level_per_image():
    x, levels = torch.rand(3, 1, 4, 4, dtype=torch.float64), (0.02, LEVEL, 0.5)
    together = SingleLevel(halve, LEVEL)(x, torch.tensor(levels).double().reshape(3, 1, 1, 1))
    assert_close(together, torch.cat([SingleLevel(halve, LEVEL)(x[i : i + 1], s) for i, s in enumerate(levels)]))
    assert torch.equal(SingleLevel(halve, LEVEL)(x, torch.tensor(levels).double()), together)


def test_refuses_no_level():
    with pytest.raises(ValueError, match="level: found 0"):
        SingleLevel(halve, 0)
