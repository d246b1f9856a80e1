"""Every failure is one line naming the file or key, with its own exit code, and leaves nothing behind."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from commands import refused

from resolvent.apps.cli import INPUT, NUMERICAL, USAGE, main
from resolvent.apps.defaults import first_modality
from resolvent.apps.method import refuse_strangers
from resolvent.datasets import blobs, load_measurement, load_result, save_measurement
from resolvent.operators import NearFieldMIMO


def small_array(n_frequencies=3):
    lateral = torch.linspace(-0.1, 0.1, 5)
    arm = torch.linspace(-0.1, 0.1, 4)
    return NearFieldMIMO(
        transmitters=torch.stack([arm, -arm, 0 * arm], 1),
        receivers=torch.stack([arm, arm, 0 * arm], 1),
        frequencies=torch.linspace(4e9, 8e9, n_frequencies),
        x=lateral, y=lateral, z=torch.linspace(0.3, 0.4, 6),
    )  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "good.h5"
    physics = small_array()
    truth = blobs((5, 5, 6), seed=1)
    save_measurement(path, physics.A(truth), physics, truth, noise_std=1e-3)
    return path


def edited(good, tmp_path, edit):
    path = tmp_path / "bad.h5"
    shutil.copy(good, path)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replaced(name, value, **attributes):
    def edit(file):
        del file[name]
        file[name] = value
        file[name].attrs.update(attributes)

    return edit


def attribute(where, name, value):
    return lambda file: file[where].attrs.__setitem__(name, value)


def with_value(value):
    def edit(file):
        data = file["data"][()]
        data[0, 0, 1, 2, 3] = value
        replaced("data", data)(file)

    return edit


def external(file):
    del file["data"]
    file["data"] = h5py.ExternalLink("/etc/passwd", "/data")


def stored_elsewhere(file):
    del file["data"]
    file.create_dataset("data", (4,), dtype="f4", external=[("elsewhere.bin", 0, 16)])


def huge_grid(file):
    for axis in "xy":
        replaced(f"physics/{axis}", np.linspace(0, 1, 60_000))(file)


FILES = {
    "NaN": (with_value(np.nan), "data has 1 NaN or infinite values, the first at (0, 0, 1, 2, 3)"),
    "infinite": (with_value(np.inf), "data has 1 NaN or infinite values"),
    "format": (attribute("/", "format", "something"), "attribute 'format' is 'something', expected"),
    "version": (attribute("/", "version", 99), "version is 99, expected 1"),
    "negative noise": (attribute("data", "noise_std", -1.0), "noise_std is -1, expected"),
    "noise text": (attribute("data", "noise_std", "loud"), "noise_std is 'loud', expected a number"),
    "unit": (attribute("physics/x", "unit", "mm"), "/physics/x is in 'mm', expected 'm'"),
    "operator": (attribute("physics", "operator", "Sonar"), "operator is 'Sonar', expected one of"),
    "frequency count": (
        replaced("physics/frequencies", np.linspace(4e9, 8e9, 7)),
        "data has shape (1, 1, 3, 4, 4), the geometry expects (batch, 1, 7, 4, 4)",
    ),
    "frequency sign": (replaced("physics/frequencies", -np.ones(3)), "expected values above 0"),
    "antenna shape": (replaced("physics/receivers", np.ones((4, 2))), "expected finite positions (n, 3)"),
    "NaN geometry": (replaced("physics/x", np.full(5, np.nan)), "/physics/x has 5 NaN or infinite values"),
    "unknown key": (lambda f: f.__setitem__("physics/antena", 1.0), "/physics/antena is no argument of NearFieldMIMO"),
    "missing key": (lambda f: f.__delitem__("physics/receivers"), "/physics/receivers is missing"),
    "missing data": (lambda f: f.__delitem__("data"), "'/data' is missing"),
    "text data": (replaced("data", "hello"), "expected numbers"),
    "external link": (external, "external link to '/etc/passwd'"),
    "external storage": (stored_elsewhere, "stored in another file"),
    "beyond memory": (huge_grid, "a grid of 60000 x 60000 x 6 voxels needs about"),
    "real data": (replaced("data", np.ones((1, 1, 3, 4, 4))), "data are float64, expected complex numbers"),
    "truth shape": (replaced("truth", np.ones((1, 1, 2, 2, 2))), "truth has shape (1, 1, 2, 2, 2)"),
    "meta": (attribute("/", "meta", "{"), "attribute 'meta' is not a JSON object"),
}


def fails(argv, code, capsys, *parts):
    assert main(argv) == code
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("resolvent: "), captured.err
    for part in parts:
        assert str(part) in lines[0]


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("verb", ["info", "reconstruct"])
def test_a_bad_file_is_named_and_nothing_is_written(case, verb, good, tmp_path, capsys):
    edit, message = FILES[case]
    path = edited(good, tmp_path, edit)
    out = tmp_path / "out"
    fails([verb, str(path)] + (["--out", str(out)] if verb == "reconstruct" else []), INPUT, capsys, path, message)
    assert not out.exists()


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "cannot be read"),
        (b"", "empty file"),
        (b"hello, world", "not an HDF5 file"),
        ("half", "truncated or damaged"),
    ],
)
def test_files_that_are_no_files(content, message, good, tmp_path, capsys):
    path = tmp_path / "bad.h5"
    if content == "half":
        content = good.read_bytes()[: good.stat().st_size // 2]
    if content is not None:
        path.write_bytes(content)
    fails(["reconstruct", str(path), "--out", str(tmp_path / "out")], INPUT, capsys, path, message)


USES = {
    "no verb": (["reconstrct"], "expected one of reconstruct"),
    "no files": (["reconstruct", "--out", "x"], "files: found none"),
    "no out": (["reconstruct", "GOOD"], "--out: found none"),
    "unknown option": (["reconstruct", "GOOD", "--bogus", "1"], "--bogus"),
    "misspelt argument": (["reconstruct", "GOOD", "--prior.wieght", "1"], "found 'wieght'"),
    "unknown class": (
        ["reconstruct", "GOOD", "--prior", "Nope"],
        "--prior: found 'Nope', expected one of Analysis, Box",
    ),
    "an argument without its class": (
        ["reconstruct", "GOOD", "--solver", "FISTA", "--solver.stop.tol", "1e-3"],
        "--solver.stop.tol: found no --solver.stop beside it, expected one of Discrepancy, FixedPointResidual",
    ),
    "no prior": (["reconstruct", "GOOD", "--prior", "torch.nn.Linear"], "found 'torch.nn.Linear', expected one of Ana"),
    "unknown solver": (
        ["reconstruct", "GOOD", "--solver", "Nope"],
        "--solver: found 'Nope', expected one of ADMM, Back",
    ),
    "misspelt weights": (["reconstruct", "GOOD", "--prior", "image-denoisr"], ", or the weights image-denoiser"),
    "text for a weight": (
        ["reconstruct", "GOOD", "--prior.weight", "many"],
        "--prior.weight: found 'many', expected float or Tensor",
    ),
    "text for a strength": (
        ["reconstruct", "GOOD", "--strength", "much"],
        "found 'much', expected float or 'universal'",
    ),
    "no list": (
        ["reconstruct", "GOOD", "--record", "objective"],
        "--record: found 'objective', expected a list such as",
    ),
    "no value": (["reconstruct", "GOOD", "--prior"], "--prior: found none, expected one argument"),
    "no argument": (["reconstruct", "GOOD", "--prior", "Magnitude"], "--prior: found no prior, expected with"),
    "picture": (["reconstruct", "GOOD", "--out", "x.png"], "--out: found x.png, expected a folder or a .h5 file"),
    "complex image": (
        ["reconstruct", "GOOD", "--prior", "Denoiser", "--prior.denoiser", "magnitude-denoiser"],
        "MagnitudeUNet: found a complex image, expected a real one such as Magnitude makes of it",
    ),
    "flat weights": (
        ["reconstruct", "GOOD", "--prior", "learned-proximal"],
        "image: found float32 of shape (1, 1, 5, 5, 6), expected real",
    ),
    "no kernel": (
        ["reconstruct", "GOOD", "--prior", "InWavelets", "--prior.prior", "L1"],
        "image: found (5, 5, 6), exp",
    ),
    "too fast": (
        ["simulate", "mri", "--size", "32", "--acceleration", "99", "--out", "x.h5"],
        "--acceleration: found 99",
    ),
    "required": (["simulate", "mri"], "out: found none"),
    "wrong type": (
        ["reconstruct", "GOOD", "--solver.max_iter", "many"],
        "--solver.max_iter: found 'many', expected int",
    ),
    "out of range": (["reconstruct", "GOOD", "--solver.max_iter", "-5"], "max_iter: found -5, expected at least 1"),
    "prior without gradient": (
        ["reconstruct", "GOOD", "--solver", "ConjugateGradient"],
        "ConjugateGradient: found L1, expected a prior with a grad",
    ),
    "negative weight": (["reconstruct", "GOOD", "--prior.weight", "-1"], "resolvent: L1: weight is -1.0, expected"),
    "negative strength": (["reconstruct", "GOOD", "--strength", "-1"], "--strength: found -1"),
    "all of the strength": (["reconstruct", "GOOD", "--least_strength", "1"], "--least_strength: found 1"),
    "growth": (["reconstruct", "GOOD", "--strength_growth", "-1"], "--strength_growth: found -1"),
    "no objective": (
        [
            "reconstruct",
            "GOOD",
            "--record",
            "[objective]",
            "--prior",
            "Magnitude",
            "--prior.prior",
            "Denoiser",
            "--prior.prior.denoiser",
            "magnitude-denoiser",
            "--prior.prior.sigma",
            "0.1",
        ],
        "--record: found objective of a prior without a value",
    ),
    "a picture": (["reconstruct", "GOOD", "--out", "x.tif"], "--out: found x.tif, expected a folder"),
    "device": (["reconstruct", "GOOD", "--device", "abacus"], "--device: found 'abacus'"),
    "config": (["reconstruct", "GOOD", "--config", "nowhere.yaml"], "--config: found no file '"),
    "one file for two": (["reconstruct", "GOOD", "GOOD", "--out", "x.h5"], "expected a folder"),
    "same name": (["reconstruct", "GOOD", "GOOD", "--out", "x"], "two inputs have the same name"),
    "simulate": (["simulate", "sonar"], "modality: found 'sonar'"),
    "simulate range": (["simulate", "near-field", "--out", "x.h5", "--n_frequencies", "0"], "--n_frequencies: found 0"),
    "simulate frequencies": (
        ["simulate", "near-field", "--out", "x.h5", "--n_frequencies", "1000000000"],
        "data of 1 x 1000000000 x 12 x 13 samples needs about",
    ),
    "simulate coils": (
        ["simulate", "mri", "--out", "x.h5", "--coils", "1000000000"],
        "data of 1000000000 x 192 x 192 samples needs about",
    ),
    "simulate waves": (
        ["simulate", "ultrasound", "--out", "x.h5", "--n_angles", "1000000000"],
        "data of 1 x 1000000000 x 64 x 515 samples needs about",
    ),
}


@pytest.mark.parametrize("case", USES)
def test_wrong_use(case, good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv, message = USES[case]
    argv = [str(good) if a == "GOOD" else a for a in argv]
    if "--out" not in argv and case not in ("no out", "no verb", "simulate", "required"):
        argv += ["--out", "x"]
    fails(argv, USAGE, capsys, message)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_every_input_is_there_before_the_first_is_begun(good, tmp_path, capsys):
    out = tmp_path / "out"
    fails(
        ["reconstruct", str(good), str(tmp_path / "no.h5"), "--out", str(out)],
        INPUT,
        capsys,
        "no.h5",
        "cannot be read (No such file",
    )
    assert not out.exists()


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_data_beyond_their_precision_are_refused(scale, tmp_path, capsys):
    physics = small_array()
    save_measurement(tmp_path / "scan.h5", scale * physics.A(blobs((5, 5, 6), seed=1)), physics)
    argv = ["reconstruct", str(tmp_path / "scan.h5"), "--out", str(tmp_path / "out")]
    fails(argv, INPUT, capsys, "scan.h5", "whose squares complex64 cannot hold")


def test_a_misspelt_key_in_a_configuration_file_is_refused(good, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("solvr: {class_path: resolvent.recon.FISTA}\n")
    fails(["reconstruct", str(good), "--out", str(tmp_path / "o"), "--config", str(config)], USAGE, capsys, "solvr")


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"prior: [", b"\xff\xfe\x00", b"prior: magnitude-denoiser"])
def test_a_file_that_is_no_configuration(content, good, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_bytes(content)
    argv = ["reconstruct", str(good), "--out", str(tmp_path / "o"), "--config", str(config)]
    fails(argv, USAGE, capsys, "found", "expected")


def test_yaml_runs_no_code(good, tmp_path, capsys):
    config, touched = tmp_path / "c.yaml", tmp_path / "touched"
    config.write_text(f"seed: !!python/object/apply:os.system ['touch {touched}']\n")
    assert main(["reconstruct", str(good), "--out", str(tmp_path / "o"), "--config", str(config)]) == USAGE
    assert not touched.exists()


def test_a_diverging_solver_is_a_numerical_failure(good, tmp_path, capsys):
    out = tmp_path / "o"
    argv = ["reconstruct", str(good), "--out", str(out), "--solver", "ProximalGradient", "--solver.step_size", "1e9"]
    fails(
        [*argv, "--strength", "0", "--solver.stop", "RelativeChange", "--solver.stop.tol", "0"],
        NUMERICAL,
        capsys,
        good,
        "diverged",
    )
    assert not list(out.iterdir())


def test_one_image_that_diverges_keeps_none_of_the_others(good, tmp_path, capsys):
    m, out = load_measurement(good), tmp_path / "r.h5"
    save_measurement(tmp_path / "two.h5", torch.cat([m.y, 0 * m.y]), m.physics)
    step = ["--solver", "ProximalGradient", "--solver.step_size", "1e9", "--strength", "0", "--report", "false"]
    assert main(["reconstruct", str(tmp_path / "two.h5"), "--out", str(out), *step]) == 0
    assert "image 0 of the file diverged; the last finite one is kept" in capsys.readouterr().out
    found = load_result(out)
    assert found.record["status"][0] == "diverged" and bool(found.image.isfinite().all())


def test_a_place_that_cannot_be_written(good, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    fails(["reconstruct", str(good), "--out", str(tmp_path / "file" / "o")], INPUT, capsys, "cannot be written")


def test_earlier_results_stay_untouched(good, tmp_path, capsys):
    argv = ["reconstruct", str(good), "--out", str(tmp_path), "--report", "false", "--solver.max_iter", "3"]
    assert main(argv) == 0
    before = (tmp_path / "good.h5").read_bytes()
    capsys.readouterr()
    fails([*argv[:-1], "4"], INPUT, capsys, "exists, made with other settings")
    assert main(argv) == 0 and "skipped" in capsys.readouterr().out
    assert (tmp_path / "good.h5").read_bytes() == before
    assert main([*argv[:-1], "4", "--overwrite", "true"]) == 0
    assert load_result(tmp_path / "good.h5").record["iterations"] == 4


def test_nothing_is_written_over_what_is_read(good, tmp_path, capsys):
    scan, kspace = tmp_path / "scan.h5", tmp_path / "kspace.npy"
    shutil.copy(good, scan)
    np.save(kspace, np.ones((32, 32), np.complex64))
    before = scan.read_bytes(), kspace.read_bytes()
    over = ["--overwrite", "true"]
    fails(["reconstruct", str(scan), "--out", str(scan), *over], INPUT, capsys, scan, "one of the files that are read")
    fails(["reconstruct", str(good), "--out", str(scan), *over], INPUT, capsys, scan, "no whole result")
    fails(["export", str(scan), "--out", str(scan)], INPUT, capsys, scan, "one of the files that are read")
    fails(["import", "mri", str(kspace), "--out", str(tmp_path / "." / "kspace.npy")], INPUT, capsys, "kspace.npy")
    assert (scan.read_bytes(), kspace.read_bytes()) == before


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(Exception, match="cannot be read"):
        main(["info", str(tmp_path / "nothing.h5"), "--debug"])


STRANGERS = {
    "solver": {"solver": {"class_path": "os.system", "init_args": {"command": "touch RAN"}}},
    "class": {"solver": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "RAN"]}}},
    "inside": {"prior": {"class_path": "resolvent.priors.Denoiser", "init_args": {"denoiser": "os.abort"}}},
}


@pytest.mark.parametrize("case", STRANGERS)
def test_a_replay_runs_nothing_of_other_packages(case, good, tmp_path, capsys, monkeypatch):
    """A result file's settings are data of whoever wrote it."""
    monkeypatch.chdir(tmp_path)
    assert main(["reconstruct", str(good), "--out", "r.h5", "--solver.max_iter", "2", "--report", "false"]) == 0
    with h5py.File("r.h5", "r+") as file:
        record = json.loads(bytes(file.attrs["record"]).decode())
        record["config"] |= STRANGERS[case]
        file.attrs["record"] = np.bytes_(json.dumps(record).encode())
    capsys.readouterr()
    refused(capsys, ["reconstruct", "--replay", "r.h5"], INPUT, "--trust")
    assert not Path("RAN").exists()


