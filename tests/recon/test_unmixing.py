"""Unmixing: exact where spectra are, gradients of the stated objective, and what outlier bands change."""

import math

import pytest
import torch
from scipy.io import loadmat
from torch.testing import assert_close

from resolvent.operators import Mixing
from resolvent.priors import Simplex
from resolvent.recon import FISTA, RelativeChange, RobustUnmixing, spectral_angles, vertices
from resolvent.recon.unmixing import powers, smoothed, sparseness

F64 = torch.float64


def materials(bands=60, count=4, seed=0):
    """Smooth spectra above 0."""
    generator, place = torch.Generator().manual_seed(seed), torch.linspace(0, 1, bands, dtype=F64)
    centres, widths = torch.rand(2, 3, count, generator=generator, dtype=F64)
    bumps = torch.exp(-(((place[:, None, None] - centres) / (0.05 + 0.2 * widths)) ** 2))
    return 0.05 + bumps.mean(1)


def shares(count=4, lengths=(15, 20), concentration=0.4, seed=1):
    """Dirichlet; the first pixels are pure."""
    torch.manual_seed(seed)
    drawn = torch.distributions.Dirichlet(torch.full((count,), concentration, dtype=F64)).sample((math.prod(lengths),))
    drawn[:count] = torch.eye(count, dtype=F64)
    return drawn.T.reshape(1, count, *lengths)


