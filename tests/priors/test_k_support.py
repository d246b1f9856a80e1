"""The sparse group envelope against its conjugate, its limits, and the sparsity it is for."""

import math

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Operator
from resolvent.priors import KSupport, Tikhonov
from resolvent.recon import FISTA, RelativeChange

F64, C128 = torch.float64, torch.complex128
WEIGHTS = torch.linspace(0.5, 2, 30, dtype=F64).reshape(5, 6)
CASES = {
    "voxels": {"k": 7},
    "fractional budget": {"k": 3.4},
    "channels": {"k": 5, "axes": (1,)},
    "weighted channels": {"k": 6.5, "axes": (1,), "group_weights": WEIGHTS},
}
BY_CASE = pytest.mark.parametrize("options", CASES.values(), ids=CASES)
WEIGHT = pytest.mark.parametrize("weight", [1e-3, 0.3, 1.0, 20.0])


def image(dtype=C128):
    return torch.randn(3, 2, 5, 6, dtype=dtype)


def inner(a, b):
    return (a.conj() * b).real.flatten(1).sum(1)


def conjugate(y, k, axes=(), group_weights=1.0):
    """``max_u 1/2 sum u_g |y_g|^2``, a fractional knapsack: fill the budget by value over weight."""
    value = y.abs().square().sum(axes, keepdim=True) if axes else y.abs().square()
    value = value.flatten(1) / 2
    d = torch.as_tensor(group_weights, dtype=F64).broadcast_to(y.shape if not axes else y[:, :1].shape).flatten(1)
    order = (value / d).argsort(1, descending=True)
    value, d = value.gather(1, order), d.gather(1, order)
    left = (k - (d.cumsum(1) - d)).clamp_min(0)
    return (value * (left / d).clamp_max(1)).sum(1)


def step(prior, weight):
    """A proximal step p, and ``q = (v - p) / weight``, by its optimality in the gradient of S at p."""
    v = image()
    p = prior.prox(v, gamma=weight)
    return p, (v - p) / weight


@BY_CASE
@WEIGHT
def test_duality_gap_of_the_prox(options, weight):
    """``S(p) + S*(q) = <p, q>``: p is the proximal step, and S the conjugate's."""
    prior = KSupport(**options)
    p, q = step(prior, weight)
    gap = prior.fn(p) + conjugate(q, **options) - inner(p, q)
    assert (gap.abs() <= 1e-12 * (prior.fn(p) + conjugate(q, **options))).all()


@BY_CASE
def test_budget_is_spent(options):
    v, d = image(), torch.as_tensor(options.get("group_weights", 1.0))
    p = KSupport(**options).prox(v, gamma=0.3)
    ratio = (p / v).real.amax(options.get("axes", ()), keepdim=True) if "axes" in options else (p / v).real
    shares = 0.3 * ratio / (1 - ratio)
    assert_close((d * shares).flatten(1).sum(1), torch.full((3,), float(options["k"]), dtype=F64))
    assert shares.min() >= 0 and shares.max() <= 1 + 1e-12


@BY_CASE
@WEIGHT
def test_moreau(options, weight):
    """The conjugate's prox by its own optimality: p is in the gradient of the conjugate at q."""
    p, q = step(KSupport(**options), weight)
    for _ in range(10):
        other = q + 0.1 * image()
        assert (conjugate(other, **options) >= conjugate(q, **options) + inner(p, other - q) - 1e-12).all()


def test_known_values():
    v = torch.tensor([5, 4, 3, 2, 1, 0.5], dtype=F64).reshape(1, 1, 6)
    expected = {
        0.1: [50 / 11, 3.58, 2.58, 1.58, 0.58, 0.08],
        1.0: [2.5, 2, 4 / 3, 1 / 3, 0, 0],
        10.0: [5 / 11, 4 / 11, 3 / 11, 0, 0, 0],
    }
    for weight, values in expected.items():
        assert_close(KSupport(weight, k=3).prox(v)[0, 0], torch.tensor(values, dtype=F64), rtol=0, atol=0.006)


