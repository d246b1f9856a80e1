"""The data step: where conjugate gradients begin, what their last step gains without a product, and its derivative."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.priors import L1
from resolvent.recon import ADMM, Problem, RelativeChange
from resolvent.recon.linear import Known, along, conjugate_gradient, fit_data, resumed_fit, start_fit

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
CONDITIONS = pytest.mark.parametrize("condition", [6.0, 100.0])
SHAPE, GAMMA = (1, 4, 5), 0.7


def images(batch, dtype=F64):
    return torch.randn(batch, *SHAPE, dtype=dtype)


def dense(batch=2, dtype=F64):
    """A problem and the matrix of ``I + gamma A^H A``."""
    matrix = torch.randn(30, 20, dtype=dtype)
    problem = Problem(torch.randn(batch, 30, dtype=dtype), Dense(matrix, SHAPE))
    return problem, torch.eye(20, dtype=dtype) + GAMMA * matrix.mH @ matrix


def solved(problem, system, z):
    """The data step by a dense solve."""
    rhs = z + GAMMA * problem.back_projection
    return torch.linalg.solve(system, rhs.flatten(1).mT).mT.reshape(z.shape)


def step(problem, z, fit):
    return fit_data(problem, z, GAMMA, fit, 60, 1e-13)


def counting(physics):
    """The products that an operator is asked for from now on."""
    asked, product = [], physics.A_adjoint_A
    physics.A_adjoint_A = lambda x: asked.append(1) or product(x)
    return asked


# -- the beginning -----------------------------------------------------------------------------------
@DTYPES
def test_begins_nearest_to_the_solution_in_the_norm_of_the_system(dtype):
    """The error of the best multiple is orthogonal to the image; zero has no multiples, nor harms its batch."""
    _, system = dense(3, dtype)
    rhs, image = images(3, dtype), images(3, dtype)
    image[1] = 0
    known = Known(image, (image.flatten(1) @ system.mT).reshape(image.shape))
    begin = along(known, rhs)
    assert_close(begin.product, (begin.image.flatten(1) @ system.mT).reshape(image.shape))
    error = rhs - begin.product
    assert_close((image.conj() * error).real.sum((1, 2, 3)), torch.zeros(3, dtype=F64), atol=1e-11, rtol=0)
    assert begin.image[0].any() and not begin.image[1].any()


@DTYPES
def test_a_step_on_the_line_of_the_last_two_asks_for_no_product(dtype):
    problem, system = dense(2, dtype)
    a, b = images(2, dtype), images(2, dtype)
    fit = step(problem, b, step(problem, a, start_fit(problem, None, GAMMA)))
    asked = counting(problem.physics)
    z = 1.5 * b - 0.5 * a
    again = fit_data(problem, z, GAMMA, fit, 60, 1e-9)
    assert not asked
    assert_close(again.x, solved(problem, system, z))


def test_no_image_to_start_from_asks_for_no_product():
    problem, _ = dense()
    asked = counting(problem.physics)
    start_fit(problem, None, GAMMA)
    assert not asked


def test_products_of_another_problem_are_not_taken_over():
    (here, _), (there, system) = dense(), dense()
    fit = step(here, images(2), step(here, images(2), start_fit(here, None, GAMMA)))
    assert resumed_fit(here, fit, GAMMA) is fit
    moved, z = resumed_fit(there, fit, GAMMA), images(2)
    last, change = moved.known
    assert_close(last.product.flatten(1), last.image.flatten(1) @ system.mT)
    assert not change.image.any()
    assert_close(step(there, z, moved).x, solved(there, system, z))


def test_products_stay_those_of_the_system_in_single_precision():
    """A thousand steps, of which the later ones hardly move, keep to rounding what no product refreshes."""
    physics = Dense(torch.randn(15, 20), SHAPE)
    y = torch.randn(1, 15)
    state = ADMM(L1(0.1), step_size=0.5, max_iter=1000, stop=RelativeChange(0)).solve(y, physics).state
    last, _ = state.fit.known
    true = last.image + 0.5 * physics.A_adjoint_A(last.image)
    assert float((last.product - true).norm() / true.norm()) < 1e-5


def test_fewer_products_than_from_the_last_solution():
    """Of a sequence that slows down evenly, as that of a solver does."""
    problem, system = dense()
    a, b = images(2), images(2)
    fit, asked = start_fit(problem, None, GAMMA), counting(problem.physics)
    counts, alone = [], []
    for k in range(6):
        z = a + 0.7**k * b
        before = len(asked)
        plain = start_fit(problem, fit.known[0].image, GAMMA)
        fit_data(problem, z, GAMMA, plain, 60, 1e-6)
        alone.append(len(asked) - before - 1)
        before = len(asked)
        fit = fit_data(problem, z, GAMMA, fit, 60, 1e-6)
        counts.append(len(asked) - before)
        assert_close(fit.x, solved(problem, system, z), rtol=1e-4, atol=1e-4)
    assert sum(counts[2:]) < sum(alone[2:]) / 2


# -- the last step, without a product ----------------------------------------------------------------
def spread(condition):
    """A diagonal system of eigenvalues evenly from 1, the norm that belongs to it, a right-hand side, its solution."""
    spectrum = torch.linspace(1, condition, 400, dtype=F64).reshape(1, 1, 20, 20)
    rhs = torch.randn(1, 1, 20, 20, dtype=F64)
    return lambda v: spectrum * v, lambda v: float((spectrum * v.square()).sum().sqrt()), rhs, rhs / spectrum


@CONDITIONS
@pytest.mark.parametrize("products", [6, 10, 15])
def test_last_step_gains_what_a_product_more_does(condition, products):
    """All but a tenth of it, in the norm that conjugate gradients make small."""
    system, length, rhs, exact = spread(condition)
    zero = torch.zeros_like(rhs)
    here, more = (conjugate_gradient(system, rhs, zero, zero, n, 0) for n in (products, products + 1))
    before, ours, true = (length(v - exact) for v in (here.seen, here.x, more.seen))
    assert true < ours < true + 0.1 * (before - true)
    assert_close(here.product, system(here.seen))


@CONDITIONS
@pytest.mark.parametrize("rtol", [1e-3, 1e-5, 1e-8])
def test_residual_is_the_tolerance_as_foreseen(condition, rtol):
    system, _, rhs, _ = spread(condition)
    zero = torch.zeros_like(rhs)
    left = rhs - system(conjugate_gradient(system, rhs, zero, zero, 200, rtol).x)
    assert 0.2 * rtol < float(left.norm() / rhs.norm()) < 1.2 * rtol


def test_images_of_a_batch_are_solved_on_their_own():
    """One is zero, one done soon, one there at once, one late."""
    spectrum = torch.linspace(1, 50, 400, dtype=F64).reshape(1, 1, 20, 20)
    rhs = torch.randn(4, 1, 20, 20, dtype=F64)
    rhs[0], rhs[1, :, :, 4:] = 0, 0
    start = torch.zeros_like(rhs)
    start[2] = rhs[2] / spectrum[0]
    whole = conjugate_gradient(lambda v: spectrum * v, rhs, start, spectrum * start, 200, 1e-6)
    for i in range(4):
        one = slice(i, i + 1)
        alone = conjugate_gradient(lambda v: spectrum * v, rhs[one], start[one], spectrum * start[one], 200, 1e-6)
        for a, b in zip(whole, alone, strict=True):
            assert_close(a[one], b, rtol=1e-12, atol=1e-13)
    assert not whole.x[0].any() and torch.equal(whole.x[2], start[2])


# -- its derivative ----------------------------------------------------------------------------------
def test_derivative_is_that_of_the_closed_form():
    """Through two steps, the second of which begins near the first."""
    problem, system = dense()
    z, weight = images(2).requires_grad_(), images(2)
    first = step(problem, z, start_fit(problem, None, GAMMA))
    second = step(problem, first.x.tanh(), first).x
    closed = solved(problem, system, solved(problem, system, z).tanh())
    assert_close(second, closed)
    found, exact = (torch.autograd.grad((x * weight).sum(), z)[0] for x in (second, closed))
    assert_close(found, exact, rtol=1e-8, atol=1e-9)
