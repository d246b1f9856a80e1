"""Blur against SciPy's direct convolutions, deepinv, and what a border must not do."""

import copy

import deepinv
import pytest
import torch
from scipy import ndimage, signal
from torch.testing import assert_close

from resolvent.operators import Blur, CircularBlur, squared_norm

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
SHAPES = {  # kernel, image
    "odd": ((3, 5), (9, 8)),
    "even": ((4, 2), (7, 10)),
    "as large as the image": ((6, 5), (6, 5)),
    "3-D": ((2, 3, 4), (5, 6, 4)),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES)
def case(request):
    k, n = request.param
    return torch.randn(k, dtype=F64), n


def channelwise(function, x):
    """A NumPy function of one spatial array, applied to every image and channel."""
    parts = [torch.as_tensor(function(c.numpy())) for c in x.flatten(0, 1)]
    return torch.stack(parts).unflatten(0, x.shape[:2])


@DTYPES
def test_circular_blur_is_scipys_wrapped_convolution(case, dtype):
    kernel, n = case
    x = torch.randn(2, 3, *n, dtype=dtype)
    expected = channelwise(lambda c: ndimage.convolve(c, kernel.numpy(), mode="wrap"), x)
    assert_close(CircularBlur(kernel, (3, *n)).A(x), expected)


def test_an_odd_kernel_has_one_middle():
    """``convolve2d`` centres even kernels at (n - 1) // 2, odd ones where everybody does."""
    kernel, x = torch.randn(3, 5, dtype=F64), torch.randn(1, 1, 9, 8, dtype=F64)
    expected = channelwise(lambda c: signal.convolve2d(c, kernel.numpy(), "same", "wrap"), x)
    assert_close(CircularBlur(kernel, (1, 9, 8)).A(x), expected)


@DTYPES
def test_blur_is_the_valid_part_of_the_convolution(case, dtype):
    kernel, n = case
    physics = Blur(kernel, (3, *n))
    assert physics.image_shape == (3, *(a + b - 1 for a, b in zip(n, kernel.shape, strict=True)))
    x = torch.randn(2, *physics.image_shape, dtype=dtype)
    assert_close(physics.A(x), channelwise(lambda c: signal.convolve(c, kernel.numpy(), "valid", "direct"), x))


