"""Hypergradients against closed forms and finite differences, and their bounds against true errors."""

import itertools
import math

import deepinv
import pytest
import torch
from compare import relative
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.operators.krylov import conjugate_residuals, gmres
from resolvent.priors import (
    ConvolutionalPotential,
    LearnedProximal,
    LearnedProximalNetwork,
    SmoothedTV,
    WeaklyConvexRidge,
)
from resolvent.recon import Problem
from resolvent.recon.bilevel import (
    Energy,
    LowerLevel,
    Measure,
    Reconstruction,
    SquaredError,
    UpperLevel,
    hypergradient,
    sharpened,
)
from resolvent.recon.bilevel.hypergradient import COLUMNS, Linearised

F64, C128 = torch.float64, torch.complex128


# -- linear systems ---------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1e-2, 1e-14])
def test_conjugate_residuals_reach_small_right_hand_sides(size):
    """Where deepinv's conjugate gradients stall and its MINRES returns zero."""
    spectrum = torch.logspace(0, 2, 200, dtype=F64)
    right = torch.randn(2, 200, dtype=F64)
    right = size * right / torch.linalg.vector_norm(right, dim=1, keepdim=True)
    x, products = conjugate_residuals(lambda v: spectrum * v, right, torch.full((2,), 1e-8 * size, dtype=F64), 500)
    assert (torch.linalg.vector_norm(spectrum * x - right, dim=1) <= 1.01e-8 * size).all()
    assert products < 100


def test_each_image_stops_by_itself():
    spectrum = torch.stack([torch.ones(50, dtype=F64), torch.linspace(1, 50, 50, dtype=F64)])
    right, tol = torch.ones(2, 50, dtype=F64), torch.full((2,), 1e-9, dtype=F64)
    x, products = conjugate_residuals(lambda v: spectrum * v, right, tol, 60)
    assert_close(x, right / spectrum, rtol=0, atol=1e-9)
    assert conjugate_residuals(lambda v: spectrum * v, right, tol, 60, x) == (x, 1) or products > 1


@pytest.mark.parametrize("dtype", [F64, C128])
def test_gmres_solves_what_is_not_symmetric(dtype):
    matrix = torch.eye(20, dtype=dtype) + 0.1 * torch.randn(20, 20, dtype=dtype)
    right = torch.randn(3, 20, dtype=dtype)
    x, products = gmres(lambda v: v @ matrix.T, right, torch.full((3,), 1e-10, dtype=F64), 60)
    assert products <= 40 and relative(x @ matrix.T, right) < 1e-10
    assert relative(x, torch.linalg.solve(matrix, right.T).T) < 1e-9


# -- the oracles ------------------------------------------------------------------------------------
def test_products_are_those_of_the_formulas(tv):
    problem = tv.Denoising(torch.rand(4, 12, 12, dtype=F64))
    theta, x = torch.tensor([-2.5, -4.0], dtype=F64), torch.rand(1, 4, 12, 12, dtype=F64)
    here, v = Linearised(problem.lower, theta, x), torch.randn(1, 4, 12, 12, dtype=F64)
    assert_close(here.hessian(v), tv.hessian(x, theta, v))
    assert_close(here.jacobian_adjoint(v), tv.jacobian_adjoint(x, theta, v))
    direction = torch.randn(2, dtype=F64)
    assert_close((here.jacobian(direction) * v).sum(), direction @ here.jacobian_adjoint(v))


@pytest.mark.parametrize("lanczos", [False, True])
def test_the_norm_of_the_jacobian_is_no_underestimate(quadratic, lanczos, monkeypatch):
    monkeypatch.setitem(Linearised.jacobian_norm.__globals__, "COLUMNS", 0 if lanczos else COLUMNS)
    for seed in range(5):
        problem = quadratic.Quadratic(d=10, cond=20, seed=seed)
        here = Linearised(problem.lower, problem.theta, problem.lower.start())
        exact = float(torch.linalg.matrix_norm(problem.lower.cross, 2))
        assert float(here.jacobian_norm()) == pytest.approx(exact, rel=1e-2 if lanczos else 1e-12)
        assert float(here.jacobian_norm()) >= exact * (1 - 1e-12)


