"""Lower levels: certificates against closed forms, constants against dense Hessians, and what is refused."""

import copy
import math

import deepinv
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import CircularBlur, Dense, FiniteDifferences
from resolvent.operators.substitute import substitute
from resolvent.priors import L1, Analysis, SmoothedL1, SmoothedTV, Sum, Tikhonov, WeaklyConvexRidge
from resolvent.recon import Problem
from resolvent.recon.bilevel import Energy, Parameters, Reconstruction
from resolvent.recon.bilevel.hypergradient import Linearised

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])


@pytest.mark.parametrize("cond", [1, 2, 30])
def test_the_residual_bounds_the_distance(quadratic, cond):
    problem = quadratic.Quadratic(cond=cond)
    exact = problem.solve(problem.theta)
    for eps in (1e1, 1e-1, 1e-4, 1e-9):
        found = problem.lower.solve(problem.theta, eps)
        assert found.solved and (found.certificate <= eps).all()
        assert torch.linalg.vector_norm(found.x - exact) <= found.certificate.max() * (1 + 1e-9) + 1e-13


def test_a_good_start_costs_one_gradient_and_a_near_one_less(quadratic):
    problem = quadratic.Quadratic(cond=20)
    cold = problem.lower.solve(problem.theta, 1e-6)
    assert problem.lower.solve(problem.theta, 1e-6, cold.x).gradients == 1
    near = problem.lower.solve(problem.theta + 1e-4, 1e-6, cold.x)
    assert near.gradients < 0.7 * problem.lower.solve(problem.theta + 1e-4, 1e-6).gradients


def test_fast_gradient_keeps_its_rate(quadratic):
    """h(z_k) - h* <= (1 - sqrt q)^k (L + mu) |x0 - xhat|^2 / 2, so that 5 / sqrt q steps gain two decimals."""
    problem = quadratic.Quadratic(cond=30)
    exact, q = problem.solve(problem.theta), float(problem.lower.mu / problem.lower.largest)
    steps = int(math.log(1e12) / math.sqrt(q))
    found = problem.lower.solve(problem.theta, 1e-30, max_iter=steps)
    error = torch.linalg.vector_norm(found.x - exact) / torch.linalg.vector_norm(exact)
    assert not found.solved and found.gradients == steps + 1
    assert error < 1e-4


def dense(dtype, m=15):
    physics = Dense(torch.randn(m, 12, dtype=dtype), (1, 3, 4))
    return physics, torch.randn(2, m, dtype=dtype)


def real_matrix(product, like):
    """The matrix of a real-linear map of images like ``like``, a batch of one."""
    size = 2 * like.numel() if like.is_complex() else like.numel()
    view = torch.view_as_real if like.is_complex() else torch.clone
    columns = []
    for e in torch.eye(size, dtype=F64):
        v = torch.view_as_complex(e.reshape(*like.shape, 2)) if like.is_complex() else e.reshape(like.shape)
        columns.append(view(product(v)).flatten())
    return torch.stack(columns, 1)


@DTYPES
def test_constants_bound_the_spectrum(dtype):
    physics, y = dense(dtype)
    least = float(torch.linalg.svdvals(physics.matrix)[-1] ** 2)
    ridge = WeaklyConvexRidge(weight=0.5, kernel=3).double()
    sparse = SmoothedL1(torch.tensor(0.1, dtype=F64), nu=0.1)
    priors = (Tikhonov(torch.tensor(0.3, dtype=F64)), SmoothedTV(0.2, nu=0.05), sparse, ridge)
    lower = Reconstruction(Problem(y[:1], physics, priors), ["priors.0.weight"], least_eigenvalue=least)
    theta = lower.theta()
    spectrum = torch.linalg.eigvalsh(real_matrix(Linearised(lower, theta, 0.1 * lower.start()).hessian, lower.start()))
    assert lower.strong_convexity(theta) <= spectrum[0] and lower.smoothness(theta) >= spectrum[-1]
    assert_close(lower.strong_convexity(theta), torch.tensor(least + 0.3 - 0.5, dtype=F64))


def test_a_sum_counts_term_by_term_and_denoising_knows_its_eigenvalue():
    y = torch.randn(1, 1, 8, 8, dtype=F64)
    prior = Sum([Tikhonov(0.5), SmoothedTV(0.2, nu=0.1)])
    lower = Reconstruction(Problem(y, deepinv.physics.Denoising(), (prior,)), ["prior.priors.1.weight"])
    theta = lower.theta()
    assert float(lower.strong_convexity(theta)) == pytest.approx(1.5)
    assert float(lower.smoothness(theta)) == pytest.approx(1 + 0.5 + 0.2 * 8 / 0.1, rel=2e-3)


def test_smoothed_tv_of_the_library_is_the_oracle(tv):
    problem = tv.Denoising(torch.rand(4, 8, 8, dtype=F64))
    prior = Analysis(SmoothedL1(math.exp(-2.5), nu=math.exp(-4.0)), FiniteDifferences((4, 8, 8)))
    learn = ["prior.prior.weight", "prior.prior.nu"]
    lower = Reconstruction(Problem(problem.y, deepinv.physics.Denoising(), (prior,)), learn, learn)
    theta = torch.tensor([-2.5, -4.0], dtype=F64)
    assert_close(lower.theta(), theta)
    other, x = theta + 0.3, torch.rand_like(problem.y)
    assert_close(lower.gradient(x, other), problem.lower.gradient(x, other))
    assert 0.95 * problem.lower.smoothness(other) < lower.smoothness(other) <= problem.lower.smoothness(other)
    assert lower.certifies(other)


