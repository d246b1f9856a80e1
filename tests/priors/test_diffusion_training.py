"""Training of diffusion priors: what the losses' minimisers are, and the moving average of the weights."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from resolvent.priors import (
    Batch,
    Cosine,
    FlowMatching,
    Gaussian,
    GaussianPrior,
    MovingAverage,
    OnPath,
    ScoreMatching,
    TimeUNet,
    TrainingCheckpoint,
    VelocityDiffusion,
    VelocityMatching,
    cosine,
    train,
)
from resolvent.priors.network import Network

F64 = torch.float64


class Affine(Network):
    """``w x + b``: at one noise level, of Gaussian images of one pixel, what every loss can be minimised with."""

    def __init__(self, channels: int = 1, dim: int = 2):
        super().__init__()
        self.channels, self.dim = channels, dim
        self.slope, self.offset = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, sigma):
        self.calls += 1
        return self.slope * x + self.offset


def pixels(corruption, count=20_000, mean=0.5, std=0.3):
    """A batch of Gaussian pixels."""
    generator = torch.Generator().manual_seed(1)
    clean = mean + std * torch.randn(count, 1, 1, 1, generator=generator)
    noisy, sigma = zip(*(corruption(x, generator) for x in clean), strict=True)
    return Batch(clean, torch.stack(noisy), torch.stack(sigma))


def fitted(loss, batch):
    """The affine network that minimises a loss, which is quadratic in it: one Newton step."""
    network = Affine().double()
    batch = Batch(*(t.double() for t in batch[:3]))
    parameters = [network.slope, network.offset]
    gradient = torch.stack(torch.autograd.grad(loss(network, batch), parameters, create_graph=True))
    hessian = torch.stack([torch.stack(torch.autograd.grad(g, parameters, retain_graph=True)) for g in gradient])
    with torch.no_grad():
        for p, step in zip(parameters, torch.linalg.solve(hessian, gradient.detach()), strict=True):
            p -= step
    return network


@pytest.mark.parametrize("schedule", [FlowMatching(), Cosine()], ids=lambda s: type(s).__name__)
def test_velocity_matching_finds_the_velocity(schedule):
    """And its estimate of the clean image is the mean given the noisy one."""
    batch = pixels(OnPath(schedule, 0.4, 0.4 + 1e-6))
    loss, truth = VelocityMatching(schedule), GaussianPrior.dense(
        torch.full((1, 1, 1), 0.5, dtype=F64), torch.tensor([[0.09]], dtype=F64), schedule
    )  # fmt: skip
    network, x, t = fitted(loss, batch), torch.linspace(-1, 2, 5, dtype=F64).reshape(-1, 1, 1, 1), torch.full((5,), 0.4)
    assert_close(network(x, t), truth.velocity(x, 0.4), rtol=0.03, atol=0.03)
    assert_close(loss.estimate(network, x, t.double()), truth.estimate(x, 0.4), rtol=0.02, atol=0.02)


def test_score_matching_finds_the_denoiser():
    truth = GaussianPrior.dense(torch.full((1, 1, 1), 0.5, dtype=F64), torch.tensor([[0.09]], dtype=F64))
    network, x = (
        fitted(ScoreMatching(), pixels(Gaussian(0.2, 0.2))),
        torch.linspace(-1, 2, 5, dtype=F64).reshape(-1, 1, 1, 1),
    )
    assert_close(network(x, 0.2), truth.denoise(x, 0.2), rtol=0.02, atol=0.02)


def test_score_matching_counts_noise_levels_alike():
    """Of the denoiser that returns noise unchanged every level's loss is 1."""
    batch, network = pixels(Gaussian(0.01, 5.0, power=5)), Affine()
    network.slope.data.fill_(1)
    assert float(ScoreMatching()(network, batch).detach()) == pytest.approx(1, abs=0.05)
    error = (batch.noisy - batch.clean).flatten() / batch.sigma
    assert_close(error.square().mean(), ScoreMatching()(network, batch).detach())


def test_pixels_on_their_path():
    batch = pixels(OnPath(low=0.3, high=0.7), mean=2.0, std=0.0)
    noise = (batch.noisy.flatten() - (1 - batch.sigma) * 2) / batch.sigma
    assert 0.3 <= batch.sigma.min() < 0.31 and 0.69 < batch.sigma.max() <= 0.7
    assert float(noise.std()) == pytest.approx(1, abs=0.02) and abs(float(noise.mean())) < 0.02
    with pytest.raises(ValueError, match="low, high: found 0, 1"):
        OnPath(low=0, high=1)


@pytest.mark.parametrize("dim", [2, 3])
def test_network_of_images_and_time(dim):
    network, x = TimeUNet([4, 8], 3, 1, dim).double(), torch.randn(2, 1, *[6, 7, 5][:dim], dtype=F64)
    t = torch.tensor([0.2, 0.9], dtype=F64)
    both = network(x, t)
    assert both.shape == x.shape and not torch.equal(network(x, 0.2), network(x, 0.9))
    assert_close(both, torch.cat([network(x[:1], 0.2), network(x[1:], 0.9)]))
    assert VelocityDiffusion(network).score(x, t).shape == x.shape
    with pytest.raises(ValueError, match=r"widths: found \[6\], expected multiples of 4"):
        TimeUNet([6])


def batches(k):
    """A batch of step k, and of it alone."""
    generator = torch.Generator().manual_seed(k)
    clean = torch.randn(4, 1, 2, 2, generator=generator)
    return Batch(clean, clean + 0.3 * torch.randn(clean.shape, generator=generator), torch.full((4,), 0.3))


def test_average_is_its_recursion():
    network, seen = Affine(), []
    average = MovingAverage(network, 0.6)

    def after(step):
        seen.append((network.slope.item(), average.network.slope.item()))
        return False

    train(network, batches, ScoreMatching(), 12, cosine(0.05, 0.05, 12), after=after, average=average)
    mean = 0.0
    for k, (weight, kept) in enumerate(seen, 1):
        decay = min(0.6, (1 + k) / (10 + k))
        mean = decay * mean + (1 - decay) * weight
        assert kept == pytest.approx(mean, rel=1e-5)
    assert seen[-1][0] != seen[-1][1] and torch.equal(average.network.calls, network.calls)
    assert not average.network.training and not average.network.slope.requires_grad


def test_average_goes_on_bit_for_bit(tmp_path):
    def run(path, *stops):
        for stop in (*stops, 9):
            torch.manual_seed(0)
            network = TimeUNet([4], 2)
            average = MovingAverage(network, 0.9)
            checkpoint = TrainingCheckpoint(tmp_path / path, "run", every=0)
            train(network, batches, VelocityMatching(), stop, cosine(1e-2, 1e-2, 9), checkpoint, average=average)
        return network, average.network

    for whole, resumed in zip(run("whole"), run("resumed", 2, 3, 7), strict=True):
        states = whole.state_dict(), resumed.state_dict()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_refusals():
    with pytest.raises(ValueError, match="decay: found 1, expected a number from 0 to below 1"):
        MovingAverage(Affine(), 1)
