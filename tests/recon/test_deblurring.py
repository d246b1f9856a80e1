"""Real camera shake: the captures of Levin et al. 2009 with kernels estimated from them."""

import pytest
import torch
from skimage.io import imread

from resolvent.operators import Blur, CircularBlur
from resolvent.priors import TV
from resolvent.priors.tv import gradient
from resolvent.recon import ADMM, Problem

CAPTURES = [f"im0{i}_ker0{k}" for i in (1, 2) for k in (1, 4)]
WEIGHT = 0.003


@pytest.fixture(params=CAPTURES)
def capture(request, shared_data):
    """The photograph in [0, 1] and its kernel."""
    folder = shared_data / "blur" / "levin_real"
    y = torch.as_tensor(imread(folder / f"{request.param}.png") / 255, dtype=torch.float32)[None, None]
    kernel = torch.as_tensor(imread(folder / f"{request.param}_out_kernel.png")).double()
    return y, kernel / kernel.sum()


def deblurred(y, physics):
    """The image, and the objective it came to."""
    problem = Problem(y, physics, (TV(WEIGHT),))
    image = ADMM(TV(WEIGHT)).solve(y, physics).image
    return image, float(problem.objective(image))


def sharpness(x, band):
    """Mean squared gradient within ``band`` pixels of the border, and further inside."""
    energy = gradient(x).square().sum(1)[0, 0]
    inside = torch.zeros_like(energy, dtype=torch.bool)
    inside[band:-band, band:-band] = True
    return torch.stack([energy[~inside].mean(), energy[inside].mean()])


@pytest.mark.slow
def test_sharp_and_no_ringing_at_the_border(capture):
    """The gradient's energy rises near the border as it does inside; wrapped around, it rises far more there.

    Scenes alike near the border and inside sharpen alike; a quarter is what scenes differ by.
    """
    y, kernel = capture
    band, shape = max(kernel.shape) // 2, y.shape[1:]
    honest, circular = Blur(kernel, shape), CircularBlur(kernel, shape)
    image, value = deblurred(y, honest)
    wrapped, worse = deblurred(y, circular)
    border, inside = sharpness(honest.frame(image), band) / sharpness(y, band)
    assert inside > 3
    assert border < 1.25 * inside
    border, inside = sharpness(wrapped, band) / sharpness(y, band)
    assert border > 2 * inside
    assert value < worse, "and explains the photograph worse"


@pytest.mark.slow
def test_the_estimated_kernels_are_convolution_kernels(capture):
    """As they are they explain the captures better than turned by 180 degrees."""
    y, kernel = capture
    _, value = deblurred(y, Blur(kernel, y.shape[1:]))
    _, turned = deblurred(y, Blur(kernel.flip(0, 1), y.shape[1:]))
    assert value < turned
