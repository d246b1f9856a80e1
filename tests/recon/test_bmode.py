"""Envelope, compression and scan conversion against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import hilbert
from torch.testing import assert_close

from resolvent.recon import envelope, log_compress, scan_convert

F64 = torch.float64


def test_envelope_of_a_complex_image_is_its_magnitude():
    x = torch.randn(2, 1, 5, 4, dtype=torch.complex64)
    assert_close(envelope(x), x.abs())


@pytest.mark.parametrize("depth", [64, 65])
def test_envelope_of_a_real_image_is_that_of_its_analytic_signal_along_depth(depth):
    x = torch.randn(2, 1, depth, 4, dtype=F64)
    assert_close(envelope(x), torch.from_numpy(np.abs(hilbert(x.numpy(), axis=-2))))


def test_compression_is_linear_in_decibels():
    decibels = torch.linspace(-70, 0, 8, dtype=F64).reshape(1, 1, 2, 4)
    scaled = torch.cat([10 ** (decibels / 20), 7 * 10 ** (decibels / 20)])
    assert_close(log_compress(scaled, 40), (1 + decibels / 40).clamp(min=0).expand(2, 1, 2, 4))


def test_compression_of_nothing():
    assert torch.equal(log_compress(torch.zeros(1, 1, 2, 2)), torch.zeros(1, 1, 2, 2))


def test_compression_refuses_what_is_no_envelope():
    for bad in (torch.tensor([[-1.0]]), torch.ones(1, 1, dtype=torch.complex64)):
        with pytest.raises(ValueError, match="expected an envelope"):
            log_compress(bad)
    with pytest.raises(ValueError, match="dynamic_range: found 0 dB"):
        log_compress(torch.ones(1, 1), 0)


RANGES = torch.cat([torch.linspace(0.02, 0.05, 31, dtype=F64), torch.linspace(0.052, 0.1, 25, dtype=F64)])
ANGLES = torch.linspace(-0.6, 0.5, 45, dtype=F64)
X, Z = torch.linspace(-0.07, 0.07, 41, dtype=F64), torch.linspace(0, 0.11, 37, dtype=F64)


def polar():
    z, x = torch.meshgrid(Z, X, indexing="ij")
    r, t = torch.hypot(x, z), torch.atan2(x, z)
    return r, t, (r >= 0.02) & (r <= 0.1) & (t >= -0.6) & (t <= 0.5)


def test_scan_conversion_is_exact_where_linear_interpolation_is():
    """``f(r, theta) = (a + b r)(c + d theta)`` is bilinear; a sector's outside is zero. The axes may be uneven."""
    r, t, inside = polar()
    sector = (1 + 30 * RANGES[:, None]) * (2 - ANGLES)
    expected = torch.where(inside, (1 + 30 * r) * (2 - t), 0)
    assert_close(scan_convert(torch.stack([sector, 2 * sector])[:, None], RANGES, ANGLES, X, Z)[:, 0],
                 torch.stack([expected, 2 * expected]))  # fmt: skip
    assert 0.2 < inside.double().mean() < 0.8


@pytest.mark.parametrize("name", ["ranges", "angles"])
def test_scan_conversion_refuses_axes_of_other_images(name):
    axes = {"ranges": torch.linspace(0.01, 0.05, 8), "angles": torch.linspace(-0.3, 0.3, 6)}
    x, z, image = torch.linspace(-0.01, 0.01, 5), torch.linspace(0.01, 0.05, 7), torch.rand(1, 1, 8, 6)
    for wrong in (axes[name][:-1], axes[name].flip(0)):
        with pytest.raises(ValueError, match=f"{name}: found"):
            scan_convert(image, **(axes | {name: wrong}), x=x, z=z)


def test_scan_conversion_puts_a_smooth_function_in_its_place():
    """``cos(80 x + 60 z)``, sampled in polar coordinates, comes back to second order in the spacing."""
    r, t = RANGES[:, None], ANGLES
    sector = torch.cos(80 * r * t.sin() + 60 * r * t.cos())[None, None]
    z, x = torch.meshgrid(Z, X, indexing="ij")
    error = scan_convert(sector, RANGES, ANGLES, X, Z)[0, 0] - torch.cos(80 * x + 60 * z)
    bound = (80**2 + 60**2) * (0.002**2 + (0.1 * 1.1 / 44) ** 2) / 8
    assert error[polar()[2]].abs().max() < bound < 0.02 * math.pi
