"""Variable-density Poisson discs: as many samples as asked for, apart, dense in the middle, on every grid."""

import math

import pytest
import torch

from resolvent.operators import poisson_disc

PLANE, BLOCK = (96, 80), 16


def radius():
    """0 in the block, 1 on the ellipse."""
    y, x = ((torch.arange(n) - n // 2).abs().sub(BLOCK / 2).clamp(min=0) for n in PLANE)
    return torch.hypot(y[:, None] / y.max(), x / x.max())


@pytest.mark.parametrize("seed", range(3))
def test_samples_lie_apart_and_thin_out(seed):
    mask = poisson_disc(PLANE, 6, seed, BLOCK) > 0
    r = radius()
    assert mask[40:56, 32:48].all() and not mask[r >= 1].any()
    rings = torch.stack([mask[(r > a) & (r <= a + 0.2)].float().mean() for a in (0, 0.2, 0.4, 0.6, 0.8)])
    assert (rings[:-1] > rings[1:]).all(), rings
    rim = mask & (r > 0.6)
    beside = torch.nn.functional.conv2d(rim[None, None].float(), torch.ones(1, 1, 3, 3), padding=1)[0, 0] > 1
    assert rim.sum() > 100 and not (rim & beside).any(), "no two of the rim are neighbours"


def test_an_axis_of_fewer_samples_has_them_as_near_in_millimetres():
    mask = poisson_disc((256, 64), 5, calibration=0) > 0
    rows, columns = ((mask & mask.roll(1, axis)).sum() for axis in (0, 1))
    assert columns > 5 * rows


@pytest.mark.parametrize("plane", [(32, 32), (80, 80), (96, 96), (97, 33), (240, 240)], ids=str)
@pytest.mark.parametrize("acceleration", [1.3, 1.5, 2, 4, 11.5])
def test_every_grid_has_as_many_samples_as_asked_for(plane, acceleration):
    mask = poisson_disc(plane, acceleration, calibration=8)
    assert int(mask.sum()) == round(math.prod(plane) / acceleration) and set(mask.unique().tolist()) == {0, 1}


def test_a_third_axis_is_read_out_whole():
    mask = poisson_disc((3, *PLANE), 6, 1, BLOCK)
    assert torch.equal(mask, poisson_disc(PLANE, 6, 1, BLOCK).expand(3, *PLANE))


def test_a_seed_is_a_mask():
    assert torch.equal(poisson_disc(PLANE, 6, 1), poisson_disc(PLANE, 6, 1))
    assert not torch.equal(poisson_disc(PLANE, 6, 1), poisson_disc(PLANE, 6, 2))


@pytest.mark.parametrize("acceleration", [0.5, 1, 12, math.nan])
def test_fewer_samples_than_the_block_and_more_than_the_ellipse_are_refused(acceleration):
    with pytest.raises(
        ValueError, match=rf"acceleration: found {acceleration}, expected from 1\.1.*to 7\.11, the block"
    ):
        poisson_disc((64, 64), acceleration)


@pytest.mark.parametrize("calibration", [-1, 16, 40])
def test_a_block_as_wide_as_the_grid_is_refused(calibration):
    with pytest.raises(ValueError, match=rf"calibration: found {calibration}, expected from 0 to below 16"):
        poisson_disc((64, 16), 4, calibration=calibration)


def test_a_block_nearly_as_large_as_the_grid():
    mask = poisson_disc((5, 5), 25 / 20, calibration=4)
    assert mask.sum() == 20 and mask[:4, :4].all()
