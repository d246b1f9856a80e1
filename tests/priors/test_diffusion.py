"""Diffusion priors: one mean, from which denoiser, score and velocity follow; Gaussians, where all are known."""

import math

import deepinv
import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, Dense
from resolvent.priors import (
    Cosine,
    Denoiser,
    DenoiserDiffusion,
    DRUNet,
    ExponentialVariance,
    FlowMatching,
    GaussianMixture,
    GaussianPrior,
    Late,
    OrnsteinUhlenbeck,
    ScoreDiffusion,
    TimeUNet,
    VarianceExploding,
    VariancePreserving,
    VelocityDiffusion,
    load_denoiser,
    save_weights,
)
from resolvent.priors.schedule import noise_like
from resolvent.priors.weights_file import WeightsError

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
SHAPE, N = (1, 2, 3), 6
SCHEDULES = [
    VarianceExploding(0.1, 5), VariancePreserving(), Cosine(), FlowMatching(), ExponentialVariance(),
    Late(VariancePreserving(), 0.5), OrnsteinUhlenbeck(0.7),
]  # fmt: skip
BY_SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
TIMES = torch.tensor([0.05, 0.4, 0.9], dtype=F64)


def covariance(dtype, seed):
    root = torch.randn(N, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return root @ root.mH / N + 0.05 * torch.eye(N)


def mixture(dtype=F64, schedule=None, components=3):
    generator = torch.Generator().manual_seed(7)
    means = 2 * torch.randn(components, *SHAPE, generator=generator, dtype=dtype)
    weights = torch.linspace(1, 2, components, dtype=F64)
    return GaussianMixture(weights, means, torch.stack([covariance(dtype, k) for k in range(components)]), schedule)


def gaussian(dtype=F64, schedule=None):
    return GaussianPrior.dense(torch.ones(SHAPE, dtype=dtype), covariance(dtype, 0), schedule)


PRIORS = pytest.mark.parametrize("make", [gaussian, mixture])


def images(dtype=F64, count=3):
    return torch.randn(count, *SHAPE, dtype=dtype)


def energy(x):
    return x.abs().square().flatten(1).sum(1)


@BY_SCHEDULE
def test_schedules(schedule):
    t = TIMES.clone().requires_grad_()
    a, s = schedule.signal(t), schedule.noise(t)
    rates = [torch.autograd.grad((v + 0 * t).sum(), t, retain_graph=True)[0] for v in (a, s)]
    assert_close(schedule.rates(TIMES), tuple(rates))
    assert_close(schedule.time(3 * a, 3 * s), TIMES)
    level = (s / a).detach()
    assert (level.diff() > 0).all()


@DTYPES
@BY_SCHEDULE
@PRIORS
def test_mean_score_noise_and_velocity_say_the_same(make, schedule, dtype):
    prior, x = make(dtype, schedule), images(dtype)
    for t in (TIMES, 0.4):
        s, a = (v(torch.as_tensor(t, dtype=F64)).reshape(-1, 1, 1, 1) for v in (schedule.noise, schedule.signal))
        da, ds = (r.reshape(-1, 1, 1, 1) for r in schedule.rates(torch.as_tensor(t, dtype=F64)))
        mean, noise, score, velocity = (f(x, t) for f in (prior.estimate, prior.noise, prior.score, prior.velocity))
        assert_close(a * mean + s * noise, x)
        assert_close(a * mean, x + s**2 * score, rtol=1e-10, atol=1e-10)
        assert_close(velocity, da * mean + ds * noise)
        assert_close(velocity, da / a * x + s * (s * da / a - ds) * score, rtol=1e-10, atol=1e-10)
        assert_close(prior.denoise(x / a, (s / a).flatten()), mean, rtol=1e-10, atol=1e-10)


@DTYPES
@BY_SCHEDULE
def test_score_is_the_gradient_of_the_log_density(schedule, dtype):
    """x_t is again a mixture, of covariances a^2 C + s^2; torch's gradient is twice that by the conjugate."""
    prior, x, t = mixture(dtype, schedule), images(dtype).requires_grad_(), 0.4
    a, s = schedule.signal(torch.tensor(t, dtype=F64)), schedule.noise(torch.tensor(t, dtype=F64))
    noisy = GaussianMixture(prior.weights, a * prior.means, a**2 * prior.covariances + s**2 * torch.eye(N, dtype=F64))
    (gradient,) = torch.autograd.grad(noisy.log_prob(x).sum(), x)
    assert_close(prior.score(x.detach(), t), gradient / (2 if dtype.is_complex else 1), rtol=1e-9, atol=1e-9)
    assert_close(prior.score(x.detach(), t), -noisy.grad(x.detach()), rtol=1e-9, atol=1e-9)


def test_log_density_of_real_images_is_torchs():
    prior, x = mixture(), images()
    kinds = torch.distributions.MultivariateNormal(prior.means.flatten(1), prior.covariances)
    whole = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(prior.weights), kinds)
    assert_close(prior.log_prob(x), whole.log_prob(x.flatten(1)))


