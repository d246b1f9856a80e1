"""What is true of every prior. A new prior is one more row in ``CASES``."""

import copy
import itertools
import math
import pickle
from typing import NamedTuple

import deepinv
import pytest
import torch
from elsewhere import Elsewhere
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, FiniteDifferences
from resolvent.operators.finite_differences import divergence, gradient
from resolvent.priors import (
    L1,
    TV,
    Analysis,
    Box,
    Denoiser,
    FieldsOfExperts,
    GaussianPrior,
    GroupL1,
    InWavelets,
    KSupport,
    LearnedProximal,
    LearnedProximalNetwork,
    Magnitude,
    NonNegative,
    Normalised,
    PixelPotential,
    Prior,
    RealImaginary,
    Simplex,
    SmoothedL1,
    SmoothedTV,
    Sum,
    Tikhonov,
    WeaklyConvexRidge,
)

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128
PLANE, VOLUME, SMALL = (2, 6, 5), (1, 4, 3, 5), (1, 5, 4)
WEIGHTS = torch.linspace(0.5, 2, 30, dtype=F64).reshape(1, 6, 5)


def halve(x, sigma):
    """A linear denoiser whose strength is sigma."""
    return x / (1 + sigma)


def spectrum(shape):
    """A power spectrum that is the same at opposite frequencies, zero frequency in the middle."""
    axes = [torch.fft.fftshift(torch.fft.fftfreq(n, dtype=F64)) for n in shape[1:]]
    radius = sum(f.square() for f in torch.meshgrid(*axes, indexing="ij"))
    return (0.1 + radius).reciprocal().expand(shape)


def stationary(shape=PLANE):
    """A stationary Gaussian prior."""
    basis = CartesianMRI(torch.ones(shape[1:]), channels=shape[0])
    return GaussianPrior(torch.full(shape, 0.2, dtype=F64), spectrum(shape), basis, weight=0.7)


def correlated():
    """A Gaussian prior given by a matrix."""
    root = torch.randn(60, 60, generator=torch.Generator().manual_seed(0), dtype=F64)
    return GaussianPrior.dense(
        torch.linspace(0, 1, 60, dtype=F64).reshape(PLANE), root @ root.mT / 60 + 0.1 * torch.eye(60)
    )


def learned_network():
    """A learned proximal network of pixels with two channels, the same one every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LearnedProximalNetwork(PixelPotential(2, hidden=12, layers=2), 0.2).double()


def ridge(rho):
    """Random filters, scales near those of the images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WeaklyConvexRidge(1.0, (2, 3, 6), 3, sharpness=2.0, weak_convexity=rho, weight=0.7).double()


class Case(NamedTuple):
    """``tol``: how exactly the prox is solved. ``lift``: only defined on real images."""

    make: object
    shape: tuple = PLANE
    tol: float = 1e-12
    lift: bool = False