def test_budget_for_all_is_the_energy():
    v = image()
    assert_close(KSupport(0.7, k=60).prox(v), Tikhonov(0.7).prox(v))
    assert_close(KSupport(0.7, k=60).fn(v), Tikhonov(0.7).fn(v))


def test_budget_of_one_voxel_is_half_the_squared_l1_norm():
    v = image()
    assert_close(KSupport(0.7, k=1).fn(v), 0.35 * v.abs().flatten(1).sum(1).square())


def test_a_strong_weight_keeps_the_k_largest():
    v = image()
    p = KSupport(1e4, k=7).prox(v)
    assert ((p != 0).flatten(1).sum(1) == 7).all()
    kept, lost = v.abs().masked_fill(p == 0, math.inf), v.abs().masked_fill(p != 0, 0)
    assert (kept.flatten(1).amin(1) > lost.flatten(1).amax(1)).all()


def test_equal_norms_share_the_budget():
    v = torch.ones(1, 1, 10, dtype=F64)
    assert_close(KSupport(0.5, k=3).prox(v), v * 0.3 / 0.8)


def test_zeros_and_extremes_stay_finite():
    v = torch.zeros(1, 1, 6, dtype=F64)
    assert KSupport(k=2).prox(v).abs().max() == 0 and KSupport(k=2).fn(v) == 0
    v[..., 0], v[..., 1], v[..., 2] = 1e150, 1e-150, 1.0
    p = KSupport(k=2).prox(v)
    assert torch.isfinite(p).all() and (p[..., 3:] == 0).all()


def test_derivative_of_the_prox():
    v = torch.randn(2, 2, 3, dtype=C128, requires_grad=True)
    weight = torch.tensor(0.3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, w: KSupport(w, k=3).prox(v), (v, weight))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"k": 0}, "k: found 0"),
        ({"axes": (0,)}, r"axes: found \(0,\)"),
        ({"group_weights": -1.0}, "group_weights: found -1.0"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        KSupport(**options)


class Channels(Operator):
    """One matrix for all channels of an image: ``(B, m, n)`` acts on ``(B, 1, C, n)``."""

    def __init__(self, matrices, channels):
        super().__init__((1, channels, matrices.shape[2]), (1, channels, matrices.shape[1]))
        self.matrices = matrices

    def geometry(self):
        return {"matrices": self.matrices, "channels": self.image_shape[1]}

    def _forward_map(self, x):
        return torch.einsum("bmn,bicn->bicm", self.matrices, x)

    def _adjoint_map(self, y):
        return torch.einsum("bmn,bicm->bicn", self.matrices, y)


def rows_found(prior, measurements, voxels=40, lit=5, channels=8, trials=20):
    """Share of the lit rows among as many largest ones, from Gaussian measurements without noise."""
    matrices = torch.randn(trials, measurements, voxels, dtype=F64) / measurements**0.5
    rows = torch.stack([torch.randperm(voxels)[:lit] for _ in range(trials)])
    truth = torch.zeros(trials, 1, channels, voxels, dtype=F64)
    values = torch.randn(trials, 1, channels, lit, dtype=F64)
    truth.scatter_(3, rows[:, None, None].expand_as(values), values)
    physics = Channels(matrices, channels)
    image = FISTA(prior, max_iter=200, stop=RelativeChange(1e-5))(physics.A(truth), physics)
    largest = image.square().sum((1, 2)).topk(lit).indices
    return float((largest[:, :, None] == rows[:, None]).any(1).double().mean())


def test_joint_support_from_gaussian_measurements():
    """Five of 40 rows lit in 8 channels: all found from 16 data per channel, fewer when channels are not joined."""
    joint, apart = KSupport(0.03, k=5, axes=(2,)), KSupport(0.03, k=40)
    assert rows_found(joint, 16) == 1.0
    torch.manual_seed(1)
    together = rows_found(joint, 10)
    torch.manual_seed(1)
    assert together > rows_found(apart, 10) + 0.1