def test_circular_noise_is_independent_parts_of_half_the_variance():
    """A complex mixture is the real one of [Re; Im] with covariances [[Re C, -Im C], [Im C, Re C]] / 2."""
    prior, x = mixture(C128), images(C128)
    c = prior.covariances
    real = torch.cat([torch.cat([c.real, -c.imag], 2), torch.cat([c.imag, c.real], 2)], 1) / 2
    means = torch.cat([prior.means.real, prior.means.imag], 1)
    parts = GaussianMixture(prior.weights, means, real)
    assert_close(prior.log_prob(x), parts.log_prob(torch.cat([x.real, x.imag], 1)))
    expected = parts.denoise(torch.cat([x.real, x.imag], 1), 0.3 / math.sqrt(2))
    assert_close(prior.denoise(x, 0.3), torch.complex(*expected.chunk(2, 1)))


@pytest.mark.parametrize("dtype", [torch.float32, F64, C64, C128], ids=str)
def test_noise_has_variance_one(dtype):
    z = noise_like(torch.empty(100_000, dtype=dtype), torch.Generator().manual_seed(0))
    assert z.dtype == dtype and float(z.abs().square().mean()) == pytest.approx(1, abs=0.02)
    if dtype.is_complex:
        assert float(z.real.square().mean()) == pytest.approx(0.5, abs=0.02)
        assert abs(complex(z.square().mean())) < 0.02


@DTYPES
def test_one_component_is_the_gaussian_prior(dtype):
    one, other, x = mixture(dtype, components=1), gaussian(dtype), images(dtype)
    other = GaussianPrior.dense(one.means[0], one.covariances[0])
    assert_close(one.estimate(x, TIMES), other.estimate(x, TIMES))
    assert_close(one.fn(x) - one.fn(x[:1]), other.fn(x) - other.fn(x[:1]))


def test_stationary_prior_is_wieners_filter():
    basis = CartesianMRI(torch.ones(4, 5))
    f = torch.meshgrid(*(torch.fft.fftshift(torch.fft.fftfreq(n, dtype=F64)) for n in (4, 5)), indexing="ij")
    power = 1 / (0.05 + f[0] ** 2 + 2 * f[1] ** 2)
    prior, x = GaussianPrior(torch.zeros(1, 4, 5, dtype=F64), power[None], basis), torch.randn(2, 1, 4, 5, dtype=F64)
    wiener = torch.fft.ifft2(torch.fft.fft2(x) * torch.fft.ifftshift(power / (power + 0.25))).real
    assert_close(prior.denoise(x, 0.5), wiener)


