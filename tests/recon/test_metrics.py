"""PSNR and SSIM of photographs and complex images."""

import deepinv
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.testing import assert_close

from resolvent.recon import magnitude_psnr, magnitude_ssim, psnr, ssim

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64], ids=str)


@DTYPES
def test_psnr_of_a_known_error(dtype):
    """A hundredth of the peak everywhere is 40 dB; each image is its own."""
    truth = torch.rand(2, 1, 8, 8).to(dtype)
    truth[0, 0, 0, 0], truth[1, 0, 3, 3] = 1, -2
    error = torch.tensor([0.01, 0.2], dtype=dtype).reshape(2, 1, 1, 1) * (1j if dtype.is_complex else 1)
    assert_close(psnr(truth + error, truth), torch.tensor([40.0, 20.0]).to(truth.real), rtol=1e-4, atol=0)
    assert_close(psnr(truth + error, truth, data_range=10.0)[0], torch.tensor(60.0).to(truth.real), rtol=1e-4, atol=0)


def test_psnr_is_deepinvs_and_scikit_images():
    truth = torch.rand(3, 2, 9, 8)
    estimate = truth + 0.1 * torch.randn_like(truth)
    assert_close(psnr(estimate, truth, 1.0), deepinv.loss.metric.PSNR()(estimate, truth), rtol=1e-4, atol=1e-4)


def test_psnr_does_not_normalise():
    truth = torch.rand(1, 1, 8, 8)
    assert magnitude_psnr(0.5 * truth / truth.max(), truth / truth.max()) > 100
    assert psnr(0.5 * truth, truth) < 15


@DTYPES
def test_ssim_is_scikit_images_of_the_magnitude(dtype):
    truth, estimate = torch.randn(2, 2, 12, 10).to(dtype), torch.randn(2, 2, 12, 10).to(dtype)
    a, b = (x.abs() if dtype.is_complex else x for x in (estimate, truth))
    for i, value in enumerate(ssim(estimate, truth)):
        peak = float(truth[i].abs().max())
        expected = [
            structural_similarity(p.numpy(), q.numpy(), data_range=peak) for p, q in zip(a[i], b[i], strict=True)
        ]
        assert float(value) == pytest.approx(sum(expected) / 2, abs=1e-6)
    assert_close(ssim(truth, truth, 1.0), torch.ones(2, dtype=truth.real.dtype))


@pytest.mark.parametrize("shape, defined", [((9, 2), False), ((2, 9, 9), False), ((3, 9), True), ((9, 9, 1), True)])
def test_ssim_needs_room_for_a_window(shape, defined):
    truth = torch.rand(2, 1, *shape)
    for metric in (ssim, magnitude_ssim):
        assert_close(metric(truth, truth), torch.full((2,), 1.0 if defined else torch.nan), equal_nan=True)


def test_a_volume_of_one_plane_is_that_plane():
    truth, estimate = torch.rand(2, 1, 1, 12, 10)
    for metric in (ssim, magnitude_ssim):
        assert_close(metric(estimate[..., None], truth[..., None]), metric(estimate, truth))


def test_magnitudes_are_compared_at_peak_one():
    truth = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    estimate = truth + 0.1
    assert_close(magnitude_psnr(7 * estimate, 3 * truth), magnitude_psnr(estimate, truth))


@pytest.mark.filterwarnings("error")
def test_ssim_of_an_image_far_too_large_is_a_number():
    truth = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert 0 <= float(ssim(1e15 * truth, truth)) < 1e-6
