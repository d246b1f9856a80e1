"""Learned proximal networks: proximal operators whatever their weights, and the priors that they belong to."""

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from resolvent.operators import Dense
from resolvent.priors import (
    Batch,
    ConvexPotential,
    ConvolutionalPotential,
    Denoiser,
    ImagePotential,
    LearnedProximal,
    LearnedProximalNetwork,
    Magnitude,
    PatchCovering,
    PixelPotential,
    ProximalMatching,
    StagedMatching,
    recover,
)
from resolvent.recon import ADMM, ConjugateGradient, ProximalGradient, RelativeChange, objective

F64 = torch.float64
ALPHA = 0.1


def excited(potential):
    """With weights of a size that bends: a fresh convolutional chain is close to affine."""
    for weight in potential.constrained():
        torch.nn.init.uniform_(weight, 0, 3 / weight[0].numel())
    return potential


def network(potential):
    return LearnedProximalNetwork(excited(potential), ALPHA).double()


NETWORKS = {
    "vector": (lambda: network(PixelPotential(5, hidden=16, layers=3)), (5,)),
    "pixels": (lambda: network(PixelPotential(1, hidden=16, layers=3)), (1, 4, 3)),
    "image": (lambda: network(ImagePotential(1, 8, 6, (1, 2))), (1, 8, 8)),
    "any size": (lambda: network(ConvolutionalPotential(1, 6, (1, 2), 10.0)), (1, 7, 6)),
    "image in colour": (lambda: network(ImagePotential(3, 4, 6, (1, 2))), (3, 4, 4)),
    "patches, 2.5 along either axis": (
        lambda: network(PatchCovering(ImagePotential(1, 4, 6, (1, 2)), 4, 2)), (1, 10, 10)
    ),
    "patches of a size that fits nothing": (
        lambda: network(PatchCovering(ImagePotential(1, 4, 6, (1, 2)), 4, 2)), (1, 7, 5)
    ),
}  # fmt: skip
EVERY = pytest.mark.parametrize("make, shape", NETWORKS.values(), ids=NETWORKS)


@EVERY
def test_jacobian_is_symmetric_and_positive(make, shape):
    """Necessary and sufficient for a proximal operator (Moreau)."""
    f, x = make(), torch.randn(1, *shape, dtype=F64)
    matrix = jacobian(f, x).reshape(x.numel(), x.numel())
    assert (matrix - matrix.T).norm() <= 1e-12 * matrix.norm()
    eigenvalues = torch.linalg.eigvalsh(matrix)
    assert eigenvalues.min() >= ALPHA * (1 - 1e-9)
    assert eigenvalues.max() > 1.01 * eigenvalues.min(), "the test needs a network that does something"


@EVERY
def test_monotone_on_pairs(make, shape):
    """Strongly monotone on 10 000 pairs, near and far."""
    f = make()
    a = torch.randn(4000, *shape, dtype=F64)
    b = a + torch.logspace(-2, 1, len(a), dtype=F64).reshape(-1, *[1] * len(shape)) * torch.randn_like(a)
    with torch.no_grad():
        product = ((f(a) - f(b)) * (a - b)).flatten(1).sum(1)
    assert (product >= ALPHA * (a - b).square().flatten(1).sum(1) * (1 - 1e-9)).all()


@EVERY
def test_network_is_the_gradient_of_its_potential(make, shape):
    f, y = make(), torch.randn(1, *shape, dtype=F64).requires_grad_()
    assert torch.autograd.gradcheck(f.psi, y)
    assert_close(torch.autograd.grad(f.psi(y).sum(), y)[0], f(y).detach())


def test_inference_mode_changes_nothing():
    f, y = network(PixelPotential(1, hidden=16, layers=3)), torch.randn(2, 1, 4, 3, dtype=F64)
    expected = f(y).detach()
    with torch.inference_mode():
        assert torch.equal(f(y), expected) and torch.equal(f(y.clone()), expected)


def test_weights_are_trained_through_the_gradient():
    f, y = NETWORKS["vector"][0](), torch.randn(2, 5, dtype=F64)
    f.potential.chain[0].weight.data += 0.1
    f(y).square().sum().backward()
    weight = f.potential.chain[0].weight
    h, loss = 1e-6, lambda: float(f(y).detach().square().sum())
    kept = weight.data.clone()
    weight.data[0, 1] += h
    up = loss()
    weight.data = kept.clone()
    weight.data[0, 1] -= h
    assert_close((up - loss()) / (2 * h), float(weight.grad[0, 1]), rtol=1e-6, atol=1e-6)


def test_projection_makes_convex():
    f = LearnedProximalNetwork(PixelPotential(3, hidden=8)).double()
    for weight in f.potential.constrained():
        torch.nn.init.normal_(weight)
    assert min(float(w.min()) for w in f.potential.constrained()) < 0
    f.project_()
    assert min(float(w.min()) for w in f.potential.constrained()) == 0