def test_omega_bounds_the_error_of_every_quadratic(quadratic):
    """72 configurations, and a closer look to a factor of 50 in the median at either condition."""
    ratios = {2: [], 20: []}
    for cond, seed in itertools.product(ratios, range(4)):
        problem = quadratic.Quadratic(cond=cond, seed=seed)
        exact = problem.gradient(problem.theta)
        for eps in (1e-1, 1e-3, 1e-5):
            solution = problem.lower.solve(problem.theta, eps)
            for delta in (1e-1, 1e-3, 1e-5):
                found = hypergradient(problem.upper, problem.theta, solution.x, delta)
                assert (found.eps <= eps).all() and (found.delta <= delta).all()
                closer, error = (
                    sharpened(problem.upper, problem.theta, solution.x, found),
                    torch.linalg.vector_norm(found.value - exact),
                )
                assert error <= closer.bound <= found.bound and torch.equal(closer.value, found.value)
                ratios[cond].append(float(closer.bound / error))
    assert len(ratios[2] + ratios[20]) == 72
    assert all(torch.tensor(found).median() < 50 for found in ratios.values())


@pytest.mark.parametrize("many", [False, True])
def test_a_closer_look_at_denoising_is_no_underestimate(tv, many, monkeypatch):
    """Where H and J vary: the errors of coarse pairs, against an accurate hypergradient."""
    if many:
        monkeypatch.setitem(Linearised.jacobian_norm.__globals__, "COLUMNS", 0)
    generator = torch.Generator().manual_seed(4)
    problem = tv.Denoising(torch.rand(2, 12, 12, dtype=F64, generator=generator))
    theta = torch.tensor([-2.5, -2.0], dtype=F64)
    exact = hypergradient(problem.upper, theta, problem.lower.solve(theta, 1e-11).x, 1e-11).value
    for eps, delta in itertools.product((1e-1, 1e-2, 1e-3), repeat=2):
        x = problem.lower.solve(theta, eps).x
        found = hypergradient(problem.upper, theta, x, delta)
        closer, error = sharpened(problem.upper, theta, x, found), torch.linalg.vector_norm(found.value - exact)
        assert error <= closer.bound < found.bound
        assert found.products < closer.products <= found.products + 8


def test_bounds_enclose_f(quadratic):
    problem = quadratic.Quadratic(cond=5)
    for eps in (1.0, 1e-2, 1e-6):
        solution = problem.lower.solve(problem.theta, eps)
        low, high = problem.upper.bounds(solution.x, solution.certificate, problem.theta)
        assert low <= problem.value(problem.theta) <= high


def differences_of(fun, theta, step):
    e = step * torch.eye(len(theta), dtype=F64)
    return torch.stack([(fun(theta + s) - fun(theta - s)) / (2 * step) for s in e])


def test_finite_differences_of_smoothed_tv(tv, denoising):
    theta = torch.tensor([-2.5, -4.0], dtype=F64)
    f = lambda t: torch.tensor(denoising.value(t, 1e-11), dtype=F64)  # noqa: E731
    exact = differences_of(f, theta, 1e-5)
    errors = {}
    for accuracy in (1e-2, 1e-4, 1e-6):
        x = denoising.lower.solve(theta, accuracy).x
        errors[accuracy] = relative(hypergradient(denoising.upper, theta, x, accuracy).value, exact)
    assert errors[1e-4] < 1e-4 and errors[1e-6] < 1e-6
    assert 10 < errors[1e-2] / errors[1e-4] < 1000, "the error is about linear in the accuracies"


def ridge(rho):
    """Denoising of two images by a ridge regulariser, its weight and filters to be learned."""
    generator = torch.Generator().manual_seed(3)
    truth = torch.rand(2, 1, 12, 12, dtype=F64, generator=generator)
    y = truth + 0.1 * torch.randn(truth.shape, dtype=F64, generator=generator)
    prior = WeaklyConvexRidge(weight=0.7, channels=(2, 2, 4), kernel=3, sharpness=2.0, weak_convexity=rho).double()
    learn = ["prior.weight", "prior.log_scales", "prior.layers.0"]
    lower = Reconstruction(Problem(y, deepinv.physics.Denoising(), (prior,)), learn)
    return UpperLevel(lower, SquaredError(truth))


@pytest.mark.parametrize("rho", [0.0, 1.0], ids=["convex", "weakly convex"])
def test_finite_differences_of_a_ridge_regulariser(rho):
    upper = ridge(rho)
    theta = upper.lower.theta().detach()
    f = lambda t: upper.value(upper.lower.solve(t, 1e-10).x, t)  # noqa: E731
    direction = torch.randn_like(theta) / len(theta) ** 0.5
    slope = (f(theta + 1e-4 * direction) - f(theta - 1e-4 * direction)) / 2e-4
    for accuracy, allowed in ((1e-4, 1e-4), (1e-6, 1e-6)):
        x = upper.lower.solve(theta, accuracy).x
        found = hypergradient(upper, theta, x, accuracy)
        scale = torch.linalg.vector_norm(found.value) * torch.linalg.vector_norm(direction)
        assert abs(found.value @ direction - slope) < allowed * scale
        assert found.bound.isfinite()