CASES = {
    "L1": Case(lambda: L1(0.7)),
    "L1, weight map": Case(lambda: L1(torch.linspace(0, 1, 60, dtype=F64).reshape(PLANE))),
    "GroupL1": Case(lambda: GroupL1(0.7)),
    "GroupL1 over space": Case(lambda: GroupL1(0.7, axes=(2, 3))),
    "GroupL1, weight map": Case(lambda: GroupL1(torch.linspace(0, 1, 30, dtype=F64).reshape(1, 6, 5))),
    "KSupport": Case(lambda: KSupport(0.7, k=5)),
    "KSupport of channels": Case(lambda: KSupport(0.7, k=7.5, axes=(1,), group_weights=WEIGHTS)),
    "InWavelets(L1)": Case(lambda: InWavelets(L1(0.7), "db2")),
    "InWavelets(L1) in 3-D": Case(lambda: InWavelets(L1(0.7), "haar"), VOLUME),
    "InWavelets(KSupport)": Case(lambda: InWavelets(KSupport(0.7, 5), "haar")),
    "InWavelets(TV)": Case(lambda: InWavelets(TV(0.3, iterations=1500), "haar"), tol=1e-8),
    "Sum": Case(lambda: Sum([L1(0.7), GroupL1(0.3)], iterations=300), tol=1e-8),
    "Sum of three": Case(lambda: Sum([GroupL1(0.3, axes=(2,)), L1(0.2), Tikhonov(0.1)], iterations=300), tol=1e-8),
    "Tikhonov": Case(lambda: Tikhonov(0.7)),
    "Tikhonov, weight map": Case(lambda: Tikhonov(torch.linspace(0, 1, 60, dtype=F64).reshape(PLANE))),
    "Box": Case(lambda: Box(-0.5, 0.8)),
    "NonNegative": Case(NonNegative),
    "Simplex": Case(Simplex),
    "TV": Case(lambda: TV(0.3, iterations=1500), tol=1e-8),
    "TV, zero outside": Case(lambda: TV(0.3, iterations=1500, outside="zero"), tol=1e-8),
    "TV in 3-D": Case(lambda: TV(0.3, iterations=1500), VOLUME, 1e-8),
    "TV, weight map": Case(lambda: TV(torch.linspace(0, 0.5, 60, dtype=F64).reshape(PLANE), iterations=1500), tol=1e-8),
    "Magnitude(L1)": Case(lambda: Magnitude(L1(0.7))),
    "Magnitude(Tikhonov)": Case(lambda: Magnitude(Tikhonov(0.7))),
    "Magnitude(Box)": Case(lambda: Magnitude(Box(0.2, 0.8))),
    "Magnitude(TV)": Case(lambda: Magnitude(TV(0.3, iterations=1500)), tol=1e-8),
    "LearnedProximal": Case(lambda: LearnedProximal(learned_network(), 0.7), tol=1e-9),
    "GaussianPrior": Case(correlated, tol=1e-11),
    "GaussianPrior, stationary": Case(stationary, tol=1e-11),
    "GaussianPrior, stationary in 3-D": Case(lambda: stationary(VOLUME), VOLUME, tol=1e-11),
    "Denoiser": Case(lambda: Denoiser(halve, 0.5)),
    "Denoiser, the step its level": Case(lambda: Denoiser(halve, None)),
    "Denoiser, its level a tensor": Case(lambda: Denoiser(halve, torch.tensor(0.5, dtype=F64))),
    "Magnitude(Denoiser)": Case(lambda: Magnitude(Denoiser(halve, 0.5))),
    "SmoothedL1": Case(lambda: SmoothedL1(0.7, 0.3)),
    "SmoothedL1 of channels": Case(lambda: SmoothedL1(0.7, 0.3, (1,))),
    "SmoothedL1, maps": Case(lambda: SmoothedL1(torch.linspace(0, 1, 60, dtype=F64).reshape(PLANE), WEIGHTS)),
    "SmoothedTV": Case(lambda: SmoothedTV(0.7, 0.3)),
    "SmoothedTV, maps": Case(lambda: SmoothedTV(torch.linspace(0, 1, 60, dtype=F64).reshape(PLANE), WEIGHTS)),
    "SmoothedTV in 3-D": Case(lambda: SmoothedTV(0.7, 0.3, dim=3), VOLUME),
    "InWavelets(SmoothedL1)": Case(lambda: InWavelets(SmoothedL1(0.7, 0.3), "db2")),
    "Analysis(SmoothedL1)": Case(lambda: Analysis(SmoothedL1(0.7, 0.3), FiniteDifferences(PLANE))),
    "FieldsOfExperts": Case(lambda: FieldsOfExperts(3, 0.3, weight=0.7).double(), SMALL),
    "WeaklyConvexRidge": Case(lambda: ridge(0.5), SMALL),
    "WeaklyConvexRidge, convex": Case(lambda: ridge(0.0), SMALL),
    "Sum of smooth": Case(lambda: Sum([ridge(0.5), SmoothedTV(0.3, 0.2), Tikhonov(0.1)]), SMALL),
    "InWavelets(WeaklyConvexRidge)": Case(lambda: InWavelets(ridge(0.5), "haar"), SMALL),
    "Analysis(Tikhonov)": Case(lambda: Analysis(Tikhonov(0.7), FiniteDifferences(PLANE))),
}
PROXIMAL = [n for n, c in CASES.items() if c.make().has_prox]
CONVEX = [n for n in PROXIMAL if CASES[n].make().convex]
EXPLICIT = [n for n in PROXIMAL if CASES[n].make().has_value]
DIFFERENTIABLE = [n for n, c in CASES.items() if c.make().has_grad]
SMOOTH = [n for n in DIFFERENTIABLE if not isinstance(CASES[n].make(), Magnitude | LearnedProximal)]


def random(case, dtype=C128, batch=3):
    return torch.randn(batch, *case.shape, dtype=dtype)


def energy(x):
    return x.abs().square().flatten(1).sum(1)


def inner(a, b):
    return (a.conj() * b).real.flatten(1).sum(1)


def quick(case):
    """With few inner iterations: for what must be true of an unconverged prox, too."""
    prior = case.make()
    inside = getattr(prior, "prior", prior)
    if isinstance(inside, TV | Sum):
        inside.iterations = 12
    return prior


def optimum(case, dtype, gamma=0.6):
    prior, v = case.make(), random(case, dtype)
    return prior, v, prior.prox(v, gamma=gamma)


DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])


def by_name(names):
    return pytest.mark.parametrize("case", [CASES[n] for n in names], ids=list(names))


@DTYPES
@by_name(EXPLICIT)
def test_prox_is_a_minimum(case, dtype):
    prior, v, p = optimum(case, dtype)

    def loss(x):
        return 0.6 * prior.fn(x) + energy(x - v) / 2

    for scale in (1e-4, 1e-2, 0.3):
        for _ in range(30):
            other = p + scale * random(case, dtype)
            if isinstance(prior, Box):
                other = prior.prox(other)
            assert (loss(p) <= loss(other) + case.tol * loss(other)).all()