def test_the_frame_is_where_the_photograph_is():
    """Blurred by an impulse at n // 2, a photograph is the scene inside its frame."""
    for shape in ((3, 5), (4, 2)):
        kernel = torch.zeros(shape, dtype=F64)
        kernel[shape[0] // 2, shape[1] // 2] = 1
        physics = Blur(kernel, (2, 6, 7))
        x = torch.randn(2, *physics.image_shape, dtype=F64)
        assert_close(physics.A(x), physics.frame(x))


def test_both_blurs_agree_away_from_the_border(case):
    kernel, n = case
    frame = Blur(kernel, (2, *n))
    scene = torch.randn(1, *frame.image_shape, dtype=F64)
    assert_close(frame.A(scene), frame.frame(CircularBlur(kernel, frame.image_shape).A(scene)))


def test_a_channel_has_its_own_kernel():
    kernels, x = torch.randn(2, 3, 4, dtype=F64), torch.randn(1, 2, 5, 6, dtype=F64)
    both = CircularBlur(kernels, (2, 5, 6)).A(x)
    for i in range(2):
        assert_close(both[:, i : i + 1], CircularBlur(kernels[i], (1, 5, 6)).A(x[:, i : i + 1]))


@pytest.mark.parametrize("kind, kernel", [(CircularBlur, (4, 3)), (Blur, (5, 3))])
def test_is_deepinvs_on_real_images(kind, kernel):
    """deepinv's valid blur is a correlation made convolution with the kernel's middle as here, for odd lengths."""
    k, x = torch.rand(kernel), torch.rand(2, 2, 16, 15)
    if kind is CircularBlur:
        ours, theirs = CircularBlur(k, (2, 16, 15)), deepinv.physics.BlurFFT((2, 16, 15), filter=k[None, None])
    else:
        ours, theirs = Blur(k, (2, 12, 13)), deepinv.physics.Blur(filter=k[None, None], padding="valid")
    y = torch.rand_like(ours.A(x))
    assert_close(ours.A(x), theirs.A(x), rtol=1e-5, atol=1e-5)
    assert_close(ours.A_adjoint(y), theirs.A_adjoint(y), rtol=1e-5, atol=1e-5)
    if kind is CircularBlur:
        assert_close(ours.prox_l2(x, y, 3.0), theirs.prox_l2(x, y, 3.0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [CircularBlur, Blur])
def test_real_images_stay_real(make):
    physics = make(torch.rand(3, 3), (1, 8, 8))
    for dtype in (torch.float32, F64):
        x, y = torch.rand(1, *physics.image_shape, dtype=dtype), torch.rand(1, *physics.data_shape, dtype=dtype)
        assert physics.A(x).dtype == physics.A_adjoint(y).dtype == physics.A_adjoint_A(x).dtype == dtype


@DTYPES
def test_normal_map_in_one_go(case, dtype):
    kernel, n = case
    physics, x = CircularBlur(kernel, (1, *n)), torch.randn(2, 1, *n, dtype=dtype, requires_grad=True)
    assert_close(physics.A_adjoint_A(x), physics.A_adjoint(physics.A(x)))
    (gradient,) = torch.autograd.grad(physics.A_adjoint_A(x).abs().square().sum() / 2, x)
    assert_close(gradient, physics.A_adjoint_A(physics.A_adjoint_A(x.detach())))


def test_prox_of_real_images_and_one_step_per_image():
    physics = CircularBlur(torch.rand(3, 4), (2, 6, 5))
    z, y = torch.randn(2, 2, 6, 5, dtype=F64), torch.randn(2, 2, 6, 5, dtype=F64)
    gammas = torch.tensor([0.1, 30.0], dtype=F64)
    x = physics.prox_l2(z, y, gammas)
    assert x.dtype == F64
    assert_close((x - z) / gammas[:, None, None, None] + physics.A_adjoint(physics.A(x) - y), torch.zeros_like(x))
    alone = [physics.prox_l2(z[i : i + 1], y[i : i + 1], float(g)) for i, g in enumerate(gammas)]
    assert_close(x, torch.cat(alone))


def test_prox_is_differentiable():
    physics = CircularBlur(torch.rand(2, 2), (1, 3, 2))
    z, y = (torch.randn(2, 1, 3, 2, dtype=F64, requires_grad=True) for _ in range(2))
    gamma = torch.tensor([0.5, 2.0], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(physics.prox_l2, (z, y, gamma))


def test_norm_of_a_positive_kernel_is_its_sum():
    """The transfer function of a positive kernel is largest at frequency zero."""
    kernel = torch.rand(5, 4, dtype=F64)
    physics = CircularBlur(kernel, (1, 9, 8))
    assert squared_norm(physics, torch.empty(1, *physics.image_shape)) == pytest.approx(float(kernel.sum()) ** 2)


@pytest.mark.parametrize("make", [CircularBlur, Blur])
def test_the_spectrum_follows_the_kernel(make):
    """Nothing computed from the old kernel is used after one is loaded."""
    old, new = make(torch.rand(3, 3), (1, 8, 8)), make(torch.rand(3, 3), (1, 8, 8))
    x = torch.rand(1, *old.image_shape)
    expected = new.A(x)
    assert not torch.allclose(old.A(x), expected)
    used = copy.deepcopy(old)
    used.load_state_dict(new.state_dict())
    old.load_state_dict(new.state_dict())
    assert torch.equal(used.A(x), expected) and torch.equal(old.A(x), expected)


@pytest.mark.parametrize("make", [CircularBlur, Blur])
@pytest.mark.parametrize(
    "kernel, shape, message",
    [
        (torch.rand(3, 3) * 1j, (1, 8, 8), "kernel: found torch.complex64, expected finite real"),
        (torch.full((3, 3), torch.nan), (1, 8, 8), "kernel: found NaN or infinite values, expected"),
        (torch.rand(3), (1, 8, 8), r"kernel: found shape \(3,\), expected 2 axes, or 1 channels"),
        (torch.rand(2, 3, 3), (3, 8, 8), r"kernel: found shape \(2, 3, 3\), expected 2 axes, or 3 channels"),
        (torch.rand(0, 3), (1, 8, 8), r"kernel: found shape \(0, 3\)"),
        ("motion", (1, 8, 8), "kernel: found 'motion', expected its values"),
        (torch.rand(3), (1, 8), r"shape: found \(1, 8\), expected a channel and two or three"),
    ],
)
def test_refuses(make, kernel, shape, message):
    with pytest.raises(ValueError, match=message):
        make(kernel, shape)


def test_a_circular_kernel_fits_the_image():
    with pytest.raises(ValueError, match=r"kernel: found shape \(9, 3\), expected no more than \(8, 8\)"):
        CircularBlur(torch.rand(9, 3), (1, 8, 8))
