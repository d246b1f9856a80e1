import torch
from torch import nn

from resolvent.priors import Denoiser, Magnitude, MixedPrecision, load_denoiser


class Convolution(nn.Conv2d):
    def forward(self, x, sigma):
        return super().forward(x)


def test_products_are_rounded_to_eight_digits_and_sums_are_not():
    torch.manual_seed(0)
    plain = Convolution(32, 8, 7, bias=False)
    x = torch.randn(2, 32, 24, 24)
    exact, mixed = plain(x, 0.1), MixedPrecision(plain)(x, 0.1)
    bound = nn.functional.conv2d(x.abs(), plain.weight.abs()) / 64
    assert mixed.dtype == x.dtype
    assert 0 < (mixed - exact).abs().max() and ((mixed - exact).abs() <= bound).all()
    assert torch.equal(MixedPrecision(plain.double())(x.double(), 0.1), plain(x.double(), 0.1))


def test_a_shipped_denoiser_loses_less_than_a_hundredth_of_its_noise():
    torch.manual_seed(0)
    clean = torch.zeros(1, 1, 16, 16, 32)
    clean[..., 4:10, 5:12, 8:20] = 1
    noisy = (clean + 0.1 * torch.randn_like(clean)).abs()
    exact, mixed = (d(noisy, 0.1) for d in (load_denoiser("magnitude-denoiser"), MixedPrecision("magnitude-denoiser")))
    assert (mixed - clean).norm() < 1.01 * (exact - clean).norm()
    assert not torch.equal(mixed, exact) and mixed.min() >= 0


def test_it_stands_in_a_prior_for_complex_images():
    x = torch.randn(1, 1, 8, 8, 8, dtype=torch.complex64)
    prior = Magnitude(Denoiser(MixedPrecision("magnitude-denoiser"), 0.1))
    assert prior.prox(x, gamma=1.0).dtype == x.dtype
