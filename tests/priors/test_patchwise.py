"""Patches: what they are made of comes back, and a prior on them is the prior where it can be."""

import math
from itertools import pairwise

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.priors import DenoiserDiffusion, GaussianPrior, Patchwise, VarianceExploding
from resolvent.priors.patchwise import cuts, hann_ramps, stitched
from resolvent.recon import MomentMatching

F64, C128 = torch.float64, torch.complex128
SIZES = pytest.mark.parametrize(
    "sides, size, overlap", [((128, 256), (128, 64), 0.1), ((21, 17), (8, 5), 0.3), ((9, 4), (4, 8), 0.0),
                             ((7, 9, 10), (4, 4, 9), 0.5)], ids=str)  # fmt: skip


@SIZES
def test_patches_cover_the_image(sides, size, overlap):
    places = list(cuts(sides, size, overlap))
    for axis, (n, m) in enumerate(zip(sides, size, strict=True)):
        starts = sorted({place[axis].start for place in places})
        ends = [place[axis].stop - place[axis].start for place in places]
        assert starts[0] == 0 and starts[-1] + min(m, n) == n and set(ends) == {min(m, n)}
        common = [a + min(m, n) - b for a, b in pairwise(starts)]
        assert all(c >= math.floor(overlap * m) for c in common)
        fewer = len(starts) - 1
        assert fewer == 0 or fewer * m - (fewer - 1) * math.floor(overlap * m) < n, "no patch too many"


@SIZES
@pytest.mark.parametrize("dtype", [F64, C128], ids=str)
def test_cut_and_stitched_is_the_image(sides, size, overlap, dtype):
    x = torch.randn(2, 3, *sides, dtype=dtype)
    places = list(cuts(sides, size, overlap))
    assert_close(stitched([x[:, :, *place] for place in places], places, x.shape, overlap), x)


def test_ramps():
    """Hann's: of two patches that overlap by as much they add up to 1."""
    w = hann_ramps((40,), 0.25)
    assert_close(w[:10] + w[-10:], torch.ones(10, dtype=F64)) and bool((w > 0).all())
    assert_close(w[10:30], torch.ones(20, dtype=F64))
    assert_close(hann_ramps((40, 20), 0.25), w[:, None] * hann_ramps((20,), 0.25))


def correlated(n, width):
    """A stationary Gaussian of n pixels."""
    axis = torch.arange(n, dtype=F64)
    covariance = torch.exp(-((axis[:, None] - axis) ** 2) / (2 * width**2)) + 0.01 * torch.eye(n, dtype=F64)
    return GaussianPrior.dense(torch.zeros(1, 1, n, dtype=F64), covariance)


@pytest.mark.parametrize("t", [0.4, torch.tensor([0.2, 0.7], dtype=F64)], ids=["one", "per image"])
def test_independent_pixels_are_estimated_exactly(t):
    white = DenoiserDiffusion(lambda x, sigma: x / (1 + (sigma.reshape(-1, 1, 1, 1) if sigma.ndim else sigma) ** 2),
                              VarianceExploding(0.1, 5))  # fmt: skip
    x = torch.randn(2, 1, 20, 11, dtype=F64)
    prior = Patchwise(white, (8, 4), 0.3)
    assert prior.schedule is white.schedule
    for name in ("estimate", "score", "velocity", "denoise"):
        assert_close(getattr(prior, name)(x, t), getattr(white, name)(x, t))


def test_one_patch_is_the_prior():
    prior, x = correlated(16, 1.0), torch.randn(3, 1, 1, 16, dtype=F64)
    assert_close(Patchwise(prior, (1, 16)).estimate(x, 0.5), prior.estimate(x, 0.5))


def test_overlap_hides_the_seams():
    """Of pixels that resemble each other over a short way the estimate is the whole image's, seams nearly, too."""
    x = correlated(64, 1.0).sample(200, torch.Generator().manual_seed(0))
    x = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    whole, part = correlated(64, 1.0).denoise(x, 0.5), correlated(24, 1.0)
    hard, soft = (Patchwise(part, (1, 24), o).denoise(x, 0.5) - whole for o in (0.0, 0.25))
    assert soft.abs().max() < hard.abs().max() and soft.square().mean() < 0.2 * hard.square().mean()


def test_samples_through_patches():
    """The posterior's mean of a long image from a prior of short ones, by a sampler that knows nothing of patches."""
    whole, part = correlated(40, 1.0), Patchwise(correlated(24, 1.0), (1, 24), 0.3)
    physics = Dense(torch.eye(40, dtype=F64)[::2], (1, 1, 40))
    generator = torch.Generator().manual_seed(0)
    y = physics.A(whole.sample(1, generator)) + 0.1 * torch.randn(1, 20, generator=generator, dtype=F64)
    images = [MomentMatching(p, 20, 0.1, cg_iterations=100).sample(y, physics, 100, torch.Generator().manual_seed(1))
              for p in (whole, part)]  # fmt: skip
    away = (images[0].mean - images[1].mean)[0, 0, 0] / images[0].std[0, 0, 0]
    assert float(away.square().mean().sqrt()) < 0.3


def test_refusals():
    prior = correlated(8, 1.0)
    for wrong, message in [
        (lambda: Patchwise(prior, (1, 8), 1.0), r"size, overlap: found \[1, 8\], 1.0"),
        (lambda: Patchwise(prior, (8,)).denoise(torch.zeros(1, 1, 1, 16), 0.1), "x: found 2 spatial axes, expected 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
