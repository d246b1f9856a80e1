"""The weights that come with the package: each has a card, and does what the card says."""

import json

import pytest
import torch

from resolvent.datasets import Haze, ImageFolder, Slices, Tissue, WithPhase, blobs
from resolvent.priors import Denoiser, DenoiserDiffusion, load_denoiser
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
    names = {"brain-score", "image-denoiser", "image-score", "learned-proximal", "magnitude-denoiser"}
    assert names | {"haze-score", "tissue-score"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_card_and_size(name):
    """Data, seed, command, time and figures; a few megabytes."""
    path, about = shipped()[name], read_description(name)
    card = path.with_suffix(".md").read_text()
    for word in ("resolvent train", "seed", "Data", "Time", "dB"):
        assert word in card, f"{name}: the card does not state {word}"
    assert f"{about['metrics']['validation_psnr']:.2f} dB" in card
    assert path.stat().st_size < 2.5e6 and "/" not in json.dumps(about["config"]["data"])
    kernels = sum(t.numel() for t in load_denoiser(name).state_dict().values() if t.ndim > 1)
    assert about["numbers"]["float16"] == kernels


def test_a_few_megabytes_in_all():
    assert sum(path.stat().st_size for path in shipped().values()) < 1e7


def test_photographs(shared_data):
    """Unseen ones: most of what the published yardsticks of 8.9 to 12.5 dB gain over the noise."""
    denoise, clean = load_denoiser("image-denoiser"), photographs(shared_data)
    for sigma, least in ((15 / 255, 7), (25 / 255, 9), (50 / 255, 12)):
        assert gain(denoise, clean, sigma) > least


def test_photographs_in_any_noise(shared_data):
    """A decibel at least above what knowing no more than their variance would gain."""
    denoise, clean = load_denoiser("image-score"), photographs(shared_data)
    variance = clean.var()
    for sigma in (0.05, 0.2, 1.0, 4.0):
        assert gain(denoise, clean, sigma) > 10 * torch.log10(1 + sigma**2 / variance) + 1


def test_magnitudes_of_unseen_scenes():
    clean = torch.stack([blobs((25, 25, 49), seed, "constant").abs()[0] for seed in range(2)])
    denoise = load_denoiser("magnitude-denoiser")
    assert (denoise(clean, 0.1) >= 0).all()
    for sigma in (0.05, 0.1, 0.2):
        assert gain(denoise, clean, sigma) > 10


@pytest.mark.parametrize("kind, most", [(Tissue, 1.0), (Haze, 1.3)])
def test_echoes_of_unseen_seeds(kind, most):
    """Beside the best linear filter for the truth's own mean spectrum, which of haze is nearly the best there is."""
    denoise, source = load_denoiser(f"{kind.__name__.lower()}-score"), kind(count=40, first_seed=9_000_000)
    clean = torch.stack([source.sample(i, torch.Generator()) for i in range(40)])
    power = torch.fft.fft2(clean, norm="ortho").abs().square().mean(0)
    for sigma in (0.03, 0.1):
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        wiener = float((sigma**2 * power / (power + sigma**2)).mean())
        assert float((denoise(clean + sigma * noise, sigma) - clean).square().mean()) < most * wiener


def test_planes_of_the_brain_that_were_not_trained_on(shared_data):
    """At any level: far above the noise, and a complex image at the level of its parts."""
    (volume,) = (shared_data / "volumes").glob("mni*.nii.gz")
    source = WithPhase(Slices(volume, 96, 2, (0.66, 0.74), 2))
    clean = torch.stack([source.sample(i, torch.Generator().manual_seed(i)) for i in range(0, len(source), 5)])
    denoise = load_denoiser("brain-score")
    for sigma, least in ((0.05, 7), (0.2, 11), (0.5, 13), (1.0, 14)):
        assert gain(denoise, clean, sigma) > least
    image, noise = (torch.complex(x[:, :1], x[:, 1:]) for x in (clean, 0.2 * torch.randn(clean.shape)))
    both = DenoiserDiffusion("brain-score").denoise(image + noise, 0.2 * 2**0.5)
    assert 20 * torch.log10(noise.abs().square().mean().sqrt() / (both - image).abs().square().mean().sqrt()) > 11


def test_the_learned_proximal_network_is_a_proximal_operator_and_denoises(shared_data):
    """Symmetric Jacobian, convex potential by its weights' signs; two thirds of a denoiser's gain in dB."""
    network, clean = load_denoiser("learned-proximal"), photographs(shared_data)
    assert asymmetry(lambda y: network(y.float()).double(), clean[:1, :, :24, :24].double()) < 1e-5
    assert network.strong_convexity > 0
    assert gain(network, clean, 0.1) > 7


@pytest.mark.parametrize("name", NAMES)
def test_by_name_in_a_prior(name):
    prior = Denoiser(name, sigma=0.1)
    x = torch.rand(1, prior.denoiser.channels, *[16] * prior.denoiser.dim)
    assert prior.prox(x).shape == x.shape