# -- patches ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(10, 10), (7, 5), (3, 13)])
def test_every_pixel_lies_in_as_many_patches(shape):
    covering = PatchCovering(PixelPotential(), 6, 2)
    x = torch.ones(1, 1, *shape, requires_grad=True)
    covering.patches(x).sum().backward()
    assert (x.grad == 9).all()


def test_average_of_patches_is_what_it_says():
    """A potential of pixels is the same on patches, so covering changes nothing."""
    inside = excited(PixelPotential(1, hidden=8)).double()
    plain = LearnedProximalNetwork(inside)
    covered = LearnedProximalNetwork(PatchCovering(inside, 4, 2))
    x = torch.randn(2, 1, 7, 9, dtype=F64)
    assert_close(covered(x), plain(x))


def test_plain_average_fails_at_the_border():
    """Patches inside the image alone, divided by how many cover a pixel: no gradient, as the border shows."""
    patch = network(ImagePotential(1, 4, 6, (1, 2)))

    def average(x):
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for i in range(0, 7, 2):
            for j in range(0, 7, 2):
                window = (..., slice(i, i + 4), slice(j, j + 4))
                total[window] = total[window] + patch(x[window])
                count[window] += 1
        return total / count

    matrix = jacobian(average, torch.randn(1, 1, 10, 10, dtype=F64)).reshape(100, 100)
    assert (matrix - matrix.T).norm() > 1e-3 * matrix.norm()


# -- the prior --------------------------------------------------------------------------------------
@EVERY
def test_inversion(make, shape):
    f, x = make(), torch.randn(3, *shape, dtype=F64)
    found = recover(f, x)
    assert (found.residual < 1e-12).all()
    assert_close(f(found.y).detach(), x)


@EVERY
def test_value_is_that_of_the_pairs(make, shape):
    """R at f(y) without inversion, from y itself."""
    f, y = make(), torch.randn(3, *shape, dtype=F64)
    x = f(y).detach()
    pairs = (x * (y - x / 2)).flatten(1).sum(1) - f.psi(y)
    assert_close(recover(f, x).value, pairs)


@EVERY
def test_prior_gradient(make, shape):
    prior, x, d = LearnedProximal(make()), *torch.randn(2, 3, *shape, dtype=F64)
    slope = (prior.fn(x + 1e-5 * d) - prior.fn(x - 1e-5 * d)).detach() / 2e-5
    assert_close((prior.grad(x) * d).detach().flatten(1).sum(1), slope, rtol=1e-6, atol=1e-7)
    (by_autograd,) = torch.autograd.grad(prior.fn(x.requires_grad_()).sum(), x)
    assert_close(by_autograd, prior.grad(x).detach())


def test_image_outside_the_range_is_refused():
    """Without strong convexity a softplus network saturates: R is infinite beyond, and the residual says so."""
    f = LearnedProximalNetwork(excited(PixelPotential(1, hidden=8))).double()
    top = float(f(torch.full((1, 1), 1e6, dtype=F64)))
    beyond = torch.full((1, 1), 2 * top, dtype=F64)
    assert recover(f, beyond).residual > 0.3
    with pytest.raises(ArithmeticError, match="expected a residual"):
        LearnedProximal(f).fn(beyond)


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1.0, 1.05])
def test_step_of_every_weight(gamma):
    """The step is stationary: gamma grad R(x) + x - v = 0."""
    prior, v = LearnedProximal(NETWORKS["image"][0]()), torch.randn(2, 1, 8, 8, dtype=F64)
    x = prior.prox(v, gamma=gamma).detach()
    assert_close(gamma * prior.grad(x) + x, v)


class Diagonal(ConvexPotential):
    """``sum d y^2 / 2``: the network of R(x) = sum (1/d - 1) x^2 / 2."""

    channels = 1

    def __init__(self, d):
        super().__init__()
        self.d = torch.nn.Parameter(d)

    def forward(self, x):
        return (self.d * x.square() / 2).flatten(1).sum(1)


class Threshold(ConvexPotential):
    """The Moreau envelope whose gradient is the soft threshold: the network of R(x) = sum |x|."""

    channels = 1

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones((), dtype=F64))

    def forward(self, x):
        return ((x.abs() - self.one).clamp_min(0).square() / 2).flatten(1).sum(1)


@pytest.mark.parametrize("gamma", [0.05, 0.5, 1.0, 1.7])
def test_step_of_a_quadratic(gamma):
    """prox of gamma R is v / (1 + gamma (1/d - 1)); weakly convex where d > 1."""
    d = torch.rand(1, 6, 5, dtype=F64) + 0.3
    v = torch.randn(2, 1, 6, 5, dtype=F64)
    assert_close(LearnedProximal(LearnedProximalNetwork(Diagonal(d))).prox(v, gamma=gamma), v / (1 + gamma / d - gamma))