@DTYPES
@BY_SCHEDULE
@PRIORS
def test_models_of_any_of_them_are_the_same_prior(make, schedule, dtype):
    """A model of the velocity or the score of one schedule serves every other schedule within its noise levels."""
    truth, x = make(dtype, schedule), images(dtype)
    for model in (VelocityDiffusion(truth.velocity, schedule), ScoreDiffusion(truth.score, schedule)):
        assert_close(model.estimate(x, TIMES), truth.estimate(x, TIMES), rtol=1e-9, atol=1e-9)
        assert_close(model.denoise(x, 0.7), truth.denoise(x, 0.7), rtol=1e-9, atol=1e-9)
        elsewhere = Cosine(0.3, 0.9)
        model.schedule, moved = schedule, make(dtype, elsewhere)
        sigma = elsewhere.noise(TIMES) / elsewhere.signal(TIMES)
        assert_close(model.denoise(x, sigma), moved.denoise(x, sigma), rtol=1e-9, atol=1e-9)
    if dtype == F64:
        model = DenoiserDiffusion(truth.denoise, schedule)
        assert_close(model.velocity(x, TIMES), truth.velocity(x, TIMES), rtol=1e-9, atol=1e-9)


def test_velocity_model_knows_pure_noise():
    """At time 1 of a flow nothing is left of the image: its mean is the prior's."""
    truth, x = mixture(), images()
    expected = torch.einsum("k,kcij->cij", truth.weights, truth.means).expand_as(x)
    for prior in (truth, VelocityDiffusion(truth.velocity)):
        assert_close(prior.estimate(x, 1.0), expected)


def test_image_without_noise():
    """At time 0 the mean is the image, and of the noise nothing is known but its mean."""
    for prior in (gaussian(), mixture()):
        x = images()
        assert_close(prior.estimate(x, 0.0), x)
        assert_close(prior.noise(x, 0.0), 0 * x)
        assert_close(prior.velocity(x, 0.0), -x)


def test_denoiser_of_parts():
    """Complex images whose parts are alike and independent: the real denoiser of one part serves both."""
    real = GaussianPrior.dense(torch.ones(SHAPE, dtype=F64), covariance(F64, 0) / 2)
    both = GaussianPrior.dense(torch.full(SHAPE, 1 + 1j, dtype=C128), covariance(F64, 0).to(C128))
    x = images(C128)
    model = DenoiserDiffusion(lambda x, sigma: real.denoise(x, sigma), VarianceExploding())
    assert_close(model.estimate(x, TIMES), GaussianPrior.estimate(_with(both, model.schedule), x, TIMES))
    assert_close(model.denoise(x, 0.3), both.denoise(x, 0.3))


def _with(prior, schedule):
    prior.schedule = schedule
    return prior


def test_denoisers_of_both_libraries(tmp_path):
    x = torch.rand(2, 1, 8, 8)
    save_weights(tmp_path / "net.safetensors", DRUNet([2, 2, 2, 2], 1))
    trained = DenoiserDiffusion(str(tmp_path / "net.safetensors"))
    assert_close(trained.denoise(x, 0.2), load_denoiser(tmp_path / "net.safetensors")(x, 0.2))
    theirs = deepinv.models.DRUNet(1, 1, (2, 2, 2, 2), 1, pretrained=None).eval()
    prior = DenoiserDiffusion(theirs, VariancePreserving())
    with torch.no_grad():
        assert_close(prior.denoise(x, 0.2), theirs(x, 0.2))
        assert prior.velocity(torch.complex(x, x), torch.tensor([0.3, 0.4])).dtype == C64


def test_flow_of_deepinv_has_the_opposite_sign():
    """Its velocity is that of the way back, minus ours, once it is told that images are not in [0, 1]."""
    prior, x = gaussian(), images()
    told = deepinv.models.base.Denoiser()
    told.forward = lambda u, sigma, **_: prior.denoise(u.double(), torch.as_tensor(sigma).flatten().double()).float()
    flow = deepinv.sampling.FlowMatching(denoiser=told, minus_one_one=False, dtype=F64)
    assert_close(-flow.velocity(x, 0.4).double(), prior.velocity(x, 0.4), rtol=1e-5, atol=1e-5)


