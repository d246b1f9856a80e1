"""Samplers against posteriors in closed form, their steps written out, and the loop that runs them."""

import math

import deepinv
import pytest
import torch
from elsewhere import Elsewhere
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, Dense
from resolvent.priors import (
    L1,
    Conditional,
    Cosine,
    DenoiserDiffusion,
    FlowMatching,
    GaussianMixture,
    GaussianPrior,
    OrnsteinUhlenbeck,
    VarianceExploding,
    VariancePreserving,
)
from resolvent.recon import (
    DAPS,
    DPS,
    FLAIR,
    CoarseToFine,
    DiffPIR,
    Diverged,
    Flower,
    MeanReverting,
    MomentMatching,
    NoiseLeft,
    PiGDM,
    PnPFlow,
    Problem,
    Projection,
    Sampler,
    Unguided,
)
from resolvent.recon.problem import norms
from resolvent.recon.sampler import Level, data_sample, estimate_and_pullback, reverse_step, uncertainty

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
SHAPE, N, SIGMA = (1, 2, 3), 6, 0.3
SCHEDULES = [FlowMatching(), VarianceExploding(0.01, 30), VariancePreserving(), Cosine(), OrnsteinUhlenbeck(1.0)]
BY_SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)


class Whatever(Conditional):
    """The same prior whatever the condition."""

    def __init__(self, prior):
        super().__init__(prior.schedule)
        self.prior = prior

    def given(self, condition):
        return self.prior


SAMPLERS = {
    "MomentMatching": lambda p, **kw: MomentMatching(p, **{"steps": 20, "noise_std": SIGMA, "cg_rtol": 1e-12} | kw),
    "PiGDM": lambda p, **kw: PiGDM(p, **{"steps": 20, "noise_std": SIGMA, "cg_rtol": 1e-12} | kw),
    "DPS": lambda p, **kw: DPS(p, **{"steps": 20} | kw),
    "DiffPIR": lambda p, **kw: DiffPIR(p, **{"steps": 20, "noise_std": SIGMA, "cg_rtol": 1e-12} | kw),
    "DAPS": lambda p, **kw: DAPS(p, **{"steps": 20, "noise_std": SIGMA, "cg_rtol": 1e-12} | kw),
    "PnPFlow": lambda p, **kw: PnPFlow(p, **{"steps": 20} | kw),
    "Flower": lambda p, **kw: Flower(p, **{"steps": 20, "noise_std": SIGMA, "cg_rtol": 1e-12} | kw),
    "Flower, uncertain": lambda p, **kw: Flower(p, **{"steps": 20, "noise_std": SIGMA, "uncertain": True} | kw),
    "CoarseToFine": lambda p, **kw: CoarseToFine(
        p, **{"steps": 60, "noise_std": SIGMA, "step_size": 0.2, "stop": NoiseLeft(0)} | kw
    ),
    "Projection": lambda p, **kw: Projection(p, **{"steps": 20} | kw),
    "MeanReverting": lambda p, **kw: MeanReverting(Whatever(p), **{"steps": 20} | kw),
    "Unguided": lambda p, **kw: Unguided(p, **{"steps": 20} | kw),
}
BY_SAMPLER = pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)


