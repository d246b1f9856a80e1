"""gCNR of fully developed speckle against its closed form, and what a histogram of few samples adds to it."""

import pytest
import torch

from resolvent.recon import gcnr


def speckle(ratio_db, n, repeats):
    """Exponential intensities of two regions, ``(repeats, n)`` each."""
    a, b = (torch.empty(repeats, n, dtype=torch.float64).exponential_() for _ in range(2))
    return a, 10 ** (ratio_db / 10) * b


def mean(pairs, change=lambda v: v):
    values = [gcnr(change(a), change(b)).value for a, b in zip(*pairs, strict=True)]
    return sum(values) / len(values)


@pytest.mark.parametrize("ratio_db", [3, 6, 10, 20])
def test_exact_for_many_samples(ratio_db):
    """``r^(-1/(r-1)) - r^(-r/(r-1))``."""
    r = 10 ** (ratio_db / 10)
    exact = r ** (-1 / (r - 1)) - r ** (-r / (r - 1))
    assert mean(speckle(ratio_db, 20_000, 20)) == pytest.approx(exact, abs=0.006)


@pytest.mark.parametrize(
    "ratio_db, n, expected",
    [(0, 500, 0.26), (0, 2000, 0.13), (0, 20_000, 0.042), (3, 500, 0.332), (3, 2000, 0.257), (6, 500, 0.508)],
)
def test_bias_of_few_samples(ratio_db, n, expected):
    """Tabulated for 256 bins from other draws; the closed forms are 0, 0.2492 and 0.4711."""
    assert mean(speckle(ratio_db, n, 40)) == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("change", [torch.log, torch.sqrt, lambda v: -v], ids=["log", "root", "negative"])
def test_unchanged_by_monotone_compression(change):
    pairs = speckle(6, 20_000, 10)
    assert mean(pairs, change) == pytest.approx(mean(pairs), abs=0.005)


def test_limits_and_sample_counts():
    a = torch.rand(3, 4)
    assert gcnr(a, a) == (0, 12, 12)
    assert gcnr(a, a[:2] + 2) == (1, 12, 8)
    assert gcnr(torch.zeros(5), torch.zeros(7)) == (0, 5, 7)
    assert gcnr(torch.tensor([0.0, 1, 1, 1]), torch.tensor([0.0, 0, 0, 1]), bins=2).value == pytest.approx(0.5)


@pytest.mark.parametrize("bad", [torch.nan, -torch.inf])
def test_values_that_are_not_finite_are_refused(bad):
    values, others = torch.rand(50), torch.rand(50)
    values[3] = bad
    for inside, outside, name in ((values, others, "inside"), (others, values, "outside")):
        with pytest.raises(ValueError, match=f"{name}: found 1 NaN or infinite of 50 samples"):
            gcnr(inside, outside)


def test_refusals():
    with pytest.raises(ValueError, match=r"inside: found 2 samples of torch\.complex64, expected real samples"):
        gcnr(torch.ones(2, dtype=torch.complex64), torch.ones(2))
    with pytest.raises(ValueError, match="outside: found 0 samples"):
        gcnr(torch.ones(2), torch.ones(0))
