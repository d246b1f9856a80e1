"""Implicit differentiation against closed forms, unrolled iterations and finite differences."""

import deepinv
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.operators.krylov import DifferentiableOnce
from resolvent.operators.real_parts import real_parts
from resolvent.priors import L1, Denoiser, SmoothedL1, Tikhonov
from resolvent.recon import (
    ADMM,
    FISTA,
    ConjugateGradient,
    Diverged,
    PrimalDual,
    Problem,
    ProximalGradient,
    RelativeChange,
)
from resolvent.recon.bilevel import Parameters, Reconstruction, implicit, implicit_solve

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
SOLVERS = {
    "ProximalGradient": lambda prior, **kw: ProximalGradient(prior, max_iter=3000, **kw),
    "FISTA": lambda prior, **kw: FISTA(prior, max_iter=1500, **kw),
    "PrimalDual": lambda prior, **kw: PrimalDual(prior, max_iter=3000, **kw),
    "ADMM": lambda prior, **kw: ADMM(prior, step_size=0.1, max_iter=600, cg_iterations=60, cg_rtol=1e-13, **kw),
}
TIGHT = RelativeChange(1e-12)


def measured(dtype, batch=2):
    generator = torch.Generator().manual_seed(5)
    physics = Dense(torch.randn(15, 12, dtype=dtype, generator=generator), (1, 3, 4))
    y = torch.randn(batch, 15, dtype=dtype, generator=generator)
    return physics, y, torch.randn(batch, 1, 3, 4, dtype=dtype, generator=generator)


def loss(x, truth):
    return (x - truth).abs().square().sum()


def tikhonov(matrix, y, weight):
    normal = matrix.mH @ matrix + weight * torch.eye(12, dtype=matrix.dtype)
    return torch.linalg.solve(normal, matrix.mH @ y.mT).mT.reshape(-1, 1, 3, 4)


def tikhonov_slope(physics, y, truth, weight):
    weight = torch.tensor(weight, dtype=F64, requires_grad=True)
    return torch.autograd.grad(loss(tikhonov(physics.matrix, y, weight), truth), weight)[0]


@DTYPES
def test_the_weight_of_a_smooth_problem(dtype):
    physics, y, truth = measured(dtype)
    weight = torch.tensor(0.7, dtype=F64, requires_grad=True)
    least = float(torch.linalg.svdvals(physics.matrix)[-1] ** 2)
    lower = Reconstruction(Problem(y, physics, (Tikhonov(weight),)), ["prior.weight"], least_eigenvalue=least)
    found = implicit(lower, lower.theta(), 1e-9, rtol=1e-10)
    assert (found.certificate <= 1e-9).all()
    assert_close(found.x.detach(), tikhonov(physics.matrix, y, 0.7), rtol=0, atol=1e-9)
    loss(found.x, truth).backward()
    assert_close(weight.grad, tikhonov_slope(physics, y, truth, 0.7), rtol=1e-7, atol=0)


