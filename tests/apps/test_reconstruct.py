"""Whole runs through the command line: files in, images out, killed and gone on, replayed."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.data import chelsea

from resolvent.apps import reconstruct
from resolvent.apps.cli import INPUT, INTERRUPTED, TERMINATED, USAGE, UsageError, main
from resolvent.apps.defaults import modality, preset_of, trained_preset
from resolvent.datasets import load_measurement, load_result, save_measurement, save_result
from resolvent.operators import SPEED_OF_LIGHT, Blur, CartesianMRI, Dense, Exposure, NearFieldMIMO, Restricted, Scaled
from resolvent.priors.weights_file import shipped
from resolvent.recon import BackProjection, MomentMatching

COMMAND = [sys.executable, "-m", "resolvent.apps.cli"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    path = tmp_path_factory.mktemp("scene") / "scene.h5"
    assert main(["simulate", "near-field", "--out", str(path), "--n_frequencies", "3"]) == 0
    return path


def test_the_same_seed_simulates_the_same_file(scene, tmp_path):
    again, other = tmp_path / "again.h5", tmp_path / "other.h5"
    argv = ["simulate", "near-field", "--n_frequencies", "3", "--out"]
    assert main([*argv, str(again)]) == 0 and main([*argv, str(other), "--seed", "1"]) == 0
    y, y_again, y_other = (load_measurement(p).y for p in (scene, again, other))
    assert torch.equal(y, y_again) and not torch.equal(y, y_other)


@pytest.mark.parametrize("size", [32, 48, 100])
def test_a_small_scan_has_a_small_block_for_calibration(tmp_path, size):
    out = tmp_path / "scan.h5"
    assert main(["simulate", "mri", "--size", str(size), "--mask", "poisson", "--out", str(out)]) == 0
    mask, side = load_measurement(out).physics.mask, min(24, size // 4)
    assert int(mask.sum()) == size**2 // 4
    assert bool(mask[size // 2 - side // 2 :, size // 2 - side // 2 :][:side, :side].all())


def test_the_simulated_noise_has_the_stated_level(scene):
    m = load_measurement(scene)
    clean = m.physics.A(m.truth)
    snr = 10 * torch.log10(clean.abs().square().mean() / (m.y - clean).abs().square().mean())
    assert abs(float(snr) - 30) < 0.5
    assert float((m.y - clean).abs().square().mean().sqrt()) == pytest.approx(m.noise_std, rel=0.05)


def test_defaults_beat_back_projection_and_write_a_report(scene, tmp_path, capsys):
    assert main(["reconstruct", str(scene), "--out", str(tmp_path)]) == 0
    assert main(["reconstruct", str(scene), "--out", str(tmp_path / "bp.h5"), "--solver", "BackProjection"]) == 0
    ours, focused = (load_result(tmp_path / n).record["metrics"] for n in ("scene.h5", "bp.h5"))
    assert ours["ssim"][0] > focused["ssim"][0] + 0.3 and ours["psnr"][0] > focused["psnr"][0]
    assert "nmse" in ours and "nmse" not in focused, "a focused image has no unit"
    assert "NMSE" not in (tmp_path / "bp.html").read_text() and "NMSE" in (tmp_path / "scene.html").read_text()
    assert (tmp_path / "scene.html").stat().st_size > 10_000
    assert load_result(tmp_path / "bp.h5").record["config"]["prior"] is None
    assert "NearFieldMIMO · BackProjection · " in (tmp_path / "bp.html").read_text()
    assert str(tmp_path / "scene.html") in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_a_result_of_fewer_settings_is_replayed(scene, tmp_path, capsys):
    """As written before a setting was there."""
    out = tmp_path / "r.h5"
    assert main(["reconstruct", str(scene), "--out", str(out), "--report", "false", "--prior", "GroupL1"]) == 0
    found = load_result(out)
    del found.record["config"]["least_strength"], found.record["config"]["strength_growth"]
    save_result(out, found)
    assert main(["reconstruct", "--replay", str(out)]) == 0 and "identical True" in capsys.readouterr().out


def test_replay_gives_the_same_image_bit_for_bit(scene, tmp_path, capsys):
    assert main(["reconstruct", str(scene), "--out", str(tmp_path), "--report", "false", "--solver.max_iter", "9"]) == 0
    result = tmp_path / "scene.h5"
    assert main(["reconstruct", "--replay", str(result)]) == 0
    assert "identical True" in capsys.readouterr().out
    for more, name in ((["--solver.max_iter=3"], "--solver.max_iter"), ([str(scene)], str(scene))):
        assert main(["reconstruct", "--replay", str(result), *more]) == USAGE
        assert f"{name}: found beside --replay" in capsys.readouterr().err


def test_to_name_the_default_prior_changes_nothing(photograph, tmp_path, monkeypatch):
    """Its weight and what goes with it stay, for the class itself alone, not for another of that name."""
    (tmp_path / "c.yaml").write_text("prior: TV")
    (tmp_path / "of_mine.py").write_text("import resolvent.priors\n\nclass TV(resolvent.priors.TV):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    def settings(*options):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.h5"
        argv = ["reconstruct", str(photograph), "--out", str(out), "--report", "false", "--solver.max_iter", "3"]
        assert main([*argv, *options]) == 0
        return load_result(out).record["config"]

    default = settings()
    assert default["prior"]["init_args"]["weight"] != 1 and default["strength_growth"] > 0
    for named in (["--prior", "TV"], ["--prior=resolvent.priors.TV"], ["--config", str(tmp_path / "c.yaml")]):
        assert settings(*named) == default
    mine = settings("--prior", "of_mine.TV")
    assert mine["prior"]["init_args"]["weight"] == 1 and mine["strength_growth"] == 0


def test_arguments_in_a_configuration_join_those_of_the_preset(scene, tmp_path):
    config = tmp_path / "few.yaml"
    config.write_text("solver: {max_iter: 3}\n")
    argv = ["reconstruct", str(scene), "--out", str(tmp_path / "few.h5"), "--report", "false"]
    assert main([*argv, "--config", str(config)]) == 0
    record = load_result(tmp_path / "few.h5").record
    assert record["solver"] == "FISTA" and record["iterations"] == 3
    assert record["config"]["solver"]["init_args"]["stop"]["init_args"]["tol"] == 0.01


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    """A real image behind a blur whose borders are unseen."""
    folder = tmp_path_factory.mktemp("photograph")
    truth = torch.rand(1, 1, 6, 8).repeat_interleave(6, 2).repeat_interleave(6, 3)
    physics = Blur(torch.full((5, 5), 1 / 25), (1, 32, 44))
    y = physics.A(truth) + 0.01 * torch.randn(1, 1, 32, 44)
    save_measurement(folder / "photograph.h5", y, physics, truth=truth, noise_std=0.01)
    return folder / "photograph.h5"


@pytest.mark.parametrize("joined", [False, True])
def test_weights_by_name_are_a_whole_method(joined, photograph, tmp_path, capsys):
    """Name and file mean the same; the record says in full what the name stood for, and replays."""
    file = shipped()["image-denoiser"]
    for name, words in (("a", ["--prior", "image-denoiser"]), ("b", [f"--prior={file}" if joined else "--prior"])):
        more = [str(file)] if len(words) == 1 and not joined else []
        argv = ["reconstruct", str(photograph), "--out", str(tmp_path / f"{name}.h5"), "--report", "false"]
        assert main([*argv, *words, *more]) == 0
    a, b = (load_result(tmp_path / f"{name}.h5") for name in "ab")
    assert torch.equal(a.image, b.image)
    assert a.record["config"]["prior"]["init_args"] == {"denoiser": "image-denoiser", "sigma": None}
    assert a.record["config"]["solver"]["class_path"].endswith("HalfQuadratic")
    assert main(["reconstruct", "--replay", str(tmp_path / "a.h5")]) == 0
    assert "identical True" in capsys.readouterr().out


def test_weights_by_name_leave_the_rest_to_be_chosen(photograph, tmp_path):
    argv = ["reconstruct", str(photograph), "--report", "false", "--prior", "image-denoiser", "--prior.sigma", "0.2"]
    assert main([*argv, "--solver", "ADMM", "--solver.max_iter", "2", "--out", str(tmp_path / "a.h5")]) == 0
    config = load_result(tmp_path / "a.h5").record["config"]
    assert config["prior"]["init_args"]["sigma"] == 0.2 and config["solver"]["class_path"].endswith("ADMM")


def test_weights_for_one_noise_level_are_refused_where_many_are_gone_through(photograph, tmp_path, capsys):
    argv = ["reconstruct", str(photograph), "--prior", "learned-proximal", "--report", "false", "--out"]
    assert main([*argv, str(tmp_path / "a.h5")]) == 2
    assert "'learned-proximal', made for noise of one strength, expected weights" in capsys.readouterr().err
    assert main([*argv, str(tmp_path / "a.h5"), "--solver", "ADMM", "--solver.max_iter", "1"]) == 0


def test_a_denoiser_of_gray_pictures_takes_colours_one_by_one(tmp_path):
    y = torch.rand(1, 3, 12, 14)
    save_measurement(tmp_path / "y.h5", y, Blur(torch.ones(1, 1), (3, 12, 14)), noise_std=0.1)
    for i in range(3):
        save_measurement(tmp_path / f"y{i}.h5", y[:, i : i + 1], Blur(torch.ones(1, 1), (1, 12, 14)), noise_std=0.1)
    names = [str(tmp_path / name) for name in ("y.h5", "y0.h5", "y1.h5", "y2.h5")]
    argv = ["--prior", "image-denoiser", "--report", "false", "--out", str(tmp_path / "x")]
    assert main(["reconstruct", *names, *argv]) == 0
    colour, *grays = (load_result(tmp_path / "x" / Path(name).name).image for name in names)
    assert torch.allclose(colour, torch.cat(grays, 1), atol=1e-4)


@pytest.mark.parametrize("said", [["--overwrite"], ["--overwrite", "true"], ["--overwrite=true"]])
@pytest.mark.parametrize("last", [True, False])
def test_an_option_that_stands_alone_is_true(tmp_path, capsys, said, last):
    scan, out = str(tmp_path / "scan.h5"), str(tmp_path / "x.h5")
    assert main(["simulate", "mri", "--size", "32", "--coils", "1", "--out", scan]) == 0
    for strength in ("0.1", "0.2"):
        places, options = [scan, "--out", out], ["--strength", strength, "--report", "false", "--json", *said]
        assert main(["reconstruct", *places, *options] if last else ["reconstruct", *options, *places]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["file"] == scan
    assert load_result(out).record["config"]["strength"] == 0.2
    assert main(["reconstruct", scan, "--out", out, "--strength", "0.3", "--overwrite", "false"]) == 3


CONFIGURED = {
    "prior": ["prior: TV", "prior.weight: 0.7"],
    "solver": ["solver: ADMM", "solver.max_iter: 7"],
    "class within a class": [
        "prior: Magnitude", "prior.prior: Denoiser", "prior.prior.denoiser: image-denoiser", "prior.prior.sigma: null",
        "solver: HalfQuadratic"],
    "no class": ["solver.max_iter: 7", "prior.prior.weight: 0.3"],
}  # fmt: skip


@pytest.mark.parametrize("lines", CONFIGURED.values(), ids=CONFIGURED)
def test_a_configuration_takes_the_names_of_the_command_line(tmp_path, lines):
    """A class and its arguments in any order make the image that the same options do."""
    scan, again = str(tmp_path / "scan.h5"), ["--report", "false", "--overwrite", "true", "--out"]
    assert main(["simulate", "mri", "--size", "32", "--coils", "1", "--acceleration", "2", "--out", scan]) == 0

    def made(*options):
        assert main(["reconstruct", scan, *options, *again, str(tmp_path / "x.h5")]) == 0
        return load_result(tmp_path / "x.h5").image

    def words(lines):
        return [word for line in lines for word in (f"--{line.partition(': ')[0]}", line.partition(": ")[2])]

    expected = made(*words(lines))
    assert torch.equal(made(*words(lines[::-1])), expected)
    for ordered in (lines, lines[::-1]):
        (tmp_path / "c.yaml").write_text("\n".join(ordered))
        assert torch.equal(made("--config", str(tmp_path / "c.yaml")), expected)
        assert torch.equal(made(f"--config={tmp_path / 'c.yaml'}"), expected)


def test_the_command_line_wins_over_a_configuration_wherever_that_stands(tmp_path):
    scan, out = str(tmp_path / "scan.h5"), str(tmp_path / "x.h5")
    assert main(["simulate", "mri", "--size", "32", "--coils", "1", "--out", scan]) == 0
    (tmp_path / "c.yaml").write_text("prior: TV\nprior.weight: 0.1\nsolver: FISTA\nsolver.max_iter: 3")
    for config in (["--config", str(tmp_path / "c.yaml")], [f"--config={tmp_path / 'c.yaml'}"]):
        options = ["--prior.weight", "0.2", *config, "--solver.max_iter", "2", "--overwrite", "--report", "false"]
        assert main(["reconstruct", *options, "--out", out, "--", scan]) == 0
        found = load_result(out).record["config"]
        assert found["prior"]["init_args"]["weight"] == 0.2 and found["solver"]["init_args"]["max_iter"] == 2


def test_no_file_that_is_read_is_written(tmp_path, capsys):
    """First images, and what a replay reads; nor anything else by a replay."""
    scan, result, other = (str(tmp_path / f"{name}.h5") for name in ("scan", "result", "other"))
    assert main(["simulate", "mri", "--size", "32", "--coils", "1", "--out", scan]) == 0
    plain = ["reconstruct", scan, "--report", "false", "--out"]
    assert main([*plain, result]) == 0 and main([*plain, other, "--start", result]) == 0
    before = {path: Path(path).read_bytes() for path in (scan, result, other)}
    assert main([*plain, result, "--start", result, "--overwrite"]) == INPUT
    for out in (scan, result, other):
        assert main(["reconstruct", "--replay", other, "--out", out]) == INPUT
    assert main(["reconstruct", "--replay", other, "--out", str(tmp_path / "x.npy")]) == USAGE
    assert {path: Path(path).read_bytes() for path in before} == before
    assert main(["reconstruct", "--replay", other, "--out", str(tmp_path / "again.h5")]) == 0
    assert main([*plain, result, "--strength", "0.3", "--overwrite"]) == 0
    capsys.readouterr()
    assert main(["reconstruct", "--replay", other]) == INPUT
    assert f"{result}: SHA-256 is" in capsys.readouterr().err


def test_weights_where_no_method_takes_them(tmp_path, capsys):
    save_measurement(tmp_path / "y.h5", torch.ones(1, 4), Dense(torch.eye(4), (1, 2, 2)))
    argv = ["reconstruct", str(tmp_path / "y.h5"), "--out", str(tmp_path / "x.h5")]
    assert main([*argv, "--prior", "image-denoiser"]) == 2
    assert "found weights, 'image-denoiser', for which Dense has no method" in capsys.readouterr().err
    assert main([*argv, "--prior", "nowhere.safetensors"]) == 2


@pytest.mark.parametrize(
    "physics, weights, named",
    [
        (Blur(torch.ones(1, 1), (1, 16, 16)), "image-denoiser", "--prior Denoiser"),
        (CartesianMRI(torch.ones(16, 16)), "image-denoiser", "--prior Magnitude"),
        (CartesianMRI(torch.ones(16, 16)), "brain-score", "--prior DenoiserDiffusion"),
    ],
)
def test_the_method_that_is_proposed_for_weights_is_one(tmp_path, capsys, physics, weights, named, monkeypatch):
    """Word for word, for real and for complex images, a null in a class within a class among them."""
    monkeypatch.setattr("resolvent.apps.defaults.PRESETS", tmp_path)
    y = physics.A(torch.rand(1, 1, 16, 16).to(torch.complex64 if physics.complex_data else torch.float32))
    save_measurement(tmp_path / "y.h5", y, physics, noise_std=0.1)
    with pytest.raises(UsageError) as refusal:
        trained_preset(type(physics).__name__, weights)
    monkeypatch.undo()
    words = str(refusal.value).partition("expected a class: ")[2].partition(",")[0].split()
    assert " ".join(words).startswith(named)
    argv = ["reconstruct", str(tmp_path / "y.h5"), *words, "--report", "false", "--out", str(tmp_path / "x.h5")]
    assert main(argv) == 0, capsys.readouterr().err


REFUSED = {
    "out, the input": (["reconstruct", "y.h5", "--out", "y.h5"], INPUT, "y.h5: found one of the files that are read"),
    "out, the input's folder": (["reconstruct", "y.h5", "--out", "."], INPUT, "y.h5: found one of the files"),
    "acquire, the input": (
        ["acquire", "y.h5", "--out", "y.h5", "--prior", "DenoiserDiffusion", "--prior.denoiser", "brain-score",
         "--sampler", "DPS", "--score", "PairwiseEntropy", "--score.std", "1"], INPUT,
        "y.h5: found one of the files that are read"),
    "no out": (["reconstruct", "y.h5", "--out", ""], USAGE, "--out: found ''"),
    "no start": (["reconstruct", "y.h5", "--out", "x.h5", "--start="], USAGE, "--start: found ''"),
    "no kernel": (["simulate", "blur", "--kernel", "", "--out", "x.h5"], USAGE, "--kernel: found ''"),
    "no file of parameters": (
        ["reconstruct", "y.h5", "--out", "x.h5", "--parameters", "no"], INPUT,
        "--parameters: found 'no' (No such file or directory), expected a file of tensors"),
    "time": (["reconstruct", "y.h5", "--out", "x.h5", "--checkpoint_every=-5"], USAGE, "--checkpoint_every: found -5"),
    "no time": (["reconstruct", "y.h5", "--out", "x.h5", "--checkpoint_every", "nan"], USAGE, "--checkpoint_every"),
    "page": (["report", "x.h5", "--out", "x.png"], USAGE, "--out: found x.png, expected the name of an HTML file"),
}  # fmt: skip


@pytest.mark.parametrize(("argv", "code", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path, monkeypatch, capsys, argv, code, message):
    """In one line that says what is wrong; nothing is written."""
    monkeypatch.chdir(tmp_path)
    save_measurement(Path("y.h5"), torch.rand(1, 1, 16, 16), Blur(torch.ones(1, 1), (1, 16, 16)), noise_std=0.1)
    before = Path("y.h5").read_bytes()
    assert main(argv) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert Path("y.h5").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["y.h5"]


def test_an_argument_that_is_none_stays_none(photograph, tmp_path):
    """Not the constructor's default, which is another noise level."""
    argv = ["reconstruct", str(photograph), "--report", "false", "--out"]
    prior = ["--prior", "Denoiser", "--prior.denoiser", "image-denoiser", "--prior.sigma"]
    for name, sigma in (("none", "null"), ("default", "0.05")):
        assert main([*argv, str(tmp_path / f"{name}.h5"), *prior, sigma, "--solver", "HalfQuadratic"]) == 0
    none, default = (load_result(tmp_path / f"{name}.h5") for name in ("none", "default"))
    assert none.record["config"]["prior"]["init_args"]["sigma"] is None
    assert not torch.equal(none.image, default.image)


