"""DnCNN's weights: both layouts are the same network, and anything else is refused in one line."""

import deepinv
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from skimage.io import imread
from torch.testing import assert_close

from resolvent.priors import load_dncnn


@pytest.fixture
def network():
    net = deepinv.models.DnCNN(2, 2, depth=4, nf=5, pretrained=None)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return net.eval()


def kair(network):
    """A state dict as KAIR would have saved this network: numbered with the ReLUs, estimating the noise."""
    layers = [network.in_conv, *network.conv_list, network.out_conv]
    weights = {f"model.{2 * i}.{n}": p.detach().clone() for i, c in enumerate(layers) for n, p in c.named_parameters()}
    return weights | {k: -v for k, v in weights.items() if k.startswith(f"model.{2 * len(layers) - 2}.")}


def saved(path, weights):
    (save_file if path.suffix == ".safetensors" else torch.save)(weights, path)
    return path


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("layout", [kair, lambda net: net.state_dict()], ids=["KAIR", "deepinv"])
def test_layouts_and_files_are_the_same_network(network, layout, name, tmp_path):
    loaded, x = load_dncnn(saved(tmp_path / name, layout(network))), torch.randn(3, 2, 9, 8)
    assert_close(loaded(x, 0.1), network(x))
    assert not loaded.training and not loaded(x).requires_grad
    assert (len(loaded.conv_list), loaded.in_conv.out_channels) == (2, 5)


@pytest.mark.parametrize("dim, bias", [(2, False), (3, True)])
def test_shapes_come_from_the_file(dim, bias, tmp_path):
    net = deepinv.models.DnCNN(1, 1, depth=3, nf=4, bias=bias, pretrained=None, dim=dim)
    x = torch.randn(1, 1, *[6] * dim)
    assert_close(load_dncnn(saved(tmp_path / "n.pth", kair(net)))(x), net(x))


def batch_normalised():
    """The chain with batch normalisation, as first published."""
    layers = [torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 3)]
    return {f"model.{k}": v for k, v in torch.nn.Sequential(*layers).state_dict().items()}


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "weights",
    [
        batch_normalised,
        lambda: torch.nn.Linear(3, 2).state_dict(),
        lambda: {"model.0.weight": torch.zeros(4, 1, 3, 3), "model.2.weight": torch.zeros(1, 7, 3, 3)},
        dict,
    ],
    ids=["batch normalisation", "another network", "widths that do not meet", "nothing"],
)
def test_other_networks_are_refused(weights, name, tmp_path):
    path = saved(tmp_path / name, weights())
    with pytest.raises(
        ValueError, match=rf"{name}: found (no|\d+) tensors.*, expected the weights of a DnCNN"
    ) as error:
        load_dncnn(path)
    assert "\n" not in str(error.value)


class Program:
    """What unpickling would run."""

    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize("content", ["missing", "truncated", "empty", "text", "program", "list"])
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_bad_files_are_refused(network, content, name, tmp_path, capsys):
    path = tmp_path / name
    if content in ("program", "list"):
        torch.save({"w": Program()} if content == "program" else [torch.zeros(3)], path)
    elif content != "missing":
        whole = saved(path, network.state_dict()).read_bytes()
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"no weights\n" * 99}[content])
    with pytest.raises(ValueError, match=rf"{name}: .*expected") as error:
        load_dncnn(path)
    assert "\n" not in str(error.value) and "must not run" not in capsys.readouterr().out


@pytest.mark.slow
def test_published_denoiser_reaches_its_figure(shared_data):
    """KAIR: 20.17 to 30.37 dB on the first seven images of Set12 under noise of 25 / 255."""
    net = load_dncnn(shared_data / "weights" / "kair_dncnn_25.pth")
    noisy, clean = [], []
    for path in sorted((shared_data / "natural" / "set12").iterdir())[:7]:
        rng = np.random.default_rng(0)
        x = torch.as_tensor(imread(path) / np.float32(255))[None, None]
        y = x + torch.as_tensor(rng.normal(0, 25 / 255, x.shape), dtype=torch.float32)
        noisy.append(-10 * torch.log10((y - x).square().mean()))
        clean.append(-10 * torch.log10((net(y) - x).square().mean()))
    assert np.mean(noisy) == pytest.approx(20.17, abs=0.05)
    assert np.mean(clean) == pytest.approx(30.37, abs=0.05)
