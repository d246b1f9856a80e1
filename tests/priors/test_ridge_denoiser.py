"""The gradient step of a ridge regulariser against the regulariser's own value."""

import torch
from torch.testing import assert_close

from resolvent.priors import RidgeDenoiser, load_denoiser, save_weights

F64 = torch.float64


def small():
    return RidgeDenoiser([2, 3, 4], kernel=3).double()


def test_is_the_gradient_step_of_each_images_level():
    net, sigma = small(), (0.05, 0.3)
    x = torch.rand(2, 1, 9, 8, dtype=F64)
    images = net(x, torch.tensor(sigma, dtype=F64))
    for image, one, level in zip(images, x.split(1), sigma, strict=True):
        one.requires_grad_()
        (gradient,) = torch.autograd.grad(net.prior.at(level).fn(one), one)
        assert gradient.abs().max() > 1e-3
        assert_close(image[None], one - gradient)


def test_scales_with_image_and_level():
    net, x = small(), torch.rand(1, 1, 9, 8, dtype=F64)
    assert_close(net(7 * x, 0.7), 7 * net(x, 0.1))
    assert_close(net(x, 0.0), x, rtol=0, atol=1e-5)


def test_one_step_does_not_overshoot_at_first():
    """The derivative of the step is between 0 and 1 + rho where that of the potentials is between -rho and 1."""
    net, x = small(), torch.rand(1, 1, 5, 4, dtype=F64)
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v, 0.2), x).reshape(20, 20)
    eigenvalues = torch.linalg.eigvalsh(jacobian)
    assert eigenvalues.min() > -0.02 and eigenvalues.max() < 2 + 1e-9
    assert_close(jacobian, jacobian.T)


def test_learns_from_its_step(tmp_path):
    """Steps of Adam on one noisy ramp lower the error, and weights come back to half precision."""
    net, sigma = RidgeDenoiser([2, 3, 8], kernel=3), 0.1
    clean = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    noisy = clean + sigma * torch.randn(clean.shape)
    optimiser = torch.optim.Adam(net.parameters(), 0.02)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = (net(noisy, sigma) - clean).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0] < 0.7 * sigma**2 * 1.2
    save_weights(tmp_path / "w.safetensors", net)
    again, kept = load_denoiser(tmp_path / "w.safetensors")(noisy, sigma), net(noisy, sigma).detach()
    assert (again - kept).norm() < 2**-9 * (kept - noisy).norm()
