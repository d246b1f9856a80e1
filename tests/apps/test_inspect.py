"""``resolvent inspect``: findings on priors whose proximal step is known, and refusals in one line."""

import json
import math

import numpy as np
import pytest
from skimage.io import imsave

from resolvent.apps.cli import INPUT, USAGE, main
from resolvent.apps.training_log import TrainingLog
from resolvent.priors import DRUNet, save_weights


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    grid = np.indices((24, 20)).sum(0)
    imsave(path, (255 * (grid % 7) / 6).astype(np.uint8), check_contrast=False)
    return path


def inspect(picture, out, *options):
    code = main(["inspect", str(picture), "--out", str(out), "--crop", "8", *options])
    return code, json.loads((out / "inspection.json").read_text()) if code == 0 else None


def test_tikhonov_halves(picture, tmp_path):
    """Every eigenvalue is 1/2, so half the dimensions are kept; the value falls with blur and rises with noise."""
    code, found = inspect(picture, tmp_path / "out", "--prior", "Tikhonov")
    assert code == 0
    for name in ("least_eigenvalue", "greatest_eigenvalue", "spectral_norm", "expansion"):
        assert found[name] == pytest.approx(0.5, abs=1e-5)
    assert found["effective_dimension"] == pytest.approx(32, abs=1e-3)
    assert found["asymmetry"] < 1e-6 and found["inhomogeneity"] < 1e-5 and found["reconstruction_by_jacobian"] < 1e-5
    blur = found["value_along"]["blur"]["value"]
    assert blur == sorted(blur, reverse=True)
    html = (tmp_path / "out" / "inspection.html").read_text()
    assert html.count("<img") == 3 and "Tikhonov" in html


def test_soft_threshold_is_not_homogeneous(picture, tmp_path):
    code, found = inspect(picture, tmp_path / "out", "--prior", "L1", "--prior.weight", "0.2")
    assert code == 0 and found["inhomogeneity"] > 0.1
    assert found["asymmetry"] < 1e-6 and found["greatest_eigenvalue"] == pytest.approx(1)


def test_infinite_values_are_null_in_json(picture, tmp_path, capsys):
    """Outside a box its value is infinite, and JSON has no number for that."""

    def strict(text):
        return json.loads(text, parse_constant=lambda constant: pytest.fail(f"found {constant}"))

    assert inspect(picture, tmp_path / "out", "--prior", "Box", "--prior.high", "0.5", "--json", "true")[0] == 0
    for text in (capsys.readouterr().out, (tmp_path / "out" / "inspection.json").read_text()):
        assert strict(text)["value_along"]["noise"]["value"][-1] is None
    log = TrainingLog(tmp_path / "log.jsonl", 0, 1, False, None)
    log.write(1, loss=math.inf)
    log.close()
    assert strict((tmp_path / "log.jsonl").read_text()) == {"step": 1, "loss": None}


def test_two_priors_beside_each_other(picture, tmp_path):
    """Halving and thirding y = x + n: one sixth of y apart; the same twice: no distance at all."""
    options = ["--prior", "Tikhonov", "--sigma", "0", "--second", "Tikhonov"]
    _, found = inspect(picture, tmp_path / "out", *options, "--second.weight", "2")
    names = ("distance_between", "distance_to_truth", "distance_of_second_to_truth")
    assert [found[name] for name in names] == pytest.approx([1 / 6, 1 / 2, 2 / 3], rel=1e-5)
    assert found["disagreement"] == pytest.approx(1 / 6 / (1 / 4 + 4 / 9) ** 0.5, rel=1e-5)
    assert inspect(picture, tmp_path / "same", *options)[1]["disagreement"] == 0


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "--prior: found none"),
        (["--prior", "L1", "--crop", "99"], "--crop: found 99"),
        (["--prior", "L1", "--crop", "22"], r"picture.png: found (24, 20) pixels"),
        (["--prior", "WeaklyConvexRidge"], "--prior: WeaklyConvexRidge has no prox"),
        (["--prior", "L1", "--sigma", "-0.1"], "--sigma: found -0.1, expected a finite number not below 0"),
        (["--prior", "L1", "--step", "-1"], "--step: found -1.0, expected a finite number not below 0"),
    ],
)
def test_refuses_in_one_line(picture, tmp_path, capsys, options, message):
    assert main(["inspect", str(picture), "--out", str(tmp_path / "out"), *options]) in (2, 3)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_weights_that_cannot_be_used(picture, tmp_path, capsys):
    """A damaged file is the file's fault, exit status 3; a name of none, or one for other images, the command's."""
    path = tmp_path / "net.safetensors"
    save_weights(path, DRUNet([2, 2, 2, 2], 1, channels=3))
    path.with_stem("half").write_bytes(path.read_bytes()[:500])
    for name, code, message in (
        ("half", INPUT, "half.safetensors: found damaged or no weights"),
        ("none", USAGE, "none.safetensors: found no file of weights"),
        ("net", USAGE, "--prior: DRUNet: found an image of shape (1, 1, 8, 8), expected (B, 3, n, n)"),
    ):
        argv = ["--prior", "Denoiser", "--prior.denoiser", str(path.with_stem(name)), "--crop", "8"]
        assert main(["inspect", str(picture), "--out", str(tmp_path / "out"), *argv]) == code
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    argv = ["--prior", "L1", "--second", "Denoiser", "--second.denoiser", str(path), "--crop", "8"]
    assert main(["inspect", str(picture), "--out", str(tmp_path / "out"), *argv]) == USAGE
    assert "--second: DRUNet: found an image of shape" in capsys.readouterr().err


def test_info_of_weights_is_their_description(tmp_path, capsys):
    save_weights(tmp_path / "net.safetensors", DRUNet([2, 2, 2, 2], 1), metrics={"psnr": 30.0})
    assert main(["info", str(tmp_path / "net.safetensors")]) == 0
    out = capsys.readouterr().out
    assert "architecture" in out and "DRUNet" in out and '{"psnr": 30.0}' in out
    (tmp_path / "net.safetensors").write_bytes((tmp_path / "net.safetensors").read_bytes()[:100])
    assert main(["info", str(tmp_path / "net.safetensors")]) == 3
    assert "damaged or no weights" in capsys.readouterr().err