def covariance(dtype=F64):
    root = torch.randn(N, N, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return root @ root.mH / N + 0.1 * torch.eye(N, dtype=dtype)


def gaussian(dtype=F64, schedule=None):
    return GaussianPrior.dense(torch.linspace(0, 1, N, dtype=dtype).reshape(SHAPE), covariance(dtype), schedule)


def dense(dtype=F64):
    return Dense(torch.randn(4, N, generator=torch.Generator().manual_seed(2), dtype=dtype), SHAPE)


def measured(prior, physics, dtype=F64):
    y = physics.A(prior.sample(1, torch.Generator().manual_seed(3)))
    return y + SIGMA * torch.randn(y.shape, generator=torch.Generator().manual_seed(4), dtype=dtype)


def posterior(prior, y, physics, sigma=SIGMA):
    mixture = GaussianMixture(torch.ones(1, dtype=F64), prior.centre[None], covariance(prior.centre.dtype)[None])
    return mixture.posterior(y, physics, sigma)


def setting(dtype=F64, schedule=None):
    prior, physics = gaussian(dtype, schedule), dense(dtype)
    return prior, physics, measured(prior, physics, dtype)


def silent(monkeypatch):
    """Samplers of Gaussians are affine in their noise: without it they give the mean of their samples."""
    monkeypatch.setattr(Sampler, "draw", lambda self, state, like, k, which=0: torch.zeros_like(like))


# -- the posterior ------------------------------------------------------------------------------------
@DTYPES
@BY_SCHEDULE
def test_moment_matching_has_the_posteriors_mean(monkeypatch, schedule, dtype):
    """However long its steps, but for what is left of the image at the first time, where samplers begin with noise."""
    silent(monkeypatch)
    prior, physics, y = setting(dtype, schedule)
    mean, std = posterior(prior, y, physics).moments()
    found = MomentMatching(prior, 20, SIGMA, cg_rtol=1e-12)(y, physics)[0]
    assert float(((found - mean).abs() / std).max()) < 1e-3


@DTYPES
def test_moment_matching_samples_the_posterior(dtype):
    prior, physics, y = setting(dtype, VarianceExploding(0.01, 30))
    exact, count = posterior(prior, y, physics), 2000
    mean, std = exact.moments()
    found = MomentMatching(prior, 100, SIGMA, cg_rtol=1e-6).sample(y, physics, count, torch.Generator().manual_seed(0))
    assert found.samples.shape == (1, count, *SHAPE) and found.mean.shape == found.std.shape == (1, *SHAPE)
    assert_close(found.mean, found.samples.mean(1)) and not found.std.is_complex()
    assert float(((found.mean[0] - mean).abs() / std).max()) < 5 / math.sqrt(count) + 0.02
    assert_close(found.std[0], std, rtol=0.1, atol=0)
    away = (found.samples[0] - mean).flatten(1)
    assert_close(away.mT @ away.conj() / count, exact.covariances[0], rtol=0, atol=0.15 * float(std.max()) ** 2)


@pytest.mark.parametrize("randomness", [0.0, 1.0], ids=["ODE", "ancestral"])
@BY_SCHEDULE
def test_posterior_mixture_is_sampled(schedule, randomness):
    """The posterior of a mixture is a prior of its own: where its mean is exact, so are the samples."""
    generator = torch.Generator().manual_seed(5)
    means = 2 * torch.randn(2, *SHAPE, generator=generator, dtype=F64)
    prior = GaussianMixture(torch.ones(2, dtype=F64), means, torch.stack([covariance()] * 2), schedule)
    physics = Dense(torch.randn(1, N, generator=generator, dtype=F64), SHAPE)
    exact = prior.posterior(physics.A(prior.sample(1, generator)), physics, 1.0)
    mean, std = exact.moments()
    like = Dense(torch.eye(N, dtype=F64), SHAPE)
    sampler = Unguided(exact, 100, randomness=randomness)
    found = sampler.sample(torch.zeros(1, N, dtype=F64), like, 1500, generator)
    assert float(((found.mean[0] - mean).abs() / std).max()) < 0.15
    assert_close(found.std[0], std, rtol=0.12, atol=0)


def test_flower_and_moment_matching_agree_where_both_are_right():
    """Of white images the guess that FLOWER makes is true, and its uncertain mode draws the posterior."""
    prior = GaussianPrior.dense(torch.zeros(SHAPE, dtype=F64), 4 * torch.eye(N, dtype=F64))
    physics = dense()
    y = physics.A(prior.sample(1)) + SIGMA * torch.randn(1, 4, dtype=F64)
    exact = GaussianMixture(torch.ones(1, dtype=F64), prior.centre[None], 4 * torch.eye(N, dtype=F64)[None])
    mean, std = exact.posterior(y, physics, SIGMA).moments()
    found = Flower(prior, 100, SIGMA, scale=2.0, uncertain=True).sample(y, physics, 2000)
    assert float(((found.mean[0] - mean).abs() / std).max()) < 0.15
    assert_close(found.std[0], std, rtol=0.08, atol=0)
    still = Flower(prior, 100, SIGMA, scale=2.0).sample(y, physics, 1000)
    assert (still.std[0] < 0.9 * std).all()


# -- steps written out --------------------------------------------------------------------------------
HERE = Level(0.5, 0.5, 0.5)


def solved(physics, y, z, gamma):
    """The proximal step of the data by a direct solver, batch of one."""
    m = physics.matrix
    system = torch.eye(N, dtype=m.dtype) + gamma * m.mH @ m
    return torch.linalg.solve(system, z.flatten() + gamma * m.mH @ y.flatten()).reshape(z.shape)


def one_step(sampler, y, physics, x, **more):
    """Step 10 of 20 of a flow, from t = first / 2."""
    problem = Problem(y, physics, sampler.priors)
    state = sampler.begin(problem, x, torch.ones(1, dtype=torch.int64))._replace(x=x, **more)
    return sampler.move(problem, state, 10), state, sampler.level(10), sampler.level(11)


@DTYPES
def test_step_of_pigdm(dtype):
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = PiGDM(prior, 20, SIGMA, scale=0.8, randomness=0.4, cg_rtol=1e-13)
    moved, state, here, there = one_step(sampler, y, physics, x)
    c, m, eye = covariance(dtype), physics.matrix, torch.eye(N, dtype=dtype)
    jacobian = here.a * c @ torch.linalg.inv(here.a**2 * c + here.s**2 * eye)
    mean, r2 = prior.estimate(x, here.t), uncertainty(here, 0.8) ** 2
    assert r2 == pytest.approx(1 / (1 / 0.64 + (here.a / here.s) ** 2))
    left = (y - physics.A(mean)).flatten()
    inner = torch.linalg.solve(r2 * m @ m.mH + SIGMA**2 * torch.eye(4, dtype=dtype), left)
    guided = mean + (here.s**2 / here.a * jacobian.mH @ (m.mH @ inner)).reshape(x.shape)
    c2 = 0.4 * there.s * math.sqrt(1 - (here.a * there.s / there.a / here.s) ** 2)
    noise = (x - here.a * guided) / here.s
    expected = there.a * guided + math.sqrt(there.s**2 - c2**2) * noise + c2 * sampler.draw(state, x, 10)
    assert_close(moved.x, expected, rtol=1e-8, atol=1e-8)


@DTYPES
def test_step_of_dps(dtype):
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = DPS(prior, 20, guidance=0.7)
    moved, state, here, there = one_step(sampler, y, physics, x)
    c, m = covariance(dtype), physics.matrix
    jacobian = here.a * c @ torch.linalg.inv(here.a**2 * c + here.s**2 * torch.eye(N, dtype=dtype))
    mean = prior.estimate(x, here.t)
    left = physics.A(mean) - y
    slope = jacobian.mH @ m.mH @ left.flatten() / left.abs().square().sum().sqrt()
    plain = reverse_step(x, mean, here, there, 1.0, sampler.draw(state, x, 10))
    assert_close(moved.x, plain - 0.7 * slope.reshape(x.shape))


@DTYPES
def test_step_of_diffpir(dtype):
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = DiffPIR(prior, 20, SIGMA, weight=3.0, randomness=0.4, cg_rtol=1e-13)
    moved, state, here, there = one_step(sampler, y, physics, x)
    fit = solved(physics, y, prior.estimate(x, here.t), (here.s / here.a) ** 2 / (3 * SIGMA**2))
    noise = math.sqrt(0.6) * (x - here.a * fit) / here.s + math.sqrt(0.4) * sampler.draw(state, x, 10)
    assert_close(moved.x, there.a * fit + there.s * noise, rtol=1e-9, atol=1e-9)


@DTYPES
def test_step_of_flower(dtype):
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = Flower(prior, 20, SIGMA, cg_rtol=1e-13)
    moved, state, here, there = one_step(sampler, y, physics, x)
    nu = here.t / math.sqrt(here.t**2 + (1 - here.t) ** 2)
    mu = solved(physics, y, x - here.t * prior.velocity(x, here.t), (nu / SIGMA) ** 2)
    assert_close(moved.x, (1 - there.t) * mu + there.t * sampler.draw(state, x, 10), rtol=1e-9, atol=1e-9)


@DTYPES
def test_step_of_pnp_flow(dtype):
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = PnPFlow(prior, 20, step_size=0.9, power=0.5, averages=3)
    moved, state, here, _ = one_step(sampler, y, physics, x)
    norm = torch.linalg.matrix_norm(physics.matrix, 2) ** 2
    z = x - 0.9 * math.sqrt(here.t) / norm * physics.A_adjoint(physics.A(x) - y)
    noisy = (1 - here.t) * z + here.t * sampler.draw(state, z.expand(3, *z.shape), 10)[:, 0]
    expected = (noisy - here.t * prior.velocity(noisy, here.t)).mean(0, keepdim=True)
    assert_close(moved.x, expected, rtol=1e-2, atol=1e-3)  # the operator's norm is an upper estimate


@DTYPES
def test_step_of_daps(dtype):
    """Many steps of the ODE of a Gaussian come to x scaled by the ratio of deviations along each of its axes."""
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = DAPS(prior, 20, SIGMA, ode_steps=300, cg_rtol=1e-13)
    moved, state, here, there = one_step(sampler, y, physics, x)
    variances, vectors = torch.linalg.eigh(covariance(dtype))
    ratio = (variances / (here.a**2 * variances + here.s**2)).sqrt().to(dtype)
    away = vectors.mH @ (x - here.a * prior.centre).flatten()
    image = prior.centre + (vectors @ (ratio * away)).reshape(x.shape)
    z = sampler.draw(state, x, 10, 1), sampler.draw(state, y, 10, 2)
    r = here.s / here.a
    fit = solved(physics, y + SIGMA * z[1], image + r * z[0], (r / SIGMA) ** 2)
    assert_close(moved.x, there.a * fit + there.s * sampler.draw(state, x, 10), rtol=3e-3, atol=3e-3)


@DTYPES
def test_step_of_coarse_to_fine(dtype):
    prior, physics, y = setting(dtype)
    x = torch.randn(1, *SHAPE, dtype=dtype)
    sampler = CoarseToFine(prior, 20, SIGMA, beta=0.3, step_size=0.05, cg_rtol=1e-13)
    moved, state, *_ = one_step(sampler, y, physics, x, level=torch.full((1,), 0.6, dtype=F64))
    h = 0.05 * 11 / (1 + 0.05 * 10)
    d = solved(physics, y, prior.denoise(x, 0.6), (0.6 / SIGMA) ** 2) - x
    level = d.abs().square().mean().sqrt()
    added = torch.sqrt((1 - 0.3 * h) ** 2 - (1 - h) ** 2 + 0 * level) * level
    assert_close(moved.x, x + h * d + added * sampler.draw(state, x, 10), rtol=1e-9, atol=1e-9)
    assert_close(moved.level, (1 - 0.3 * h) * level.reshape(1))


def test_projection_of_noiseless_data():
    """Where the data have next to no noise, d is Kadkhodaie and Simoncelli's: the data's part and the denoiser's."""
    prior, physics, _ = setting()
    y, x = physics.A(prior.sample(1)), torch.randn(1, *SHAPE, dtype=F64)
    sampler = CoarseToFine(prior, 20, 1e-4, beta=1.0, step_size=0.05, cg_iterations=100, cg_rtol=1e-14)
    moved, *_ = one_step(sampler, y, physics, x, level=torch.full((1,), 0.6, dtype=F64))
    inverse = torch.linalg.pinv(physics.matrix)
    onto = inverse @ physics.matrix
    residual = (prior.denoise(x, 0.6) - x).flatten()
    d = residual - onto @ residual + inverse @ (y - physics.A(x)).flatten()
    h = 0.05 * 11 / (1 + 0.05 * 10)
    assert_close(moved.x, x + h * d.reshape(x.shape), rtol=1e-5, atol=1e-5)


@DTYPES
def test_derivative_is_the_covariance(dtype):
    prior, x = gaussian(dtype), torch.randn(1, *SHAPE, dtype=dtype)
    a = s = torch.tensor(0.5, dtype=F64)
    estimate, pullback = estimate_and_pullback(prior, x, 0.5)
    assert_close(estimate, prior.estimate(x, 0.5))
    rows = torch.cat([pullback(e.reshape(x.shape)).flatten(1) for e in torch.eye(N, dtype=dtype)]).mT
    c = torch.linalg.inv(torch.linalg.inv(covariance(dtype)) + (a / s) ** 2 * torch.eye(N, dtype=F64))
    assert_close(s**2 / a * rows, c)


@DTYPES
def test_data_sample(dtype):
    """Mean and covariance (A^H A / sigma^2 + I / r^2)^{-1}."""
    physics, r, count = dense(dtype), 0.7, 20_000
    y, mean = torch.randn(1, 4, dtype=dtype), torch.randn(1, *SHAPE, dtype=dtype)
    problem = Problem(y.expand(count, -1), physics)
    z = torch.randn(count, *SHAPE, dtype=dtype), torch.randn(count, 4, dtype=dtype)
    x = data_sample(problem, mean.expand(count, -1, -1, -1), r, torch.tensor([SIGMA]), z, 100, 1e-12).flatten(1)
    m = physics.matrix
    expected = torch.linalg.inv(m.mH @ m / SIGMA**2 + torch.eye(N, dtype=dtype) / r**2)
    assert_close(x.mean(0), solved(physics, y, mean, (r / SIGMA) ** 2).flatten(), rtol=0, atol=0.03)
    away = x - x.mean(0)
    assert_close(away.mT @ away.conj() / count, expected, rtol=0, atol=0.02)


# -- the loop -----------------------------------------------------------------------------------------
@BY_SAMPLER
@pytest.mark.parametrize("dtype", [torch.float32, C64, F64, C128], ids=str)
def test_kinds_of_images(make, dtype):
    prior, physics = gaussian(F64), Dense(dense(F64).matrix, SHAPE)
    y = torch.randn(2, 4, dtype=dtype)
    before = y.clone()
    found = make(prior).sample(y, physics, 3)
    assert found.samples.shape == (2, 3, *SHAPE) and found.samples.dtype == dtype
    assert found.std.dtype == torch.empty((), dtype=dtype).real.dtype
    assert torch.equal(y, before) and not found.samples.requires_grad
    assert make(prior)(y, physics).shape == (2, *SHAPE)
    assert isinstance(make(prior), deepinv.models.Reconstructor)


@BY_SAMPLER
def test_on_another_device(make):
    prior, physics, y = setting(C128)
    expected = make(prior, steps=5).sample(y, physics, 2, torch.Generator().manual_seed(0)).samples
    with Elsewhere() as device:
        found = (
            make(prior.to(device), steps=5)
            .sample(y.to(device), physics.to(device), 2, torch.Generator().manual_seed(0))
            .samples
        )
        assert found.device == device
        assert_close(found.cpu(), expected)


@BY_SAMPLER
def test_generator_decides(make):
    prior, physics, y = setting()
    first, again, other = (
        make(prior).sample(y, physics, 2, torch.Generator().manual_seed(seed)).samples for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[:, 0], first[:, 1])
    torch.manual_seed(9)
    one = make(prior)(y, physics)
    torch.manual_seed(9)
    assert torch.equal(one, make(prior)(y, physics))


class Memory:
    """A checkpoint."""

    def __init__(self):
        self.kept = None

    def load(self, like):
        return self.kept

    def due(self):
        return False

    def save(self, progress):
        self.kept = progress


@BY_SAMPLER
def test_goes_on_bit_for_bit(make):
    prior, physics, y = setting()

    def sample(**kwargs):
        return make(prior).sample(y, physics, 2, torch.Generator().manual_seed(1), **kwargs).samples

    def stop(progress):
        if progress.iteration == 7:
            raise KeyboardInterrupt

    memory = Memory()
    with pytest.raises(KeyboardInterrupt):
        sample(callback=stop, checkpoint=memory)
    assert memory.kept.iteration == 7
    assert torch.equal(sample(checkpoint=memory), sample())
    stopped = make(prior).solve(y, physics, callback=lambda p: p.iteration < 7)
    whole = make(prior).solve(y, physics, state=stopped.state)
    assert torch.equal(make(prior).solve(y, physics, state=whole.state).image, whole.image), "a sample stays"


@BY_SAMPLER
def test_inference_mode_changes_nothing(make):
    prior, physics, y = setting()
    expected = make(prior).sample(y, physics, generator=torch.Generator().manual_seed(1)).samples
    with torch.inference_mode():
        found = make(prior).sample(y.clone(), physics, generator=torch.Generator().manual_seed(1)).samples
    assert_close(found, expected)


def test_one_sample_has_no_spread():
    prior, physics, y = setting(C128)
    found = SAMPLERS["Flower"](prior).sample(y, physics, 1)
    assert found.std.isnan().all() and found.std.dtype == F64 and torch.equal(found.mean, found.samples[:, 0])


def test_history_and_progress():
    prior, physics, y = setting()
    seen = []
    found = SAMPLERS["PiGDM"](prior).sample(y, physics, 3, callback=lambda p: seen.append(p.iteration))
    assert seen == list(range(1, 21)) and found.history["relative_change"].shape == (20, 3)
    solution = SAMPLERS["PiGDM"](prior).solve(y, physics)
    assert_close(solution.certificate, Problem(y, physics).residual(solution.image) / y.norm(dim=1))


def test_steps_that_are_not_finite():
    prior, physics, y = setting()
    broken = DenoiserDiffusion(lambda x, sigma: prior.denoise(x, sigma) / (sigma > 0.5))
    with pytest.raises(Diverged, match=r"sample 0 of image 0 diverged within \d+ steps"):
        Unguided(broken, 20).sample(y, physics, 2)


def test_coarse_to_fine_ends_where_little_noise_is_left():
    prior, physics, y = setting()
    solution = CoarseToFine(prior, 2000, SIGMA, step_size=0.1, stop=NoiseLeft(0.1)).solve(y, physics)
    assert solution.status == ("converged",) and solution.iterations < 2000
    assert float(solution.history["noise_left"][-1]) <= 0.1 < float(solution.history["noise_left"][-2])


def test_refusals():
    prior, physics, y = setting()
    with pytest.raises(TypeError, match="found L1, expected a prior with a mean, a Diffusion"):
        DPS(L1())
    with pytest.raises(ValueError, match="noise_std: found none stated and none above 0 in the data"):
        PiGDM(prior)(y, physics)
    with pytest.raises(ValueError, match="samples: found 0, expected at least 1"):
        DPS(prior).sample(y, physics, 0)
    for wrong, message in [
        (lambda: PiGDM(prior, noise_std=-1), "noise_std: found -1"),
        (lambda: PiGDM(prior, randomness=2), "randomness: found 2"),
        (lambda: PiGDM(prior, scale=0), "scale: found 0"),
        (lambda: Flower(prior, scale=0), "scale: found 0"),
        (lambda: Projection(prior, guidance=-1), "guidance, randomness: found -1"),
        (lambda: DPS(prior, guidance=-1), "guidance, randomness: found -1"),
        (lambda: DiffPIR(prior, weight=0), "weight, randomness: found 0"),
        (lambda: DAPS(prior, ode_steps=0), "ode_steps: found 0"),
        (lambda: PnPFlow(prior, step_size=3), "step_size, power, averages: found 3"),
        (lambda: CoarseToFine(prior, beta=0), "first, beta, step_size: found"),
        (lambda: DPS(prior, steps=0), "max_iter: found 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


@DTYPES
def test_moment_matching_bears_a_denoiser_that_is_no_mean(dtype):
    """Whose derivative is no covariance: conjugate gradients stop where the system is not positive."""
    turned = torch.linalg.qr(torch.randn(N, N, generator=torch.Generator().manual_seed(8), dtype=F64))[0]
    prior = DenoiserDiffusion(lambda x, sigma: (2 * x.flatten(1) @ turned).reshape(x.shape))
    physics, y = dense(dtype), torch.randn(1, 4, dtype=dtype)
    assert MomentMatching(prior, 5, SIGMA).sample(y, physics, 3).samples.isfinite().all()


BY_NOISE = ["MomentMatching", "PiGDM", "DiffPIR", "DAPS", "Flower", "Flower, uncertain", "CoarseToFine", "FLAIR"]


@pytest.mark.parametrize("name", BY_NOISE)
def test_each_image_has_a_noise_level_of_its_own(monkeypatch, name):
    """Of a batch whose images differ in noise each comes out as by itself, and otherwise than with the other's."""
    silent(monkeypatch)
    make = SAMPLERS.get(name, lambda p, **kw: FLAIR(p, lambda t: t, 20, cg_rtol=1e-12))
    prior, levels = gaussian(schedule=FlowMatching()), (0.05, 0.5)
    y = dense().A(prior.sample(2, torch.Generator().manual_seed(3)))

    def drawn(y, *levels):
        noise = deepinv.physics.GaussianNoise(torch.tensor(levels, dtype=F64))
        return make(prior, noise_std=None)(y, Dense(dense().matrix, SHAPE, noise_model=noise))

    both, swapped = drawn(y, *levels), drawn(y, *levels[::-1])
    assert_close(both, torch.cat([drawn(y[:1], levels[0]), drawn(y[1:], levels[1])]), rtol=1e-6, atol=1e-8)
    assert bool((norms(both - swapped) > 1e-3 * norms(both)).all())


@BY_SAMPLER
def test_samples_of_images_whose_operators_differ(monkeypatch, make):
    """Several of each image, drawn at once, are those of the image by itself."""
    silent(monkeypatch)
    masks = torch.ones(2, 1, 2, 3, dtype=F64)
    masks[0, ..., 0], masks[1, ..., 1] = 0, 0
    prior, physics = gaussian(C128, FlowMatching()), CartesianMRI(masks)
    y = physics.A(prior.sample(2, torch.Generator().manual_seed(3)))
    both = make(prior).sample(y, physics, 3).samples
    for i in range(2):
        alone = make(prior).sample(y[i : i + 1], CartesianMRI(masks[i, 0]), 3).samples
        assert_close(both[i : i + 1], alone, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["ours", "deepinv's"])
def test_samples_of_images_whose_noise_differs(elsewhere):
    """All samples of an image have its level: their spread is that of the posterior with it."""
    prior, levels = gaussian(), (0.05, 2.0)
    y = dense().A(prior.sample(2, torch.Generator().manual_seed(3)))
    noise, ours = deepinv.physics.GaussianNoise(torch.tensor(levels)), dense()
    physics = Dense(ours.matrix, SHAPE, noise_model=noise)
    if elsewhere:
        physics = deepinv.physics.LinearPhysics(A=ours.A, A_adjoint=ours.A_adjoint, noise_model=noise)
    found = MomentMatching(prior, 60).sample(y, physics, 400, torch.Generator().manual_seed(5)).std
    for std, level in zip(found, levels, strict=True):
        exact = posterior(prior, y[:1], dense(), level).moments()[1]
        assert_close(std, exact.reshape(SHAPE), rtol=0.15, atol=0)


def test_noise_level_of_the_operator():
    prior, _, y = setting()
    physics = Dense(dense().matrix, SHAPE, noise_model=deepinv.physics.GaussianNoise(SIGMA))
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    told = PiGDM(prior, 10, SIGMA).sample(y, physics, 2, generators[0]).samples
    assert_close(PiGDM(prior, 10).sample(y, physics, 2, generators[1]).samples, told, rtol=1e-5, atol=1e-5)