def test_a_configuration_file_is_the_command_line(scene, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(
        "prior: {class_path: Magnitude, init_args: {prior: {class_path: TV, init_args: {iterations: 3}}}}\n"
        "solver: {class_path: ADMM, init_args: {max_iter: 4}}\nstrength: 0.01\n"
    )
    common = ["reconstruct", str(scene), "--report", "false", "--config", str(config), "--out"]
    assert main([*common, str(tmp_path / "a.h5")]) == 0
    assert main([*common, str(tmp_path / "b.h5"), "--solver.max_iter", "5"]) == 0
    a, b = load_result(tmp_path / "a.h5"), load_result(tmp_path / "b.h5")
    assert (a.record["solver"], a.record["iterations"], b.record["iterations"]) == ("ADMM", 4, 5)
    assert a.record["config"]["prior"]["init_args"]["prior"]["init_args"]["iterations"] == 3


def test_json_lines_for_programs(scene, tmp_path, capsys):
    argv = ["reconstruct", str(scene), "--out", str(tmp_path), "--report", "false", "--json", "--solver.max_iter", "3"]
    assert main(argv) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events] == ["iteration"] * 3 + ["finished"]
    assert events[-1]["image"] == str(tmp_path / "scene.h5")


def test_several_files_are_dealt_out_under_torchrun(scene, tmp_path, monkeypatch):
    names = [tmp_path / f"{i}.h5" for i in range(3)]
    for name in names:
        name.write_bytes(scene.read_bytes())
    argv = [
        "reconstruct",
        *map(str, names),
        "--out",
        str(tmp_path / "o"),
        "--report",
        "false",
        "--solver.max_iter",
        "2",
    ]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, expected in (("0", {"0.h5", "2.h5"}), ("1", {"0.h5", "1.h5", "2.h5"})):
        monkeypatch.setenv("RANK", rank)
        assert main(argv) == 0
        assert {p.name for p in (tmp_path / "o").iterdir()} == expected


