"""Reconstructions of several shapes under one theta, and fixed points of solvers: hypergradients are derivatives."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, Dense
from resolvent.priors import L1, TV, Denoiser, InWavelets, SmoothedTV
from resolvent.recon import ADMM, FISTA, Problem, ProximalGradient
from resolvent.recon.bilevel import (
    FixedPoint,
    Joint,
    Known,
    MeanSquare,
    Measure,
    Parameters,
    Part,
    Reconstruction,
    UpperLevel,
    hypergradient,
)

F64, C128 = torch.float64, torch.complex128


def scan(shape, dtype, seed=0):
    """An image, an operator with a well-conditioned matrix, and noisy data."""
    generator = torch.Generator().manual_seed(seed)
    n = shape[0] * shape[1]
    matrix = torch.eye(n, dtype=dtype) + 0.1 * torch.randn(n, n, generator=generator, dtype=dtype) / n**0.5
    physics, truth = Dense(matrix, (1, *shape)), torch.zeros(1, 1, *shape, dtype=dtype)
    truth[..., 1:3, 1:] = 1
    y = physics.A(truth)
    return physics, truth, y + 0.1 * torch.randn(y.shape, generator=generator, dtype=dtype)


def smooth_part(shape, dtype, unit, seed=0):
    physics, truth, y = scan(shape, dtype, seed)
    lower = Reconstruction(Problem(y, physics, (SmoothedTV(0.1, 0.1),)), ["prior.weight", "prior.nu"],
                           ["prior.weight", "prior.nu"], least_eigenvalue=0.6)  # fmt: skip
    posed = MeanSquare().pose(Known(y, physics, None, truth))
    return Part(lower, posed.measure, unit, lower.start())


def fixed_part(make, prior, names, shape=(5, 4), dtype=C128, unit=1.0, logarithmic=()):
    physics, truth, y = scan(shape, dtype)
    parameters = Parameters({"prior": prior}, names, logarithmic)
    theta = parameters.gather()
    lower = FixedPoint(y, physics, lambda theta: make(parameters.substituted(theta)["prior"]), theta)
    posed = MeanSquare().pose(Known(y, physics, None, truth))
    measure = Measure(lambda s: posed.measure(lower.image(s)), posed.measure.smoothness, True)
    return Part(lower, measure, unit, lower.start()), theta


def joint(*parts):
    lower = Joint(parts)
    return UpperLevel(lower, lower.loss())


def difference(upper, theta, eps, step=1e-5):
    """The gradient of f by central differences."""
    found = []
    for direction in torch.eye(len(theta), dtype=F64):
        ends = [theta + sign * step * direction for sign in (1, -1)]
        values = [upper.value(upper.lower.solve(t, eps, max_iter=100_000).x, t) for t in ends]
        found.append((values[0] - values[1]) / (2 * step))
    return torch.stack(found)


THETA = torch.tensor([-2.3, -2.0], dtype=F64)


def test_parts_of_several_shapes_are_one_problem():
    """Value and hypergradient are means over the parts' images, whatever their units."""
    parts = [smooth_part((5, 4), C128, 1.0), smooth_part((4, 3), F64, 3.0, seed=1)]
    alone = [UpperLevel(p.lower, p.loss) for p in parts]
    together = joint(*parts)
    x = together.lower.solve(THETA, 1e-10).x
    each = [u.lower.solve(THETA, 1e-10).x for u in alone]
    assert_close(together.value(x, THETA), sum(u.value(v, THETA) for u, v in zip(alone, each, strict=True)) / 2)
    found = hypergradient(together, THETA, x, 1e-11)
    expected = sum(hypergradient(u, THETA, v, 1e-11).value for u, v in zip(alone, each, strict=True)) / 2
    assert_close(found.value, expected, rtol=1e-7, atol=0)
    assert_close(found.value, difference(together, THETA, 1e-11), rtol=1e-5, atol=0)


@pytest.mark.parametrize("unit", [0.1, 20.0])
def test_bounds_hold_in_every_unit(unit):
    """Loss and certificate of an inexact image, where accuracies are in the unit."""
    upper = joint(smooth_part((5, 4), C128, unit))
    exact = upper.lower.solve(THETA, 1e-11 / unit).x
    coarse = upper.lower.solve(THETA, 0.05 / unit)
    assert bool((torch.linalg.vector_norm(coarse.x - exact, dim=1) <= coarse.certificate).all())
    bounds, value = upper.bounds(coarse.x, coarse.certificate, THETA), upper.value(exact, THETA)
    assert bounds.low <= value <= bounds.high and bounds.high - bounds.low < 1
    inexact = hypergradient(upper, THETA, coarse.x, 1e-3)
    error = torch.linalg.vector_norm(inexact.value - hypergradient(upper, THETA, exact, 1e-12).value)
    assert error <= inexact.bound


def test_constants_are_in_the_unit():
    r"""Of :math:`H^{-1}` as a function of :math:`u = x / c`; J, which has the unit itself, keeps its own."""

    class WithConstants(Reconstruction):
        jacobian_lipschitz, inverse_lipschitz = 3.0, 0.5

    part = smooth_part((5, 4), C128, 20.0)
    part.lower.__class__ = WithConstants
    together = Joint([part])
    assert together.inverse_lipschitz == 10.0 and together.jacobian_lipschitz == 3.0


def shrink(x, sigma):
    """A denoiser whose strength is sigma: towards the mean of neighbours."""
    return x + 0.4 * torch.sin(sigma) * (x.roll(1, -1) - x)


