"""The weights that come with the package: each has a card, and does what the card says."""

import json

import pytest
import torch

from resolvent.datasets import ImageFolder, blobs
from resolvent.priors import Denoiser, load_denoiser
from resolvent.priors.inspection import asymmetry
from resolvent.priors.weights_file import read_description, shipped

NAMES = sorted(shipped())


def psnr(estimate, truth):
    return -10 * torch.log10((estimate - truth).square().mean()).item()


def photographs(shared_data):
    folder = ImageFolder(shared_data / "natural" / "set12", size=160)
    return torch.stack([image[:1, :160, :160].float() / 255 for image in folder.images])


def gain(denoise, clean, sigma):
    noisy = clean + sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return psnr(denoise(noisy, sigma), clean) - psnr(noisy, clean)


def test_the_promised_ones_are_there():
    assert {"image-denoiser", "learned-proximal", "magnitude-denoiser"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_size(name):
    """Data, seed, command, time and figures; a few megabytes."""
    path, about = shipped()[name], read_description(name)
    card = path.with_suffix(".md").read_text()
    for word in ("resolvent train", "seed", "Data", "Time", "dB"):
        assert word in card, f"{name}: the card does not state {word}"
    assert f"{about['metrics']['validation_psnr']:.2f} dB" in card
    assert path.stat().st_size < 8e6 and "/" not in json.dumps(about["config"]["data"])


def test_photographs(shared_data):
    """Unseen ones: most of what the published yardsticks of 8.9 to 12.5 dB gain over the noise."""
    denoise, clean = load_denoiser("image-denoiser"), photographs(shared_data)
    for sigma, least in ((15 / 255, 7), (25 / 255, 9), (50 / 255, 12)):
        assert gain(denoise, clean, sigma) > least


def test_magnitudes_of_unseen_scenes():
    clean = torch.stack([blobs((25, 25, 49), seed, "constant").abs()[0] for seed in range(2)])
    denoise = load_denoiser("magnitude-denoiser")
    assert (denoise(clean, 0.1) >= 0).all()
    for sigma in (0.05, 0.1, 0.2):
        assert gain(denoise, clean, sigma) > 10


def test_the_learned_proximal_network_is_a_proximal_operator_and_denoises(shared_data):
    """Symmetric Jacobian, convex potential by its weights' signs; two thirds of a denoiser's gain in dB."""
    network, clean = load_denoiser("learned-proximal"), photographs(shared_data)
    assert asymmetry(lambda y: network(y.float()).double(), clean[:1, :, :24, :24].double()) < 1e-5
    assert network.strong_convexity > 0
    assert gain(network, clean, 0.1) > 7


@pytest.mark.parametrize("name", NAMES)
def test_by_name_in_a_prior(name):
    prior = Denoiser(name, sigma=0.1)
    x = torch.rand(1, 1, *[16] * prior.denoiser.dim)
    assert prior.prox(x).shape == x.shape