@pytest.mark.parametrize("gamma", [0.05, 0.5, 1.0, 3.0])
def test_step_of_the_soft_threshold(gamma):
    """That of gamma |x|; and by Moreau, the rest of v is the projection onto the interval of gamma."""
    v = 4 * torch.randn(2, 1, 6, 5, dtype=F64)
    x = LearnedProximal(LearnedProximalNetwork(Threshold())).prox(v, gamma=gamma).detach()
    assert_close(x, v.sign() * (v.abs() - gamma).clamp_min(0))
    assert_close(v - x, v.clamp(-gamma, gamma))


@pytest.mark.parametrize("gamma", [0.05, 0.5, 1.0, 1.2])
def test_step_of_a_thresholding_network(gamma):
    """f = soft + alpha y, in two pieces on either side: so is the y that is looked for."""
    v = 4 * torch.randn(2, 1, 6, 5, dtype=F64)
    inner = v / (gamma + (1 - gamma) * ALPHA)
    outer = (v + (1 - gamma) * v.sign()) / (gamma + (1 - gamma) * (1 + ALPHA))
    y = torch.where(inner.abs() <= 1, inner, outer)
    expected = v - gamma * (y - (1 + ALPHA) * y + y.clamp(-1, 1))
    assert_close(LearnedProximal(LearnedProximalNetwork(Threshold(), ALPHA)).prox(v, gamma=gamma).detach(), expected)


class Counted:
    """How often a network's potential is looked at."""

    def __init__(self, module):
        self.calls = 0
        module.register_forward_hook(self.count)

    def count(self, *_):
        self.calls += 1


def test_step_of_one_is_one_call():
    f, v = NETWORKS["image"][0](), torch.randn(2, 1, 8, 8, dtype=F64)
    seen = Counted(f.potential)
    x = LearnedProximal(f).prox(v)
    assert seen.calls == 1
    assert_close(x, f(v))


@torch.no_grad()
def test_state_handed_back_saves_the_search():
    """From its own y a step takes a call to see that it is there, and one for the image; from near it, fewer."""
    f, v = NETWORKS["image"][0](), torch.randn(2, 1, 8, 8, dtype=F64)
    prior, seen, calls = LearnedProximal(f), Counted(f.potential), []
    x, aux = prior.prox_from(v, 0.3, prior.start(v))
    for state in (prior.start(v), aux, (aux[0] + 1e-6,)):
        before = seen.calls
        again, _ = prior.prox_from(v, 0.3, state)
        calls.append(seen.calls - before)
        assert_close(again, x)
    assert calls[1] == 2 < calls[2] < calls[0]


@torch.no_grad()
def test_state_of_a_complex_image():
    prior, v = LearnedProximal(NETWORKS["pixels"][0]()), torch.randn(2, 1, 4, 3, dtype=torch.complex128)
    x, (y,) = prior.prox_from(v, 0.4, prior.start(v))
    assert y.shape == v.shape and y.is_complex()
    assert_close(torch.complex(prior.network(y.real), prior.network(y.imag)), x)
    assert_close(prior.prox_from(v, 0.4, (y,))[0], x)


