"""The conditional blind-spot network: blind exactly where it should be, and the identities of its loss."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.priors import Batch, BlindSpot, DRUNet, blind_spot
from resolvent.priors.blind_spot import (
    BlindSpotNetwork,
    blind_spot_loss,
    interleaved,
    normalised,
    random_cells,
    subsampled,
)

F64 = torch.float64


@pytest.fixture
def network():
    return BlindSpotNetwork(2, width=16, depth=9).double()


def own_influence(network, blind):
    """d out_p / d in_p at a middle pixel, every pair of channels."""
    x = torch.randn(1, 2, 61, 61, dtype=F64).requires_grad_()
    out = network.estimate(x, blind)
    return torch.stack([torch.autograd.grad(out[0, c, 30, 30], x, retain_graph=True)[0] for c in range(2)])


def test_blind_to_the_pixel_alone(network):
    blind, seeing = own_influence(network, True), own_influence(network, False)
    assert (blind[..., 30, 30] == 0).all()
    assert (seeing[..., 30, 30] != 0).all()
    assert (blind != 0).sum() > 1000


@pytest.mark.parametrize("branches", [((3, 1), (5, 3)), ((3, 2), (5, 2))], ids=["dilation 1", "2 behind 5 x 5"])
def test_other_dilations_see(monkeypatch, branches):
    monkeypatch.setattr(blind_spot, "BRANCHES", branches)
    assert (own_influence(BlindSpotNetwork(2, 16, 9).double(), True)[..., 30, 30] != 0).any()


def test_interleaved_pixels_do_not_meet(network):
    x = torch.randn(2, 2, 20, 15, dtype=F64).requires_grad_()
    (g,) = torch.autograd.grad(interleaved(network, x)[0, 0, 7, 6], x)
    assert (g[1] == 0).all()
    phase = torch.zeros(20, 15, dtype=torch.bool)
    phase[2::5, 1::5] = True
    assert (g[0][:, ~phase] == 0).all() and (g[0][:, phase] != 0).any() and (g[0][:, 7, 6] == 0).all()


def test_interleaving_is_undone():
    class Identity:
        def estimate(self, x, blind):
            assert blind and x.shape == (50, 3, 4, 3)
            return x

    x = torch.randn(2, 3, 20, 15)
    assert torch.equal(interleaved(Identity(), x), x)


def test_subsampling():
    y = torch.arange(16.0).reshape(1, 1, 4, 4)
    cells = torch.tensor([[[[0, 1], [2, 3]]]])
    assert torch.equal(subsampled(y, cells), torch.tensor([[[[0.0, 3.0], [12.0, 15.0]]]]))
    colour = torch.randn(2, 3, 8, 6)
    taken = random_cells(colour)
    assert torch.equal(subsampled(colour, taken)[:, 1:2], subsampled(colour[:, 1:2], taken))
    shares = random_cells(torch.zeros(1, 1, 400, 400)).flatten().bincount() / 40_000
    assert_close(shares, torch.full((4,), 0.25), rtol=0, atol=0.01)


def centre_taps(network):
    return [b.masked.weight.grad[..., b.masked.weight.shape[-1] // 2, b.masked.weight.shape[-1] // 2]
            for b in network.branches]  # fmt: skip


def test_loss_at_the_start_is_the_blind_term(network):
    y = torch.randn(2, 2, 20, 20, dtype=F64)
    loss = blind_spot_loss(network, y, 0.0)
    clean = normalised(y)[0]
    assert_close(loss, (interleaved(network, clean) - clean).abs().mean())
    loss.backward()
    assert all((tap == 0).all() for tap in centre_taps(network))
    network.zero_grad()
    blind_spot_loss(network, y, 1.0).backward()
    assert all((tap != 0).any() for tap in centre_taps(network))


def test_denoiser_follows_contrast_and_brightness(network):
    y = torch.randn(2, 2, 21, 17, dtype=F64)
    out = network(y, 0.1)
    assert out.shape == y.shape
    assert_close(network(3 * y + 5), 3 * out + 5)


def test_training_loss_raises_its_share(network):
    y = torch.randn(2, 2, 20, 20, dtype=F64)
    for progress, share in ((0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (1.0, 1.0)):
        torch.manual_seed(0)
        found = BlindSpot()(network, Batch(y, y, torch.ones(2), progress))
        torch.manual_seed(0)
        assert_close(found, blind_spot_loss(network, y, share), rtol=1e-12, atol=0)
    with pytest.raises(ValueError, match="loss: found BlindSpot for a DRUNet"):
        BlindSpot()(DRUNet([2] * 4, 1), Batch(y, y, torch.ones(2)))


def smooth(count, scale, generator):
    """Periodic random fields of unit deviation, smooth over ``scale`` pixels."""
    frequency = torch.fft.fftfreq(60)
    decay = torch.exp(-2 * (torch.pi * scale) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    field = torch.fft.ifft2(decay * torch.fft.fft2(torch.randn(count, 1, 60, 60, generator=generator))).real
    return field / field.std((2, 3), keepdim=True)


@pytest.mark.slow
def test_correlated_noise_is_removed_apart_and_copied_together():
    """Noise that spans about three pixels: white at every fifth pixel, foretold by its neighbours at every one."""
    generator = torch.Generator().manual_seed(0)
    clean = 0.5 + 0.15 * smooth(200, 8.0, generator)
    noisy = clean + 0.1 * smooth(200, 1.0, generator)

    def trained(loss):
        torch.manual_seed(0)
        network = BlindSpotNetwork(width=16, depth=2)
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        for step in range(500):
            optimiser.zero_grad()
            loss(network, noisy[torch.randint(180, (8,))], step).backward()
            optimiser.step()
        return network

    def plain(network, y, _):
        y, _, _ = normalised(y)
        return (network.estimate(y, blind=True) - y).abs().mean()

    apart = trained(lambda network, y, step: blind_spot_loss(network, y, min(step / 200, 1)))
    together = trained(plain)
    with torch.no_grad():
        y, mean, scale = normalised(noisy[180:])
        found = apart(noisy[180:]), scale * together.estimate(y, blind=True) + mean, noisy[180:]
        ours, copied, before = (float(-10 * (x - clean[180:]).square().mean().log10()) for x in found)
    assert ours > before + 2.5
    assert copied < before + 1.5