def test_many_images_are_the_mean_of_each(tv):
    truth = torch.rand(2, 1, 8, 8, dtype=F64)
    y, theta = truth + 0.1 * torch.randn_like(truth), torch.tensor([0.2, 0.3], dtype=F64)

    def at(rows):
        problem = Problem(y[rows], deepinv.physics.Denoising(), (SmoothedTV(0.2, nu=0.3),))
        lower = Reconstruction(problem, ["prior.weight", "prior.nu"])
        upper = UpperLevel(lower, SquaredError(truth[rows]))
        return hypergradient(upper, theta, lower.solve(theta, 1e-9).x, 1e-9)

    both, one, other = at(slice(0, 2)), at(slice(0, 1)), at(slice(1, 2))
    assert_close(both.value, (one.value + other.value) / 2, rtol=1e-7, atol=1e-10)
    assert both.eps.shape == (2,) and both.bound >= torch.linalg.vector_norm(both.value - (one.value + other.value) / 2)


def test_a_penalty_adds_its_gradient(quadratic):
    problem = quadratic.Quadratic()
    x = problem.lower.solve(problem.theta, 1e-9).x
    plain = hypergradient(problem.upper, problem.theta, x, 1e-9).value
    penalised = UpperLevel(problem.lower, problem.upper.loss, lambda theta: 3 * theta.square().sum())
    assert_close(hypergradient(penalised, problem.theta, x, 1e-9).value, plain + 6 * problem.theta)


# -- what cannot be certified -----------------------------------------------------------------------
def test_no_strong_convexity_no_bound_but_a_warning():
    physics, y = Dense(torch.randn(20, 64, dtype=F64), (1, 8, 8)), torch.randn(1, 20, dtype=F64)
    lower = Reconstruction(Problem(y, physics, (SmoothedTV(0.5, nu=0.3),)), ["prior.weight"])
    theta = lower.theta()
    upper = UpperLevel(lower, SquaredError(torch.zeros(1, 1, 8, 8, dtype=F64)))
    assert not lower.certifies(theta)
    solution = lower.solve(theta, 1e-10)
    with pytest.warns(UserWarning, match="found strong convexity 0, expected above 0"):
        found = hypergradient(upper, theta, solution.x, 1e-9)
    assert found.bound.isinf()
    f = lambda t: upper.value(lower.solve(t, 1e-11).x, t)  # noqa: E731
    assert_close(found.value, differences_of(f, theta, 1e-4), rtol=1e-4, atol=0)


def test_a_lower_level_that_does_not_depend_on_theta():
    one = lambda t: torch.ones_like(t[0])  # noqa: E731
    lower = Energy(lambda x, theta: x.square().sum(1) / 2, torch.ones(1, 3, dtype=F64), one, one)
    upper = UpperLevel(lower, SquaredError(torch.zeros(1, 3, dtype=F64)))
    with pytest.raises(ValueError, match="no derivative in theta"):
        hypergradient(upper, torch.zeros(1, dtype=F64), lower.start(), 1e-3)


# -- the terms of omega -----------------------------------------------------------------------------
class Bent(LowerLevel):
    """One number x, its condition given."""

    def __init__(self, condition, mu, largest, jacobian, inverse):
        self.condition, self.mu, self.largest = condition, mu, largest
        self.jacobian_lipschitz, self.inverse_lipschitz = jacobian, inverse

    def gradient(self, x, theta):
        return self.condition(x, theta)

    def start(self):
        return torch.zeros(1, 1, dtype=F64)

    def strong_convexity(self, theta):
        return torch.tensor(self.mu, dtype=F64)

    def smoothness(self, theta):
        return torch.tensor(self.largest, dtype=F64)


def with_loss(lower, of, smoothness):
    return UpperLevel(lower, Measure(of, smoothness, True))


def steepest_inverse():
    """The largest derivative of 1 / (1 + sech^2 x), and where it is."""
    x = torch.linspace(0, 3, 300_001, dtype=F64)
    sech = 1 / torch.cosh(x) ** 2
    slope = 2 * sech * torch.tanh(x) / (1 + sech) ** 2
    return float(slope.max()), float(x[slope.argmax()])