@DTYPES
@by_name([n for n in EXPLICIT if n in CONVEX])
def test_residual_of_the_prox_is_a_subgradient(case, dtype):
    """R(q) >= R(p) + <(v - p)/gamma, q - p> for every q: sufficient and necessary where R is convex."""
    prior, v, p = optimum(case, dtype)
    for scale in (1e-3, 1.0, 30.0):
        for _ in range(20):
            q = p + scale * random(case, dtype)
            bound = prior.fn(p) + inner((v - p) / 0.6, q - p)
            assert (prior.fn(q) >= bound - 10 * case.tol * (1 + bound.abs())).all()


@DTYPES
@by_name(CONVEX)
def test_firmly_nonexpansive(case, dtype):
    prior, a, b = case.make(), random(case, dtype), random(case, dtype)
    d = prior.prox(a) - prior.prox(b)
    assert (energy(d) <= inner(d, a - b) + case.tol * energy(a - b)).all()


@DTYPES
@by_name(["L1", "TV", "TV, zero outside", "TV in 3-D", "GroupL1"])
def test_fenchel_equality(case, dtype):
    """A norm's conjugate is an indicator, so R(p) = <p, (v - p)/gamma> at the prox, R positively homogeneous."""
    prior, v, p = optimum(case, dtype)
    assert_close(prior.fn(p), inner(p, (v - p) / 0.6), rtol=100 * case.tol, atol=100 * case.tol)


def onto_unit_ball(x, norms):
    return x / norms.clamp_min(1)


MOREAU = {
    "L1": (L1, lambda x: onto_unit_ball(x, x.abs())),
    "GroupL1": (GroupL1, lambda x: onto_unit_ball(x, torch.linalg.vector_norm(x, dim=1, keepdim=True))),
    "NonNegative": (NonNegative, lambda x: torch.complex(x.real.clamp_max(0), x.imag)),
}


