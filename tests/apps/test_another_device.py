"""Commands whose tensors lie elsewhere find what they find on the CPU."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch
import yaml
from elsewhere import Elsewhere
from safetensors.torch import load_file
from torch.testing import assert_close

from resolvent.apps.cli import main
from resolvent.datasets import load_result

SCENES = {
    "near-field": ["--n_frequencies", 2],
    "mri": ["--size", 32, "--coils", 3, "--acceleration", 2],
    "blur": [],
    "ultrasound": [],
}
METHODS = {
    "near-field": ["--solver.max_iter", 8],
    "near-field, trained": ["--prior", "magnitude-denoiser", "--solver.max_iter", 2],
    "mri": ["--solver.max_iter", 20],
    "blur": ["--solver.max_iter", 8],
    "blur, trained": ["--prior", "image-denoiser"],
    "ultrasound": [],
}
TUNING = ["--parameter", "prior.prior.weight", "--solver.max_iter", 20, "--method.eps", 0.1, "--steps", 2]
TRAINING = ["--network.widths", "[2,3]", "--data.shape", "[8,8,8]", "--data.count", 12, "--batch_size", 4, "--steps", 3]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scene(request):
    """A file named by the first words of the test's parameter."""
    modality = request.param.split(",")[0]
    run("simulate", modality, *SCENES[modality], "--out", "scene.h5")
    return METHODS[request.param]


def run(*arguments):
    assert main([str(a) for a in arguments]) == 0


def here_and_there(*arguments):
    run(*arguments, "--out", "here.h5", "--device", "cpu")
    with Elsewhere() as device:
        run(*arguments, "--out", "there.h5", "--device", device)


@pytest.mark.parametrize("scene", METHODS, indirect=True)
def test_reconstruct(scene):
    here_and_there("reconstruct", "scene.h5", *scene)
    here, there = load_result("here.h5"), load_result("there.h5")
    assert_close(there.image, here.image, rtol=1e-3, atol=1e-4 * float(here.image.abs().max()))
    assert here.record["status"] == there.record["status"]


@pytest.mark.parametrize("scene", ["mri"], indirect=True)
def test_tune(scene):
    here_and_there("tune", "scene.h5", *TUNING)
    here, there = (yaml.safe_load(Path(f"{place}.h5/tuned.yaml").read_text()) for place in ("here", "there"))
    assert there["prior"] == here["prior"]


def test_train(monkeypatch):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # has a list of devices
    here_and_there("train", "magnitude-denoiser", *TRAINING)
    here, there = (load_file(f"{place}.h5/weights.safetensors") for place in ("here", "there"))
    assert here.keys() == there.keys()
    for name in here:  # biases before a normalisation have no gradient but rounding
        if here[name].ndim > 1:
            assert_close(there[name], here[name], rtol=1e-3, atol=1e-5)
