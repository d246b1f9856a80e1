"""A reconstruction that begins with the image of an earlier one."""

import pytest
import torch
from commands import refused
from torch.testing import assert_close

from resolvent.apps.cli import main
from resolvent.datasets import load_result, save_measurement
from resolvent.operators import CircularBlur

METHOD = ["--solver", "ProximalGradient", "--solver.step_size", "0.9", "--report", "false"]


@pytest.fixture
def files(tmp_path):
    physics = CircularBlur(torch.ones(3, 3) / 9, (1, 8, 10))
    for name in "ab":
        save_measurement(tmp_path / f"{name}.h5", physics.A(torch.rand(1, 1, 8, 10)), physics, noise_std=0.01)
    return [str(tmp_path / f"{name}.h5") for name in "ab"]


def reconstruct(*arguments):
    return main(["reconstruct", *map(str, arguments), *METHOD])


def test_steps_go_on_from_the_image(files, tmp_path, capsys):
    """A method whose state is its image: three steps and four are seven, for each file by its name."""
    whole, first, rest = (tmp_path / name for name in ("whole", "first", "rest"))
    assert reconstruct(*files, "--out", whole, "--solver.max_iter", 7) == 0
    assert reconstruct(*files, "--out", first, "--solver.max_iter", 3) == 0
    assert reconstruct(*files, "--out", rest, "--solver.max_iter", 4, "--start", first) == 0
    for name in ("a.h5", "b.h5"):
        assert_close(load_result(rest / name).image, load_result(whole / name).image, rtol=1e-5, atol=1e-6)
    assert load_result(rest / "a.h5").record["config"]["start"] == str(first / "a.h5")
    assert main(["reconstruct", "--replay", str(rest / "a.h5")]) == 0
    assert "identical True" in capsys.readouterr().out


def test_a_trained_prior_begins_with_the_modalitys_own_image(tmp_path):
    scene, sparse, named, told = (tmp_path / f"{name}.h5" for name in ("scene", "sparse", "named", "told"))
    assert main(["simulate", "near-field", "--n_frequencies", "2", "--out", str(scene)]) == 0
    begin = ["reconstruct", str(scene), "--report", "false", "--out"]
    few = ["--prior", "magnitude-denoiser", "--solver.max_iter", "1"]
    assert main([*begin, str(sparse)]) == main([*begin, str(named), *few]) == 0
    assert main([*begin, str(told), *few, "--start", str(sparse)]) == 0
    assert torch.equal(load_result(named).image, load_result(told).image)
    assert load_result(named).record["config"]["start"] == "default"
    assert main([*begin, str(told), *few, "--start", "null", "--overwrite", "true"]) == 0
    assert not torch.equal(load_result(named).image, load_result(told).image)


def test_another_first_image_is_another_result(files, tmp_path, capsys):
    first, other, rest = (tmp_path / name for name in ("first.h5", "other.h5", "rest.h5"))
    assert reconstruct(files[0], "--out", first, "--solver.max_iter", 1) == 0
    assert reconstruct(files[0], "--out", other, "--solver.max_iter", 2) == 0
    goes_on = [files[0], "--out", rest, "--solver.max_iter", 1, "--start"]
    assert reconstruct(*goes_on, first) == reconstruct(*goes_on, first) == 0
    assert "skipped" in capsys.readouterr().out
    refused(capsys, ["reconstruct", *map(str, goes_on), str(other), *METHOD], 3, "made with other settings or input")


def test_what_is_no_such_image_is_refused(files, tmp_path, capsys):
    physics = CircularBlur(torch.ones(3, 3) / 9, (1, 8, 9))
    small, out = tmp_path / "small.h5", tmp_path / "out"
    save_measurement(small, torch.rand(1, 1, 8, 9), physics, noise_std=0.01)
    assert reconstruct(small, "--out", tmp_path / "image.h5", "--solver.max_iter", 1) == 0
    begin = ["reconstruct", files[0], "--out", str(out), *METHOD, "--start"]
    expected = "found real images (1, 1, 8, 9), expected real images (1, 1, 8, 10) to begin with"
    capsys.readouterr()
    refused(capsys, [*begin, str(tmp_path / "image.h5")], 3, expected)
    refused(capsys, [*begin, files[1]], 3, f"{files[1]}: ")
    refused(capsys, [*begin, str(tmp_path)], 3, str(tmp_path / "a.h5"))
    refused(capsys, [*begin, str(tmp_path / "none.h5")], 3, "none.h5: ")
    assert not list(out.glob("*"))
