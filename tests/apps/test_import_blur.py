"""Photographs and their kernels from files."""

import numpy as np
import pytest
import tifffile
import torch
from deepinv.physics.functional import bicubic_filter
from PIL import Image

from resolvent.apps.cli import INPUT, OK, USAGE, main
from resolvent.datasets import load_measurement
from resolvent.operators import Blur, CircularBlur, Downsampling, Identity
from resolvent.priors import TV
from resolvent.recon import ADMM


def imported(*argv):
    assert main(["import", "blur", *map(str, argv)]) == OK
    return load_measurement(argv[argv.index("--out") + 1])


@pytest.fixture
def kernel(tmp_path):
    np.save(tmp_path / "k.npy", np.arange(6.0).reshape(2, 3))
    return tmp_path / "k.npy"


@pytest.mark.parametrize("levels, white", [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
@pytest.mark.parametrize("colours", [(), (3,)], ids=["gray", "colour"])
def test_pictures_become_values_from_0_to_1(levels, white, colours, kernel, tmp_path):
    values = (np.random.default_rng(0).random((5, 7, *colours)) * white).astype(levels)
    tifffile.imwrite(tmp_path / "p.tiff", values, photometric="rgb" if colours else "minisblack")
    m = imported(tmp_path / "p.tiff", "--kernel", kernel, "--out", tmp_path / "b.h5", "--noise_std", "0.1")
    expected = values[None] if not colours else np.moveaxis(values, -1, 0)
    assert isinstance(m.physics, Blur) and m.noise_std == pytest.approx(0.1)
    assert torch.allclose(m.y[0], torch.from_numpy(expected / np.float32(white)).float())


def test_stacks_are_volumes_where_that_is_said(tmp_path, capsys):
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 65535, (6, 8, 9)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "s.tif", stack, photometric="minisblack")
    tifffile.imwrite(tmp_path / "psf.tif", rng.random((5, 3, 2)).astype(np.float32), photometric="minisblack")
    options = [tmp_path / "s.tif", "--kernel", tmp_path / "psf.tif", "--out", tmp_path / "m.h5"]
    assert main(["import", "blur", *map(str, options)]) == INPUT
    assert "or --volume true" in capsys.readouterr().err
    m = imported(*options, "--volume", "true", "--turn_kernel", "true")
    assert m.physics.image_shape == (1, 10, 10, 10) and m.y.shape == (1, 1, 6, 8, 9)
    psf = torch.from_numpy(tifffile.imread(tmp_path / "psf.tif")).double()
    assert torch.allclose(m.physics.kernel[0], psf.flip(0, 1, 2) / psf.sum())
    assert torch.allclose(m.y[0, 0], torch.from_numpy(stack / np.float32(65535)))
    np.save(tmp_path / "flat.npy", np.ones((8, 9)))
    flat = ["import", "blur", str(tmp_path / "flat.npy"), *map(str, options[1:]), "--volume", "true"]
    assert main(flat) == INPUT and "expected real numbers (depth, rows, columns)" in capsys.readouterr().err


def test_transparency_is_left_out(kernel, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (5, 7, 4)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "p.png")
    m = imported(tmp_path / "p.png", "--kernel", kernel, "--out", tmp_path / "b.h5")
    assert torch.equal(m.y[0], torch.from_numpy(values[..., :3]).movedim(-1, 0) / 255)


@pytest.mark.parametrize("turned", ["false", "true"])
def test_kernel_sums_to_one_and_is_turned(turned, kernel, tmp_path):
    np.save(tmp_path / "p.npy", np.ones((5, 7)))
    m = imported(tmp_path / "p.npy", "--kernel", kernel, "--turn_kernel", turned, "--out", tmp_path / "b.h5")
    expected = torch.arange(6, dtype=torch.float64).reshape(1, 2, 3) / 15
    assert torch.allclose(m.physics.kernel, expected.flip(1, 2) if turned == "true" else expected)


def test_a_small_picture_is_one_of_a_larger_image(tmp_path):
    np.save(tmp_path / "p.npy", np.random.default_rng(0).random((5, 7)))
    options = ["--border", "circular", "--factor", "3", "--kernel", "bicubic"]
    m = imported(tmp_path / "p.npy", *options, "--out", tmp_path / "b.h5")
    assert isinstance(m.physics, Downsampling) and m.physics.image_shape == (1, 15, 21)
    assert torch.allclose(m.physics.blur.kernel[0].float(), bicubic_filter(3)[0, 0]) and m.meta["factor"] == 3


def test_wrapped_pictures_and_volumes_without_a_kernel(tmp_path):
    np.save(tmp_path / "v.npy", values := np.random.default_rng(0).random((4, 5, 7)))
    np.save(tmp_path / "k.npy", np.ones((2, 1, 3)))
    argv = [tmp_path / "v.npy", "--volume", "true", "--border", "circular", "--out", tmp_path / "b.h5"]
    assert isinstance(imported(*argv, "--kernel", tmp_path / "k.npy").physics, CircularBlur)
    m = imported(*argv, "--kernel", "none")
    assert isinstance(m.physics, Identity) and torch.equal(m.y[0, 0], torch.from_numpy(values).float())


def test_pixels_outside_a_mask_or_saturated_are_unknown(kernel, tmp_path, capsys):
    """A mask of a file of its own, or the picture's own transparency; what is hidden does not reach the file."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 200, (8, 9, 4)).astype(np.uint8)
    values[..., 3] = 255 * (rng.random((8, 9)) > 0.3)
    values[2, 3, 1] = 255
    Image.fromarray(values).save(tmp_path / "p.png")
    np.save(tmp_path / "mask.npy", values[..., 3] > 0)
    inside, colours = torch.from_numpy(values[..., 3] > 0), torch.from_numpy(values[..., :3]).movedim(-1, 0)
    argv = [tmp_path / "p.png", "--kernel", kernel, "--out", tmp_path / "b.h5"]
    for mask in (["mask.npy"], ["p.png", "--mask_array", "alpha"]):
        m = imported(*argv, "--mask", tmp_path / mask[0], *mask[1:])
        assert torch.equal(m.physics.keep, inside.expand(3, -1, -1)) and isinstance(m.physics.innermost, Blur)
        assert torch.equal(m.y[0], inside * (colours / 255))
    assert f"{100 * (1 - float(inside.double().mean())):.2g} % unknown" in capsys.readouterr().out
    m = imported(*argv, "--saturated", "1")
    assert torch.equal(m.physics.keep, colours < 255) and int((~m.physics.keep).sum()) == 1
    assert main(["info", str(tmp_path / "b.h5")]) == OK
    facts = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if " " in line)
    assert facts["physics"] == "Blur" and facts["physics.kernel"].startswith("1 x 2 x 3 float64")
    assert isinstance(imported(*argv).physics, Blur)


WRONG = {
    "which kernel": (["p.npy", "--kernel", "two.npz"], USAGE, "--kernel_array: found none, expected one of a, b"),
    "no such array": (["p.npy", "--array", "x", "--kernel", "p.npy"], USAGE, "--array: found 'x'"),
    "no kernel": (["p.npy"], USAGE, "kernel"),
    "noise": (["p.npy", "--kernel", "p.npy", "--noise_std", "-1"], USAGE, "--noise_std: found -1"),
    "no file": (["nowhere.png", "--kernel", "p.npy"], INPUT, "cannot be read"),
    "complex": (["complex.npy", "--kernel", "p.npy"], INPUT, "complex64 of shape (5, 7), expected real numbers"),
    "a volume": (["volume.npy", "--kernel", "p.npy"], INPUT, "expected at most 4 colours"),
    "mask of another size": (
        ["p.npy", "--kernel", "none", "--mask", "zero.npy"],
        INPUT,
        "zero.npy: a mask of 1 x 3 x 3",
    ),
    "nothing known": (["p.npy", "--kernel", "none", "--saturated", "1"], USAGE, "--saturated: found 1, expected some"),
    "empty mask": (
        ["zero.npy", "--kernel", "none", "--mask", "zero.npy"],
        USAGE,
        "--mask: found zero.npy, expected some",
    ),
    "a flat kernel of a volume": (
        ["volume.npy", "--volume", "true", "--kernel", "uniform"],
        USAGE,
        "--kernel: found uniform, expected none or a file",
    ),
    "factor of a scene that goes on": (["p.npy", "--kernel", "none", "--factor", "2"], USAGE, "--border circular"),
    "zero kernel": (["p.npy", "--kernel", "zero.npy"], INPUT, "a kernel of sum 0, expected above 0"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_imports_are_one_line(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("p.npy", np.ones((5, 7)))
    np.save("zero.npy", np.zeros((3, 3)))
    np.save("volume.npy", np.ones((4, 5, 6)))
    np.save("complex.npy", np.ones((5, 7), np.complex64))
    np.savez("two.npz", a=np.ones((3, 3)), b=np.ones((3, 3)))
    argv, code, message = WRONG[case]
    assert main(["import", "blur", *argv, "--out", "b.h5"]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "b.h5").exists()


def test_a_capture_with_its_kernel(shared_data, tmp_path):
    """A kernel of its own file's, a picture; measured kernels, in cells, are to be turned."""
    folder = shared_data / "blur"
    capture = folder / "levin_real" / "im01_ker01.png"
    m = imported(capture, "--kernel", folder / "levin_real" / "im01_ker01_out_kernel.png", "--out", tmp_path / "b.h5")
    assert m.y.shape == (1, 1, 255, 255) and m.physics.image_shape == (1, 275, 275)
    assert 0 <= float(m.y.min()) and 0.2 < float(m.y.max()) <= 1
    argv = ["--kernel", folder / "Levin09.mat", "--kernel_array", "kernels{1}", "--turn_kernel", "true"]
    turned = imported(capture, *argv, "--out", tmp_path / "t.h5").physics.kernel
    plain = imported(capture, *argv[:-2], "--out", tmp_path / "p.h5").physics.kernel
    assert turned.shape == (1, 19, 19) and torch.equal(turned, plain.flip(1, 2))


def test_a_measured_kernel_explains_its_capture_only_if_turned(shared_data, tmp_path):
    folder, misfit = shared_data / "blur", {}
    argv = ["--kernel", folder / "Levin09.mat", "--kernel_array", "kernels{1}", "--turn_kernel"]
    for turned in ("true", "false"):
        m = imported(folder / "levin_real" / "im01_ker01.png", *argv, turned, "--out", tmp_path / "b.h5")
        image = ADMM(TV(0.003), max_iter=15)(m.y, m.physics)
        misfit[turned] = float(torch.linalg.vector_norm(m.physics.A(image) - m.y))
    assert misfit["true"] < misfit["false"]


def test_what_misleads_an_estimate_is_said(tmp_path, capsys, monkeypatch):
    """JPEG that states no noise, and numbers from 0 to 255; a PNG, or a JPEG that states it, needs no word."""
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8)
    for name in ("p.png", "p.jpg"):
        Image.fromarray(values).save(name)
    np.save("p.npy", values.astype(np.float32))
    np.save("k.npy", np.ones((3, 3)))
    said = {}
    for name, *more in (("p.png",), ("p.jpg",), ("p.jpg", "--noise_std", "0.01"), ("p.npy",)):
        assert main(["import", "blur", name, "--kernel", "k.npy", "--out", "m.h5", *more]) == OK
        said[name, *more] = capsys.readouterr().out
    assert [key for key, text in said.items() if "note:" in text] == [("p.jpg",), ("p.npy",)]
    capsys.readouterr()
    assert main(["import", "blur", "p.png", "--kernel", "none", "--out", "m.h5"]) == OK
    assert "the finest details of a sharp photograph will count as noise" in capsys.readouterr().out
    assert "--noise_std states it" in said[("p.jpg",)] and "values up to 254" in said[("p.npy",)]


def test_a_kernel_larger_than_its_photograph_is_refused(tmp_path, capsys):
    np.save(tmp_path / "small.npy", np.ones((5, 5)))
    np.save(tmp_path / "large.npy", np.ones((9, 9)))
    command = ["import", "blur", str(tmp_path / "small.npy"), "--kernel", str(tmp_path / "large.npy")]
    assert main([*command, "--out", str(tmp_path / "m.h5")]) == INPUT
    assert "a kernel of 9 x 9, expected no larger than the photograph, 5 x 5" in capsys.readouterr().err