def start(scene, out, *options):
    argv = [*COMMAND, "reconstruct", str(scene), "--out", str(out), "--report", "false", "--json", *options]
    argv += ["--checkpoint_every", "0.2"]
    return subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONSAFEPATH": "1"}
    )


def wait_for_iteration(process, iteration):
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "iteration" and event["iteration"] >= iteration:
            return event["iteration"]
    raise AssertionError(process.stderr.read())


LONG = ["--solver.max_iter", "150", "--solver.stop", "RelativeChange", "--solver.stop.tol", "0"]


@pytest.mark.parametrize(
    "number, code", [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_stopped_at_any_moment_the_same_command_goes_on(number, code, scene, tmp_path, monkeypatch):
    process = start(scene, tmp_path / "o", *LONG)
    reached = wait_for_iteration(process, 25)
    if number == signal.SIGKILL:
        wait_until(lambda: list((tmp_path / "o").glob(".*.checkpoint")))
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert not (tmp_path / "o" / "scene.h5").exists()
    if number != signal.SIGKILL:
        assert errors.strip() == "resolvent: interrupted; what is finished is kept, the same command goes on"
    assert main(["reconstruct", str(scene), "--out", str(tmp_path / "o"), "--report", "false", *LONG]) == 0
    assert main(["reconstruct", str(scene), "--out", str(tmp_path / "whole"), "--report", "false", *LONG]) == 0
    gone_on, whole = load_result(tmp_path / "o" / "scene.h5"), load_result(tmp_path / "whole" / "scene.h5")
    assert torch.equal(gone_on.image, whole.image) and reached >= 25
    assert torch.equal(gone_on.history["relative_change"], whole.history["relative_change"])
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["scene.h5"]


def wait_until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("option", ["--strength", "--prior.weight"])
def test_samplers_refuse_weights_that_they_do_not_hear(option, tmp_path, capsys):
    save_measurement(tmp_path / "m.h5", torch.rand(1, 64), Dense(torch.eye(64), (1, 8, 8)), noise_std=0.1)
    prior = ["--prior", "DenoiserDiffusion", "--prior.denoiser", "image-score", "--solver", "DiffPIR"]
    argv = ["reconstruct", str(tmp_path / "m.h5"), "--out", str(tmp_path / "o.h5"), *prior, option, "3"]
    assert main(argv) == USAGE
    assert f"{option}: found for DiffPIR, expected none" in capsys.readouterr().err


def test_a_strength_that_nothing_hears_is_refused(photograph, tmp_path, capsys):
    argv = ["reconstruct", str(photograph), "--report", "false", "--prior", "image-denoiser", "--strength", "0.5"]
    argv += ["--solver", "ADMM", "--solver.max_iter", "1"]
    assert main([*argv, "--prior.sigma", "0.2", "--out", str(tmp_path / "a.h5")]) == USAGE
    assert "--strength: found for Denoiser, expected none: no weight" in capsys.readouterr().err
    box = [*argv[:4], "--prior", "Box", *argv[6:], "--out", str(tmp_path / "box.h5")]
    assert main(box) == USAGE
    assert "--strength: found for Box, expected none: no weight" in capsys.readouterr().err
    assert main([*argv, "--out", str(tmp_path / "a.h5")]) == 0, "of no fixed level it is heard"


def test_a_result_that_another_run_wrote_in_the_meantime_stays(scene, tmp_path, monkeypatch, capsys):
    argv = ["reconstruct", str(scene), "--out", str(tmp_path / "x.h5"), "--report", "false", "--solver.max_iter"]
    solve, settings = reconstruct.solve, []

    def beside(*arguments):
        settings.append(arguments[1].settings)
        if len(settings) == 1:
            assert main([*argv, "3"]) == 0
        return solve(*arguments)

    monkeypatch.setattr(reconstruct, "solve", beside)
    assert main([*argv, "2"]) == INPUT
    assert f"{tmp_path / 'x.h5'}: exists, made with other settings" in capsys.readouterr().err
    assert load_result(tmp_path / "x.h5").record["iterations"] == 3


def reconstructed(path, *options):
    out = path.with_name("out.h5")
    assert (
        main(["reconstruct", str(path), "--out", str(out), "--report", "false", "--overwrite", "true", *options]) == 0
    )
    return load_result(out)


@pytest.mark.parametrize("noise", ["0.01", "0.05", "0.2"])
@pytest.mark.parametrize(
    "kind",
    [["--kernel", "motion"], ["--kernel", "bicubic", "--factor", "2", "--border", "circular"], ["--kernel", "none"]],
)
def test_photographs_have_nearly_the_best_weight_at_any_noise(tmp_path, kind, noise):
    """Of total variation, whose best weight grows faster than the noise; a scene that nothing was chosen by."""
    scene, path = tmp_path / "scene.npy", tmp_path / "y.h5"
    np.save(scene, rgb2gray(chelsea())[:192, 100:292].astype(np.float32))
    assert main(["simulate", "blur", "--image", str(scene), *kind, "--noise_std", noise, "--out", str(path)]) == 0
    own = preset_of(modality(path))["prior"]["init_args"]["weight"]
    found = [reconstructed(path, "--prior.weight", str(own * 2.0**k)).record["metrics"] for k in (-2, 0, 2)]
    psnr = [metrics["psnr"][0] for metrics in found]
    assert psnr[1] > max(psnr) - 0.6


def test_little_noise_does_no_harm(tmp_path):
    """At 70 dB the noise's own threshold is so low that iterations stop long before they are sparse."""
    worth = {}
    for snr in (20, 70):
        argv = ["--out", str(tmp_path / f"{snr}.h5"), "--n_frequencies", "5", "--snr", str(snr)]
        assert main(["simulate", "near-field", *argv]) == 0
        worth[snr] = reconstructed(tmp_path / f"{snr}.h5").record["metrics"]["ssim"][0]
    assert worth[70] > worth[20] - 0.02
    assert reconstructed(tmp_path / "70.h5", "--prior", "TV").record["config"]["least_strength"] == 0
    off = reconstructed(tmp_path / "70.h5", "--least_strength", "0").record
    assert off["metrics"]["ssim"][0] < worth[20] / 2
    m = load_measurement(tmp_path / "70.h5")
    save_measurement(tmp_path / "0.h5", m.y, m.physics, m.truth, noise_std=0.0)
    without = reconstructed(tmp_path / "0.h5").record
    assert without["metrics"]["ssim"][0] > worth[20] - 0.02 and not any("no weight" in w for w in without["warnings"])


@pytest.mark.parametrize("option", ["--strength", "--prior"])
def test_one_step_takes_no_prior(option, scene, tmp_path, capsys):
    value = "TV" if option == "--prior" else "0.3"
    argv = ["reconstruct", str(scene), "--out", str(tmp_path / "o.h5"), "--solver", "BackProjection", option, value]
    assert main(argv) == USAGE
    assert f"{option}: found for BackProjection, expected none: it takes no prior" in capsys.readouterr().err


def test_scenes_of_a_file_have_the_same_ratio_of_signal_to_noise(tmp_path):
    argv = ["--out", str(tmp_path / "m.h5"), "--n_frequencies", "2", "--n_scenes", "3", "--snr", "20"]
    assert main(["simulate", "near-field", *argv]) == 0
    m = load_measurement(tmp_path / "m.h5")
    power = m.physics.A(m.truth).abs().square().flatten(1).mean(1)
    assert torch.allclose(10 * torch.log10(power / m.noise_std**2), torch.tensor(20.0), atol=0.01)


def test_numbers_that_json_has_not_are_null(scene, tmp_path, capsys):
    """A perfect image has an infinite PSNR, and a single voxel no SSIM."""
    m = load_measurement(scene)
    one = NearFieldMIMO(m.physics.transmitters, m.physics.receivers, m.physics.frequencies, [0.0], [0.0], [0.5])
    save_measurement(tmp_path / "one.h5", one.A(torch.ones(1, 1, 1, 1, 1, dtype=torch.complex64)), one,
                     torch.ones(1, 1, 1, 1, 1, dtype=torch.complex64), noise_std=1e-3)  # fmt: skip
    argv = ["reconstruct", str(tmp_path / "one.h5"), "--out", str(tmp_path / "o.h5"), "--report", "true", "--json"]
    assert main(argv) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1], parse_constant=pytest.fail)
    assert last["metrics"]["ssim"] == [None]
    with h5py.File(tmp_path / "o.h5") as file:
        json.loads(file.attrs["record"], parse_constant=pytest.fail)
    assert math.isnan(load_result(tmp_path / "o.h5").record["metrics"]["ssim"][0])
    (tmp_path / "o.html").unlink()
    assert main(["report", str(tmp_path / "o.h5")]) == 0 and (tmp_path / "o.html").exists()


