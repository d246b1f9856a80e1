"""What is true of every network, trained or not. A new one is one more row in ``CASES``."""

import copy

import pytest
import torch
from torch.testing import assert_close

from resolvent.priors import BiasFreeUNet, Denoiser, DRUNet, MagnitudeUNet
from resolvent.priors.batch_norm import BatchNorm, BiasFreeBatchNorm

F64 = torch.float64
CASES = {
    "magnitude, 3-D": lambda: MagnitudeUNet([4, 8]),
    "magnitude, 2-D": lambda: MagnitudeUNet([4, 8, 8], channels=3, dim=2),
    "bias-free, 2-D": lambda: BiasFreeUNet(4, halvings=2),
    "bias-free, 3-D": lambda: BiasFreeUNet(4, halvings=1, channels=2, dim=3),
    "DRUNet, 2-D": lambda: DRUNet([4, 4, 8, 8], blocks=1),
    "DRUNet, 3-D": lambda: DRUNet([2, 2, 4, 4], blocks=1, dim=3),
}
BIAS_FREE = [name for name in CASES if "magnitude" not in name]


@pytest.fixture(params=CASES)
def network(request):
    return CASES[request.param]().eval()


def used(network):
    """The network with the running statistics, and the gains, of one that has seen images."""
    network = network.train().to(F64)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.3)
    for _ in range(3):
        network(image(network, 1 + torch.rand(()).item()), 0.1)
    return network.eval()


def image(network, scale=1.0, size=(13, 10, 9), batch=2):
    return scale * torch.randn(batch, network.channels, *size[: network.dim], dtype=F64)


@pytest.mark.parametrize("size", [(13, 10, 9), (1, 1, 1), (16, 16, 16)])
def test_any_size_and_kind_of_level(network, size):
    network = used(network)
    x = image(network, size=size)
    y = network(x, 0.125)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    for level in (
        torch.tensor(0.125),
        torch.tensor([0.125]),
        torch.full((2,), 0.125),
        torch.full_like(x[:, :1], 0.125),
    ):
        assert_close(network(x, level), y)
    assert_close(network(x[1:], 0.125), y[1:], msg="an image should not depend on the others of its batch")


def test_rebuilt_from_its_arguments(network):
    twin = type(network)(**network.arguments)
    twin.load_state_dict(network.state_dict())
    x = image(network).float()
    assert torch.equal(twin.eval()(x, 0.2), network(x, 0.2))


def test_stands_for_a_prox(network):
    x = image(network).float()
    assert_close(Denoiser(network, 0.2).prox(x), network(x, 0.2))


def test_other_images_are_refused(network):
    for shape in [(1, network.channels + 1, *[8] * network.dim), (1, network.channels, *[8] * (5 - network.dim))]:
        with pytest.raises(ValueError, match=r"found an image of shape .* expected .B, "):
            network(torch.zeros(shape), 0.1)


@pytest.mark.parametrize("name", [name for name in CASES if "magnitude" in name])
def test_magnitudes_are_not_negative(name):
    """The network and the one whose head has the other sign: two nonnegative images, one of which is 0 everywhere."""
    network = used(CASES[name]())
    x = image(network, 3.0)
    y = network(x, 0.5)
    for p in network.head.parameters():
        p.data.neg_()
    z = network(x, 0.5)
    assert min(y.min(), z.min()) >= 0 and torch.equal(y * z, torch.zeros_like(y)) and (y + z).min() > 0


def test_training_reaches_voxels_whose_magnitude_is_clamped():
    network = MagnitudeUNet([2, 3]).train()
    with torch.no_grad():
        network.head.bias.fill_(-100)
    x = torch.rand(1, 1, 4, 4, 4)
    network(x, 0.1).sum().backward()
    assert network.head.weight.grad.abs().max() > 0 and network.eval()(x, 0.1).max() == 0


@pytest.mark.parametrize("name", BIAS_FREE)
@pytest.mark.parametrize("scale", [0.25, 3.7, 1e4])
def test_no_constant_is_added(name, scale):
    network = used(CASES[name]())
    x = image(network)
    y, scaled = network(x, 0.1), network(scale * x, scale * 0.1)
    assert (y - x).abs().max() > 1e-3, "the untrained network should do something"
    assert_close(scaled, scale * y, rtol=1e-10, atol=1e-10 * scale)


def test_bias_free_network_is_its_jacobian_times_the_image():
    network = used(BiasFreeUNet(4, halvings=1))
    y = image(network, size=(6, 5), batch=1)
    value, product = torch.autograd.functional.jvp(network, y, y)
    assert_close(product, value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "network, parameters", [(MagnitudeUNet, 1_357_505), (BiasFreeUNet, 7_659_264)], ids=["Oral", "Kadkhodaie"]
)
def test_published_sizes(network, parameters):
    assert sum(p.numel() for p in network().parameters()) == parameters


def test_batch_norm_is_torchs():
    ours, theirs = BatchNorm(3), torch.nn.BatchNorm2d(3)
    for _ in range(3):
        x = 2 + torch.randn(4, 3, 5, 6)
        assert_close(ours(x), theirs(x))
    assert_close(ours.state_dict(), theirs.state_dict())
    assert_close(ours.eval()(x), theirs.eval()(x))


def test_bias_free_batch_norm():
    layer = BiasFreeBatchNorm(2, momentum=1.0, eps=0.0)
    x = torch.tensor([5.0, 1.0])[:, None, None] + torch.tensor([3.0, 0.1])[:, None, None] * torch.randn(8, 2, 20, 20)
    std = x.transpose(0, 1).flatten(1).std(1, correction=0)
    expected = x * (layer.gain / std)[:, None, None]
    assert_close(layer(x), expected)
    assert_close(layer.running_std, std)
    frozen = copy.deepcopy(layer).eval()
    assert_close(frozen(7 * x), 7 * expected)


@pytest.mark.parametrize("make", [lambda: MagnitudeUNet(dim=4), lambda: BiasFreeUNet(dim=1)])
def test_other_dimensions_are_refused(make):
    with pytest.raises(ValueError, match=r"dim: found ., expected 2 or 3"):
        make()
