"""Solvers against closed forms, optimality conditions and each other."""

import copy
import math

import deepinv
import pytest
import torch
from compare import relative
from deepinv.physics import GaussianNoise
from torch.testing import assert_close

from resolvent.apps.simulate_mri import phantom
from resolvent.operators import CartesianMRI, CircularBlur, Dense, FiniteDifferences, NearFieldMIMO, Scaled
from resolvent.priors import (
    L1,
    TV,
    Analysis,
    Denoiser,
    GroupL1,
    Magnitude,
    NonNegative,
    Normalised,
    SmoothedL1,
    Tikhonov,
)
from resolvent.recon import (
    ADMM,
    FISTA,
    ConjugateGradient,
    ConstrainedADMM,
    FixedPointResidual,
    HalfQuadratic,
    ObjectiveGap,
    PrimalDual,
    Problem,
    ProximalGradient,
    RelativeChange,
    objective,
    universal_threshold,
)
from resolvent.recon.problem import norms

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
EXACT = RelativeChange(0)


class Direct(Dense):
    """A matrix whose proximal step is solved directly, so that thousands of iterations are cheap."""

    def prox_l2(self, z, y, gamma, **_):
        normal = torch.eye(self.matrix.shape[1]) + gamma * self.matrix.mH @ self.matrix
        rhs = z.flatten(1) + gamma * self.A_adjoint(y).flatten(1)
        return torch.linalg.solve(normal, rhs.mT).mT.reshape(z.shape)


