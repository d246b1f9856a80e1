"""Sensitivity maps and sampling masks: what is asked for is what comes."""

import pytest
import torch

from resolvent.datasets import ring_coils
from resolvent.operators import CartesianMRI, cartesian_lines, poisson_disc, sensitivity_maps
from resolvent.operators.calibration import calibration_width


def scan(mask=None):
    """An object that fills an ellipse, seen by six coils; k-space, maps and where it is."""
    maps = ring_coils(6, (48, 40))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 48), torch.linspace(-1, 1, 40), indexing="ij")
    inside = (x / 0.7).square() + (y / 0.8).square() < 1
    image = inside * (1 + 0.3 * torch.sin(5 * x) * torch.cos(3 * y)) + 0j
    mask = torch.ones(48, 40) if mask is None else mask
    return CartesianMRI(mask, maps).A(image[None, None])[0], maps, inside


def test_maps_are_those_of_the_scan_up_to_one_phase_a_voxel():
    pytest.importorskip("sigpy")
    kspace, truth, inside = scan()
    maps = sensitivity_maps(kspace, 24)
    assert maps.dtype == torch.complex64 and maps.shape == truth.shape
    overlap = (maps.conj() * truth).sum(0).abs()[inside]
    assert overlap.mean() > 0.999
    assert torch.allclose(maps.abs().square().sum(0)[inside], torch.ones(int(inside.sum())), atol=1e-4)
    far = torch.zeros_like(inside)
    far[:3, :3] = True
    assert (maps[:, far] == 0).all()


def test_maps_come_from_the_middle_of_an_accelerated_scan():
    pytest.importorskip("sigpy")
    mask = torch.zeros(48, 40)
    mask[::3, ::2] = 1
    mask[12:36, 8:32] = 1
    kspace, truth, inside = scan(mask)
    assert calibration_width(kspace[0] != 0) == 24
    assert (sensitivity_maps(kspace).conj() * truth).sum(0).abs()[inside].mean() > 0.999


@pytest.mark.parametrize("width", [8, 9, 17])
def test_the_block_is_as_wide_as_it_is_sampled(width):
    mask = torch.zeros(32, 40)
    mask[:, 20 - width // 2 : 20 - width // 2 + width] = 1
    assert calibration_width(mask > 0) == width


def test_a_block_with_holes_is_refused():
    mask = torch.ones(48, 40)
    mask[20] = 0
    with pytest.raises(ValueError, match=r"kspace: found 4% of the middle 24 samples a side empty"):
        sensitivity_maps(scan(mask)[0], 24)
    with pytest.raises(ValueError, match="width: found 60 samples, expected 8 to 40"):
        sensitivity_maps(scan()[0], 60)
    with pytest.raises(ValueError, match="width: found 0 samples, expected 8 to 40"):
        sensitivity_maps(scan(torch.zeros(48, 40))[0])


def test_ring_coils_are_normalised_and_alike_on_every_plane():
    maps = ring_coils(5, (3, 12, 10))
    torch.testing.assert_close(maps.abs().square().sum(0), torch.ones(3, 12, 10))
    assert torch.equal(maps[:, 0], maps[:, 2]) and torch.equal(maps[:, 0], ring_coils(5, (12, 10)))


@pytest.mark.parametrize("shape", [(64, 96), (4, 64, 96)], ids=str)
def test_lines(shape):
    mask = cartesian_lines(shape, 4, seed=1)
    assert mask.shape == shape and set(mask.unique().tolist()) == {0, 1}
    assert mask.numel() / mask.sum() == pytest.approx(4, rel=0.05)
    assert torch.equal(mask, mask[..., :1, :].expand(shape)), "lines are whole"
    assert (mask[..., 46:50] == 1).all()
    assert torch.equal(mask, cartesian_lines(shape, 4, seed=1))
    assert not torch.equal(mask, cartesian_lines(shape, 4, seed=2))


@pytest.mark.parametrize(("acceleration", "calibration"), [(0.5, 0.08), (1, 0.08), (13, 0.08), (40, 0.0)])
def test_as_many_lines_as_there_cannot_be_are_refused(acceleration, calibration):
    with pytest.raises(ValueError, match=rf"acceleration: found {acceleration}, expected above 1 and below"):
        cartesian_lines((32, 40), acceleration, calibration=calibration)


@pytest.mark.parametrize("make", [cartesian_lines, poisson_disc])
def test_a_mask_has_two_or_three_axes(make):
    with pytest.raises(ValueError, match=r"shape: found \(8,\), expected two or three axes"):
        make((8,), 4)