def test_a_batch_is_said_from_the_least_to_the_greatest(scene, tmp_path, capsys):
    m = load_measurement(scene)
    save_measurement(tmp_path / "two.h5", torch.cat([m.y, 0 * m.y]), m.physics, noise_std=m.noise_std)
    for method in ([], ["--prior", "magnitude-denoiser"]):
        out = tmp_path / f"{len(method)}.h5"
        assert main(["reconstruct", str(tmp_path / "two.h5"), "--out", str(out), "--report", "false", *method]) == 0
        assert "peak 0 to " in capsys.readouterr().out
        assert not load_result(out).image[1].any()


@pytest.mark.parametrize("options", [(), ("--prior.weight", "0.5")])
def test_a_strength_is_each_images_own(options, scene, tmp_path):
    m = load_measurement(scene)
    save_measurement(tmp_path / "two.h5", torch.cat([m.y, 20 * m.y]), m.physics)
    image = reconstructed(tmp_path / "two.h5", "--strength", "0.1", *options).image
    assert float(image[0].abs().max()) > 0
    assert torch.allclose(20 * image[0], image[1], rtol=1e-3, atol=1e-3 * float(image[1].abs().max()))


def test_a_single_step_takes_its_time(scene, tmp_path):
    out = str(tmp_path / "bp.h5")
    assert main(["reconstruct", str(scene), "--solver", "BackProjection", "--report", "false", "--out", out]) == 0
    m, started = load_measurement(scene), time.perf_counter()
    m.physics.back_project(m.y)
    assert load_result(out).record["seconds"] > 0.05 * (time.perf_counter() - started)