INVERSE, STEEP = steepest_inverse()
TERMS = {  # lower level, loss, theta, the minimiser, an image, the true hypergradient
    # x + tanh x = theta: H alone bends, where the loss does not
    "L_{H^-1}": lambda: (
        with_loss(Bent(lambda x, t: x + torch.tanh(x) - t, 1.0, 2.0, 0.0, INVERSE), lambda x: x.sum(1), 0.0),
        STEEP + math.tanh(STEEP), STEEP, STEEP + 0.01, lambda x: 1 / (1 + 1 / math.cosh(x) ** 2),
    ),
    # x - pi / 2 = theta cos x at 0: J alone
    "L_J": lambda: (
        with_loss(Bent(lambda x, t: x - math.pi / 2 - t * torch.cos(x), 1.0, 1.0, 1.0, 0.0), lambda x: x.sum(1), 0.0),
        0.0, math.pi / 2, math.pi / 2 + 0.01, math.cos,
    ),
    # x - 1 = theta sin(x - 1.01) at 0, the loss flat at 1.01: what is left is of second order
    "L_J L_g": lambda: (
        with_loss(
            Bent(lambda x, t: x - 1 - t * torch.sin(x - 1.01), 1.0, 1.0, 1.0, 0.0),
            lambda x: 1.5 * (x - 1.01).square().sum(1), 3.0,
        ),
        0.0, 1.0, 1.01, lambda x: math.sin(x - 1.01) * 3 * (x - 1.01),
    ),
    # x - 1 = theta: J and H constant, the loss bent
    "L_g": lambda: (
        with_loss(Bent(lambda x, t: x - 1 - t, 1.0, 1.0, 0.0, 0.0), lambda x: 1.5 * x.square().sum(1), 3.0),
        0.0, 1.0, 1.01, lambda x: 3 * x,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TERMS)
def test_every_term_of_omega_is_needed_somewhere(name):
    """Where it is the only one that is not 0, it is the error itself but for a tenth of it or less."""
    upper, theta, best, image, exact = TERMS[name]()
    theta, x = torch.tensor([theta], dtype=F64), torch.full((1, 1), image, dtype=F64)
    assert float(upper.lower.gradient(torch.full((1, 1), best, dtype=F64), theta).abs()) < 1e-12
    found = hypergradient(upper, theta, x, 1e-14)
    error = abs(float(found.value) - exact(best))
    slack = float(found.eps) / abs(image - best)
    assert 0 < error <= float(found.bound) * (1 + 1e-9) and float(found.bound) <= 1.1 * slack**2 * error
    closer = sharpened(upper, theta, x, found)
    assert error <= float(closer.bound) * (1 + 1e-9)


def test_constants_that_are_not_known_are_secants():
    """Between two images, in closed form; and no less than those of an earlier call."""
    lower = Bent(lambda x, t: x + torch.tanh(x) - t * torch.sin(x), 0.2, 2.8, None, None)
    upper = with_loss(lower, lambda x: 2 * x.sum(1), 0.0)
    theta, x, other = torch.tensor([0.5], dtype=F64), *(torch.full((1, 1), v, dtype=F64) for v in (0.7, 0.2))
    h = [1 + 1 / math.cosh(v) ** 2 - 0.5 * math.cos(v) for v in (0.7, 0.2)]
    q = 2 / h[0]
    found = hypergradient(upper, theta, x, 1e-14, other=other).constants
    assert float(found.inverse) == pytest.approx(abs(h[0] - h[1]) * q / (0.2 * 0.5 * 2))
    assert float(found.jacobian) == pytest.approx(abs(math.sin(0.7) - math.sin(0.2)) / 0.5)
    high = type(found)(torch.tensor(9.0, dtype=F64), torch.tensor(7.0, dtype=F64))
    assert hypergradient(upper, theta, x, 1e-14, other=other, seen=high).constants == high


def test_jacobian_of_a_prior_whose_gradient_is_differentiable_once():
    """A learned proximal network's, by its weights: against differences."""
    torch.manual_seed(0)
    potential = ConvolutionalPotential(1, 2, (1, 2), beta=5.0)
    prior = LearnedProximal(LearnedProximalNetwork(potential, 0.3).double(), 0.2, 1e-11)
    physics = Dense(torch.randn(12, 16, dtype=torch.float64), (1, 4, 4))
    y, x = torch.randn(1, 12, dtype=torch.float64), torch.rand(1, 1, 4, 4, dtype=torch.float64)
    names = ["prior.weight", "prior.network.potential.last.weight"]
    lower = Reconstruction(Problem(y, physics, (prior,)), names, least_eigenvalue=1.0)
    theta = lower.theta().detach()
    columns = []
    for e in torch.eye(len(theta), dtype=theta.dtype):
        ends = [lower.gradient(x, theta + h * e).detach().flatten() for h in (1e-5, -1e-5)]
        columns.append((ends[0] - ends[1]) / 2e-5)
    expected = torch.linalg.matrix_norm(torch.stack(columns, 1), 2)
    assert_close(Linearised(lower, theta, x).jacobian_norm(), expected[None], rtol=1e-3, atol=0)
