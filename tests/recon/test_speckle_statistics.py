"""Distances and grains of speckle in closed form."""

import math

import pytest
import torch

from resolvent.datasets.speckle import echoes
from resolvent.recon import autocorrelation_widths, gcnr, ks_distance

F64 = torch.float64


def rayleigh(power, count=20_000):
    return (power * -torch.log(torch.rand(count, dtype=F64))).sqrt()


@pytest.mark.parametrize("ratio", [2, 4, 10, 100])
def test_distance_of_speckle(ratio):
    exact = ratio ** (-1 / (ratio - 1)) - ratio ** (-ratio / (ratio - 1))
    assert ks_distance(rayleigh(1), rayleigh(ratio)) == pytest.approx(exact, abs=2 * 1.4 / math.sqrt(20_000))
    assert exact == pytest.approx({2: 0.25, 4: 0.4725, 10: 0.6968, 100: 0.9450}[ratio], abs=5e-4)


def test_distance_in_few_samples():
    a, b = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([[2.5, 3.5], [10.0, 11.0]])
    assert ks_distance(a, b) == 0.5 and ks_distance(b, a) == 0.5 and ks_distance(a, a) == 0
    assert ks_distance(a.exp(), b.exp()) == 0.5, "the same after any monotone change"
    assert ks_distance(a, a + 10) == 1


def test_as_contrast_of_speckle():
    """Two speckles whose densities cross once: their best threshold is where the distributions are furthest apart."""
    a, b = rayleigh(1, 200_000), rayleigh(3, 200_000)
    assert gcnr(a, b).value == pytest.approx(ks_distance(a, b), abs=0.01)


@pytest.mark.parametrize("part", ["complex", "real"])
def test_grain_of_a_gaussian_pulse(part):
    found = []
    for seed in range(4):
        u = echoes(torch.ones(256, 256, dtype=F64), (2.0, 5.0), torch.Generator().manual_seed(seed))
        found.append(autocorrelation_widths(u if part == "complex" else u.real))
    for axis, width in enumerate((2.0, 5.0)):
        mean = sum(widths[axis] for widths in found) / 4
        assert mean == pytest.approx(4 * math.sqrt(math.log(2)) * width, rel=0.05)


def test_grain_between_pixels():
    comb = torch.zeros(64, dtype=F64)
    comb[::2], comb[1::2] = 1, -1
    assert autocorrelation_widths(comb) == pytest.approx((0.5,)), "correlation 1, -1: one half at a quarter of a pixel"
    assert math.isnan(autocorrelation_widths(torch.ones(4, 4))[0])


def test_refusals():
    with pytest.raises(ValueError, match="after: found 0 samples"):
        ks_distance(torch.ones(3), torch.ones(0))
    with pytest.raises(ValueError, match=r"before: found 3 samples of torch.complex64"):
        ks_distance(torch.ones(3) * 1j, torch.ones(3))