def test_low_light_has_a_method_of_its_own(tmp_path):
    """Total variation, which takes noise out of the picture and leaves it there."""
    physics = Exposure(0.3, 0.01, 0.005, (1, 32, 32))
    truth = torch.full((1, 1, 32, 32), 0.3)
    truth[..., 8:24, 8:24] = 0.9
    torch.manual_seed(0)
    y = physics(truth)
    save_measurement(tmp_path / "m.h5", y, physics, truth)
    assert main(["reconstruct", str(tmp_path / "m.h5"), "--out", str(tmp_path / "o.h5"), "--report", "false"]) == 0
    image = load_result(tmp_path / "o.h5").image
    assert float((image - truth).square().mean()) < 0.3 * float((y / 0.3 - truth).square().mean())


def test_operators_around_others_have_their_method_and_grid(scene, tmp_path):
    """As the operator inside them: its preset, its voxels' places."""
    m = load_measurement(scene)
    keep = torch.ones(m.physics.data_shape)
    keep[:, 0] = 0
    inside = Scaled(Restricted(m.physics, keep), 2.0)
    save_measurement(tmp_path / "part.h5", inside.A(m.truth), inside, m.truth, noise_std=m.noise_std)
    results = []
    for path in (scene, tmp_path / "part.h5"):
        out = str(tmp_path / f"{path.stem}-out.h5")
        assert main(["reconstruct", str(path), "--out", out, "--report", "false", "--solver.max_iter", "2"]) == 0
        results.append(load_result(out))
    whole, part = (result.record["config"] for result in results)
    assert whole["solver"] == part["solver"] and whole["prior"] == part["prior"]
    assert all(torch.equal(results[0].axes[name], results[1].axes[name]) for name in "xyz")