def test_the_operator_of_a_smooth_problem():
    physics, y, truth = measured(C128, batch=1)
    lower = Reconstruction(Problem(y, physics, (Tikhonov(0.7),)), ["physics.matrix"])
    theta = lower.theta().requires_grad_()
    (found,) = torch.autograd.grad(loss(implicit(lower, theta, 1e-9, rtol=1e-10).x, truth), theta)
    matrix = physics.matrix.clone().requires_grad_()
    (exact,) = torch.autograd.grad(loss(tikhonov(matrix, y, 0.7), truth), matrix)
    assert_close(found, torch.view_as_real(exact).flatten(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", SOLVERS)
@DTYPES
def test_the_weight_of_a_soft_threshold(name, dtype):
    """With an identity for the operator the image is soft(y, w), and each entry kept moves by -sign(y)."""
    generator = torch.Generator().manual_seed(2)
    y = torch.randn(2, 12, dtype=dtype, generator=generator)
    physics, truth = Dense(torch.eye(12, dtype=dtype), (1, 3, 4)), torch.zeros(2, 1, 3, 4, dtype=dtype)
    weight = torch.tensor(0.6, dtype=F64, requires_grad=True)
    image, _ = implicit_solve(SOLVERS[name](L1(weight), stop=TIGHT), y, physics, ["solver.priors.0.weight"], rtol=1e-9)
    loss(image, truth).backward()
    kept = y.abs() > 0.6
    assert kept.any() and not kept.all()
    assert_close(weight.grad, -2 * (y.abs() - 0.6)[kept].sum(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_the_weight_of_the_lasso_against_differences(name):
    physics, y, truth = measured(C128)
    at = lambda w: SOLVERS[name](L1(torch.as_tensor(w, dtype=F64)), stop=TIGHT)  # noqa: E731
    theta = torch.tensor([3.0], dtype=F64, requires_grad=True)
    image, solution = implicit_solve(at(3.0), y, physics, ["solver.priors.0.weight"], theta, rtol=1e-9)
    assert set(solution.status) == {"converged"}
    (slope,) = torch.autograd.grad(loss(image, truth), theta)
    ahead, behind = (loss(at(3.0 + e).solve(y, physics).image, truth) for e in (1e-5, -1e-5))
    assert float(slope) == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-5)


def test_the_fixed_point_is_the_limit_of_unrolling():
    physics, y, truth = measured(F64)
    weight = torch.tensor(3.0, dtype=F64, requires_grad=True)
    unrolled = ProximalGradient(L1(weight), max_iter=1500, stop=RelativeChange(0))(y, physics)
    (long,) = torch.autograd.grad(loss(unrolled, truth), weight)
    image, _ = implicit_solve(SOLVERS["FISTA"](L1(weight), stop=TIGHT), y, physics, ["solver.priors.0.weight"])
    assert_close(torch.autograd.grad(loss(image, truth), weight)[0], long, rtol=1e-3, atol=0)


class Smoothing(torch.nn.Module):
    """A linear denoiser with one parameter."""

    def __init__(self):
        super().__init__()
        self.strength = torch.nn.Parameter(torch.tensor(0.3, dtype=F64))

    def forward(self, x, sigma):
        return (x + self.strength * (x.roll(1, -1) + x.roll(-1, -1)) / 2) / (1 + self.strength)


def test_a_denoiser_in_plug_and_play_against_differences():
    physics, y, truth = measured(F64)
    network = Smoothing()
    solver = FISTA(Denoiser(network, sigma=0.1), max_iter=2000, stop=TIGHT)
    name = ["solver.priors.0.denoiser.strength"]
    loss(implicit_solve(solver, y, physics, name, rtol=1e-9)[0], truth).backward()
    at = lambda s: implicit_solve(solver, y, physics, name, torch.tensor([s], dtype=F64))[0]  # noqa: E731
    difference = (loss(at(0.3 + 1e-5), truth) - loss(at(0.3 - 1e-5), truth)) / 2e-5
    assert_close(network.strength.grad, difference.detach(), rtol=1e-5, atol=0)


# -- what is said where it goes wrong ---------------------------------------------------------------
def test_too_few_products_warn():
    physics, y, truth = measured(F64)
    weight = torch.tensor(3.0, dtype=F64, requires_grad=True)
    image, _ = implicit_solve(
        SOLVERS["FISTA"](L1(weight), stop=TIGHT), y, physics, ["solver.priors.0.weight"], max_products=1
    )
    with pytest.warns(UserWarning, match="found a residual .* times the tolerance"):
        loss(image, truth).backward()


def test_an_image_out_of_reach_is_refused():
    lower = Reconstruction(
        Problem(torch.rand(1, 1, 4, 4), deepinv.physics.Denoising(), (Tikhonov(0.1),)), ["prior.weight"]
    )
    theta = lower.theta().float()
    with pytest.raises(Diverged, match=r"lower level: found an accuracy of .* expected 1e-30") as error:
        implicit(lower, theta, 1e-30, x0=torch.ones(1, 1, 4, 4), max_iter=20)
    assert "\n" not in str(error.value)
    with pytest.raises(Diverged, match="found an accuracy of nan"):
        implicit(lower, theta * torch.nan, 1e-3)


@DTYPES
def test_conjugate_gradients_where_directions_end(dtype):
    """A real parameter before a complex one."""
    physics, y, truth = measured(dtype)
    weight, matrix = torch.tensor(0.7, dtype=F64, requires_grad=True), physics.matrix.clone().requires_grad_()
    solver = ConjugateGradient(Tikhonov(weight), max_iter=300, stop=RelativeChange(1e-14))
    names = ["solver.priors.0.weight", "physics.matrix"]
    own = Parameters({"solver": solver, "physics": physics}, names).gather().detach().requires_grad_()
    image, _ = implicit_solve(solver, y, physics, names, own, rtol=1e-10)
    found = torch.autograd.grad(loss(image, truth), own)[0]
    exact = torch.autograd.grad(loss(tikhonov(matrix, y, weight), truth), (weight, matrix))
    assert_close(found, torch.cat([real_parts(g).flatten() for g in exact]), rtol=1e-6, atol=1e-8)


def test_a_second_derivative_is_refused():
    physics, y, _ = measured(F64)
    weight = torch.tensor(0.7, dtype=F64, requires_grad=True)
    lower = Reconstruction(Problem(y, physics, (SmoothedL1(weight, 0.5),)), ["prior.weight"], least_eigenvalue=0.01)
    image = implicit(lower, lower.theta(), 1e-8).x
    (first,) = torch.autograd.grad(image.square().sum(), weight, create_graph=True)
    with pytest.raises(DifferentiableOnce):
        torch.autograd.grad(first, weight)
