"""Downsampling against its dense matrix, deepinv's operator, and what the closed forms owe to the normal equations."""

import deepinv
import pytest
import torch
from deepinv.physics.functional import bicubic_filter
from torch.testing import assert_close

from resolvent.datasets import load_measurement, save_measurement
from resolvent.operators import CircularBlur, Downsampling, squared_norm
from resolvent.operators.substitute import substitute
from resolvent.priors import TV
from resolvent.recon import ADMM, RelativeChange

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
CASES = {  # kernel, image, factor
    "even": ((4, 4), (1, 8, 12), 4),
    "odd, channels": ((3, 5), (2, 6, 9), 3),
    "odd coarse lengths": ((3, 3), (1, 6, 10), 2),
    "3-D": ((2, 3, 2), (1, 4, 6, 2), 2),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def physics(request):
    kernel, shape, factor = request.param
    return Downsampling(torch.randn(kernel, dtype=F64), shape, factor)


def matrix(physics):
    """Rows of the blur's matrix."""
    n = torch.Size(physics.image_shape).numel()
    unit = torch.eye(n, dtype=F64).unflatten(1, physics.image_shape)
    kept = (..., *[slice(None, None, physics.factor)] * (unit.ndim - 2))
    return CircularBlur(physics.blur.kernel, physics.image_shape).A(unit)[kept].flatten(1).mT


@DTYPES
def test_is_some_rows_of_a_blur(physics, dtype):
    x, y = torch.randn(3, *physics.image_shape, dtype=dtype), torch.randn(3, *physics.data_shape, dtype=dtype)
    rows = matrix(physics).to(dtype)
    assert_close(physics.A(x).flatten(1), x.flatten(1) @ rows.mT)
    assert_close(physics.A_adjoint(y).flatten(1), y.flatten(1) @ rows)
    assert squared_norm(physics, x) == pytest.approx(float(torch.linalg.matrix_norm(rows, 2)) ** 2)


@DTYPES
@pytest.mark.parametrize("gamma", [1e-3, 1.0, 1e6, "each"])
def test_prox_is_the_dense_solution(physics, gamma, dtype):
    gamma = torch.tensor([0.1, 3.0, 40.0], dtype=F64) if gamma == "each" else gamma
    z, y = (torch.randn(3, *shape, dtype=dtype) for shape in (physics.image_shape, physics.data_shape))
    kept, rows = (z.clone(), y.clone()), matrix(physics).to(dtype)
    g = torch.as_tensor(gamma, dtype=F64).reshape(-1, 1, 1)
    system = torch.eye(rows.shape[1], dtype=dtype) + g * (rows.mT @ rows)
    right = z.flatten(1) + g[:, :, 0] * (y.flatten(1) @ rows)
    exact = torch.linalg.solve(system, right[..., None])[..., 0]
    x = physics.prox_l2(z, y, gamma)
    assert_close(x.flatten(1), exact, rtol=1e-7, atol=1e-7)
    assert x.dtype == dtype and torch.equal(z, kept[0]) and torch.equal(y, kept[1])


def test_far_from_the_image_it_is_the_projection(physics):
    """Gamma to infinity: the nearest image that has these data, by the pseudoinverse."""
    z, y = torch.randn(1, *physics.image_shape, dtype=F64), torch.randn(1, *physics.data_shape, dtype=F64)
    rows = matrix(physics)
    exact = z.flatten(1) + (y.flatten(1) - z.flatten(1) @ rows.mT) @ torch.linalg.pinv(rows).mT
    assert_close(physics.prox_l2(z, y, 1e11).flatten(1), exact, rtol=1e-5, atol=1e-5)


def test_prox_of_single_precision_and_mixed(physics):
    z, y = torch.randn(2, *physics.image_shape), torch.randn(2, *physics.data_shape)
    exact = physics.prox_l2(z.double(), y.double(), 3.0)
    found = physics.prox_l2(z, y, 3.0)
    assert found.dtype == torch.float32
    assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)
    assert_close(physics.prox_l2(z, y.double(), 3.0), exact)
    assert physics.prox_l2(z, y.to(torch.complex64), 3.0).dtype == torch.complex64


def test_derivative_of_the_prox_is_that_of_the_dense_solution(physics):
    z, y = (torch.randn(1, *s, dtype=F64, requires_grad=True) for s in (physics.image_shape, physics.data_shape))
    assert torch.autograd.gradcheck(lambda z, y: physics.prox_l2(z, y, 2.0), (z, y), fast_mode=True)


def test_derivative_of_the_prox_by_the_kernel(physics):
    z, y = torch.randn(1, *physics.image_shape, dtype=F64), torch.randn(1, *physics.data_shape, dtype=F64)

    def step(kernel):
        return substitute(physics, "blur.kernel", kernel).prox_l2(z, y, 2.0)

    assert torch.autograd.gradcheck(step, physics.blur.kernel.clone().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_is_deepinvs(factor):
    """deepinv's proximal step is exact, of real float32 images."""
    shape = (2, 24, 36)
    theirs = deepinv.physics.Downsampling(shape, filter="bicubic", factor=factor, padding="circular")
    ours = Downsampling(bicubic_filter(factor)[0, 0], shape, factor)
    x, y = torch.rand(2, *shape), torch.rand(2, *ours.data_shape)
    for a, b in [(ours.A(x), theirs.A(x)), (ours.A_adjoint(y), theirs.A_adjoint(y)),
                 (ours.prox_l2(x, y, 3.0), theirs.prox_l2(x, y, 3.0))]:  # fmt: skip
        assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_file_holds_it(tmp_path):
    physics = Downsampling(torch.rand(4, 3), (2, 6, 8), 2)
    x = torch.rand(1, 2, 6, 8)
    save_measurement(tmp_path / "d.h5", physics.A(x), physics, x, noise_std=0.1)
    m = load_measurement(tmp_path / "d.h5")
    assert isinstance(m.physics, Downsampling) and m.physics.factor == 2
    assert torch.equal(m.physics.A(x), physics.A(x)) and torch.equal(m.truth, x)


def test_a_solver_takes_its_exact_step():
    """At factor 1 the iterates of a blur."""
    kernel, y = torch.rand(3, 3, dtype=F64), torch.rand(1, 1, 8, 8, dtype=F64)
    a, b = (
        ADMM(TV(0.1), max_iter=15, stop=RelativeChange(0)).solve(y, physics).image
        for physics in (Downsampling(kernel, (1, 8, 8), 1), CircularBlur(kernel, (1, 8, 8)))
    )
    assert_close(a, b)


@pytest.mark.parametrize(
    "factor, shape, message",
    [
        (3, (1, 6, 8), r"factor: found 3, expected a divisor of the lengths \(6, 8\)"),
        (0, (1, 6, 8), "factor: found 0"),
        (1.5, (1, 6, 9), "factor: found 1.5"),
        (float("nan"), (1, 6, 8), "factor: found nan"),
        (2, (1, 2, 8), "kernel: found shape"),
    ],
)
def test_what_does_not_fit(factor, shape, message):
    with pytest.raises(ValueError, match=message):
        Downsampling(torch.rand(3, 3), shape, factor)