def sampled(tmp_path, *more, samples="24"):
    """A Gaussian image, half of whose pixels were measured, drawn from its posterior; the result."""
    (tmp_path / "normal_prior.py").write_text(
        "import torch\nfrom resolvent.priors import GaussianPrior, VarianceExploding\n\n\n"
        "class Normal(GaussianPrior):\n    def __init__(self):\n"
        "        made = GaussianPrior.dense(torch.zeros(1, 4, 4), torch.eye(16), VarianceExploding(0.01, 20))\n"
        "        self.__dict__.update(made.__dict__)\n"
    )
    physics = Dense(torch.eye(16)[::2], (1, 4, 4))
    truth = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    save_measurement(tmp_path / "m.h5", physics.A(truth), physics, truth, noise_std=0.1)
    argv = ["reconstruct", str(tmp_path / "m.h5"), "--out", str(tmp_path / "o.h5"), "--samples", samples]
    argv += ["--prior", "normal_prior.Normal", "--solver", "MomentMatching", "--solver.steps", "60", *more]
    return main(argv), tmp_path / "o.h5"


def test_several_samples_are_their_mean_and_spread(tmp_path, monkeypatch, capsys):
    """Measured pixels are known to the noise, the others as well as the prior knows them."""
    monkeypatch.syspath_prepend(tmp_path)
    code, out = sampled(tmp_path, "--solver.randomness", "1.0")
    result = load_result(out)
    assert code == 0 and result.image.shape == result.std.shape == (2, 1, 4, 4)
    std = result.std.flatten(1).square().mean(0).sqrt()
    assert (std[::2] < 0.2).all() and ((std[1::2] > 0.6) & (std[1::2] < 1.5)).all()
    metrics = result.record["metrics"]
    assert all(0.4 < ratio < 2.5 for ratio in metrics["error_over_spread"]) and len(metrics["spread"]) == 2
    assert result.record["status"] == ["completed"] * 2 and result.record["iterations"] == 60
    assert result.history["relative_change"].shape == (60, 2) and result.record["config"]["samples"] == 24
    rms = [(x - m).square().mean().sqrt() for x, m in zip(result.image, result.truth, strict=True)]
    expected = [r / s / (1 + 1 / 24) ** 0.5 for r, s in zip(rms, metrics["spread"], strict=True)]
    assert metrics["error_over_spread"] == pytest.approx([float(e) for e in expected], rel=1e-5)
    page = out.with_suffix(".html").read_text()
    assert "Uncertainty" in page and "rms error / std" in page
    capsys.readouterr()
    assert main(["info", str(out)]) == 0 and "std " in capsys.readouterr().out
    assert main(["reconstruct", "--replay", str(out)]) == INPUT and "--trust normal_prior" in capsys.readouterr().err
    assert main(["reconstruct", "--replay", str(out), "--trust", "normal_prior"]) == 0
    one = sampled(tmp_path, "--overwrite", "true", "--report", "false", samples="1")
    assert one[0] == 0 and load_result(out).std is None