def test_names_of_files_are_none_of_packages(good):
    for settings in (
        {"start": "test.h5"},
        {"denoiser": ["test.safetensors", "./os.system"]},
        {"a": "resolvent.priors.L1"},
    ):
        refuse_strangers(good, settings)


def test_a_function_is_no_solver(good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("solver:\n  class_path: os.system\n  init_args:\n    command: touch RAN\n")
    command = ["reconstruct", str(good), "--out", "o", "--config", "c.yaml"]
    refused(capsys, command, USAGE, "--solver: found 'os.system', expected a class of this package or of your own")
    assert not Path("RAN").exists()
    Path("a_users.py").write_text("def solver(command: str):\n    open('RAN', 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    Path("c.yaml").write_text("solver: {class_path: a_users.solver, init_args: {command: x}}")
    refused(capsys, command, USAGE, "expected a class of solvers")
    assert not Path("RAN").exists()


def test_aliases_in_a_list_of_files_are_not_unfolded(tmp_path, capsys):
    """Nine to the power of thirteen names in fifteen lines."""
    rows = ['a0: &a0 ["x", "x"]', *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 14))]
    (tmp_path / "many.yaml").write_text("\n".join([*rows, "files: *a13", ""]))
    command = ["reconstruct", "--config", str(tmp_path / "many.yaml"), "--out", str(tmp_path / "o")]
    refused(capsys, command, USAGE, "found an alias")