def dense(dtype=C128, m=15, n=12, kind=Direct):
    generator = torch.Generator().manual_seed(5)
    return kind(torch.randn(m, n, generator=generator, dtype=dtype), (1, 3, n // 3))


def measured(physics, dtype=C128, batch=2):
    return torch.randn(batch, *physics.data_shape, dtype=dtype)


def gamma_for(physics):
    return 1 / float(torch.linalg.matrix_norm(physics.matrix, 2)) ** 2


@DTYPES
def test_norms_are_those_of_each_image(dtype):
    x = torch.randn(3, 2, 4, 5, dtype=dtype)
    assert_close(norms(x.conj()), x.abs().square().sum((1, 2, 3)).sqrt())


# -- closed forms -----------------------------------------------------------------------------------
def tikhonov(physics, y, weight):
    m = physics.matrix
    x = torch.linalg.solve(m.mH @ m + weight * torch.eye(m.shape[1], dtype=m.dtype), m.mH @ y.flatten(1).mT)
    return x.mT.unflatten(1, physics.image_shape)


SOLVERS = {
    "ProximalGradient": lambda prior, **kw: ProximalGradient(prior, **({"max_iter": 2000} | kw)),
    "FISTA": lambda prior, **kw: FISTA(prior, **({"max_iter": 1000} | kw)),
    "PrimalDual": lambda prior, **kw: PrimalDual(prior, **({"max_iter": 2000} | kw)),
    "ADMM": lambda prior, **kw: ADMM(
        prior, **({"step_size": 0.1, "max_iter": 400, "cg_iterations": 60, "cg_rtol": 1e-13} | kw)
    ),
}


@pytest.fixture(params=SOLVERS)
def make(request):
    return SOLVERS[request.param]


@DTYPES
def test_tikhonov(make, dtype):
    physics = dense(dtype, kind=Dense)
    y = measured(physics, dtype)
    solution = make(Tikhonov(0.7), stop=EXACT).solve(y, physics)
    assert relative(solution.image, tikhonov(physics, y, 0.7)) < 1e-8
    assert (solution.certificate < 1e-8).all()


@DTYPES
@pytest.mark.parametrize("prior", [Tikhonov(0.7), None], ids=["Tikhonov", "least squares"])
def test_conjugate_gradients_solve_a_quadratic_in_n_steps(dtype, prior):
    physics = dense(dtype)
    y = measured(physics, dtype)
    solution = ConjugateGradient(prior, max_iter=12, stop=EXACT).solve(y, physics)
    assert relative(solution.image, tikhonov(physics, y, 0.7 if prior else 0.0)) < 1e-8
    assert (solution.certificate < 1e-7).all()


def test_conjugate_gradients_begin_anew_from_the_state_of_another_problem():
    physics = dense()
    one, other = measured(physics), measured(physics)
    solver = ConjugateGradient(Tikhonov(0.7), max_iter=12, stop=EXACT)
    solution = solver.solve(other, physics, state=solver.solve(one, physics).state)
    assert relative(solution.image, tikhonov(physics, other, 0.7)) < 1e-8


def lasso_conditions(physics, y, x, weight, atol):
    """``A^H (y - A x) = weight x/|x|`` where x is not 0, at most ``weight`` in magnitude elsewhere."""
    slope, support = physics.A_adjoint(y - physics.A(x)), x.abs() > 0
    assert support.any() and not support.all(), "the test needs a weight that leaves a part"
    assert_close(slope[support], weight * x[support].sgn(), rtol=0, atol=atol)
    assert (slope[~support].abs() <= weight + atol).all()


@DTYPES
def test_lasso(make, dtype):
    physics = dense(dtype)
    y = measured(physics, dtype)
    x = make(L1(3.0), stop=EXACT).solve(y, physics).image
    lasso_conditions(physics, y, x, 3.0, 1e-7)


@pytest.mark.parametrize("step_size", [1e-2, 1.0, None])
def test_admm_reaches_the_lasso_from_any_step(step_size):
    physics = dense()
    y = measured(physics)
    solver = SOLVERS["ADMM"](L1(3.0), step_size=step_size, max_iter=4000, stop=FixedPointResidual(1e-10))
    lasso_conditions(physics, y, solver.solve(y, physics).image, 3.0, 1e-6)


@pytest.mark.parametrize("prior", [L1(0.1), TV(0.1, iterations=50)], ids=["L1", "TV"])
def test_admm_does_not_stop_before_it_begins(prior):
    """A step at which the first images are all zero, or all flat, does not look like convergence."""
    physics = Dense(torch.eye(12, dtype=C128), (1, 3, 4))
    y = measured(physics)
    expected = type(prior)(prior.weight, **({"iterations": 2000} if isinstance(prior, TV) else {})).prox(
        y.reshape(2, 1, 3, 4)
    )
    solution = ADMM(prior, max_iter=20_000, stop=RelativeChange(1e-6)).solve(y, physics)
    assert set(solution.status) == {"converged"}
    assert relative(solution.image, expected) < 1e-3


def test_lasso_of_no_data_is_zero(make):
    physics = dense()
    y = measured(physics)
    strongest = float(physics.A_adjoint(y).abs().max())
    assert make(L1(1.001 * strongest)).solve(y, physics).image.abs().max() == 0
    assert make(L1(0.95 * strongest), max_iter=5000, stop=EXACT).solve(y, physics).image.abs().max() > 0


def test_admm_with_two_priors():
    """Nonnegative lasso: slope = weight on the support, at most the weight elsewhere."""
    physics = dense(F64)
    y = measured(physics, F64)
    for priors in ([L1(2.0), NonNegative()], [NonNegative(), L1(2.0)]):
        solution = SOLVERS["ADMM"](priors, max_iter=1500, stop=EXACT).solve(y, physics)
        x = solution.state.splits[[isinstance(p, L1) for p in priors].index(False)]
        slope, support = physics.A_adjoint(y - physics.A(x)), x > 1e-9
        assert (x >= 0).all() and support.any() and not support.all()
        assert_close(slope[support], torch.full_like(slope[support], 2.0), rtol=0, atol=1e-6)
        assert (slope[~support] <= 2.0 + 1e-6).all()
        assert relative(solution.state.splits[0], solution.state.splits[1]) < 1e-7


def test_admm_with_three_priors_is_the_sum():
    physics = dense()
    y = measured(physics)
    together = SOLVERS["ADMM"](L1(3.0), max_iter=3000, stop=EXACT).solve(y, physics).image
    split = SOLVERS["ADMM"]([L1(1.0), L1(0.5), L1(1.5)], max_iter=3000, stop=EXACT).solve(y, physics).image
    assert relative(split, together) < 1e-6


def test_solvers_agree_on_total_variation():
    physics = dense()
    y = measured(physics)
    prior = TV(1.0, iterations=20)
    fista = FISTA(prior, max_iter=400, stop=EXACT).solve(y, physics).image
    admm = SOLVERS["ADMM"](prior, max_iter=400, stop=EXACT).solve(y, physics).image
    assert relative(admm, fista) < 1e-6
    problem = Problem(y, physics, (prior,))
    for _ in range(20):
        assert (problem.objective(fista) <= problem.objective(fista + 0.01 * torch.randn_like(fista))).all()


def test_fista_is_no_slower_than_its_bound():
    """F(x_k) - F* <= 2 L |x_0 - x*|^2 / (k + 1)^2 for the first iterations, before any restart."""
    physics, dtype = dense(), C128
    y = measured(physics, dtype)
    best = FISTA(L1(1.0), max_iter=3000, stop=EXACT).solve(y, physics)
    problem = Problem(y, physics, (L1(1.0),))
    least, distance = problem.objective(best.image), best.image.abs().square().flatten(1).sum(1)
    run = FISTA(L1(1.0), max_iter=60, stop=EXACT).solve(y, physics, record={"objective": objective})
    k = torch.arange(1, 61, dtype=F64)[:, None]
    assert (run.history["objective"] - least <= 2 * problem.lipschitz * distance / (k + 1) ** 2).all()


def test_fista_converges_with_few_inner_steps():
    """A dual of few steps lags behind the image; momentum that is not taken back then keeps 2 % above the minimum."""
    generator = torch.Generator().manual_seed(0)
    physics = CartesianMRI((torch.rand(32, 32, generator=generator) < 0.4).double())
    y = physics.A(phantom(32).to(C128))
    y = y + 0.01 * physics.mask * torch.randn(y.shape, dtype=C128, generator=generator)
    exact = Analysis(GroupL1(0.02), FiniteDifferences(physics.image_shape))
    least = float(Problem(y, physics, (exact,)).objective(PrimalDual(exact, max_iter=800, stop=EXACT)(y, physics)))
    prior = TV(0.02, iterations=5)
    found = Problem(y, physics, (prior,)).objective(FISTA(prior, max_iter=250, stop=EXACT)(y, physics))
    assert float(found) < least * (1 + 1e-5)


def test_fista_keeps_the_momentum_of_growing_steps():
    """From an image that is wrong in a slow mode alone every step is longer than the last; nothing restarts."""
    curvature, steps = 1e-4, 60
    physics = Dense(torch.diag(torch.tensor([1.0, curvature**0.5], dtype=F64)), (1, 2))
    start = torch.tensor([[[0.0, 1.0]]], dtype=F64)
    found = (
        FISTA(L1(0.0), step_size=1.0, max_iter=steps, stop=EXACT)
        .solve(torch.zeros(1, 2, dtype=F64), physics, x0=start)
        .image
    )
    before = x = w = 1.0
    t = 1.0
    for _ in range(steps):
        before, x = x, (1 - curvature) * w
        t, last = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        w = x + (last - 1) / t * (x - before)
    assert_close(float(found[..., 1]), x, rtol=1e-12, atol=0)
    assert x < 0.96 < (1 - curvature) ** steps, "faster than without momentum"


class Pseudohuber(deepinv.optim.Prior):
    """A smooth prior that states its value alone."""

    def __init__(self):
        super().__init__()
        self.explicit_prior = True

    def fn(self, x, *_, **__):
        return (1 + x.abs().square()).sqrt().flatten(1).sum(1)


class Logarithm(Pseudohuber):
    """Not convex: its curvature is negative away from zero."""

    def fn(self, x, *_, **__):
        return 30 * (1 + 20 * x.abs().square()).log().flatten(1).sum(1)


@DTYPES
@pytest.mark.parametrize("prior", [Pseudohuber(), Logarithm()], ids=lambda p: type(p).__name__)
def test_nonlinear_conjugate_gradients_reach_a_stationary_point(dtype, prior):
    physics = dense(dtype)
    y = measured(physics, dtype)
    x0 = torch.randn(2, 1, 3, 4, dtype=dtype)
    solution = ConjugateGradient(prior, max_iter=400, stop=FixedPointResidual(1e-7)).solve(
        y, physics, x0=x0, record={"objective": objective}
    )
    x = solution.image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(Problem(y, physics, (prior,)).objective(x).sum(), x)
    assert torch.linalg.vector_norm(slope) < 1e-5 * torch.linalg.vector_norm(physics.A_adjoint(y))
    falls = torch.diff(solution.history["objective"], dim=0)
    assert (falls <= 1e-9 * solution.history["objective"][:-1].abs()).all()


# -- constrained ------------------------------------------------------------------------------------
def constrained(seed=0):
    """Half as many data as voxels, three of them lit."""
    torch.manual_seed(seed)
    physics = Direct(torch.randn(10, 20, dtype=C128), (1, 4, 5))
    truth = torch.zeros(1, 1, 4, 5, dtype=C128)
    truth[0, 0, 1, 1], truth[0, 0, 2, 3], truth[0, 0, 3, 0] = 2.0, -1.5j, 1 + 1j
    noise = 0.05 * torch.randn(1, 10, dtype=C128)
    return physics, truth, physics.A(truth) + noise, float(noise.norm())


@pytest.mark.parametrize("threshold", [0.02, 0.2])
def test_constrained_problem(threshold):
    physics, truth, y, epsilon = constrained()
    solver = ConstrainedADMM(L1(threshold), epsilon=epsilon, kappa=1.0, max_iter=1500, stop=EXACT)
    solution = solver.solve(y, physics)
    s = solution.image
    assert torch.linalg.vector_norm(y - physics.A(s)) <= epsilon * (1 + 1e-3)
    assert L1().fn(s) <= L1().fn(truth) * (1 + 1e-6), "the truth is feasible"
    slope = physics.A_adjoint(y - physics.A(s))
    multiplier = slope.abs().max()
    support = s.abs() > 1e-6
    assert_close(slope[support], multiplier * s[support].sgn(), rtol=0, atol=1e-4 * float(multiplier))


def test_constrained_noise_level_comes_from_the_operator():
    physics, _, y, _ = constrained()
    by_hand = ConstrainedADMM(L1(0.1), epsilon=math.sqrt(10) * 0.05, max_iter=20)(y, physics)
    physics.set_noise_model(GaussianNoise(0.05))
    assert_close(ConstrainedADMM(L1(0.1), max_iter=20)(y, physics), by_hand)


def test_constrained_without_noise_level_is_refused():
    physics, _, y, _ = constrained()
    with pytest.raises(ValueError, match="noise_std: found none stated"):
        ConstrainedADMM(L1(0.1)).solve(y, physics)


def test_penalty_follows_the_scale_of_the_operator():
    """c A with data c y, c epsilon and c^2 kappa makes the same images."""
    physics, _, y, epsilon = constrained()
    run = {"max_iter": 30, "stop": EXACT, "cg_iterations": 60, "cg_rtol": 1e-14}
    one = ConstrainedADMM(L1(0.1), epsilon, kappa=2.0, **run)(y, physics)
    scaled = ConstrainedADMM(L1(0.1), 7 * epsilon, kappa=98.0, **run)(7 * y, Scaled(physics, 7.0))
    assert relative(scaled, one) < 1e-9
    default = ConstrainedADMM(L1(0.1), epsilon, **run)(y, physics)
    assert relative(ConstrainedADMM(L1(0.1), 7 * epsilon, **run)(7 * y, Scaled(physics, 7.0)), default) < 1e-9
    x = ADMM(L1(0.1), **run)(y, physics)
    assert relative(ADMM(L1(4.9), **run)(7 * y, Scaled(physics, 7.0)), x) < 1e-9


def test_exact_and_iterative_x_updates_agree():
    """The radar's closed form against conjugate gradients on the same matrix."""
    radar = NearFieldMIMO(
        0.1 * torch.randn(2, 3), 0.1 * torch.randn(3, 3), [4e9, 5e9], [-0.02, 0.0, 0.03], [0.0, 0.01], [0.2, 0.25, 0.3]
    )
    matrix = radar.A(torch.eye(18, dtype=C128).unflatten(1, radar.image_shape)).flatten(1).mT
    plain = Dense(matrix, radar.image_shape, radar.data_shape)
    y = measured(radar)
    run = {"max_iter": 25, "stop": EXACT, "cg_iterations": 100, "cg_rtol": 1e-14}
    assert radar.has_exact_prox
    for solver in (ADMM(L1(1.0), **run), ConstrainedADMM(Magnitude(L1(0.01)), 0.5, **run)):
        assert relative(solver(y, radar), solver(y, plain)) < 1e-8


# -- differentiation --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["FISTA", "ADMM", "ProximalGradient", "PrimalDual", "ConstrainedADMM"])
def test_unrolled_gradient_of_the_weight_and_the_data(name):
    physics = dense(m=4, n=3, kind=Dense)
    y = measured(physics, batch=1)
    run = {"max_iter": 6, "stop": EXACT}

    def image(weight, y):
        if name == "ConstrainedADMM":
            return ConstrainedADMM(L1(weight), 1.0, cg_iterations=20, cg_rtol=1e-14, **run)(y, physics)
        return SOLVERS[name](L1(weight), **run)(y, physics)

    weight = torch.tensor(0.3, dtype=F64, requires_grad=True)
    assert image(weight, y).requires_grad
    assert torch.autograd.gradcheck(image, (weight, y.requires_grad_()), atol=1e-4)


def test_unrolled_gradient_beside_an_empty_image():
    physics = dense(kind=Dense)
    y = measured(physics)
    y[1] = 0
    weight = torch.tensor(0.3, dtype=F64, requires_grad=True)
    for make in SOLVERS.values():
        (g,) = torch.autograd.grad(make(L1(weight), max_iter=5)(y, physics).abs().square().sum(), weight)
        assert torch.isfinite(g) and g != 0


@pytest.mark.parametrize("name", [*SOLVERS, "HalfQuadratic"])
def test_a_batch_of_no_images_and_arguments_that_are_none(name):
    physics = CircularBlur(torch.ones(3, 3) / 9, (1, 6, 6))
    kinds = SOLVERS | {"HalfQuadratic": HalfQuadratic}
    solver, y = kinds[name](L1(0.3), max_iter=3), torch.zeros(0, 1, 6, 6)
    assert solver(y, physics).shape == y.shape
    with pytest.raises(TypeError, match="found the argument init, expected only x0"):
        solver(y, physics, init=y)


@pytest.mark.parametrize("name", SOLVERS)
def test_an_operator_that_measures_nothing(name):
    physics = Dense(torch.zeros(36, 36, dtype=F64), (1, 6, 6))
    assert not SOLVERS[name](L1(0.3), max_iter=3)(torch.zeros(1, 36, dtype=F64), physics).any()


# -- what strangers tried ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["ProximalGradient", "FISTA", "HalfQuadratic", "ConstrainedADMM"])
def test_solvers_of_one_prior_refuse_several(name):
    kinds = SOLVERS | {"HalfQuadratic": HalfQuadratic, "ConstrainedADMM": ConstrainedADMM}
    for priors, found in (([L1(0.05), NonNegative()], 2), (None, 0), ([], 0)):
        with pytest.raises(ValueError, match=f"prior: found {found} for {name}, expected one: Sum makes one"):
            kinds[name](priors)
    with pytest.raises(ValueError, match="prior: found 0 for ADMM, expected at least one"):
        ADMM([])


@pytest.mark.parametrize("numbers", [{"cg_iterations": 0}, {"cg_iterations": -1}, {"cg_rtol": -1.0}])
def test_conjugate_gradients_of_no_steps_are_refused(numbers):
    physics = dense(kind=Dense)
    with pytest.raises(ValueError, match="cg_iterations, cg_rtol: found"):
        ADMM(L1(0.05), **numbers)(measured(physics), physics)


def ill_conditioned(n=40):
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(n, n, dtype=F64, generator=generator))[0] for _ in range(2))
    matrix = u @ torch.diag(torch.logspace(0, -2, n, dtype=F64)) @ v
    return Dense(matrix, (1, 5, 8)), torch.randn(1, n, dtype=F64, generator=generator)