@DTYPES
def test_denoises_in_place_of_a_proximal_step(dtype):
    prior, v = mixture(dtype), images(dtype)
    assert prior.has_value and prior.has_grad and not prior.has_prox
    assert_close(Denoiser(prior.denoise, sigma=None).prox(v, gamma=0.09), prior.denoise(v, 0.3))


@DTYPES
@PRIORS
def test_samples_have_the_priors_moments(make, dtype):
    prior, generator = make(dtype), torch.Generator().manual_seed(3)
    x = prior.sample(40_000, generator).flatten(1)
    whole = prior if isinstance(prior, GaussianMixture) else GaussianMixture(
        torch.ones(1, dtype=F64), prior.centre[None], covariance(dtype, 0)[None]
    )  # fmt: skip
    mean, std = whole.moments()
    assert_close(x.mean(0), mean.flatten(), rtol=0, atol=0.05)
    assert_close(x.std(0), std.flatten(), rtol=0.03, atol=0)
    m = whole.means.flatten(1)
    second = torch.einsum("k,kij->ij", whole.weights.to(m.dtype), whole.covariances + m[:, :, None] * m[:, None].conj())
    assert_close(x.mT @ x.conj() / len(x), second, rtol=0, atol=0.15)


@pytest.mark.parametrize("kinds", [(F64, F64), (C128, C128), (F64, C128)], ids=["real", "complex", "complex data"])
def test_posterior_is_bayes_rule(kinds):
    """log p(x|y) - log p(x) - log p(y|x) is the same number, -log p(y), for every x."""
    dtype, data = kinds
    prior, x, sigma = mixture(dtype), images(dtype, 5), 0.3
    physics = Dense(torch.randn(4, N, dtype=data), SHAPE)
    y = physics.A(images(dtype, 1).to(data)) if data == dtype else torch.randn(1, 4, dtype=data)
    posterior = prior.posterior(y, physics, sigma)
    misfit = energy(y - physics.A(x)) / sigma**2
    likelihood = -misfit / 2 if not data.is_complex else -misfit
    evidence = posterior.log_prob(x) - prior.log_prob(x) - likelihood
    assert_close(evidence, evidence[:1].expand_as(evidence), rtol=1e-9, atol=1e-9)


def test_refusals():
    eye = torch.eye(N, dtype=F64)
    with pytest.raises(ValueError, match="covariances: found the eigenvalue -1, expected all above 0"):
        GaussianMixture(torch.ones(1), torch.zeros(1, *SHAPE), -eye[None])
    with pytest.raises(ValueError, match=r"means, covariances: found shapes .* expected 2 of each, of 6 pixels"):
        GaussianMixture(torch.ones(2), torch.zeros(2, *SHAPE), eye[None])
    with pytest.raises(ValueError, match="weights: found"):
        GaussianMixture(torch.zeros(1), torch.zeros(1, *SHAPE), eye[None])
    with pytest.raises(ValueError, match=r"variances: found 0\.0, expected all above 0"):
        GaussianPrior.dense(torch.zeros(SHAPE), 0 * eye)
    with pytest.raises(ValueError, match=r"low, high: found 1, 0\.5"):
        VarianceExploding(1, 0.5)
    with pytest.raises(TypeError, match="found a real image, expected a complex one"):
        mixture(C128).denoise(images(), 0.1)


def test_a_network_of_both_parts_sees_them_together():
    """The mean of complex images whose parts belong together, from a denoiser of two channels."""
    prior = gaussian(C128)

    class Both(torch.nn.Module):
        channels = 2

        def forward(self, x, sigma):
            assert x.shape[1] == 2
            mean = prior.denoise(torch.complex(x[:, :1], x[:, 1:]), math.sqrt(2) * sigma)
            return torch.cat([mean.real, mean.imag], 1)

    x = images(C128)
    both = DenoiserDiffusion(Both())
    assert_close(both.denoise(x, TIMES), prior.denoise(x, TIMES))
    assert_close(both.score(x, 0.4), prior.score(x, 0.4))