def test_aliases_are_refused(good, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("prior: &p\n  class_path: TV\n  init_args: *p\n")
    command = ["reconstruct", str(good), "--out", str(tmp_path / "o"), "--config", str(tmp_path / "c.yaml")]
    refused(capsys, command, USAGE, "found an alias")


def test_a_pipe_is_no_measurement(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.h5")
    refused(capsys, ["reconstruct", str(tmp_path / "pipe.h5"), "--out", str(tmp_path / "o")], INPUT, "a device")


def test_files_of_several_kinds_are_refused(good, tmp_path, capsys):
    other = tmp_path / "blur.h5"
    assert main(["simulate", "blur", "--out", str(other)]) == 0
    refused(capsys, ["reconstruct", str(good), str(other), "--out", str(tmp_path / "o")], USAGE, "of one operator")


def test_a_name_that_begins_with_a_dash_has_its_own_method(good, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(good, "-dash.h5")
    assert first_modality(["--out", "o", "--", "-dash.h5"]) == "NearFieldMIMO" and first_modality(["-dash.h5"]) is None


def test_a_page_of_somebody_elses_is_not_written_over(good, tmp_path, capsys):
    page = tmp_path / "notes.html"
    page.write_text("my notes")
    quick = ["--solver.max_iter", "2"]
    refused(capsys, ["reconstruct", str(good), "--out", str(tmp_path / "notes.h5"), *quick], INPUT, "is no report")
    assert main(["reconstruct", str(good), "--out", str(tmp_path / "r.h5"), *quick]) == 0
    refused(capsys, ["report", str(tmp_path / "r.h5"), "--out", str(page)], INPUT, "is no report")
    assert page.read_text() == "my notes" and main(["report", str(tmp_path / "r.h5")]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text exist where names are bytes")
def test_a_name_that_is_no_text(good, tmp_path):
    name = os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.h5")
    shutil.copy(good, name)
    command = [sys.executable, "-m", "resolvent.apps.cli", "reconstruct", name, "--out", str(tmp_path / "o")]
    done = subprocess.run([*command, "--solver.max_iter", "2"], capture_output=True, check=False)
    assert done.returncode == 0 and b"internal" not in done.stderr, done.stderr


@pytest.mark.parametrize("closed", ["2>&-", ">&-"])
def test_without_a_terminal_to_speak_to(closed, good, tmp_path):
    command = f"{sys.executable} -m resolvent.apps.cli reconstruct {good} --out {tmp_path}/o.h5 --solver.max_iter 2"
    assert subprocess.run(f"{command} {closed}", shell=True, check=False).returncode == 0
    assert (tmp_path / "o.html").exists()


def test_seeds_that_no_generator_takes(good, tmp_path, capsys):
    seed, out = str(10**22), str(tmp_path / "o.h5")
    for command in (["simulate", "blur", "--out", out], ["reconstruct", str(good), "--out", out]):
        refused(capsys, [*command, "--seed", seed], USAGE, "--seed")


@pytest.mark.parametrize("number", ["-1e-6", "-0.5", "-.5"])
def test_negative_numbers_are_no_options(number, tmp_path, capsys):
    command = ["simulate", "blur", "--out", str(tmp_path / "o.h5"), "--noise_std", number]
    refused(capsys, command, USAGE, f"found {float(number):g}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without /dev/full")
def test_a_full_standard_output(good):
    command = f"{sys.executable} -m resolvent.apps.cli info {good} > /dev/full"
    done = subprocess.run(command, shell=True, check=False, capture_output=True, text=True)
    assert done.returncode == INPUT and "standard output" in done.stderr and done.stderr.count("\n") == 1


def test_a_device_that_holds_no_numbers(good, tmp_path, capsys):
    refused(capsys, ["reconstruct", str(good), "--out", str(tmp_path), "--device", "meta"], USAGE, "--device")


def test_what_others_have_written_stays(good, tmp_path, capsys):
    """Measurements are written over measurements alone, and no measurement or result is written over by an export."""
    scene = ["simulate", "mri", "--size", "32", "--out"]
    page = tmp_path / "notes.txt"
    page.write_text("of mine")
    fails([*scene, str(page)], INPUT, capsys, page, "found a file that is no measurement, expected another --out")
    assert page.read_text() == "of mine"
    scan = tmp_path / "scan.h5"
    assert main([*scene, str(scan)]) == 0 == main([*scene, str(scan)])
    fails(["export", str(good), "--out", str(scan)], INPUT, capsys, scan, "found a measurement or a result")
    images = tmp_path / "images.h5"
    assert main(["export", str(good), "--out", str(images)]) == 0 == main(["export", str(good), "--out", str(images)])
