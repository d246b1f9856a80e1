"""The ultrasound verb: a file that says what it is, whose default image is delay and sum, cysts dark in speckle."""

import pytest
import torch

from resolvent.apps.cli import main
from resolvent.apps.defaults import preset_path
from resolvent.datasets import load_measurement, load_result, speckle_phantom
from resolvent.recon import envelope, gcnr


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("ultrasound") / "scan.h5"
    options = ["--n_angles", "3", "--n_elements", "32", "--depth", "0.015", "--n_scenes", "2"]
    assert main(["simulate", "ultrasound", "--out", str(path), *options]) == 0
    return path


def inside(cyst, x, z, scale):
    depth, across = torch.meshgrid(z, x, indexing="ij")
    return torch.hypot(across - cyst["x"], depth - cyst["z"]) <= scale * cyst["radius"]


def test_file_holds_the_scan_and_every_echo(scan):
    m = load_measurement(scan)
    assert m.y.shape == (2, *m.physics.data_shape) and m.physics.data_shape[1:3] == (3, 32)
    silent = m.physics.A(m.truth)[..., [0, -1]].abs().max()
    assert silent < 0.05 * m.y.abs().max(), "the record should begin before the first echo and end after the last"
    snr = 20 * torch.log10(
        torch.linalg.vector_norm(m.physics.A(m.truth)) / torch.linalg.vector_norm(m.y - m.physics.A(m.truth))
    )
    assert float(snr) == pytest.approx(20, abs=0.2)


def test_default_image_is_delay_and_sum_with_dark_cysts(scan, tmp_path, capsys):
    assert main(["info", str(scan)]) == 0
    assert main(["reconstruct", str(scan), "--out", str(tmp_path / "image.h5")]) == 0
    m, result = load_measurement(scan), load_result(tmp_path / "image.h5")
    assert torch.equal(result.image, m.physics.A_adjoint(m.y))
    assert "−60 to 0 dB" in (tmp_path / "image.html").read_text()
    for image, cysts in zip(envelope(result.image)[:, 0], m.meta["cysts"], strict=True):
        for cyst in cysts:
            core, around = inside(cyst, m.physics.x, m.physics.z, 0.7), inside(cyst, m.physics.x, m.physics.z, 1.5)
            around &= ~inside(cyst, m.physics.x, m.physics.z, 1.1)
            contrast = gcnr(image[core], image[around], bins=32)
            assert contrast.value > 0.5, contrast


@pytest.mark.parametrize(
    "option", [("--max_angle", "90"), ("--depth", "-1"), ("--f_number", "-1"), ("--n_angles", "0"), ("--snr", "nan")]
)
def test_refusals(option, tmp_path, capsys):
    assert main(["simulate", "ultrasound", "--out", str(tmp_path / "a.h5"), *option]) == 2
    assert f"{option[0]}: found" in capsys.readouterr().err


@pytest.mark.parametrize("operator", ["PlaneWaveIQ", "FullMatrixCapture"])
def test_both_operators_have_a_preset(operator):
    assert preset_path(operator).exists()


def test_phantom_is_speckle_with_cysts_and_points():
    """Speckle intensity is exponential: its mean and standard deviation agree; cysts hold nothing."""
    x, z = torch.linspace(-0.02, 0.02, 200, dtype=torch.float64), torch.linspace(0.01, 0.05, 200, dtype=torch.float64)
    scene = speckle_phantom(x, z, seed=3)
    intensity = scene.image[0, 0].abs().square()
    holes = torch.stack([inside(cyst._asdict(), x, z, 1) for cyst in scene.cysts]).any(0)
    assert intensity[holes].max() == 0 and int((intensity > 100).sum()) == 3
    tissue = intensity[~holes & (intensity < 100)]
    assert float(tissue.mean()) == pytest.approx(1, abs=0.03) == float(tissue.std())
    assert torch.equal(scene.image, speckle_phantom(x, z, seed=3).image)
    assert not torch.equal(scene.image, speckle_phantom(x, z, seed=4).image)