def test_an_energy_is_its_gradient():
    value = lambda x, theta: (theta[0] * x.square() / 2 + x.cos() / 2).sum(1)  # noqa: E731
    lower = Energy(value, torch.ones(2, 3, dtype=F64), lambda t: t[0] - 0.5, lambda t: t[0] + 0.5)
    theta, x = torch.tensor([2.0], dtype=F64), torch.randn(2, 3, dtype=F64)
    assert_close(lower.gradient(x, theta), 2 * x - x.sin() / 2)
    assert torch.linalg.vector_norm(lower.solve(theta, 1e-8).x) < 1e-7


# -- parameters -------------------------------------------------------------------------------------
def test_substitution_leaves_the_modules_alone():
    prior = WeaklyConvexRidge(weight=0.5, kernel=3)
    before = copy.deepcopy(prior.state_dict())
    parameters = Parameters({"prior": prior}, ["prior.weight", "prior.layers.1", "prior.sharpness"], ["prior.weight"])
    theta = parameters.gather()
    assert theta.dtype == F64 and theta[0] == math.log(0.5)
    twin = parameters.substituted(theta + 1)["prior"]
    assert float(twin.weight) == pytest.approx(0.5 * math.e) and prior.weight == 0.5
    assert_close(twin.layers[1], prior.layers[1] + 1)
    assert twin.layers[0] is prior.layers[0] and twin.log_scales is prior.log_scales
    assert all(torch.equal(before[k], v) for k, v in prior.state_dict().items())


def test_relative_tensors_do_not_depend_on_their_units():
    """theta has a root mean square of 1, and its shares are those of the tensor; nothing is left of zeros but zeros."""
    prior = WeaklyConvexRidge(kernel=3)
    names = ["prior.layers.0", "prior.layers.1"]
    with torch.no_grad():
        prior.layers[1].zero_()
        small = copy.deepcopy(prior)
        small.layers[0].mul_(1e-3)
    one, other = (Parameters({"prior": p}, names, relative=names) for p in (prior, small))
    theta = one.gather().detach()
    assert_close(theta, other.gather().detach())
    assert float(theta[: prior.layers[0].numel()].square().mean()) == pytest.approx(1)
    assert_close(other.scatter(theta + 0.1)["prior.layers.0"], 1e-3 * one.scatter(theta + 0.1)["prior.layers.0"])
    assert_close(one.scatter(theta)["prior.layers.0"], prior.layers[0].detach())
    assert not one.scatter(theta)["prior.layers.1"].any()


def test_gathering_leads_back_to_the_tensors():
    prior = WeaklyConvexRidge(kernel=3)
    Parameters({"prior": prior}, ["prior.layers.0", "prior.sharpness"]).gather().square().sum().backward()
    assert_close(prior.layers[0].grad, 2 * prior.layers[0].detach())
    assert float(prior.sharpness.grad) == pytest.approx(8.0)


def test_complex_tensors_are_two_real_ones():
    physics, _ = dense(C128)
    parameters = Parameters({"physics": physics}, ["physics.matrix"])
    theta = parameters.gather()
    assert theta.shape == (2 * 15 * 12,)
    assert_close(parameters.scatter(theta)["physics.matrix"], physics.matrix)


def test_an_operator_forgets_what_it_derived():
    kernel = torch.rand(3, 3, dtype=F64)
    physics = CircularBlur(kernel, (1, 8, 8))
    x = torch.rand(1, 1, 8, 8, dtype=F64)
    before = physics.A(x)
    assert_close(substitute(physics, "kernel", 2 * physics.kernel).A(x), 2 * before)
    assert_close(physics.A(x), before)


# -- refusals ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("learn", "said"),
    [
        (["prior.strength"], "found no strength in Tikhonov"),
        (["denoiser.weight"], "found no such parameter"),
        (["prior.convex"], "found bool, expected floating point"),
        ([], "expected at least one"),
    ],
)
def test_names_that_cannot_be_learned(learn, said):
    physics, y = dense(F64)
    with pytest.raises(ValueError, match=said) as error:
        Reconstruction(Problem(y, physics, (Tikhonov(0.1),)), learn)
    assert "\n" not in str(error.value)


def test_logarithms_need_positive_numbers():
    with pytest.raises(ValueError, match=r"prior\.weight: found 0\.0, expected above 0"):
        Parameters({"prior": Tikhonov(0.0)}, ["prior.weight"], ["prior.weight"])
    with pytest.raises(ValueError, match="logarithmic: found prior"):
        Parameters({"prior": Tikhonov(0.1)}, ["prior.weight"], ["prior.nu"])
    with pytest.raises(
        ValueError, match=r"relative: found prior\.weight, expected some of prior\.weight, no logarithm"
    ):
        Parameters({"prior": Tikhonov(0.1)}, ["prior.weight"], ["prior.weight"], ["prior.weight"])


def test_priors_with_a_kink_are_refused():
    physics, y = dense(F64)
    with pytest.raises(TypeError, match="found L1, expected priors with a gradient"):
        Reconstruction(Problem(y, physics, (L1(0.1),)), ["prior.weight"])


def test_theta_of_another_length():
    parameters = Parameters({"prior": Tikhonov(0.1)}, ["prior.weight"])
    with pytest.raises(ValueError, match=r"theta: found shape \(2,\), expected \(1,\)"):
        parameters.scatter(torch.zeros(2))