def test_certificate_of_inexact_data_steps():
    """Conjugate gradients that are content with where they begin do not make a certificate small."""
    physics, y = ill_conditioned()
    system = physics.matrix.T @ physics.matrix + 1e-4 * torch.eye(40, dtype=F64)
    exact = torch.linalg.solve(system, physics.matrix.T @ y[0]).reshape(1, 1, 5, 8)
    found = {}
    for rtol in (1e-5, 1e-12):
        solver = ADMM(Tikhonov(1e-4), max_iter=4000, stop=FixedPointResidual(1e-8), cg_rtol=rtol, cg_iterations=200)
        solution = solver.solve(y, physics)
        found[rtol] = float(solution.certificate), relative(solution.image, exact)
    assert found[1e-5][0] > 100 * found[1e-12][0] and found[1e-5][1] > 100 * found[1e-12][1]


def test_admm_knows_an_image_that_is_zero():
    physics = dense(kind=Dense)
    y = measured(physics)
    weight = 1.01 * float(physics.A_adjoint(y).abs().max())
    solution = ADMM(L1(weight), max_iter=2000).solve(y, physics)
    assert set(solution.status) == {"converged"} and not solution.image.any()
    assert float(solution.certificate.max()) < 1e-3


def test_constrained_admm_counts_the_data_that_are_measured():
    mask = torch.zeros(8, 8)
    mask[:, ::4] = 1
    physics = CartesianMRI(mask, noise_model=GaussianNoise(0.1))
    problem = Problem(torch.zeros(2, 1, 8, 8, dtype=C64), physics)
    assert_close(ConstrainedADMM(L1(0.1))._radius(problem), torch.full((2,), 0.1 * 16**0.5))