FIXED = {
    "FISTA, L1": (lambda p: FISTA(p), lambda: L1(0.1), ["prior.weight"], C128),
    "FISTA, wavelets": (lambda p: FISTA(p), lambda: InWavelets(L1(0.1), "haar"), ["prior.prior.weight"], C128),
    "ADMM, L1": (
        lambda p: ADMM(p, step_size=0.7, cg_iterations=50, cg_rtol=1e-12),
        lambda: L1(0.1),
        ["prior.weight"],
        C128,
    ),
    "ADMM, TV": (
        lambda p: ADMM(p, step_size=0.7, cg_iterations=50, cg_rtol=1e-12),
        lambda: TV(0.1, iterations=4),
        ["prior.weight"],
        F64,
    ),
    "plug and play": (lambda p: FISTA(p), lambda: Denoiser(shrink, 0.3), ["prior.sigma.0"], F64),
}


@pytest.mark.parametrize("name", FIXED)
def test_derivative_of_a_fixed_point(name):
    """Against central differences of the loss at accurate fixed points."""
    make, prior, names, dtype = FIXED[name]
    part, theta = fixed_part(make, prior(), names, (4, 4), dtype)
    upper = joint(part)
    solution = upper.lower.solve(theta, 1e-9)
    found = hypergradient(upper, theta, solution.x, 1e-8)
    assert_close(found.value, difference(upper, theta, 1e-9, 1e-3), rtol=2e-3, atol=1e-7)
    assert found.value.abs().max() > 1e-5
    assert not upper.lower.certifies(theta) and bool((solution.certificate <= 1e-9).all())


@pytest.mark.parametrize("weight", [0.01, 0.1])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_momentum_that_starts_anew_is_no_sign_of_rest(weight, start):
    """Steps are a tenth as long then; the image is as near its limit as it is said to be, within a factor of 4.

    So it is from the image of a weight e times as large, which it leaves slowly.
    """
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(32, generator=generator) < 0.4).to(F64).expand(32, 32)
    physics, truth = CartesianMRI(mask), torch.zeros(1, 1, 32, 32, dtype=C128)
    truth[..., 6:20, 9:25] = 1
    y = physics.A(truth) + 0.05 * mask * torch.randn(truth.shape[1:], generator=generator, dtype=C128)
    theta = torch.zeros(1, dtype=F64)
    lower = FixedPoint(y, physics, lambda t: FISTA(InWavelets(L1(weight * float(t.exp())))), theta)
    other, limit = (lower.solve(t, 1e-6, max_iter=100_000).x for t in (theta + start, theta))
    limit = lower.image(limit)
    for eps in (torch.linalg.vector_norm(limit) * share for share in (1e-2, 1e-3, 1e-4)):
        image = lower.image(lower.solve(theta, float(eps), other if start else None).x)
        assert torch.linalg.vector_norm(image - limit) < 4 * eps


@pytest.mark.parametrize("name", ["FISTA, L1", "FISTA, wavelets"])
def test_adjoint_equations_are_solved_whatever_the_unit_of_the_loss(name):
    """Coarse as delta may be beside a loss that hardly changes, from the dual of one that did."""
    make, prior, names, dtype = FIXED[name]
    part, theta = fixed_part(make, prior(), names, (4, 4), dtype)
    upper = joint(part)
    x = upper.lower.solve(theta, 1e-9).x
    exact = hypergradient(upper, theta, x, 1e-9)
    for dual in (None, 5 * exact.dual):
        coarse = hypergradient(upper, theta, x, 1e6, dual=dual)
        assert_close(coarse.value, exact.value, rtol=0.3, atol=0)


def test_fixed_point_ends_unsolved_in_time():
    part, theta = fixed_part(FISTA, L1(0.1), ["prior.weight"])
    solution = joint(part).lower.solve(theta, 1e-14, max_iter=3)
    assert not solution.solved and solution.gradients == 3


def test_an_image_is_taken_as_it_is_after_as_many_steps_as_its_reconstruction_has():
    """With the length of the step that would follow; the next solve goes on from there."""
    physics, _, y = scan((8, 8), C128)
    theta = torch.zeros(1, dtype=F64)
    lower = FixedPoint(y, physics, lambda _: ProximalGradient(L1(0.01)), theta, longest=5)
    first = lower.solve(theta, 1e-12)
    following = lower.solve(theta, 1e-12, first.x)
    assert first.solved and first.gradients == 6
    step = torch.linalg.vector_norm(lower.image(lower.gradient(first.x, theta)).flatten(1), dim=1)
    assert_close(first.certificate, step)
    assert (following.certificate < first.certificate).all()
    assert not lower.solve(theta, 1e-12, max_iter=4).solved


def test_adjoint_equations_of_sampled_data():
    """Undersampled k-space: the system is singular off what the threshold leaves, and still consistent."""
    mask = (torch.arange(8) % 3 != 1).to(F64).expand(8, 8)
    physics, truth = CartesianMRI(mask), torch.zeros(1, 1, 8, 8, dtype=C128)
    truth[..., 2:6, 3:5] = 1
    y = physics.A(truth)
    parameters = Parameters({"prior": InWavelets(L1(0.05), "haar")}, ["prior.prior.weight"], ["prior.prior.weight"])
    theta = parameters.gather()
    lower = FixedPoint(y, physics, lambda t: FISTA(parameters.substituted(t)["prior"]), theta)
    measure = Measure(lambda s: (lower.image(s) - truth).abs().square().flatten(1).sum(1), 2.0, True)
    upper = joint(Part(lower, measure, 1.0, lower.start()))
    solution = upper.lower.solve(theta, 1e-9)
    found = hypergradient(upper, theta, solution.x, 1e-8)
    assert_close(found.value, difference(upper, theta, 1e-9, 1e-3), rtol=2e-3, atol=1e-8)