@pytest.mark.parametrize("name", MOREAU)
@pytest.mark.parametrize("gamma", [0.1, 0.7, 5.0])
def test_moreau(name, gamma):
    """``v = prox_{gamma R}(v) + gamma prox_{R*/gamma}(v / gamma)``, the conjugate's prox a projection."""
    make, project = MOREAU[name]
    v = random(CASES["L1"])
    assert_close(make().prox(v, gamma=gamma) + gamma * project(v / gamma), v, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("gamma", [0.1, 5.0])
def test_moreau_tikhonov(gamma):
    """Half the energy is its own conjugate."""
    v, r = random(CASES["L1"]), Tikhonov()
    assert_close(r.prox(v, gamma=gamma) + gamma * r.prox(v / gamma, gamma=1 / gamma), v)


@by_name(DIFFERENTIABLE)
def test_gradient_is_the_derivative_of_the_value(case):
    prior = case.make()
    for dtype in (F64, C128):
        x = random(case, dtype).requires_grad_()
        (expected,) = torch.autograd.grad(prior.fn(x).sum(), x)
        assert_close(prior.grad(x.detach()), expected)


@by_name(CASES)
def test_says_what_it_has(case):
    prior = quick(case)
    assert isinstance(prior, deepinv.optim.Prior)
    assert prior.has_prox or prior.has_grad
    assert prior.explicit_prior == prior.has_value
    x = random(case)
    if prior.has_value:
        value = prior.fn(x)
        assert value.shape == (3,) and not value.is_complex()
    else:
        with pytest.raises(NotImplementedError):
            prior.fn(x)
    if not prior.has_grad:
        with pytest.raises(NotImplementedError):
            prior.grad(x)
    if not prior.has_prox:
        with pytest.raises(NotImplementedError):
            prior.prox(x)


# -- curvature ---------------------------------------------------------------------------------------
def bounds(prior):
    """The least and the largest curvature that a prior states."""
    weight = torch.as_tensor(prior.weight, dtype=F64).max()
    return -weight * prior.weak_convexity, weight * prior.lipschitz


def hessian(prior, x):
    """The matrix of ``|Re> -> <Re|`` on one real image."""
    return torch.autograd.functional.jacobian(prior.grad, x).reshape(x.numel(), x.numel())


@DTYPES
@by_name(SMOOTH)
def test_curvature_of_pairs_stays_within_its_bounds(case, dtype):
    prior = case.make()
    low, high = bounds(prior)
    for size in (1e-3, 0.1, 1.0, 10.0):
        a = random(case, dtype, batch=20)
        d = size * random(case, dtype, batch=20)
        turn = prior.grad(a + d) - prior.grad(a)
        assert (energy(turn) <= (high * (1 + 1e-9)) ** 2 * energy(d)).all()
        assert (inner(turn, d) >= low * energy(d) * (1 + 1e-9) - 1e-9 * size**2).all()


@pytest.mark.slow
def test_curvature_of_a_learned_proximal_network_stays_within_its_bounds():
    test_curvature_of_pairs_stays_within_its_bounds(CASES["LearnedProximal"], F64)


@by_name(SMOOTH)
def test_curvature_is_bounded_everywhere(case):
    prior = case.make()
    low, high = bounds(prior)
    for size in (0.0, 0.3, 3.0):
        eigenvalues = torch.linalg.eigvalsh(hessian(prior, size * random(case, F64, batch=1)))
        assert low - 1e-9 <= eigenvalues[0] and eigenvalues[-1] <= high * (1 + 1e-9)


@by_name(["Tikhonov", "Analysis(Tikhonov)", *(n for n in SMOOTH if "Smoothed" in n and "maps" not in n)])
def test_largest_curvature_is_nearly_reached(case):
    """At 0, where what is smoothed is steepest; on so small an image differences and filters have a smaller norm."""
    prior = case.make()
    _, high = bounds(prior)
    assert torch.linalg.eigvalsh(hessian(prior, torch.zeros(1, *case.shape, dtype=F64)))[-1] > 0.7 * high


def parameters_of(prior):
    """Everything learned, and weight and smoothing."""
    inside = getattr(prior, "prior", prior)
    numbers = {name: getattr(inside, name) for name in ("weight", "nu") if hasattr(inside, name)}
    for name, value in numbers.items():
        setattr(inside, name, torch.as_tensor(value, dtype=F64).clone().requires_grad_())
    return [*(getattr(inside, name) for name in numbers), *inside.parameters()]


@DTYPES
@by_name(["SmoothedL1", "SmoothedTV", "InWavelets(SmoothedL1)", "Analysis(SmoothedL1)", "FieldsOfExperts"])
def test_gradient_is_differentiable_in_the_parameters(case, dtype):
    """As a hypergradient takes it: the mixed derivative of the value is the derivative of the gradient."""
    prior = case.make()
    learned = parameters_of(prior)
    x, q = random(case, dtype, batch=1).requires_grad_(), random(case, dtype, batch=1)
    (slope,) = torch.autograd.grad(prior.fn(x).sum(), x, create_graph=True)
    mixed = torch.autograd.grad(inner(q, slope).sum(), learned)
    assert_close(torch.autograd.grad(inner(q, prior.grad(x)).sum(), learned), mixed)
    assert all(bool((m != 0).any()) for m in mixed)


def test_no_bound_where_none_is_known():
    for prior in (L1(), TV(), Magnitude(Tikhonov())):
        with pytest.raises(NotImplementedError, match="knows no Lipschitz constant"):
            prior.lipschitz
    assert L1().weak_convexity == 0 and Denoiser(halve).weak_convexity == math.inf


@DTYPES
@by_name(PROXIMAL)
def test_images_of_a_batch_do_not_meet(case, dtype):
    prior, v = quick(case), random(case, dtype)
    assert_close(prior.prox(v), torch.cat([prior.prox(one[None]) for one in v]), rtol=1e-12, atol=1e-14)
    if prior.has_value:
        assert_close(prior.fn(v), torch.cat([prior.fn(one[None]) for one in v]), rtol=1e-12, atol=0)


@by_name(PROXIMAL)
def test_one_step_per_image(case):
    prior, v = quick(case), random(case)
    gammas = [0.1, 0.7, 3.0]
    expected = torch.cat([prior.prox(one[None], gamma=g) for one, g in zip(v, gammas, strict=True)])
    tensor = torch.tensor(gammas, dtype=F64)
    assert_close(prior.prox(v, gamma=tensor), expected, rtol=1e-12, atol=1e-14)
    assert_close(prior.prox(v, gamma=tensor.reshape(3, *[1] * len(case.shape))), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("make", [L1, GroupL1, Tikhonov, TV])
@pytest.mark.parametrize("batch", [3, 5], ids=["batch of 3", "batch as long as the last axis"])
@pytest.mark.parametrize("dims", [1, 4], ids=["(B,)", "(B,1,1,1)"])
def test_one_weight_per_image(make, batch, dims):
    v, weights = random(CASES["L1"], batch=batch), [0.1 * (i + 1) for i in range(batch)]
    together = make(torch.tensor(weights, dtype=F64).reshape(batch, *[1] * (dims - 1)))
    alone = [make(w) for w in weights]
    for gamma in (0.6, torch.full((batch,), 0.6, dtype=F64)):
        expected = torch.cat([p.prox(one[None], gamma=0.6) for p, one in zip(alone, v, strict=True)])
        assert_close(together.prox(v, gamma=gamma), expected)
    assert_close(together.fn(v), torch.cat([p.fn(one[None]) for p, one in zip(alone, v, strict=True)]))


@pytest.mark.parametrize("make", [L1, GroupL1, Tikhonov, TV])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1), PLANE], ids=str)
def test_tensor_weight_is_the_number(make, shape):
    if make is GroupL1 and shape == PLANE:
        pytest.skip("one weight per group")
    v, weight = random(CASES["L1"]), torch.full(shape, 0.4, dtype=F64)
    assert_close(make(weight).prox(v, gamma=0.5), make(0.4).prox(v, gamma=0.5))
    assert_close(make(weight).fn(v), make(0.4).fn(v))


