"""Files of weights: half precision and no less, by path or name, and anything else refused in one line."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from resolvent.apps.cli import INPUT, USAGE, main
from resolvent.datasets import save_measurement
from resolvent.operators import Dense
from resolvent.priors import (
    BiasFreeUNet,
    ConvolutionalPotential,
    Denoiser,
    DRUNet,
    ImagePotential,
    LearnedProximalNetwork,
    MagnitudeUNet,
    PatchCovering,
    load_denoiser,
    save_weights,
    weights_file,
)
from resolvent.priors.weights_file import FORMAT, read_description

NETWORKS = [
    lambda: MagnitudeUNet([2, 3]),
    lambda: BiasFreeUNet(2, 1, dim=3),
    lambda: DRUNet([2, 2, 2, 2], 1),
    lambda: LearnedProximalNetwork(PatchCovering(ImagePotential(1, 4, 3, (1, 2)), 4, 2), 0.1),
    lambda: LearnedProximalNetwork(ConvolutionalPotential(1, 3)),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "net.safetensors"
    save_weights(path, MagnitudeUNet([2, 3], dim=2), metrics={"psnr": 30.0})
    return path


def rewritten(path, tensors=None, **changes):
    """The file with other tensors, or with entries of its description replaced."""
    description = read_description(path) | changes
    save_file(load_file(path) if tensors is None else tensors, path, {"resolvent": json.dumps(description)})
    return path


@pytest.mark.parametrize("make", NETWORKS)
def test_a_network_comes_back(make, tmp_path):
    """To half precision from its training, bit for bit ever after."""
    network, (first, second) = make(), (tmp_path / f"{i}.safetensors" for i in "12")
    save_weights(first, network, metrics={"psnr": 1.5})
    loaded = load_denoiser(first)
    for name, t in loaded.state_dict().items():
        before = network.state_dict()[name]
        assert t.dtype == before.dtype and (t - before).float().norm() <= 2**-11 * before.float().norm()
    save_weights(second, loaded)
    x = torch.rand(1, 1, *[8] * network.dim)
    assert torch.equal(loaded(x, 0.1), load_denoiser(second)(x, 0.1)) and type(loaded) is type(network)
    assert not loaded.training and not loaded(x, 0.1).requires_grad
    about = read_description(first)
    assert about["metrics"] == {"psnr": 1.5} and about["arguments"] == network.arguments
    assert about["numbers"]["float16"] + about["numbers"].get("float32", 0) >= sum(
        p.numel() for p in network.parameters()
    )


def stored(tmp_path, network):
    save_weights(tmp_path / "net.safetensors", network)
    return load_file(tmp_path / "net.safetensors")


def test_only_kernels_are_rounded(tmp_path):
    """Biases and statistics are as they were."""
    network = MagnitudeUNet([2, 3], dim=2)
    network(torch.rand(2, 1, 8, 8), 0.1)
    for name, t in stored(tmp_path, network).items():
        before = network.state_dict()[name]
        assert (t.dtype == torch.float16) == (before.ndim > 1)
        assert before.ndim > 1 or torch.equal(t, before)


@pytest.mark.parametrize("size", [1e6, 1e-6, float("nan")])
def test_a_kernel_out_of_the_range_of_half_precision_is_kept(tmp_path, size):
    network = DRUNet([2, 2, 2, 2], 1)
    before, *_ = network.parameters()
    before.data *= size
    first = stored(tmp_path, network)[next(iter(network.state_dict()))]
    assert first.dtype == torch.float32 and torch.equal(first.nan_to_num(), before.nan_to_num())


def test_double_precision_is_kept(tmp_path):
    assert {t.dtype for t in stored(tmp_path, BiasFreeUNet(2, 1).double()).values()} == {torch.float64}


def test_a_potential_stays_convex(tmp_path):
    """Half precision keeps signs, and so the learned network a proximal operator."""
    network = LearnedProximalNetwork(ConvolutionalPotential(1, 3), 0.1)
    stored(tmp_path, network)
    loaded = load_denoiser(tmp_path / "net.safetensors")
    assert all((w >= 0).all() for w in loaded.potential.constrained())
    assert loaded.strong_convexity == 0.1


def test_by_name(path, monkeypatch):
    (path.parent / "weights").mkdir()
    path.rename(path.parent / "weights" / "tiny.safetensors")
    monkeypatch.setattr(weights_file, "files", lambda package: path.parent)
    assert load_denoiser("tiny").widths == Denoiser("tiny").denoiser.widths == [2, 3]
    with pytest.raises(ValueError, match=r"other: found no file of weights, expected one, or a name: tiny$"):
        load_denoiser("other")


def refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        load_denoiser(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("kept", [0, 5, 100, 0.5, -1])
def test_truncated(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    refused(path, "found damaged or no weights")


@pytest.mark.parametrize(
    "found, message",
    [(FORMAT + 1, f"found format {FORMAT + 1}, expected at most {FORMAT}"), (None, "found no description of a net")],
)
def test_newer_or_foreign(path, found, message):
    refused(rewritten(path, format=found), message)


@pytest.mark.parametrize(
    "potential",
    [
        {"architecture": "MagnitudeUNet", "arguments": {}},
        {"architecture": "Linear", "arguments": {}},
        {"architecture": "PixelPotential", "arguments": {"hidden": -1}},
        {"arguments": {}},
        3,
    ],
)
def test_other_potentials(tmp_path, potential):
    path = tmp_path / "net.safetensors"
    save_weights(path, LearnedProximalNetwork(ConvolutionalPotential(1, 3)))
    arguments = {"potential": potential, "strong_convexity": 0.0}
    refused(rewritten(path, arguments=arguments), "found weights of|found other arguments than those of|expected")


@pytest.mark.parametrize("name", ["Linear", "torch.nn.Linear", None])
def test_other_architectures(path, name):
    refused(rewritten(path, architecture=name), f"found weights of '{name}', expected one of .*MagnitudeUNet")


def test_other_weights_than_described(path):
    tensors = load_file(path)
    refused(rewritten(path, architecture="BiasFreeUNet"), "found other arguments than those of BiasFreeUNet")
    rewritten(path, architecture="MagnitudeUNet", arguments={"widths": [2, 3], "channels": 3, "dim": 2})
    refused(
        path, r"found shape \(2, 2, 3, 3\), expected shape \(2, 4, 3, 3\)|found shape \(1,\), expected shape \(3,\)"
    )
    rewritten(path, arguments={"widths": [2, 3], "channels": 1, "dim": 2})
    del tensors["head.bias"]
    refused(rewritten(path, tensors), r"head.bias: found none, expected shape \(1,\)")


def test_reconstruct_takes_weights(path, tmp_path, capsys):
    """A path on the command line is a denoiser; one that is not is a usage error."""
    scan = tmp_path / "scan.h5"
    physics = Dense(torch.eye(16), (1, 4, 4))
    save_measurement(scan, torch.rand(1, 16), physics, noise_std=0.1)
    command = [
        "reconstruct",
        str(scan),
        "--out",
        str(tmp_path / "image.h5"),
        "--solver",
        "ADMM",
        "--solver.max_iter",
        "3",
    ]
    prior = ["--prior", "Denoiser", "--prior.sigma", "0.1", "--prior.denoiser"]
    assert main([*command, *prior, "nowhere.safetensors"]) in (USAGE, INPUT)
    assert "nowhere.safetensors: found no file of weights" in capsys.readouterr().err
    assert main([*command, *prior, str(path), "--report", "false"]) == 0, capsys.readouterr().err