def test_constrained_admm_does_not_rest_at_its_first_image():
    physics = dense(m=8, kind=Dense)
    y = measured(physics)
    epsilon = 0.5 * float(torch.linalg.vector_norm(y.flatten(1), dim=1).min())
    exact = {"cg_rtol": 1e-12, "cg_iterations": 99}
    solution = ConstrainedADMM(L1(0.1), epsilon, max_iter=5000, stop=RelativeChange(1e-9), **exact).solve(y, physics)
    assert set(solution.status) == {"converged"} and solution.iterations > 10
    assert float(solution.certificate.max()) < 1e-6


def test_half_quadratic_has_its_derivative_in_the_data():
    physics = dense(F64, kind=Dense)
    y, d = measured(physics, F64)[:1], torch.randn(1, *physics.data_shape, dtype=F64)
    solver = HalfQuadratic(Tikhonov(0.05), noise_std=0.1, max_iter=5, cg_iterations=200, cg_rtol=1e-13)
    leaf = y.clone().requires_grad_()
    solver(leaf, physics).sum().backward()
    with torch.no_grad():
        slope = (solver(y + 1e-4 * d, physics).sum() - solver(y - 1e-4 * d, physics).sum()) / 2e-4
    assert float((leaf.grad * d).sum()) == pytest.approx(float(slope), rel=1e-6)