@pytest.mark.parametrize("shape", [(1, 1, 1), "a map"], ids=str)
@by_name(CASES)
def test_a_map_of_weights_is_weights_or_is_refused(case, shape):
    """Of equal entries it is that number, in value, step and gradient, wherever a weight may differ over an image."""
    prior, v = quick(case), random(case)
    if prior.weight_inside or not prior.weighted:
        pytest.skip("has no weight of its own")
    if shape == "a map":
        ones = {axis % v.ndim for axis in prior.axes}
        shape = tuple(1 if axis in ones else n for axis, n in enumerate(v.shape) if axis)
    mapped, one = quick(case), quick(case)
    mapped.weight, one.weight = torch.full(shape, 0.4, dtype=F64), 0.4
    for has, apply in (
        (prior.has_value, lambda p: p.fn(v)), (prior.has_prox, lambda p: p.prox(v, gamma=0.5)),
        (prior.has_grad, lambda p: p.grad(v)),
    ):  # fmt: skip
        if has and (prior.weight_over_image or shape == (1, 1, 1)):
            assert_close(apply(mapped), apply(one))
        elif has:
            with pytest.raises(ValueError, match=r"weight: found shape .*, expected one number per image"):
                apply(mapped)


@pytest.mark.parametrize("make", [L1, GroupL1, Tikhonov, lambda w: TV(w, iterations=4), lambda w: Magnitude(L1(w))])
@DTYPES
def test_prox_is_differentiable(make, dtype):
    v = torch.randn(2, 1, 3, 2, dtype=dtype).requires_grad_()
    weight, gamma = torch.tensor(0.3, dtype=F64, requires_grad=True), torch.tensor([0.5, 0.8], dtype=F64)
    gamma.requires_grad_()
    assert torch.autograd.gradcheck(lambda v, w, g: make(w).prox(v, gamma=g), (v, weight, gamma))


@pytest.mark.parametrize("make", [L1, GroupL1, TV, lambda: Magnitude(L1()), lambda: Magnitude(TV())])
def test_derivative_at_zero_is_finite(make):
    v = torch.zeros(2, *PLANE, dtype=C128, requires_grad=True)
    (g,) = torch.autograd.grad(make().prox(v, gamma=0.5).abs().square().sum(), v)
    assert torch.isfinite(torch.view_as_real(g)).all()


@by_name(["L1", "L1, weight map", "GroupL1", "Tikhonov", "TV", "Magnitude(L1)", "Magnitude(TV)"])
def test_scaled_is_a_factor_of_the_weight(case):
    prior, v = quick(case), random(case)
    before = prior.fn(v)
    other = prior.scaled(2.5)
    assert type(other) is type(prior)
    assert_close(other.fn(v), 2.5 * before)
    assert_close(other.prox(v, gamma=0.2), prior.prox(v, gamma=0.5))
    assert_close(prior.fn(v), before, rtol=0, atol=0)


@by_name(PROXIMAL)
def test_changes_nothing_and_is_a_function(case):
    prior, a, b = quick(case), random(case), random(case)
    kept, scalars = a.clone(), {k: v for k, v in vars(prior).items() if isinstance(v, int | float | bool)}
    first = prior.prox(a)
    prior.prox(b)
    assert torch.equal(prior.prox(a), first), "nothing carried over from b"
    assert torch.equal(a, kept) and not a.requires_grad
    assert scalars == {k: v for k, v in vars(prior).items() if k in scalars}


@by_name(PROXIMAL)
def test_zero_step_and_zero_image(case):
    prior, v = quick(case), random(case)
    if not isinstance(prior, Box | Denoiser | Simplex) and not isinstance(
        getattr(prior, "prior", None), Box | Denoiser
    ):
        assert_close(prior.prox(v, gamma=0.0), v, rtol=1e-14, atol=0)
    image = prior.prox(torch.zeros_like(v))
    assert torch.isfinite(torch.view_as_real(image)).all()


@DTYPES
@by_name(PROXIMAL)
def test_dtype_and_shape_stay(case, dtype):
    prior, v = quick(case), random(case, dtype)
    assert prior.prox(v).dtype == dtype and prior.prox(v).shape == v.shape
    if isinstance(getattr(prior, "weight", None), torch.Tensor):
        prior = prior.scaled(1)
        prior.weight = prior.weight.float()
    single = prior.prox(v.to(C64 if v.is_complex() else torch.float32))
    assert single.dtype == (C64 if v.is_complex() else torch.float32)
    assert_close(single.to(dtype), quick(case).prox(v), rtol=1e-4, atol=1e-5)


@by_name(PROXIMAL)
def test_copies(case):
    prior, v = quick(case), random(case)
    for other in (copy.deepcopy(prior), pickle.loads(pickle.dumps(prior))):
        assert torch.equal(other.prox(v), prior.prox(v))


@by_name(PROXIMAL)
def test_on_another_device(case):
    prior, v = quick(case), random(case)
    expected = prior.prox(v)
    with Elsewhere() as device:
        found = prior.to(device, torch.float64).prox(v.to(device))
        assert found.device == device
        assert_close(found.cpu(), expected)


