"""Blurred photographs through the command line."""

import re

import numpy as np
import pytest
import torch
from commands import refused
from skimage.io import imsave

from resolvent.apps.cli import INPUT, OK, USAGE, main
from resolvent.datasets import Result, load_measurement, load_result, save_measurement, save_result
from resolvent.operators import Blur, CircularBlur, Downsampling, Identity, Restricted
from resolvent.recon import filled, psnr


@pytest.fixture
def picture(tmp_path):
    """A small picture in colour."""
    path = tmp_path / "picture.png"
    yy, xx = np.mgrid[:40, :48]
    discs = np.stack([(yy - 20) ** 2 + (xx - c) ** 2 < 150 for c in (16, 24, 32)], -1)
    imsave(path, (40 + 170 * discs).astype(np.uint8), check_contrast=False)
    return path


@pytest.mark.parametrize("border, kind", [("unseen", Blur), ("circular", CircularBlur)])
@pytest.mark.parametrize("kernel", ["motion", "gaussian", "uniform"])
def test_default_reconstruction_is_sharper_than_the_data(picture, border, kind, kernel, tmp_path):
    file, result = tmp_path / "b.h5", tmp_path / "image.h5"
    options = ["--image", str(picture), "--kernel", kernel, "--border", border, "--noise_std", "0.005"]
    assert main(["simulate", "blur", "--out", str(file), *options]) == OK
    assert main(["reconstruct", str(file), "--out", str(result), "--report", "false"]) == OK
    m, image = load_measurement(file), load_result(result).image
    assert type(m.physics) is kind and m.truth.shape == (1, 3, 40, 48)
    framed = m.physics.frame
    assert psnr(framed(image), framed(m.truth), 1.0) > psnr(m.y, framed(m.truth), 1.0) + 3


def test_what_is_shown_of_a_photograph_is_its_frame(picture, tmp_path, capsys):
    file, result = tmp_path / "b.h5", tmp_path / "image.h5"
    assert main(["simulate", "blur", "--out", str(file), "--image", str(picture), "--kernel", "motion"]) == OK
    assert main(["reconstruct", str(file), "--out", str(result), "--solver.max_iter", "2"]) == OK
    m, whole = load_measurement(file), load_result(result)
    capsys.readouterr()
    for option, images in (([], whole.image), (["--truth"], m.truth)):
        assert main(["export", str(result), "--out", str(tmp_path / "x.npy"), *option]) == OK
        assert np.array_equal(np.load(tmp_path / "x.npy"), m.physics.frame(images)[0].numpy())
    assert main(["info", str(result)]) == OK
    rows, columns = m.physics.window
    ends = f"{rows.start} to {rows.stop - 1}, {columns.start} to {columns.stop - 1}"
    assert ends in capsys.readouterr().out and m.physics.frame(m.truth).shape == m.y.shape
    (page := result.with_suffix(".html")).unlink()
    assert main(["report", str(result)]) == OK
    assert page.exists() and whole.framed().image.shape == m.y.shape


def test_a_frame_that_fits_no_image_is_refused(tmp_path, capsys):
    path = tmp_path / "r.h5"
    for window in (torch.tensor([[0, 5]]), torch.tensor([[0, 5], [2, 2]]), torch.tensor([[0.0, 2.0], [0.0, 2.0]])):
        save_result(path, Result(torch.ones(1, 1, 4, 4), window=window))
        refused(capsys, ["report", str(path)], INPUT, "/window")


def test_default_reconstruction_of_a_small_picture_is_sharper_than_interpolation(picture, tmp_path):
    file, result = tmp_path / "s.h5", tmp_path / "image.h5"
    options = ["--image", str(picture), "--kernel", "bicubic", "--border", "circular", "--factor", "2"]
    assert main(["simulate", "blur", "--out", str(file), *options]) == OK
    assert main(["reconstruct", str(file), "--out", str(result), "--report", "false"]) == OK
    m, image = load_measurement(file), load_result(result).image
    assert isinstance(m.physics, Downsampling) and m.y.shape == (1, 3, 20, 24) and m.meta["factor"] == 2
    enlarged = torch.nn.functional.interpolate(m.y, (40, 48), mode="bicubic", antialias=True)
    assert psnr(image, m.truth, 1.0) > psnr(enlarged, m.truth, 1.0) + 1


def test_built_in_scene_and_stated_noise(tmp_path):
    assert main(["simulate", "blur", "--out", str(tmp_path / "b.h5"), "--noise_std", "0.05"]) == OK
    m = load_measurement(tmp_path / "b.h5")
    assert m.truth.shape == (1, 1, 256, 256) and m.noise_std == 0.05
    assert float((m.y - m.physics.A(m.truth)).std()) == pytest.approx(0.05, rel=0.02)