@pytest.mark.parametrize("t", [1e-6, 1e-4, 3e-4, 1e-2, 0.5])
def test_ornstein_uhlenbeck_keeps_its_digits_at_early_times(t):
    schedule = OrnsteinUhlenbeck()
    exact = schedule.noise(torch.tensor(t, dtype=torch.float64))
    assert_close(schedule.noise(torch.tensor(t)).double(), exact, rtol=1e-5, atol=0)
    assert float(schedule.time(torch.tensor(1.0), torch.tensor(1e5))) == 1


@BY_SCHEDULE
def test_velocity_is_a_number_from_the_first_time_on(schedule):
    assert gaussian(schedule=schedule).velocity(images(), 0.0).isfinite().all()


GAUSSIAN = {"class_path": "resolvent.priors.Gaussian", "init_args": {"low": 0.02, "high": 0.5, "power": 1.0}}


@pytest.mark.parametrize("dtype", [torch.float32, C64], ids=["real", "complex"])
@pytest.mark.parametrize("low", [0.0, 0.02])
def test_without_a_schedule_weights_are_asked_for_no_level_but_those_of_their_training(
    tmp_path, monkeypatch, dtype, low
):
    """Nor for few of these; of complex images the parts count."""
    noise = GAUSSIAN | {"init_args": {"low": low, "high": 0.5}}
    save_weights(tmp_path / "w.safetensors", DRUNet([2, 2, 2, 2], 1, 2), config={"noise": noise})
    prior, asked = DenoiserDiffusion(str(tmp_path / "w.safetensors")), []
    monkeypatch.setattr(prior.denoiser, "forward", lambda x, sigma: asked.append(float(sigma)) or x)
    channels = 1 if dtype.is_complex else 2
    for t in (0.0, 0.5, 1.0):
        prior.estimate(torch.ones(1, channels, 8, 8, dtype=dtype), t)
    assert low - 1e-6 < min(asked) < 0.03 and 0.35 < max(asked) <= 0.5
    assert prior.schedule.first == 1


@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"noise": None},
        {"noise": {"class_path": "resolvent.priors.OnPath", "init_args": {"low": 0.1, "high": 0.5}}},
        {"noise": GAUSSIAN | {"init_args": {"low": 0.1, "high": 0.1}}},
        {"noise": GAUSSIAN | {"init_args": {"low": "a", "high": 0.5}}},
        {"noise": GAUSSIAN | {"init_args": {"low": 0.1, "high": float("inf")}}},
        {"noise": GAUSSIAN | {"init_args": [0.1, 0.5]}},
        {"noise": "resolvent.priors.Gaussian"},
    ],
)
def test_weights_that_name_no_levels_have_the_schedule_of_all(tmp_path, config):
    save_weights(tmp_path / "w.safetensors", DRUNet([2, 2, 2, 2], 1, 1), config=config)
    assert isinstance(DenoiserDiffusion(str(tmp_path / "w.safetensors")).schedule, FlowMatching)


@pytest.mark.parametrize("name", ["Tensor", "Schedule", "noise_like", "os.system", 3, None])
def test_a_schedule_that_is_none_is_refused(tmp_path, name):
    path = {"class_path": "resolvent.priors.OnPath", "init_args": {"schedule": {"class_path": name, "init_args": {}}}}
    save_weights(tmp_path / "w.safetensors", TimeUNet([4, 8]), gives="a velocity", config={"noise": path})
    with pytest.raises(WeightsError, match=r"found a schedule .*, expected one of VarianceExploding"):
        VelocityDiffusion(str(tmp_path / "w.safetensors"))


def test_a_schedule_that_is_named_is_kept(tmp_path):
    save_weights(tmp_path / "w.safetensors", DRUNet([2, 2, 2, 2], 1, 1), config={"noise": GAUSSIAN})
    own = Cosine()
    assert DenoiserDiffusion(str(tmp_path / "w.safetensors"), own).schedule is own
    assert isinstance(DenoiserDiffusion(load_denoiser(tmp_path / "w.safetensors")).schedule, FlowMatching)