@pytest.mark.cuda
@by_name(PROXIMAL)
def test_on_the_accelerator(case):
    prior, v = quick(case), random(case)
    if isinstance(prior.weight, torch.Tensor):
        prior.weight = prior.weight.cuda()
    assert_close(prior.prox(v.cuda()).cpu(), quick(case).prox(v))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L1(-1.0), "L1: weight is -1.0, expected"),
        (lambda: TV(math.nan), "TV: weight is nan"),
        (lambda: Tikhonov(math.inf), "Tikhonov: weight is inf"),
        (lambda: TV(iterations=0), "iterations: found 0"),
        (lambda: GroupL1(axes=(0, 1)), r"axes: found \(0, 1\)"),
        (lambda: GroupL1(axes=()), r"axes: found \(\)"),
        (lambda: Box(1.0, 0.0), "low, high: found 1.0, 0.0"),
        (lambda: Denoiser(halve, -0.1), "sigma: found -0.1"),
        (lambda: SmoothedL1(nu=0.0), "nu: found 0.0"),
        (lambda: SmoothedL1(axes=(0,)), r"axes: found \(0,\)"),
        (lambda: SmoothedTV(dim=4), "dim: found 4"),
        (lambda: SmoothedTV(nu=-1.0), "nu: found -1.0"),
        (lambda: FieldsOfExperts(kernel=4), "kernel: found 4"),
        (lambda: SmoothedTV(dim=3).fn(torch.ones(1, 1, 4, 4)), "dim: found 3 and an image with 2"),
        (lambda: GroupL1(torch.ones(2, 1, 1)).prox(torch.ones(1, 2, 3, 3)), r"weight: found shape \(2, 1, 1\)"),
        (lambda: GroupL1(torch.ones(2, 1, 1)).fn(torch.ones(1, 2, 3, 3)), r"weight: found shape \(2, 1, 1\)"),
        (lambda: SmoothedL1(torch.ones(2, 1, 1), axes=(1,)).grad(torch.ones(1, 2, 3, 3)), "weight: found shape"),
        (lambda: GroupL1(axes=(-4,)).prox(torch.ones(2, 1, 3, 3)), r"axes: found \(-4,\) of 4"),
        (lambda: KSupport(axes=(-4,)).prox(torch.ones(2, 1, 3, 3)), r"axes: found \(-4,\) of 4"),
        (lambda: L1(torch.ones(3)).prox(torch.ones(2, 1, 3, 3)), "found 3 numbers for 2 images"),
        (lambda: L1(torch.ones(1, 3, 3)).scaled(torch.ones(3)), r"factor: found shape \(3,\)"),
        (lambda: Denoiser(halve, []), r"sigma: found \[\]"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- constraints ------------------------------------------------------------------------------------
def test_box_value_is_an_indicator():
    inside, outside = torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 1.5)
    assert_close(Box().fn(torch.cat([inside, outside])), torch.tensor([0.0, math.inf]))
    assert Box().fn(inside + 0.1j) == math.inf
    assert NonNegative().fn(-inside) == math.inf and NonNegative().fn(outside) == 0


# -- total variation --------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(7,), (6, 5), (1, 5), (4, 3, 5), (2, 3, 2, 3)], ids=str)
@DTYPES
def test_divergence_is_the_adjoint_of_the_gradient(shape, dtype):
    x = torch.randn(2, 3, *shape, dtype=dtype)
    p = torch.randn(2, len(shape), 3, *shape, dtype=dtype)
    left, right = torch.vdot(gradient(x).flatten(), p.flatten()), torch.vdot(x.flatten(), divergence(p).flatten())
    assert (left - right).abs() <= 1e-12 * x.norm() * p.norm()


def test_gradient_of_a_ramp():
    x = torch.arange(5.0)[None, None, :, None].expand(1, 1, 5, 4)
    g = gradient(x)
    assert g[:, 0, :, :4].eq(1).all() and g[:, 0, :, 4].eq(0).all() and g[:, 1].eq(0).all()


def test_gradient_norm_bound():
    """The step 1/(4 d) of the dual iteration needs ||D||^2 <= 4 d."""
    for shape in ((9,), (6, 6), (4, 4, 4)):
        n = math.prod(shape)
        matrix = gradient(torch.eye(n, dtype=F64).reshape(n, 1, *shape)).flatten(1)
        assert 2 * len(shape) < torch.linalg.matrix_norm(matrix, 2) ** 2 <= 4 * len(shape)


def test_tv_of_a_square_wave():
    x = torch.zeros(1, 1, 8, 8, dtype=F64)
    x[..., 3:] = 2.0
    assert TV().fn(x) == 16.0
    assert_close(TV().fn(x * (0.6 + 0.8j)), torch.tensor([16.0], dtype=F64))


def test_tv_is_joint_in_real_and_imaginary_part():
    x, turn = random(CASES["L1"]), torch.polar(torch.ones((), dtype=F64), torch.tensor(0.7, dtype=F64))
    prior = TV(0.3, iterations=50)
    assert_close(prior.fn(turn * x), prior.fn(x))
    assert_close(prior.prox(turn * x), turn * prior.prox(x))