def test_without_a_stated_noise_level_it_is_estimated(tmp_path):
    """A Gaussian kernel leaves nothing but noise in the finest details; a motion kernel a little of the scene."""
    for kernel, excess in (("gaussian", 1.1), ("motion", 1.25)):
        for noise in (0.01, 0.03):
            argv = ["--out", str(tmp_path / "b.h5"), "--kernel", kernel, "--noise_std", str(noise)]
            assert main(["simulate", "blur", *argv]) == OK
            m = load_measurement(tmp_path / "b.h5")
            assert 0.95 * noise < float(m.physics.estimate_noise(m.y)) < excess * noise


def test_a_kernel_from_a_file_sums_to_one(picture, tmp_path):
    np.save(tmp_path / "k.npy", np.array([[1.0, 2.0, 1.0]]))
    argv = ["simulate", "blur", "--image", str(picture), "--kernel", str(tmp_path / "k.npy"), "--out"]
    assert main([*argv, str(tmp_path / "b.h5")]) == OK
    kernel = load_measurement(tmp_path / "b.h5").physics.kernel
    assert torch.equal(kernel, torch.tensor([[[0.25, 0.5, 0.25]]], dtype=torch.float64))


@pytest.mark.parametrize("stated", [True, False])
def test_missing_pixels_are_filled_in_by_default(picture, stated, tmp_path):
    """Half of the pixels with noise: better than their nearest neighbours, whether the noise is stated or found."""
    file, result = tmp_path / "h.h5", tmp_path / "image.h5"
    options = ["--image", str(picture), "--kernel", "none", "--missing", "0.5", "--noise_std", "0.02"]
    assert main(["simulate", "blur", "--out", str(file), *options]) == OK
    m = load_measurement(file)
    assert isinstance(m.physics, Restricted) and isinstance(m.physics.innermost, Identity)
    assert int(m.physics.keep.sum()) == 20 * 48 and bool((m.y[0, :, ~m.physics.keep] == 0).all())
    assert float(m.physics.estimate_noise(m.y)) == pytest.approx(0.02, rel=0.15)
    if not stated:
        save_measurement(file, m.y, m.physics)
    assert main(["reconstruct", str(file), "--out", str(result), "--report", "false"]) == OK
    assert psnr(load_result(result).image, m.truth, 1.0) > psnr(filled(m.physics, m.y), m.truth, 1.0) + 3


def test_noise_alone_is_taken_out_by_default(picture, tmp_path):
    """Sharp photographs have a method of their own: a blur's would leave most of the noise."""
    file, result = tmp_path / "n.h5", tmp_path / "image.h5"
    assert main(["simulate", "blur", "--kernel", "none", "--noise_std", "0.05", "--out", str(file)]) == OK
    assert main(["reconstruct", str(file), "--out", str(result), "--report", "false"]) == OK
    m = load_measurement(file)
    assert psnr(load_result(result).image, m.truth, 1.0) > psnr(m.y, m.truth, 1.0) + 4


@pytest.mark.parametrize(
    "options, code, message",
    [
        (["--kernel", "nothing.png"], INPUT, "nothing.png: cannot be read"),
        (["--image", "nothing.npy"], INPUT, "nothing.npy: cannot be read"),
        (["--image", "empty.png"], INPUT, "empty.png: of no known format"),
        (["--kernel", "zero.npy"], INPUT, "zero.npy: a kernel of sum 0"),
        (["--image", "line.npy"], INPUT, r"line.npy: float64 of shape \(5,\)"),
        (
            ["--image", "zero.npy", "--kernel", "uniform"],
            USAGE,
            "--kernel: found 9 x 9, expected no larger than the picture, 3 x 3",
        ),
        (
            ["--image", "zero.npy", "--border", "circular", "--kernel", "uniform"],
            USAGE,
            "--kernel: found 9 x 9, expected no larger than the picture, 3 x 3",
        ),
        (["--noise_std", "-1"], USAGE, "--noise_std: found -1"),
        (["--factor", "0"], USAGE, "--factor: found 0, expected at least 1"),
        (["--factor", "2"], USAGE, "--factor: found 2 with --border unseen, expected --border circular"),
        (["--missing", "1"], USAGE, "--missing: found 1, expected a share from 0 to below 1"),
        (["--image", "two.npz"], USAGE, "--array: found none, expected one of a, b"),
        (["--factor", "3", "--border", "circular"], USAGE, "--factor: found 3, expected a divisor of the lengths"),
    ],
)
def test_bad_input_in_one_line(options, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("zero.npy", np.zeros((3, 3)))
    np.save("line.npy", np.ones(5))
    np.savez("two.npz", a=np.ones((30, 30)), b=np.ones((30, 30)))
    (tmp_path / "empty.png").touch()
    assert main(["simulate", "blur", "--out", "b.h5", *options]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not (tmp_path / "b.h5").exists()
    assert re.search(message, error), error
