"""The weakly convex ridge regulariser: what its curvature may be, whatever its weights."""

import copy

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.priors import WeaklyConvexRidge
from resolvent.priors.filter_bank import norm_bound
from resolvent.recon import ConjugateGradient, RelativeChange, objective

F64, C128 = torch.float64, torch.complex128


def ridge(**kwargs):
    """Random filters, scales and signs of curvature."""
    prior = WeaklyConvexRidge(**{"sigma": 0.3, "channels": (2, 3, 6), "kernel": 3, "sharpness": 2.0, **kwargs}).double()
    torch.nn.init.normal_(prior.log_scales)
    return prior


def squared(x):
    return x.abs().square().flatten(1).sum(1)


@pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
def test_gradient_is_the_derivative_of_the_value(dtype):
    prior = ridge(weight=0.7)
    x = torch.randn(2, 2, 7, 6, dtype=dtype).requires_grad_()
    assert torch.autograd.gradcheck(prior.fn, x)
    (expected,) = torch.autograd.grad(prior.fn(x).sum(), x)
    assert_close(prior.grad(x.detach()), expected)
    assert prior.grad(x).shape == x.shape and prior.fn(x).shape == (2,) and prior.fn(x).dtype == F64


@pytest.mark.parametrize("rho", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("trial", range(5))
def test_curvature_stays_within_its_bounds(rho, trial):
    """Every eigenvalue of the Hessian, at images small and large against the scales, of all of whose signs R has."""
    torch.manual_seed(trial)
    prior = ridge(weak_convexity=rho)
    x = 10 ** (trial - 3.0) * torch.randn(1, 1, 9, 8, dtype=F64)
    hessian = jacobian(prior.grad, x).reshape(72, 72)
    assert_close(hessian, hessian.T)
    eigenvalues = torch.linalg.eigvalsh(hessian)
    assert -rho - 1e-12 <= eigenvalues.min() and eigenvalues.max() <= prior.lipschitz + 1e-12


def test_curvature_bounds_are_reached_nearly():
    """At 0 all potentials are at their steepest; where all are past it, at their most concave."""
    prior = ridge(sharpness=4.0)
    zero = jacobian(prior.grad, torch.zeros(1, 1, 20, 20, dtype=F64)).reshape(400, 400)
    assert 0.85 * prior.lipschitz < torch.linalg.eigvalsh(zero).max() <= prior.lipschitz
    torch.nn.init.constant_(prior.log_scales, 0.0)
    x = 1.0 * torch.randn(1, 1, 20, 20, dtype=F64)
    concave = jacobian(prior.grad, x).reshape(400, 400)
    assert torch.linalg.eigvalsh(concave).min() < -0.2


def test_weakly_convex_and_smooth_on_pairs():
    prior = ridge()
    a, d = torch.randn(2, 500, 1, 8, 8, dtype=F64)
    d = d * torch.logspace(-4, 1, 500, dtype=F64).reshape(-1, 1, 1, 1)
    product = ((prior.grad(a + d) - prior.grad(a)) * d).flatten(1).sum(1)
    assert (product >= -squared(d) * (1 + 1e-12)).all() and (product <= prior.lipschitz * squared(d)).all()


@pytest.mark.parametrize("factor", [0.1, 2.5])
def test_noise_level_scales_the_image(factor):
    prior, x = ridge(), torch.randn(2, 1, 9, 8, dtype=F64)
    other = prior.at(factor * 0.3)
    assert_close(other.fn(factor * x), factor**2 * prior.fn(x))
    assert_close(other.grad(factor * x), factor * prior.grad(x))
    assert prior.sigma == 0.3 and other.sharpness is prior.sharpness


def test_flat_images_cost_nothing_inside():
    x = torch.full((1, 1, 30, 30), 5.0, dtype=F64).requires_grad_()
    prior = ridge()
    assert prior.grad(x)[..., 13:17, 13:17].abs().max() < 1e-12
    assert prior.fn(x) > 0, "the border is an edge"


@pytest.mark.parametrize("size", [5, 12, 40])
def test_norm_bound_holds_on_every_size(size):
    kernels = torch.randn(4, 1, 5, 5, dtype=F64)
    matrix = torch.nn.functional.conv2d(torch.eye(size**2, dtype=F64).reshape(-1, 1, size, size), kernels, padding=4)
    norm, bound = torch.linalg.matrix_norm(matrix.flatten(1), 2), norm_bound(kernels)
    assert norm <= bound
    if size == 40:
        assert bound < 1.05 * norm


def test_filters_are_three_layers_in_a_row():
    prior = ridge()
    x = torch.randn(1, 1, 12, 12, dtype=F64)
    layered = x
    for i, layer in enumerate(prior.layers):
        layered = torch.nn.functional.conv2d(layered, layer - layer.mean((2, 3), keepdim=True) if i == 0 else layer)
    at_once, filters = torch.nn.functional.conv2d(x, prior.filters()), prior.filters()
    assert filters.shape == (6, 1, 7, 7)
    factor = (layered * at_once).sum() / at_once.square().sum()
    assert_close(factor * at_once, layered)


def test_as_many_parameters_as_published():
    """13 767 with the two of a wrapper that learns weight and scale."""
    assert sum(p.numel() for p in WeaklyConvexRidge().parameters()) == 13_765


def test_solver_descends_to_a_stationary_point():
    matrix = torch.randn(40, 64, dtype=F64)
    physics = Dense(matrix / torch.linalg.matrix_norm(matrix, 2), (1, 8, 8))
    y, prior = physics.A(torch.rand(2, 1, 8, 8, dtype=F64)), ridge(weight=0.05)
    found = ConjugateGradient(prior, 400, RelativeChange(1e-9)).solve(y, physics, record={"objective": objective})
    values = found.history["objective"]
    assert (values[1:] <= values[:-1] * (1 + 1e-12)).all() and (found.certificate < 1e-5).all()


def test_copies_and_precision():
    prior, x = ridge(), torch.randn(2, 1, 8, 8)
    assert prior.grad(x).dtype == torch.float32
    assert torch.equal(copy.deepcopy(prior).grad(x), prior.grad(x))
    assert prior.explicit_prior and prior.has_grad and not prior.has_prox


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sigma": 0.0}, "sigma: found 0.0"),
        ({"weak_convexity": 1.5}, "weak_convexity: found 1.5"),
        ({"kernel": 4}, "kernel: found 4"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        WeaklyConvexRidge(**arguments)