@DTYPES
@pytest.mark.parametrize("name", ["TV", "TV in 3-D", "TV, weight map"])
def test_tv_duality_gap(name, dtype):
    """Primal ``gamma R(p) + |p - v|^2 / 2`` and dual ``(|v|^2 - |v - D^T q|^2) / 2`` meet, |q| <= gamma lambda."""
    case = CASES[name]
    prior, v = case.make(), random(case, dtype)
    p, (q, _) = prior.prox_from(v, 0.6, prior.start(v))
    assert (torch.linalg.vector_norm(q, dim=1) <= 0.6 * torch.as_tensor(prior.weight) * (1 + 1e-12)).all()
    primal = 0.6 * prior.fn(p) + energy(p - v) / 2
    dual = (energy(v) - energy(v - divergence(q))) / 2
    assert ((primal - dual).abs() <= 1e-7 * primal).all()


def test_tv_prox_against_deepinv():
    v = torch.randn(1, 1, 12, 10, dtype=F64)
    other = deepinv.models.TVDenoiser(n_it_max=5000, crit=1e-12)
    ours = TV(iterations=3000).prox(v, gamma=0.4)
    assert_close(ours, other(v, 0.4), rtol=1e-5, atol=1e-5)


def test_tv_closed_form_in_one_dimension():
    """Two plateaus move towards each other by gamma over their length."""
    v = torch.cat([torch.zeros(4, dtype=F64), torch.ones(8, dtype=F64)])[None, None]
    expected = torch.cat([torch.full((4,), 0.2 / 4, dtype=F64), torch.full((8,), 1 - 0.2 / 8, dtype=F64)])
    assert_close(TV(iterations=3000).prox(v, gamma=0.2)[0, 0], expected, rtol=0, atol=1e-8)


def test_tv_with_strong_weight_is_the_mean():
    v = random(CASES["TV"])
    mean = v.mean((2, 3), keepdim=True).expand_as(v)
    assert_close(TV(100.0, iterations=3000).prox(v), mean, rtol=1e-6, atol=1e-6)


def test_tv_warm_start_continues():
    v = random(CASES["TV"])
    exact = TV(0.3, iterations=5000).prox(v)
    prior = TV(0.3, iterations=5)
    once, aux = prior.prox_from(v, 1.0, prior.start(v))
    errors = [energy(once - exact).sum()]
    for _ in range(5):
        again, aux = prior.prox_from(v, 1.0, aux)
        errors.append(energy(again - exact).sum())
    assert all(b < a for a, b in itertools.pairwise(errors))
    assert errors[-1] < 1e-2 * errors[0]


def test_tv_warm_start_leaves_the_given_dual():
    v, prior = random(CASES["TV"]), TV(0.3, iterations=5)
    _, aux = prior.prox_from(v, 1.0, prior.start(v))
    kept = [t.clone() for t in aux]
    prior.prox_from(v, 0.2, aux)
    assert all(torch.equal(a, b) for a, b in zip(aux, kept, strict=True))


def test_a_constant_background_costs_only_next_to_empty_space():
    """A constant c on n x m pixels: 0 beside its copy; beside zeros c per border pixel, sqrt(2) c at one corner."""
    x = torch.full((1, 1, 4, 6), 2.0, dtype=F64)
    assert TV().fn(x) == 0
    assert_close(TV(outside="zero").fn(x), torch.tensor([2 * (2 * (4 + 6) - 2 + math.sqrt(2))], dtype=F64))


# -- magnitude --------------------------------------------------------------------------------------
def minus_one(x, sigma):
    return -torch.ones_like(x)


def test_magnitude_never_turns_the_phase():
    """A network that goes negative leaves nothing; it must not add pi."""
    v = random(CASES["L1"])
    assert Magnitude(Denoiser(minus_one)).prox(v).abs().max() == 0
    noisy = Magnitude(Denoiser(lambda x, s: x + torch.randn_like(x))).prox(v)
    kept = noisy.abs() > 0
    assert kept.any() and not kept.all()
    assert_close((noisy / v)[kept].imag, torch.zeros_like(noisy.real[kept]), rtol=0, atol=1e-12)
    assert ((noisy / v)[kept].real > 0).all()


@pytest.mark.parametrize("inner_prior", [L1(0.7), Tikhonov(0.7), Box(0.3, 0.8)], ids=lambda p: type(p).__name__)
def test_magnitude_is_exact_against_a_search_of_the_plane(inner_prior):
    radius, angle = torch.linspace(0, 3, 1501, dtype=F64), torch.linspace(-math.pi, math.pi, 721, dtype=F64)
    x = torch.polar(radius[:, None].expand(-1, 721).contiguous(), angle.expand(1501, -1).contiguous())
    cost = inner_prior.fn(radius.reshape(-1, 1, 1, 1))[:, None]
    for v in torch.randn(8, dtype=C128):
        loss = 0.6 * cost + (x - v).abs().square() / 2
        best = x.flatten()[loss.argmin()]
        assert (Magnitude(inner_prior).prox(v.reshape(1, 1, 1, 1), gamma=0.6) - best).abs().max() < 0.015


def test_magnitude_of_l1_is_l1():
    v = random(CASES["L1"])
    assert_close(Magnitude(L1(0.7)).prox(v, gamma=0.3), L1(0.7).prox(v, gamma=0.3))
    assert_close(Magnitude(L1(0.7)).fn(v), L1(0.7).fn(v))