def mixed(noise=0.0, **kwargs):
    m, a = materials(), shares(**kwargs)
    y = Mixing(m, a.shape[2:]).A(a)
    return m, a, y + noise * torch.randn(y.shape, dtype=F64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("lengths", [(5,), (3, 4), (2, 3, 2)], ids=str)
def test_projection_on_the_simplex_meets_its_conditions(lengths):
    """``v - p`` is one number tau where p is above 0, at most tau elsewhere."""
    v = 2 * torch.randn(3, 4, *lengths, dtype=F64)
    p = Simplex().prox(v)
    assert (p >= 0).all()
    assert_close(p.sum(1), torch.ones(3, *lengths, dtype=F64))
    tau = torch.where(p > 0, v - p, -math.inf).amax(1, keepdim=True)
    assert_close(torch.where(p > 0, v - p, tau), tau.expand_as(v))
    assert (v - p <= tau + 1e-12).all()
    assert_close(Simplex().prox(p), p)
    assert (Simplex().fn(p) == 0).all() and (Simplex().fn(v) == math.inf).all()


def test_shares_of_known_materials_are_found():
    m, a, y = mixed()
    solution = FISTA(Simplex(), max_iter=9000, stop=RelativeChange(1e-9)).solve(y, Mixing(m, a.shape[2:]))
    assert_close(solution.image, a, rtol=0, atol=1e-3)


@pytest.mark.parametrize("noise, within", [(0.0, 1e-6), (0.02, 0.1)], ids=["clear", "noisy"])
@pytest.mark.parametrize("seed", range(3))
def test_pure_pixels_are_found(noise, within, seed):
    m, _, y = mixed(noise)
    angles, order = spectral_angles(vertices(y, 4, seed), m)
    assert float(angles.max()) < within and sorted(order.tolist()) == [0, 1, 2, 3]


def test_angles_are_of_the_best_order():
    m, order = materials(), torch.tensor([2, 0, 3, 1])
    angles, found = spectral_angles(3 * m[:, order], m)
    assert float(angles.max()) < 1e-7 and torch.equal(order[found], torch.arange(4))


@pytest.mark.parametrize("softness", [1e-6, 0.3], ids=["robust", "softer"])
@pytest.mark.parametrize("exponent", [1.0, 0.5, "each its own"])
def test_sweeps_go_down_the_gradient_of_the_objective(exponent, softness):
    """A multiplicative rule's numerator less its denominator is minus the gradient: entries grow where that falls."""
    method, (m, a, y) = RobustUnmixing(softness=softness), mixed(0.05)
    x, a = y[0].flatten(1).clamp_min(0), (0.1 + a[0].flatten(1)).requires_grad_()
    p = torch.rand(x.shape[1], dtype=F64) * 0.9 + 0.1 if isinstance(exponent, str) else torch.full_like(x[0], exponent)
    penalty, total = method.factors(x)
    objective = (
        method.lengths(x, m, a).sum() / 2 + penalty * powers(a, p).sum() + total / 2 * (1 - a.sum(0)).square().sum()
    )
    (gradient,) = torch.autograd.grad(objective, a)
    assert float(objective.detach()) == pytest.approx(method.objective(x, m, a.detach(), p))
    after = method.shares(x, m, a.detach(), p)
    moved = (after - a.detach()).abs() > 1e-9
    assert moved.float().mean() > 0.9
    assert torch.equal(torch.sign(after - a.detach())[moved], -torch.sign(gradient)[moved])


@pytest.mark.parametrize("options", [{"exponent": 0.5}, {"every": 10**6}, {"exponent": 1.0}], ids=str)
def test_no_sweep_raises_the_objective(options):
    _, _, y = mixed(0.02)
    y[:, ::6] = torch.rand(y[:, ::6].shape, dtype=F64, generator=torch.Generator().manual_seed(3))
    found = RobustUnmixing(**options)(y, vertices(y, 4))
    objective = torch.tensor(found.objective, dtype=F64)
    assert len(objective) == 500 and (objective.diff() <= 1e-10 * objective[:-1]).all()
    assert objective[-1] < 0.99 * objective[0]
    assert (found.abundances >= 0).all() and (found.endmembers >= 0).all()
    assert float((1 - found.abundances.sum(1)).abs().max()) < 0.02


def error(found, m, a):
    return float((found.abundances[:, spectral_angles(found.endmembers, m)[1]] - a).square().mean().sqrt())


@pytest.mark.parametrize("noise", [0.003, 0.01])
@pytest.mark.parametrize("seed", range(3))
def test_outlier_bands_change_little(seed, noise):
    """A fifth of the bands spoilt: nearly what is had without these; many times worse where residuals count squared.

    First endmembers are those of the bands before they are spoilt.
    """
    m, a = materials(100, seed=seed), shares(lengths=(30, 30), concentration=0.3, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    y = Mixing(m, (30, 30)).A(a)
    y = y + noise * torch.randn(y.shape, generator=generator, dtype=F64)
    first, order, soft = vertices(y, 4), torch.randperm(100, generator=generator), 1e3
    bad, kept = order[:20], order[20:]
    robust = RobustUnmixing(exponent=0.5, sweeps=50)
    squared = RobustUnmixing(robust.sparsity / (2 * soft), robust.total / (2 * soft) ** 0.5, 0.5, 50, softness=soft)
    without = error(robust(y[:, kept], first[kept]), m[kept], a)
    y[:, bad] = torch.rand(1, 20, 30, 30, generator=generator, dtype=F64)
    assert error(robust(y, first), m, a) < 1.5 * without < 0.1 * error(squared(y, first), m, a)


def test_guidance_is_how_pure_pixels_are():
    """Half of the scene pure, half mixed: the ranks of h are those of the true sparseness."""
    from scipy.stats import spearmanr

    m, a = materials(), shares(lengths=(20, 20), concentration=1.5)
    blocks = torch.randint(4, (20, 10), generator=torch.Generator().manual_seed(0))
    a[0, :, :, :10] = torch.nn.functional.one_hot(blocks, 4).permute(2, 0, 1).double()
    y = Mixing(m, (20, 20)).A(a)
    found = RobustUnmixing(sweeps=200)(y, vertices(y, 4))
    truth = smoothed(sparseness(a[0].flatten(1)).reshape(1, 20, 20))
    assert spearmanr(found.guidance.flatten(), truth.flatten()).statistic >= 0.8
    assert float(found.guidance.max()) <= 0.9


def test_sparseness_and_its_mean():
    assert_close(sparseness(torch.tensor([[1.0, 0.5, 0.25], [0, 0.5, 0.25], [0, 0, 0.25], [0, 0, 0.25]])),
                 torch.tensor([1.0, 2 - 2**0.5, 0.0]))  # fmt: skip
    assert_close(smoothed(torch.tensor([[3.0, 0, 0, 6]])), torch.tensor([[2.0, 1, 2, 4]]))


def test_a_real_scene(shared_data):
    """Samson, pixels of length 1: angles to the reference's materials, no worse than squared residuals and p = 1/2."""
    scene = loadmat(shared_data / "hsi" / "Samson.mat")
    truth = torch.from_numpy(scene["GT"]).double().T
    y = torch.from_numpy(scene["Y"]).double().reshape(1, 156, 95, 95).mT
    y = y / y.norm(dim=1, keepdim=True)
    first, soft = vertices(y, 3), 1e3
    robust = RobustUnmixing(sweeps=100)
    half = RobustUnmixing(robust.sparsity / (2 * soft), robust.total / (2 * soft) ** 0.5, 0.5, 100, softness=soft)
    angles, other = (spectral_angles(method(y, first).endmembers, truth)[0].mean() for method in (robust, half))
    assert angles <= 0.15 and angles <= other


def test_units_of_the_spectra_do_not_matter():
    m, _, y = mixed(0.02)
    once, other = (RobustUnmixing(sweeps=30)(s * y, s * (m + 0.05)) for s in (1.0, 1e4))
    assert_close(other.abundances, once.abundances)
    assert_close(other.endmembers, 1e4 * once.endmembers)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Mixing(torch.ones(3), (4,)), r"endmembers: found shape \(3,\)"),
        (lambda: Mixing(torch.full((3, 2), math.nan), (4,)), "expected finite numbers"),
        (lambda: vertices(torch.rand(1, 3, 9), 4), "count: found 4, expected 2 to 3: 3 bands, 9 pixels"),
        (lambda: vertices(torch.rand(1, 3, 9) + 0j, 2), "spectra: found complex64"),
        (lambda: vertices(torch.rand(3, 9), 2), "spectra: found float32 of shape"),
        (lambda: RobustUnmixing(exponent=0.0), "exponent: found 0.0"),
        (lambda: RobustUnmixing(sparsity=-1), "sparsity: found -1"),
        (lambda: RobustUnmixing(sweeps=0), "sweeps, every, purest: found 0"),
        (lambda: RobustUnmixing()(torch.rand(1, 3, 9), torch.rand(4, 2)), r"endmembers of shape \(4, 2\)"),
        (lambda: RobustUnmixing()(torch.zeros(1, 3, 9), torch.rand(3, 2)), "spectra up to 0, expected"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