@pytest.mark.parametrize("gamma", [0.4, 1.0])
def test_step_is_differentiable(gamma):
    prior = LearnedProximal(NETWORKS["pixels"][0]())
    v, weight = torch.randn(2, 1, 2, dtype=F64), torch.tensor(0.9, dtype=F64)

    def step(v, weight):
        return LearnedProximal(prior.network, weight).prox(v, gamma=gamma)

    inputs = (v.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(step, inputs, check_undefined_grad=False)


def test_step_is_differentiable_in_the_weights():
    prior = LearnedProximal(NETWORKS["vector"][0]())
    v, bias = torch.randn(2, 5, dtype=F64), prior.network.potential.skips[0].bias
    prior.prox(v, gamma=0.5).square().sum().backward()
    h, kept = 1e-6, bias.data.clone()
    ends = []
    for sign in (1, -1):
        bias.data = kept.clone()
        bias.data[2] += sign * h
        ends.append(float(prior.prox(v, gamma=0.5).detach().square().sum()))
    assert_close((ends[0] - ends[1]) / (2 * h), float(bias.grad[2]), rtol=1e-6, atol=1e-7)


def test_magnitude_takes_it():
    v = torch.randn(2, 1, 4, 3, dtype=torch.complex128)
    lifted = Magnitude(LearnedProximal(NETWORKS["pixels"][0]()))
    assert lifted.prox(v).shape == v.shape


def test_single_precision_network_meets_a_double_image():
    f, x = NETWORKS["image"][0]().float(), torch.randn(2, 1, 8, 8, dtype=F64)
    prior = LearnedProximal(f)
    assert prior.prox(x, gamma=0.3).dtype == F64 and prior.fn(x).dtype == F64
    assert (recover(f, x.float()).residual < 1e-5).all()


# -- solvers ----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def problem():
    """Eight measurements of a 3 x 4 image, the operator's norm 0.9."""
    torch.manual_seed(0)
    matrix = torch.randn(8, 12, dtype=F64)
    physics = Dense(0.9 * matrix / torch.linalg.matrix_norm(matrix, 2), (1, 3, 4))
    return physics.A(torch.randn(1, 1, 3, 4, dtype=F64)), physics, LearnedProximal(network(PixelPotential(hidden=16)))


@pytest.mark.parametrize(
    "make",
    [
        lambda prior, stop: ProximalGradient(prior, 0.6, 1000, stop),
        lambda prior, stop: ADMM(prior, 1.0, 1000, stop, cg_iterations=30, cg_rtol=1e-12),
        lambda prior, stop: ADMM(prior, 0.6, 1000, stop, cg_iterations=30, cg_rtol=1e-12),
        lambda prior, stop: ConjugateGradient(prior, 100, stop),
        lambda prior, stop: ProximalGradient(Denoiser(prior.network), 1.0, 1000, stop),
    ],
    ids=["short steps", "ADMM", "ADMM of a short step", "gradients of R", "plug and play of step 1"],
)
def test_solvers_meet_in_one_stationary_point(problem, make):
    y, physics, prior = problem
    expected = ProximalGradient(prior, 1.0, 1000, RelativeChange(1e-11)).solve(y, physics)
    found = make(prior, RelativeChange(1e-9)).solve(y, physics)
    assert expected.status == ("converged",) and found.iterations > 3
    assert_close(found.image, expected.image, rtol=1e-5, atol=1e-6)


def test_plug_and_play_of_another_step_is_another_problem(problem):
    """The network as it is stands for R over the step: at step 1/2 the fixed point is that of data + 2 R."""
    y, physics, prior = problem
    stop = RelativeChange(1e-11)
    plugged = ProximalGradient(Denoiser(prior.network), 0.5, 2000, stop).solve(y, physics).image
    twice = ProximalGradient(prior.scaled(2.0), 0.5, 2000, stop).solve(y, physics).image
    assert_close(plugged, twice, rtol=1e-8, atol=1e-8)
    once = ProximalGradient(prior, 1.0, 2000, stop).solve(y, physics).image
    assert (plugged - once).norm() > 0.01 * once.norm()


def test_descent_is_monotone(problem):
    y, physics, prior = problem
    solver = ProximalGradient(prior, 1.0, 60, RelativeChange(0.0))
    values = solver.solve(y, physics, record={"objective": objective}).history["objective"][:, 0]
    assert (values[1:] <= values[:-1] + 1e-10).all() and values[-1] < values[0]


# -- the loss ---------------------------------------------------------------------------------------
def test_loss():
    x = torch.zeros(3, 1, 2, 2)
    found = torch.stack([x[0], x[0] + 0.5, x[0] + 1e6])
    assert_close(ProximalMatching(2.0)(found, x), torch.tensor([0, 1 - torch.tensor(-0.25).exp(), 1.0]))


def test_stages_of_matching():
    """Absolute differences for half of the training, then the gammas: 0.08 times the root of the size is last."""
    clean, found = torch.zeros(2, 1, 28, 28), 0.1 * torch.ones(2, 1, 28, 28)
    gammas = 0.08 * 28 * torch.tensor([8.0, 4, 2, 1])
    expected = [0.1, 0.1, *(1 - torch.exp(-((0.1 * 28 / gammas) ** 2))).tolist()]
    shares = (0.0, 0.49, 0.5, 0.625, 0.75, 1.0)
    values = [float(StagedMatching()(lambda y, sigma: y, Batch(clean, found, torch.ones(2), p))) for p in shares]
    assert values == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LearnedProximalNetwork(PixelPotential(), 1.0), "strong_convexity: found 1.0"),
        (lambda: LearnedProximalNetwork(PixelPotential(), -0.1), "strong_convexity: found -0.1"),
        (lambda: ImagePotential(size=30), "size: found 30, expected a multiple of 4"),
        (lambda: ImagePotential(size=28)(torch.zeros(1, 1, 30, 30)), r"image: found \(30, 30\) pixels"),
        (lambda: PatchCovering(PixelPotential(), 6, 4), "stride: found 4"),
        (lambda: ProximalMatching(0.0), "gamma: found 0.0"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
