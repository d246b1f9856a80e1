"""Wavelets against PyWavelets, and what makes an orthonormal transform."""

import pytest
import pywt
import torch
from torch.testing import assert_close

from resolvent.operators import FiniteDifferences, Wavelet

F64, C128 = torch.float64, torch.complex128


@pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
@pytest.mark.parametrize(
    "shape, wavelet, levels",
    [
        ((2, 64), "db4", 3),
        ((1, 32, 48), "haar", 4),
        ((2, 64, 48), "db4", 2),
        ((1, 92, 94), "db3", 1),
        ((1, 60, 64), "coif2", 1),
        ((1, 96, 64), "sym8", 1),
        ((1, 80, 40), "db5", 2),
        ((1, 16, 24, 32), "db2", 2),
    ],
    ids=str,
)
def test_agrees_with_pywavelets(dtype, shape, wavelet, levels):
    x = torch.randn(2, *shape, dtype=dtype)
    axes = tuple(range(2, x.ndim))
    coefficients = pywt.wavedecn(x.numpy(), wavelet, mode="periodization", level=levels, axes=axes)
    expected = torch.from_numpy(pywt.coeffs_to_array(coefficients, axes=axes)[0])
    assert_close(Wavelet(shape, wavelet, levels).A(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 47, 31), (2, 5, 9, 7), (1, 30, 1), (1, 17)], ids=str)
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_is_orthonormal_for_every_size(shape, wavelet):
    physics, x = Wavelet(shape, wavelet), torch.randn(2, *shape, dtype=C128)
    assert_close(physics.A_adjoint(physics.A(x)), x, rtol=0, atol=1e-11)
    assert_close(physics.A(physics.A_adjoint(x)), x, rtol=0, atol=1e-11)


def test_details_of_a_polynomial_vanish():
    """db4 has four vanishing moments; away from the seam of the period a cubic has no detail."""
    ramp = torch.linspace(-1, 1, 64, dtype=F64)
    detail = Wavelet((1, 64), "db4", 1).A((ramp**3 - ramp + 2)[None, None])[0, 0, 32:]
    assert detail[4:-4].abs().max() < 1e-10
    assert detail.abs().max() > 1e-2


@pytest.mark.parametrize("wavelet", ["bior2.2", "dmey2", "mexh", "db99"])
def test_refuses_other_wavelets(wavelet):
    with pytest.raises(ValueError, match=f"wavelet: found '{wavelet}', expected an orthogonal one"):
        Wavelet((1, 64, 64), wavelet)


@pytest.mark.parametrize(
    "shape, levels, message",
    [
        ((1, 64, 64), 4, "levels: found 4, expected 1 to 3 for db4 on"),
        ((1, 64, 64), 0, "levels: found 0, expected 1 to 3 for db4 on"),
        ((1, 13, 12), None, r"image: found \(13, 12\), expected an axis long enough for db4"),
    ],
)
def test_refuses_levels_that_do_not_fit(shape, levels, message):
    with pytest.raises(ValueError, match=message):
        Wavelet(shape, "db4", levels)


def test_a_short_axis_stays_whole():
    x = torch.randn(1, 1, 64, 3, dtype=F64)
    columns = torch.stack([Wavelet((1, 64), "db4").A(x[..., i]) for i in range(3)], -1)
    assert_close(Wavelet((1, 64, 3), "db4").A(x), columns)


def test_differences_of_a_ramp():
    x = torch.arange(5.0)[None, None, :, None].expand(1, 1, 5, 4)
    inside, around = (FiniteDifferences((1, 5, 4), outside).A(x)[0, :, 0] for outside in ("copy", "periodic"))
    assert inside[0, :4].eq(1).all() and inside[0, 4].eq(0).all() and inside[1].eq(0).all()
    assert around[0, :4].eq(1).all() and around[0, 4].eq(-4).all() and around[1].eq(0).all()
    with pytest.raises(ValueError, match="outside: found 'zero', expected"):
        FiniteDifferences((1, 5, 4), "zero")