def test_samples_that_were_interrupted_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    code, out = sampled(tmp_path, "--report", "false", samples="3")
    whole, move, seen = load_result(out), MomentMatching.move, []

    def hit(self, problem, state, k):
        seen.append(k)
        if seen == list(range(21)):
            signal.raise_signal(signal.SIGTERM)
        return move(self, problem, state, k)

    monkeypatch.setattr(MomentMatching, "move", hit)
    out.unlink()
    assert code == 0 and sampled(tmp_path, "--report", "false", samples="3")[0] == TERMINATED
    assert capsys.readouterr().err == "resolvent: interrupted; what is finished is kept, the same command goes on\n"
    assert not out.exists()
    assert sampled(tmp_path, "--report", "false", samples="3")[0] == 0 and seen == [*range(21), *range(20, 60)]
    assert "resuming" in capsys.readouterr().out
    result = load_result(out)
    assert torch.equal(result.image, whole.image) and torch.equal(result.std, whole.std)
    assert torch.equal(result.history["relative_change"], whole.history["relative_change"])


@pytest.mark.parametrize(
    "more, samples, message",
    [
        (["--solver", "FISTA"], "3", "--samples: found 3 of FISTA, expected a sampler"),
        ([], "0", "--samples: found 0, expected at least 1"),
        (["--prior", "L1"], "2", "MomentMatching: found L1, expected a prior with a mean, a Diffusion"),
    ],
)
def test_samples_of_what_draws_none(more, samples, message, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(tmp_path)
    if "FISTA" in more:
        more = [*more, "--prior", "L1"]
    code, out = sampled(tmp_path, *more, samples=samples)
    assert code == 2 and message in capsys.readouterr().err and not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name, tumour", [("B0_P3", (15, 0, 35)), ("B0_P5", (15, 0, 30))])
def test_real_phantoms_show_the_tumour_where_it_is(name, tumour, shared_data, tmp_path):
    """MERIT multistatic scans: default reconstruction within 10 mm, sharper than back-projection."""
    source = merit_measurement(shared_data, name, tmp_path / f"{name}.h5")
    assert main(["reconstruct", str(source), "--out", str(tmp_path / "o")]) == 0
    result, m = load_result(tmp_path / "o" / f"{name}.h5"), load_measurement(source)
    inside = m.physics.support
    focused = BackProjection()(m.y, m.physics).abs()[0, 0]
    image = result.image.abs()[0, 0]
    peak = np.unravel_index(int(image.argmax()), image.shape)
    position = 1e3 * np.array([float(result.axes[a][i]) for a, i in zip("xyz", peak, strict=True)])
    assert np.linalg.norm(position - tumour) < 10
    assert image.max() / image[inside].mean() > focused.max() / focused[inside].mean()


def merit_measurement(shared_data, name, path):
    scan = np.load(shared_data / "radar" / "merit_multistatic.npz")
    lateral, depth = 2.5e-3 * torch.arange(-28, 29), 2.5e-3 * torch.arange(29)
    x, y, z = torch.meshgrid(lateral, lateral, depth, indexing="ij")
    physics = NearFieldMIMO(
        scan["ant"], scan["ant"], scan["freqs"], lateral, lateral, depth, pairs=scan["ch"],
        support=x**2 + y**2 + z**2 <= 0.07**2 + 1e-9, propagation_speed=SPEED_OF_LIGHT / 8**0.5, spreading=False,
    )  # fmt: skip
    save_measurement(path, (scan[f"{name}_p000"] - scan[f"{name}_p036"])[None, None], physics)
    return Path(path)
