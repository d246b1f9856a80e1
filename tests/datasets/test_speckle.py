"""Simulated echoes: their statistics are those of speckle, their pieces those of their numbers."""

import math

import pytest
import torch
from torch.testing import assert_close

from resolvent.datasets import Haze, Tissue
from resolvent.datasets.sources import counted
from resolvent.datasets.speckle import echoes, smooth
from resolvent.recon import autocorrelation_widths


def test_fully_developed_speckle():
    """Circular normal numbers of variance 1: a Rayleigh amplitude, whose mean is sqrt(pi / (4 - pi)) of its spread."""
    u = torch.stack([echoes(torch.ones(128, 128), (1.5, 2.0), torch.Generator().manual_seed(i)) for i in range(20)])
    assert float(u.abs().square().mean()) == pytest.approx(1, rel=0.02)
    assert float(u.square().mean().abs()) < 0.03
    assert float(u.abs().mean() / u.abs().std()) == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.02)


def test_strength_is_before_the_pulse():
    """Half of a scene without echoes: as strong as ever deep in the other half, and faded across the edge."""
    strength = torch.ones(64, 64)
    strength[:, :32] = 0
    u = torch.stack([echoes(strength, (1.0, 3.0), torch.Generator().manual_seed(i)) for i in range(100)])
    power = u.abs().square().mean((0, 1))
    assert_close(power[45:51].mean(), torch.tensor(1.0), rtol=0.05, atol=0)
    assert power[16] < 1e-6 and power[31:33].mean() == pytest.approx(0.5, rel=0.1)


def test_smooth_fields():
    fields = torch.stack([smooth((32, 32), 0.2, torch.Generator().manual_seed(i)) for i in range(1000)])
    assert_close(fields.square().mean(), torch.tensor(1.0), rtol=0.1, atol=0)


@pytest.mark.parametrize("kind", [Tissue, Haze])
def test_pieces(kind):
    source = kind(shape=(48, 32), count=5)
    assert len(source) == 5 and source.sample(3, counted(0)).shape == (1, 48, 32)
    assert torch.equal(source.sample(3, counted(0)), source.sample(3, counted(1)))
    assert not torch.equal(source.sample(3, counted(0)), source.sample(4, counted(0)))
    (origin,) = source.origin()
    assert origin["synthetic"] and origin != kind(shape=(48, 32), count=5, lateral=(1, 1)).origin()[0]
    assert source.sample(0, counted(0)).dtype == torch.float32


def test_tissue_has_three_regions():
    for seed in range(10):
        levels = Tissue(shape=(32, 32)).strength(torch.Generator().manual_seed(seed)).unique()
        assert 1 <= len(levels) <= 3 and levels.max() <= 1 and levels.min() >= 10**-2.5


def test_haze_is_spread_out_across_the_beam():
    widths = {}
    for kind in (Tissue, Haze):
        source = kind(shape=(128, 128))
        widths[kind] = [autocorrelation_widths(source.sample(i, counted(0))[0])[1] for i in range(20)]
    assert min(widths[Haze]) > max(widths[Tissue])


def test_refusals():
    with pytest.raises(ValueError, match=r"lateral: found 3, 1, expected two widths above 0"):
        Haze(lateral=(3, 1))