def test_magnitude_on_real_images_keeps_signs():
    v = random(CASES["L1"], F64)
    assert_close(Magnitude(L1(0.7)).prox(v), L1(0.7).prox(v))


def test_magnitude_of_zero_takes_phase_zero():
    zero = torch.zeros(1, 1, 2, 2, dtype=C128)
    assert_close(Magnitude(Box(0.3, 0.8)).prox(zero), torch.full_like(zero, 0.3))


def test_magnitude_keeps_the_inner_state():
    v, prior = random(CASES["TV"]), Magnitude(TV(0.3, iterations=5))
    exact = Magnitude(TV(0.3, iterations=5000)).prox(v)
    once, aux = prior.prox_from(v, 1.0, prior.start(v))
    twice, _ = prior.prox_from(v, 1.0, aux)
    assert energy(twice - exact).sum() < energy(once - exact).sum()


def test_magnitude_of_a_deepinv_prior():
    v = random(CASES["L1"])
    lifted = Magnitude(deepinv.optim.L1Prior())
    assert_close(lifted.prox(v, gamma=0.4), L1().prox(v, gamma=0.4))
    assert lifted.explicit_prior
    assert_close(lifted.fn(v), L1().fn(v))


# -- denoisers --------------------------------------------------------------------------------------
def test_denoiser_schedule_counts_calls_and_keeps_the_last():
    seen = []

    def spy(x, sigma):
        seen.append(sigma)
        return x

    prior, v = Denoiser(spy, [0.3, 0.2, 0.1]), random(CASES["L1"], F64)
    aux = prior.start(v)
    for _ in range(5):
        _, aux = prior.prox_from(v, 1.0, aux)
    assert seen == [0.3, 0.2, 0.1, 0.1, 0.1]
    prior.prox(v)
    assert seen[-1] == 0.3, "a call by itself is a first call"


def test_denoiser_does_not_follow_the_step():
    prior, v = Denoiser(halve, 0.5), random(CASES["L1"], F64)
    assert torch.equal(prior.prox(v, gamma=0.1), prior.prox(v, gamma=10.0))
    assert prior.scaled(3.0) is prior


def test_real_imaginary():
    v = random(CASES["L1"])
    median = deepinv.models.MedianFilter(3)
    expected = torch.complex(median(v.real, 0.1), median(v.imag, 0.1))
    assert_close(Denoiser(RealImaginary(median), 0.1).prox(v), expected)


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 7.0, 1e12])
def test_max_normalised_does_not_depend_on_the_unit(scale):
    def soft(x, sigma):
        return (x.abs() - sigma).clamp_min(0) * x.sgn()

    prior, v = Normalised(Denoiser(soft, 0.2)), random(CASES["L1"], F64)
    assert_close(prior.prox(scale * v), scale * prior.prox(v))
    peaks = v.abs().flatten(1).amax(1)
    assert_close(prior.prox(v)[0], peaks[0] * soft(v[0] / peaks[0], 0.2)), "each image by its own peak"


def test_max_normalised_of_zero_is_zero():
    zero = torch.zeros(1, 1, 4, 4)
    assert Normalised(Denoiser(halve, 0.2)).prox(zero).abs().max() == 0


def test_deepinv_denoisers():
    v = random(CASES["L1"])
    for make in (lambda: deepinv.models.MedianFilter(3), lambda: deepinv.models.TVDenoiser(n_it_max=50)):
        image = Magnitude(Denoiser(make(), 0.1)).prox(v)
        assert image.shape == v.shape and image.dtype == C128
        assert_close(image.abs(), make()(v.abs(), 0.1).clamp_min(0))


# -- a prior of one's own ---------------------------------------------------------------------------
def test_a_prior_without_parts_says_so():
    class Nothing(Prior):
        pass

    prior = Nothing()
    assert not (prior.has_value or prior.has_prox or prior.has_grad or prior.explicit_prior)
    for call in (prior.fn, prior.grad, prior.prox):
        with pytest.raises(NotImplementedError, match="Nothing has no"):
            call(torch.ones(1, 1, 2, 2))


def test_all_numbers_of_a_prior_move_with_it():
    """To another precision and device, those beside the weight too."""
    for make in (lambda n: SmoothedL1(n, n), lambda n: SmoothedTV(n, n), lambda n: KSupport(n, group_weights=n)):
        prior = make(torch.ones(1, 1, 1, 1, dtype=F64)).float()
        tensors = [v for v in vars(prior).values() if isinstance(v, torch.Tensor)]
        assert len(tensors) == 2 and {t.dtype for t in tensors} == {torch.float32}
    x = torch.randn(1, 1, 4, 4)
    for prior in (
        SmoothedL1(torch.ones(1, 1, 4, 4, dtype=F64), torch.ones(1, 1, 4, 4, dtype=F64)),
        Tikhonov(torch.ones(1, dtype=F64)),
    ):
        assert prior.grad(x).dtype == torch.float32
