"""Primal-dual splitting against proximal steps in closed form, FISTA and deepinv."""

import deepinv
import pytest
import torch
from compare import relative

from resolvent.operators import Dense, FiniteDifferences, Wavelet
from resolvent.priors import L1, TV, Analysis, GroupL1, InWavelets, NonNegative, Tikhonov
from resolvent.recon import FISTA, PrimalDual, Problem, RelativeChange

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
EXACT = RelativeChange(0)


def dense(dtype=C128, m=20, shape=(1, 3, 4)):
    n = torch.Size(shape).numel()
    return Dense(torch.randn(m, n, generator=torch.Generator().manual_seed(5), dtype=dtype), shape)


class Direct(Dense):
    """A matrix whose proximal step is solved directly."""

    def prox_l2(self, z, y, gamma, **_):
        normal = torch.eye(self.matrix.shape[1]) + gamma * self.matrix.mH @ self.matrix
        rhs = z.flatten(1) + gamma * self.A_adjoint(y).flatten(1)
        return torch.linalg.solve(normal, rhs.mT).mT.reshape(z.shape)


def identity(shape):
    n = torch.Size(shape).numel()
    return Dense(torch.eye(n, dtype=F64), shape, shape)


def isotropic(shape, weight):
    """Total variation as a prior on differences: groups run along their direction."""
    return Analysis(GroupL1(weight, axes=(1,)), FiniteDifferences(shape))


@DTYPES
@pytest.mark.parametrize("shape", [(1, 5, 6), (1, 3, 4, 5)], ids=["2-D", "3-D"])
def test_denoising_is_the_proximal_step_of_total_variation(dtype, shape):
    y = torch.randn(2, *shape, dtype=dtype)
    expected = TV(0.3, iterations=1500).prox(y)
    solution = PrimalDual(isotropic(shape, 0.3), stop=EXACT, max_iter=1500).solve(y, identity(shape))
    assert relative(solution.image, expected) < 1e-6
    assert (solution.certificate < 1e-6).all()


def test_denoising_with_an_orthonormal_transform_is_a_closed_form():
    shape = (1, 8, 12)
    y = torch.randn(2, *shape, dtype=C128)
    prior = Analysis(L1(0.4), Wavelet(shape, "db2"))
    image = PrimalDual(prior, stop=EXACT, max_iter=500)(y, identity(shape))
    assert relative(image, InWavelets(L1(0.4), "db2").prox(y)) < 1e-10


@DTYPES
def test_total_variation_as_fista_solves_it(dtype):
    physics = dense(dtype)
    y = torch.randn(2, 20, dtype=dtype)
    expected = FISTA(TV(1.0, iterations=20), max_iter=150, stop=EXACT)(y, physics)
    image = PrimalDual(isotropic(physics.image_shape, 1.0), max_iter=1500, stop=EXACT)(y, physics)
    assert relative(image, expected) < 1e-6


def test_the_order_of_the_priors_does_not_change_the_minimum():
    """One of them on the image itself, one with a dual of its own, one on the differences."""
    physics = dense(F64)
    y = torch.randn(2, 20, dtype=F64)
    priors = [NonNegative(), L1(0.5), isotropic(physics.image_shape, 0.5)]
    run = {"max_iter": 1500, "stop": EXACT}
    images = [PrimalDual([priors[i] for i in order], **run)(y, physics) for order in ((0, 1, 2), (2, 1, 0))]
    assert relative(images[1], images[0]) < 1e-7
    assert (images[0] >= 0).all(), "the first prior on the image itself is satisfied exactly"


def test_without_a_dual_it_is_proximal_gradient_descent():
    physics = dense()
    y = torch.randn(1, 20, dtype=C128)
    step = 1 / Problem(y, physics).lipschitz
    x = torch.zeros(1, *physics.image_shape, dtype=C128)
    for _ in range(5):
        x = L1(2.0).prox(x - step * Problem(y, physics).gradient(x), gamma=step)
    assert relative(PrimalDual(L1(2.0), step_size=step, max_iter=6, stop=EXACT)(y, physics), x) < 1e-12


@pytest.mark.parametrize("relative_step", [0.3, 1.0, 1.9])
def test_any_step_below_the_limit_reaches_the_same_minimum(relative_step):
    physics = dense()
    y = torch.randn(1, 20, dtype=C128)
    prior = isotropic(physics.image_shape, 1.0)
    step = relative_step / Problem(y, physics).lipschitz
    solution = PrimalDual(prior, step, max_iter=3000, stop=RelativeChange(1e-10)).solve(y, physics)
    assert solution.status == ("converged",)
    expected = PrimalDual(prior, max_iter=1500, stop=EXACT)(y, physics)
    assert relative(solution.image, expected) < 1e-6


def test_the_unit_of_the_transform_does_not_matter():
    """R(K x) with c K and weight over c: the same iterates, as the dual step follows ``||K||``."""
    physics = dense()
    y = torch.randn(1, 20, dtype=C128)
    matrix = torch.randn(7, 12, dtype=C128)
    run = {"max_iter": 40, "stop": EXACT}
    one, other = (
        PrimalDual(Analysis(L1(1.0 / c), Dense(c * matrix, physics.image_shape)), **run)(y, physics) for c in (1, 50)
    )
    assert relative(other, one) < 1e-6


def test_norms_are_computed_once_a_problem(monkeypatch):
    calls = []
    transform = Wavelet((1, 3, 4), "haar")
    normal = Wavelet.A_adjoint_A
    monkeypatch.setattr(Wavelet, "A_adjoint_A", lambda self, x: calls.append(0) or normal(self, x))
    physics, y = dense(), torch.randn(1, 20, dtype=C128)
    counts = []
    for steps in (5, 50):
        calls.clear()
        PrimalDual(Analysis(L1(1.0), transform), max_iter=steps, stop=EXACT)(y, physics)
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0


def test_the_minimum_is_deepinvs():
    physics = Direct(dense(F64, m=40, shape=(1, 5, 6)).matrix, (1, 5, 6))
    y = torch.randn(1, 40, dtype=F64)
    differences = FiniteDifferences(physics.image_shape)
    ours = PrimalDual(Analysis(L1(0.8), differences), max_iter=1500, stop=EXACT)(y, physics)
    x = physics.A_adjoint(y)
    theirs = deepinv.optim.PDCP(
        data_fidelity=deepinv.optim.L2(), prior=deepinv.optim.L1Prior(), K=differences.A,
        K_adjoint=differences.A_adjoint, g_first=True, stepsize=0.3, stepsize_dual=0.4, lambda_reg=0.8,
        max_iter=1500, early_stop=False, custom_init=lambda y, p: (x, x, differences.A(x)),
    )(y, physics)  # fmt: skip
    assert relative(ours, theirs) < 1e-5


def test_priors_without_a_prox_are_refused():
    smooth = Analysis(Analysis(Tikhonov(), FiniteDifferences((1, 3, 4))), Wavelet((1, 3, 4), "haar"))
    with pytest.raises(TypeError, match="PrimalDual: found Analysis, expected a prior with a prox"):
        PrimalDual(smooth)
    with pytest.raises(TypeError, match="FISTA: found Analysis, expected a prior with a prox"):
        FISTA(isotropic((1, 3, 4), 1.0))
    with pytest.raises(ValueError, match="step_size: found 0"):
        PrimalDual(L1(), step_size=0)