def test_derivatives_of_inexact_data_steps_are_warned_of():
    physics, y = ill_conditioned()
    with pytest.warns(UserWarning, match="data step: found a residual"):
        ConstrainedADMM(L1(0.05), 0.5, max_iter=3, cg_iterations=2)(y.requires_grad_(), physics)


# -- both ways with deepinv -------------------------------------------------------------------------
def blur():
    kernel = torch.rand(1, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    return deepinv.physics.BlurFFT((1, 8, 8), filter=kernel / kernel.sum())


def mri():
    mask = (torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.4).float()
    return deepinv.physics.MRI(mask=mask, img_size=(2, 8, 8))


def inpainting():
    mask = (torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.4).float()
    return deepinv.physics.Inpainting((1, 8, 8), mask=mask)


PHYSICS = {
    "BlurFFT": (blur, (1, 8, 8)),
    "MRI": (mri, (2, 8, 8)),
    "Inpainting": (inpainting, (1, 8, 8)),
    "Denoising": (lambda: deepinv.physics.Denoising(GaussianNoise(0.0)), (1, 8, 8)),
    "Dense": (
        lambda: Dense(torch.randn(40, 64, generator=torch.Generator().manual_seed(1)) / 8, (1, 8, 8)),
        (1, 8, 8),
    ),
}
PRIORS = {
    "L1": lambda: L1(0.05),
    "TV": lambda: TV(0.05, iterations=10),
    "Tikhonov": lambda: Tikhonov(0.05),
    "Denoiser": lambda: Denoiser(deepinv.models.MedianFilter(3), 0.05),
    "deepinv L1": lambda: Weighted(deepinv.optim.L1Prior(), 0.05),
    "deepinv TV": lambda: Weighted(deepinv.optim.TVPrior(n_it_max=30), 0.05),
    "deepinv Tikhonov": lambda: Weighted(deepinv.optim.Tikhonov(), 0.05),
}
SAME = {"L1": "deepinv L1", "Tikhonov": "deepinv Tikhonov"}


class Weighted(deepinv.optim.Prior):
    """deepinv's solvers hold the weight; here the prior must."""

    def __init__(self, prior, weight):
        super().__init__()
        self.prior, self.weight, self.explicit_prior = prior, weight, True

    def fn(self, x, *args, **kwargs):
        return self.weight * self.prior.fn(x)

    def prox(self, x, *args, gamma=1.0, **kwargs):
        return self.prior.prox(x, gamma=gamma * self.weight)


@pytest.fixture(params=PHYSICS)
def scene(request):
    build, shape = PHYSICS[request.param]
    physics = build()
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    return physics, physics.A(x)


RUNS = {
    "FISTA": lambda p: FISTA(p, step_size=0.9, max_iter=12, stop=RelativeChange(1e-6)),
    "ProximalGradient": lambda p: ProximalGradient(p, step_size=0.9, max_iter=12, stop=RelativeChange(1e-6)),
    "PrimalDual": lambda p: PrimalDual(p, step_size=0.9, max_iter=12, stop=RelativeChange(1e-6)),
    "ADMM": lambda p: ADMM(p, step_size=1.0, max_iter=12, stop=RelativeChange(1e-6)),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("prior", PRIORS)
def test_our_solvers_take_any_operator_and_prior(scene, prior, run):
    physics, y = scene
    image = RUNS[run](PRIORS[prior]())(y, physics)
    assert torch.isfinite(image).all() and image.abs().max() > 0
    if prior in SAME:
        twin = RUNS[run](PRIORS[SAME[prior]]())(y, physics)
        assert relative(image, twin) < 1e-5


def l2():
    return deepinv.optim.L2()


@pytest.mark.parametrize("prior", [L1, Tikhonov, lambda: TV(iterations=500)], ids=["L1", "Tikhonov", "TV"])
def test_proximal_gradient_is_deepinvs(scene, prior):
    physics, y = scene
    options = {"stepsize": 0.5, "lambda_reg": 0.1, "max_iter": 6, "early_stop": False}
    theirs = deepinv.optim.PGD(l2(), prior(), custom_init=lambda y, p: torch.zeros_like(p.A_adjoint(y)), **options)
    ours = ProximalGradient(prior().scaled(0.1), step_size=0.5, max_iter=6, stop=EXACT)
    assert relative(ours(y, physics), theirs(y, physics)) < 1e-5


@pytest.mark.parametrize("prior", [L1, Tikhonov])
def test_admm_is_deepinvs(scene, prior):
    """Iterate by iterate, once deepinv's dual starts at zero."""
    physics, y = scene
    zero = torch.zeros_like(physics.A_adjoint(y))
    theirs = deepinv.optim.ADMM(
        l2(), prior(), stepsize=2.0, lambda_reg=0.1, max_iter=12, early_stop=False,
        custom_init=lambda y, p: (zero, zero),
    )  # fmt: skip
    ours = ADMM(prior().scaled(0.1), step_size=2.0, max_iter=12, stop=EXACT, cg_iterations=50, cg_rtol=1e-6)
    assert relative(ours(y, physics), theirs(y, copy.deepcopy(physics))) < 1e-3


@pytest.mark.parametrize("prior", [L1, lambda: Magnitude(L1()), lambda: Magnitude(TV())], ids=["L1", "|L1|", "|TV|"])
def test_deepinvs_solvers_take_a_complex_operator_and_prior(prior):
    radar = NearFieldMIMO(
        0.1 * torch.randn(2, 3), 0.1 * torch.randn(3, 3), [4e9, 5e9], [-0.02, 0.0, 0.03], [0.0, 0.01], [0.2, 0.25, 0.3]
    )
    y = measured(radar, C64)
    step = 1 / Problem(y, radar).lipschitz
    options = {"stepsize": step, "lambda_reg": 0.5, "max_iter": 60, "early_stop": False}
    theirs = deepinv.optim.PGD(l2(), prior(), custom_init=lambda y, p: torch.zeros_like(p.A_adjoint(y)), **options)
    ours = ProximalGradient(
        L1(0.5) if prior is L1 else Magnitude(prior().prior.scaled(0.5)), step, max_iter=60, stop=EXACT
    )
    if not isinstance(getattr(prior(), "prior", None), TV):
        assert relative(ours(y, radar), theirs(y, radar)) < 1e-5
    assert deepinv.optim.ADMM(l2(), prior(), **options)(y, radar).dtype == C64


def test_deepinv_operator_with_one_mask_per_image():
    masks = (torch.rand(2, 1, 8, 8) > 0.4).float()
    physics = deepinv.physics.Inpainting((1, 8, 8), mask=masks)
    y = physics.A(torch.randn(2, 1, 8, 8))
    together = FISTA(L1(0.05), max_iter=50, stop=EXACT)(y, physics)
    for i in range(2):
        alone = FISTA(L1(0.05), max_iter=50, stop=EXACT)(
            y[i : i + 1], deepinv.physics.Inpainting((1, 8, 8), mask=masks[i : i + 1])
        )
        assert relative(together[i : i + 1], alone) < 1e-4


def test_objective_gap_stops_on_the_true_optimum():
    physics = dense()
    y = measured(physics, batch=1)
    least = float(Problem(y, physics, (Tikhonov(0.7),)).objective(tikhonov(physics, y, 0.7)))
    solution = FISTA(Tikhonov(0.7), stop=ObjectiveGap(least, 1e-4)).solve(y, physics, record={"objective": objective})
    values = solution.history["objective"][:, 0]
    assert values[-1] <= least * (1 + 1e-4) < values[-2]


@pytest.mark.parametrize("step_size, factor", [(7.0, 1.0), (0.5, 1.0), (None, 3.0)], ids=str)
def test_admm_from_the_state_of_another_problem(step_size, factor):
    """What conjugate gradients knew of the other problem must not leak into this one."""
    generator = torch.Generator().manual_seed(3)
    physics = Dense(torch.randn(20, 12, generator=generator, dtype=C128), (1, 3, 4))
    y = torch.randn(1, 20, generator=generator, dtype=C128)
    other = ADMM(L1(0.5), max_iter=5).solve(y, physics)
    now = Dense(factor * physics.matrix, (1, 3, 4))
    solver = ADMM(L1(0.5), step_size=step_size, max_iter=3000, stop=RelativeChange(1e-13), cg_rtol=1e-12)
    expected, found = solver.solve(y, now), solver.solve(y, now, state=other.state)
    assert found.certificate < 1e-10
    torch.testing.assert_close(found.image, expected.image, rtol=1e-9, atol=1e-9)


def test_conjugate_gradients_beside_an_empty_image():
    """An image without data is zero, and keeps no other from its own."""
    physics = Dense(torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), (4,), (6,))
    y = physics.A(torch.tensor([[0.0] * 4, [1.0, -2.0, 0.5, 3.0]], dtype=torch.float64))
    for prior in (None, Tikhonov(0.1)):
        found = ConjugateGradient(prior).solve(y, physics)
        alone = ConjugateGradient(prior).solve(y[1:], physics).image
        assert found.status == ("converged", "converged") and not found.image[0].any()
        assert_close(found.image[1:], alone)


@pytest.mark.parametrize(
    ("stated", "images", "expected"),
    [
        ([3.0], 2, [3.0, 3.0]),
        ([3.0, 4.0], 2, [3.0, 4.0]),
        ([0.0, 4.0], 2, [math.sqrt(8.0), 4.0]),
    ],
)
def test_noise_level_of_each_image(stated, images, expected):
    physics = CartesianMRI(torch.ones(4, 4), noise_model=GaussianNoise(torch.tensor(stated)))
    problem = Problem(torch.zeros(images, 1, 4, 4), physics)
    assert problem.noise_level().tolist() == pytest.approx(expected)
    assert problem.noise_level(7.0).tolist() == [7.0] * images


def test_thresholds_of_a_noise_level_for_each_image():
    physics, y = CartesianMRI(torch.ones(4, 4)), torch.zeros(2, 1, 4, 4, dtype=torch.complex64)
    each = universal_threshold(physics, y, torch.tensor([0.1, 0.3]))
    for own, level in zip(each, (0.1, 0.3), strict=True):
        assert_close(own, universal_threshold(physics, y[:1], level)[0])
    physics.set_noise_model(GaussianNoise(0.0))
    assert Problem(y, physics).noise_std is None


@pytest.mark.parametrize(
    "solver", [FISTA(L1(0.1)), ADMM(L1(0.1)), PrimalDual(L1(0.1)), ConjugateGradient(Tikhonov(0.1))]
)
def test_a_state_of_other_images_is_refused(solver):
    physics, y = Dense(torch.randn(20, 12), (1, 3, 4)), torch.randn(3, 20)
    state = solver.solve(y, physics).state
    for count in (1, 2):
        with pytest.raises(
            ValueError, match=rf"state: found images of shape \(3, 1, 3, 4\), expected \({count}, 1, 3, 4\)"
        ):
            solver.solve(y[:count], physics, state=state)


def test_an_image_of_which_the_prior_leaves_nothing_is_certified():
    physics, y = Dense(torch.randn(20, 12), (1, 3, 4)), torch.randn(2, 20)
    prior = [L1(100.0), Analysis(L1(1.0), FiniteDifferences((1, 3, 4)))]
    solution = PrimalDual(prior, stop=RelativeChange(1e-6), max_iter=2000).solve(y, physics)
    assert not solution.image.any() and set(solution.status) == {"converged"}
    assert float(solution.certificate.max()) < 1e-5


def test_noise_levels_of_other_images_are_refused():
    physics = CartesianMRI(torch.ones(4, 4), noise_model=GaussianNoise(torch.tensor([3.0, 4.0])))
    with pytest.raises(ValueError, match="found 2 levels for 3 images"):
        Problem(torch.zeros(3, 1, 4, 4), physics).noise_level()


@pytest.mark.parametrize("lifted", [Magnitude, Normalised])
def test_a_prior_made_of_one_without_a_prox_has_none(lifted):
    assert lifted(L1()).has_prox and not lifted(SmoothedL1()).has_prox
    with pytest.raises((TypeError, ValueError), match="prox"):
        ADMM(lifted(SmoothedL1()))


@pytest.mark.parametrize("seed", range(6))
def test_admm_stays_where_it_is_when_it_goes_on(seed):
    """Long after nothing changes, the last change is rounding and tells no direction."""
    generator = torch.Generator().manual_seed(seed)
    gains = 0.5 + torch.rand(16, generator=generator)
    y, physics = torch.randn(2, 16, generator=generator), Dense(torch.diag(gains), (1, 4, 4))
    image = ADMM(L1(0.1), max_iter=1500, stop=EXACT).solve(y, physics).image.flatten(1)
    expected = torch.sgn(y) * (y.abs() * gains - 0.1).clamp_min(0) / gains.square()
    assert_close(image, expected, rtol=1e-3, atol=1e-4)  # as exact as the data step, 1e-5, allows


def test_weights_of_other_precision_than_the_images():
    weights = torch.tensor([0.1, 0.2], dtype=F64)
    y, physics = torch.randn(2, 4, generator=torch.Generator().manual_seed(0)), Dense(torch.eye(4), (1, 2, 2))
    for solver in (FISTA, ADMM):
        assert solver(L1(weights))(y, physics).dtype == torch.float32


def test_conjugate_gradients_are_differentiated_through_the_prior():
    """The image's derivative in the data is that of the stationary point, unrolled from far enough."""
    physics = Dense(torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=F64), (4,))
    y = torch.randn(1, 6, generator=torch.Generator().manual_seed(1), dtype=F64).requires_grad_()
    weight = torch.tensor(0.7, dtype=F64, requires_grad=True)
    image = ConjugateGradient(Tikhonov(weight), max_iter=30, stop=RelativeChange(1e-13))(y, physics)
    m = physics.matrix
    exact = torch.linalg.solve(m.mT @ m + weight * torch.eye(4, dtype=F64), m.mT @ y[0])
    for leaf in (y, weight):
        found, expected = (torch.autograd.grad(x.sum(), leaf, retain_graph=True)[0] for x in (image, exact))
        assert_close(found, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", [FISTA, ADMM, PrimalDual, ProximalGradient])
def test_no_images_are_no_images(solver):
    found = solver(L1(0.1)).solve(torch.zeros(0, 4), Dense(torch.eye(4), (1, 2, 2)))
    assert found.image.shape == (0, 1, 2, 2) and found.status == ()
