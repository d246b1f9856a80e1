"""The tune verb: what it finds is the best of a grid; killed or not, by one process or two; bad input in one line."""

import json
import math
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
import yaml
from commands import refused
from safetensors.torch import load_file

from resolvent.apps import tune as verb
from resolvent.apps import tuning_report
from resolvent.apps.cli import INPUT, NUMERICAL, TERMINATED, USAGE, main
from resolvent.apps.tuning_problem import load_scan, tuned_of, upper_level
from resolvent.datasets import load_measurement, load_result, save_measurement
from resolvent.operators import CartesianMRI, Dense
from resolvent.priors import Denoiser
from resolvent.recon import FISTA, PrimalDual, ProximalGradient
from resolvent.recon.bilevel import MeanSquare, Method, hypergradient

SHAPE = (1, 8, 8)
SMOOTH = ["--prior", "SmoothedTV", "--prior.weight", "0.02", "--prior.nu", "0.05", "--solver", "ConjugateGradient",
          "--strength", "0.1", "--least_eigenvalue", "1"]  # fmt: skip
SPARSE = ["--prior", "L1", "--prior.weight", "0.1", "--solver", "FISTA", "--strength", "0.1"]

BRENT = ["--method", "Brent", "--method.eps", "1e-5"]

pytestmark = pytest.mark.usefixtures("one_thread")


GRID = ["--method", "Grid", "--method.high", "0", "--method.points", "4", "--method.eps", "1e-3"]


def scan(path, seed=0, truth=True, images=1, noise_std=0.1):
    """A box in noise, whose operator is the identity."""
    generator, x = torch.Generator().manual_seed(seed), torch.zeros(images, *SHAPE)
    x[..., 2:6, 1 + seed % 3 : 6] = 1
    y = x.reshape(images, 64) + 0.1 * torch.randn(images, 64, generator=generator)
    save_measurement(path, y, Dense(torch.eye(64), SHAPE), x if truth else None, noise_std)
    return str(path)


@pytest.fixture
def box(tmp_path):
    return scan(tmp_path / "box.h5")


def command(files, out, *more, method=SMOOTH, parameter=("prior.weight",), steps=8):
    named = [word for name in parameter for word in ("--parameter", name)]
    return ["tune", *files, *method, *named, "--out", str(out), "--steps", str(steps), "--report", "false", *more]


def log(out):
    return [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]


def way(out):
    """The log without the time."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log(out)]


def tuned(arguments, out):
    assert main(arguments) == 0
    return yaml.safe_load((Path(out) / "tuned.yaml").read_text())


def test_the_weight_found_is_the_best_of_a_grid(tmp_path, box):
    """Of 41 weights none does better, and the file written reconstructs the image of the last loss."""
    found = tuned(command([box], tmp_path / "out", "--method.gain", "1e-3", steps=15), tmp_path / "out")
    grid = ["--method", "Grid", "--method.low", "-5", "--method.high", "0", "--method.points", "41",
            "--method.eps", "1e-5"]  # fmt: skip
    tuned(command([box], tmp_path / "grid", *grid, steps=50), tmp_path / "grid")
    last, best = log(tmp_path / "out")[-1], min(line["loss"] for line in log(tmp_path / "grid"))
    assert last["low"] <= best * (1 + 1e-3) and last["loss"] < 0.9 * log(tmp_path / "out")[0]["loss"]
    assert found["prior"]["init_args"]["weight"] == last["parameters"]["prior.weight"]
    image = tmp_path / "image.h5"
    config = str(tmp_path / "out" / "tuned.yaml")
    assert main(["reconstruct", box, "--config", config, "--out", str(image), "--report", "false"]) == 0
    result, truth = load_result(image), load_measurement(box).truth
    assert float((result.image - truth).square().mean()) == pytest.approx(last["loss"], rel=2e-3)


def test_what_is_written_reconstructs_what_was_compared(tmp_path):
    """With the preset of a radar, which stops early when nothing is compared."""
    source, image = str(tmp_path / "scene.h5"), str(tmp_path / "image.h5")
    assert main(["simulate", "near-field", "--n_frequencies", "3", "--out", source]) == 0
    tuned(["tune", source, "--parameter", "prior.weight", "--method", "Brent", "--method.eps", "0.1", "--steps", "2",
           "--report", "false", "--out", str(tmp_path / "out")], tmp_path / "out")  # fmt: skip
    config = ["--config", str(tmp_path / "out" / "tuned.yaml"), "--report", "false"]
    assert main(["reconstruct", source, *config, "--out", image]) == 0
    result, truth = load_result(image), load_measurement(source).truth
    assert float((result.image - truth).abs().square().mean()) == pytest.approx(
        log(tmp_path / "out")[-1]["loss"], rel=0.02
    )


def test_a_configuration_takes_the_names_of_the_command_line(tmp_path, box):
    """Methods and losses with their numbers in any order go the way that the same options go."""
    lines = ["method: Brent", "method.eps: 0.1", "loss: SURE", "loss.probes: 2", "loss.noise_std: 0.1"]
    options = [word for line in lines for word in (f"--{line.partition(': ')[0]}", line.partition(": ")[2])]
    tuned(command([box], tmp_path / "expected", *options, steps=2), tmp_path / "expected")
    for k, ordered in enumerate((lines, lines[::-1])):
        (tmp_path / "c.yaml").write_text("\n".join(ordered))
        tuned(command([box], tmp_path / str(k), "--config", str(tmp_path / "c.yaml"), steps=2), tmp_path / str(k))
        assert way(tmp_path / str(k)) == way(tmp_path / "expected")


def test_brents_search_needs_few_images(tmp_path, box):
    """Within its resolution of the best of 41 weights, whose loss it has within a hundredth."""
    grid = ["--method", "Grid", "--method.low", "-5", "--method.high", "0", "--method.points", "41",
            "--method.eps", "1e-5"]  # fmt: skip
    tuned(command([box], tmp_path / "grid", *grid, steps=50), tmp_path / "grid")
    tuned(command([box], tmp_path / "out", *BRENT, steps=50),
          tmp_path / "out")  # fmt: skip
    lines, best = log(tmp_path / "out"), log(tmp_path / "grid")[-1]
    assert len(lines) <= 11 and lines[-1]["loss"] <= 1.01 * best["loss"]
    tried = [line["tried_loss"] for line in lines[1:]]
    assert len(set(tried)) > 2 and min(tried) == pytest.approx(lines[-1]["loss"], rel=1e-9)
    weights = [line["parameters"]["prior.weight"] for line in (lines[-1], best)]
    assert abs(math.log(weights[0] / weights[1])) <= 0.2


@pytest.mark.parametrize("names", [["prior.weight"], ["prior.weight", "prior.nu"]], ids=["one", "two"])
def test_the_report_of_a_search_shows_all_that_was_compared(tmp_path, box, monkeypatch, names):
    """Against the parameter, or in their order; the least of them is the loss of the log."""
    shown = {}
    finish = tuning_report._finish
    monkeypatch.setattr(
        tuning_report, "_finish", lambda ax, label="cost": (shown.update({label: ax.lines[0]}), finish(ax, label))
    )
    grid = ["--method", "Grid", "--method.low", "-4", "--method.high", "-2", "--method.points", "2",
            "--method.eps", "1e-3", "--report", "true"]  # fmt: skip
    tuned(command([box], tmp_path / "out", *grid, parameter=names), tmp_path / "out")
    places, losses = shown[names[0] if len(names) == 1 else "number"].get_data()
    assert min(losses) == pytest.approx(log(tmp_path / "out")[-1]["loss"], rel=1e-6)
    expected = [math.exp(-4), 0.02, math.exp(-2)] if len(names) == 1 else [1, 2, 3, 4, 5]
    assert list(places) == pytest.approx(expected)
    assert (tmp_path / "out" / "report.html").exists()


def test_three_steps_on_the_scan_of_the_guide_help(tmp_path):
    """Without a word on accuracies or steps, from weights below and above the best."""
    source = str(tmp_path / "scan.h5")
    simulated = ["simulate", "mri", "--size", "32", "--coils", "1", "--acceleration", "2", "--snr", "20"]
    assert main([*simulated, "--out", source]) == 0
    for weight in ("0.1", "1", "10"):
        chosen = ["--parameter", "prior.prior.weight", "--prior.prior.weight", weight, "--report", "false"]
        assert main(["tune", source, *chosen, "--steps", "3", "--out", str(tmp_path / weight)]) == 0
        lines = log(tmp_path / weight)
        assert lines[-1]["loss"] < 0.99 * lines[0]["loss"]


@pytest.mark.slow
def test_a_weight_far_too_small_is_left_and_a_line_says_what_helps(tmp_path, capsys):
    """A hundredth of what keeps the noise out; the best is a quarter."""
    source = str(tmp_path / "scan.h5")
    simulated = ["simulate", "mri", "--size", "32", "--coils", "1", "--acceleration", "2", "--snr", "20"]
    assert main([*simulated, "--out", source]) == 0
    chosen = ["--parameter", "prior.prior.weight", "--prior.prior.weight", "0.01", "--report", "false"]
    assert main(["tune", source, *chosen, "--steps", "8", "--out", str(tmp_path / "out")]) == 0
    assert 0.05 < log(tmp_path / "out")[-1]["parameters"]["prior.prior.weight"] < 1
    assert "no step was taken so far" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("max_iter", "method", "said"),
    [(2, [], True), (200, [], False), (2, BRENT, False)],
    ids=["moving", "at rest", "without derivatives"],
)
def test_a_line_says_that_images_move_on(tmp_path, box, capsys, max_iter, method, said):
    """At the start, before derivatives are tried."""
    few = ["--prior", "TV", "--prior.weight", "0.3", "--prior.iterations", "2", "--solver", "FISTA"]
    few += ["--strength", "0.1", "--solver.max_iter", str(max_iter), "--solver.stop", "null"]
    assert main(command([box], tmp_path / "out", *method, method=few, steps=1)) == 0
    start = log(tmp_path / "out")[0]
    assert (start["certificate"] > start["eps"]) == (max_iter == 2)
    assert ("from where it would come to rest" in capsys.readouterr().out) == said


@pytest.mark.parametrize("method", ["MAID", "HOAG", "FixedAccuracy"])
def test_methods_by_name(tmp_path, box, method):
    own = ["--method", method, "--method.eps", "1e-3"]
    own += [] if method == "HOAG" else ["--method.delta", "1e-3"]
    tuned(command([box], tmp_path / "out", *own, steps=4), tmp_path / "out")
    lines = log(tmp_path / "out")
    assert min(line["loss"] for line in lines) < lines[0]["loss"]


@pytest.mark.parametrize("loss", ["SURE", "DiscrepancyPrinciple", "StructuralDissimilarity"])
def test_losses_by_name(tmp_path, loss):
    source = scan(tmp_path / "scan.h5", truth=loss == "StructuralDissimilarity")
    tuned(command([source], tmp_path / "out", "--loss", loss, steps=4), tmp_path / "out")
    lines = log(tmp_path / "out")
    assert min(line["loss"] for line in lines) < lines[0]["loss"]


def test_stein_finds_nearly_what_the_truth_finds(tmp_path):
    """Sixty images, on a grid of weights each e^(1/2) times the one before: the same or a neighbour."""
    files = [scan(tmp_path / f"{i}.h5", i, images=20) for i in range(3)]
    grid = ["--method", "Grid", "--method.low", "-4", "--method.high", "0", "--method.points", "9",
            "--method.eps", "1e-3"]  # fmt: skip
    for loss in ("MeanSquare", "SURE"):
        tuned(command(files, tmp_path / loss, "--loss", loss, *grid, steps=20), tmp_path / loss)
    supervised, stein = (log(tmp_path / loss) for loss in ("MeanSquare", "SURE"))
    assert stein[-1]["loss"] == pytest.approx(supervised[-1]["loss"], rel=0.25)
    ratio = stein[-1]["parameters"]["prior.weight"] / supervised[-1]["parameters"]["prior.weight"]
    assert abs(math.log(ratio)) < 0.51


def test_fixed_points_of_proximal_solvers(tmp_path, box):
    """Sparsity by FISTA: no certificate is claimed, the loss falls."""
    found = tuned(command([box], tmp_path / "out", method=SPARSE, steps=6), tmp_path / "out")
    lines = log(tmp_path / "out")
    assert lines[-1]["loss"] < lines[0]["loss"] and found["prior"]["init_args"]["weight"] != 0.1


def test_the_step_size_of_plug_and_play(box):
    """Of shrinkage ``v / (1 + s)`` and A = 1 the fixed point is ``gamma y / (s + gamma)``: its slope in log gamma."""
    gamma, s = 0.5, 0.3
    prior = Denoiser(lambda v, sigma: v / (1 + sigma), s)
    for make in (FISTA, ProximalGradient, PrimalDual):
        tuned = tuned_of(lambda p, m=make: m(p, step_size=gamma), prior, ["solver.step_size"], "cpu", 0.0)
        found = load_scan(Path(box), tuned, {"strength": 1.0}, "cpu")
        y, truth = found.measurement.y.reshape(1, *SHAPE), found.measurement.truth
        upper, theta = upper_level([found], tuned, MeanSquare()), tuned.parameters.gather()
        x = upper.lower.solve(theta, 1e-12).x
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            slope = hypergradient(upper, theta, x, 1e-12).value
        image = gamma * y / (s + gamma)
        exact = 2 * ((image - truth) * y).mean() * s * gamma / (s + gamma) ** 2
        assert float(slope) == pytest.approx(float(exact), rel=1e-6)


def test_a_solver_s_own_number(tmp_path, box):
    """The radius of the data's ball is tuned and written; what does not move the image is refused elsewhere."""
    ball = ["--prior", "L1", "--prior.weight", "0.1", "--solver", "ConstrainedADMM", "--solver.epsilon", "3"]
    arguments = command([box], tmp_path / "out", method=ball, parameter=("solver.epsilon",), steps=4)
    found, lines = tuned(arguments, tmp_path / "out"), log(tmp_path / "out")
    assert found["solver"]["init_args"]["epsilon"] == lines[-1]["parameters"]["solver.epsilon"] < 3
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


def test_a_bound_holds_for_copies_of_images_with_operators_of_their_own(tmp_path):
    """SURE asks for each image again: its coil map with it, and the eigenvalues that were stated."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.complex64).sgn()
    x, physics = torch.zeros(2, *SHAPE, dtype=torch.complex64), CartesianMRI(torch.ones(8, 8), maps)
    x[..., 2:6, 2:6] = 1
    y = physics.A(x) + 0.1 * torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.complex64)
    save_measurement(tmp_path / "each.h5", y, physics, x, 0.1)
    tuned(command([str(tmp_path / "each.h5")], tmp_path / "out", "--loss", "SURE", steps=2), tmp_path / "out")


def test_tensors_go_to_a_file_that_reconstruct_takes(tmp_path, box):
    experts = ["--prior", "FieldsOfExperts", "--prior.kernel", "3", "--prior.nu", "0.1", "--prior.weight", "0.3",
               "--solver", "ConjugateGradient", "--strength", "0.1", "--least_eigenvalue", "1"]  # fmt: skip
    arguments = command(
        [box], tmp_path / "out", method=experts, parameter=("prior.log_weights", "prior.filters"), steps=2
    )
    found = tuned(arguments, tmp_path / "out")
    tensors = load_file(found["parameters"])
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "prior.log_weights": (8, 1, 1), "prior.filters": (8, 1, 3, 3),
    }  # fmt: skip
    config = ["--config", str(tmp_path / "out" / "tuned.yaml"), "--report", "false"]
    assert main(["reconstruct", box, *config, "--out", str(tmp_path / "after.h5")]) == 0
    before = ["reconstruct", box, *experts[:-2], "--report", "false", "--out", str(tmp_path / "before.h5")]
    assert main(before) == 0
    assert not torch.equal(load_result(tmp_path / "after.h5").image, load_result(tmp_path / "before.h5").image)


def test_a_report_shows_files_of_one_name_and_of_any(tmp_path):
    (tmp_path / "a").mkdir()
    paths = [scan(tmp_path / name, k) for k, name in enumerate(("scan.h5", "a/scan.h5", "Summary.h5"))]
    tuned(command(paths, tmp_path / "out", "--report", "true", steps=1), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    for name in ("scan.h5", "a/scan.h5", "Summary"):
        assert f"Images of {name}</h2>" in page
    assert "Summary</h2>" in page.replace("Images of Summary</h2>", "")


def test_validation_and_report(tmp_path, box, capsys):
    other = scan(tmp_path / "other.h5", 1, images=2)
    out = tmp_path / "out"
    arguments = command([box], out, "--report", "true", "--validation", f"[{other}]", "--json", steps=3)
    assert main(arguments) == 0
    assert all("validation" in line for line in log(out) if line["accepted"])
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["step"] for line in printed if "step" in line] == [0, 1, 2, 3] and printed[-1]["event"] == "tuned"
    page = (out / "report.html").read_text()
    assert page.count("<img") > 3 and "prior.weight" in page and "http" not in page.replace("http-equiv", "")


def test_finished_run_is_left_alone(tmp_path, box, capsys):
    tuned(command([box], tmp_path / "out", steps=2), tmp_path / "out")
    before = (tmp_path / "out" / "tuned.yaml").stat().st_mtime_ns
    assert main(command([box], tmp_path / "out", steps=2)) == 0
    assert (tmp_path / "out" / "tuned.yaml").stat().st_mtime_ns == before
    refused(
        capsys, command([box], tmp_path / "out", steps=3), INPUT, "exists, made with other settings, data or version"
    )


def test_signal_ends_after_a_step_and_the_run_goes_on(tmp_path, box, monkeypatch, capsys):
    tuned(command([box], tmp_path / "whole", steps=6), tmp_path / "whole")
    facts = verb.facts_of

    def interrupting(run, state):
        if len(log(run.out)) == 3:
            signal.raise_signal(signal.SIGTERM)
        return facts(run, state)

    with monkeypatch.context() as patch:
        patch.setattr(verb, "facts_of", interrupting)
        refused(capsys, command([box], tmp_path / "cut", steps=6), TERMINATED, "the same command goes on")
    assert [line["step"] for line in log(tmp_path / "cut")] == [0, 1, 2, 3]
    tuned(command([box], tmp_path / "cut", steps=6), tmp_path / "cut")
    assert way(tmp_path / "cut") == way(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("every", ["0", "0.3"])
@pytest.mark.parametrize("method", [SMOOTH, SPARSE], ids=["smooth", "fixed point"])
def test_killed_at_any_moment(tmp_path, box, every, method):
    """SIGKILL after random steps, at a random moment of the next: the same configuration and log, bit for bit."""
    arguments = command([box], tmp_path / "killed", "--checkpoint_every", every, method=method, steps=12)
    wait = [str(tmp_path / "killed" / "log.jsonl"), str(tmp_path / "killed" / "tuned.yaml"), "2", "0.02"]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), *wait, *arguments],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 2
    tuned(command([box], tmp_path / "whole", method=method, steps=12), tmp_path / "whole")
    assert way(tmp_path / "killed") == way(tmp_path / "whole")
    assert (tmp_path / "killed" / "tuned.yaml").read_text() == (tmp_path / "whole" / "tuned.yaml").read_text()
    assert not list((tmp_path / "killed").glob(".*.partial"))


@pytest.mark.slow
@pytest.mark.parametrize("method", [SMOOTH, SPARSE], ids=["smooth", "fixed point"])
def test_two_processes_are_one(tmp_path, method):
    """Three files of unlike shapes, dealt out: the same steps within rounding."""
    files = [scan(tmp_path / f"{i}.h5", i, images=i + 1) for i in range(3)]
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = Path(__file__).with_name("one_process.py")
    arguments = command(files, tmp_path / "two", method=method, steps=5)
    done = subprocess.run([*program, str(script), *arguments], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    tuned(command(files, tmp_path / "one", method=method, steps=5), tmp_path / "one")
    one, two = log(tmp_path / "one"), log(tmp_path / "two")
    assert [line["cost"] for line in one] == [line["cost"] for line in two]
    for name in ("loss", "high", "gradient"):
        assert [line[name] for line in two] == pytest.approx([line[name] for line in one], rel=1e-6)
    weights = [[line["parameters"]["prior.weight"] for line in lines] for lines in (one, two)]
    assert weights[1] == pytest.approx(weights[0], rel=1e-6)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"parameter": ["prior.wight"]}, "prior.wight: found no wight in SmoothedTV, expected a tensor or a number; "
                                         "known are prior.weight, prior.nu"),
        ({"parameter": ["prior.has_prox"]}, "prior.has_prox: found bool, expected floating point"),
        ({"parameter": ["prior.dim"]}, "prior.dim: found no argument with a derivative, expected one; known are prior"),
        ({"parameter": ["solver.max_iter"]}, "solver.max_iter: found no argument with a derivative, expected one"),
        ({"parameter": ["solver.stop.tol"]}, "solver.stop.tol: found no argument with a derivative, expected one"),
        ({"parameter": ["physics.matrix"]}, "physics.matrix: found no such parameter, expected a name in"),
        ({"parameter": ["solver.step_size"], "method": SPARSE}, "solver.step_size: found no value, expected a number"),
        ({"parameter": ["solver.step_size"], "method": [*SPARSE, "--solver.step_size", "0.5"]},
         "found solver.step_size, whose halving moves the image by"),
        ({"method": ["--prior", "InWavelets", "--prior.prior", "L1", "--prior.wavelet", "haar", "--solver", "FISTA"]},
         "prior.weight: found none of InWavelets, expected that of a prior inside; known are prior.prior.weight"),
        ({"method": ["--prior", "Denoiser", "--prior.denoiser", "image-denoiser", "--solver", "FISTA"]},
         "found prior.weight, of which the image makes no use, expected another"),
        ({"parameter": []}, "--parameter: found none"),
        ({"steps": 0}, "--steps: found 0, expected at least 1"),
        ({"more": ["--budget", "-1"]}, "--budget: found -1, expected more than 0"),
        ({"more": ["--least_eigenvalue", "-3"]}, "--least_eigenvalue: found -3, expected a number not below 0"),
        ({"parameter": ["prior.weight", "prior.weight"]}, "--parameter: found prior.weight twice, expected it once"),
        ({"more": ["--loss", "HeldOut"]}, "(a loss that keeps data back has another A)"),
        ({"more": ["--method", "MAID", "--method.max_trials", "0"]}, "max_trials: found 0, expected at least 1"),
        ({"more": ["--method", "HOAG", "--method.step_size", "-1"]}, "step_size: found -1.0, expected a finite number"),
        ({"more": ["--method", "FixedAccuracy", "--method.eps", "0.1", "--method.delta", "-1"]}, "delta: found -1.0"),
        ({"more": [*GRID, "--method.low", "[-3,-2]"]}, "low: found 2 values, expected one, or one for each of 1"),
        ({"more": ["--least_eigenvalue", "0"]}, "--solver: found a problem with strong convexity 0, expected above 0"),
        ({"more": ["--method", "Nothing"]}, "Nothing"),
        ({"more": ["--method", "MAID", "--method.eps", "-1"]}, "eps: found -1.0, expected a finite number above 0"),
        ({"more": [*BRENT, "--method.first", "0"]}, "first: found 0.0, expected other than 0 and within reach, 10.0"),
        ({"more": BRENT, "parameter": ["prior.weight", "prior.nu"]}, "found 2 parameters, expected one for Brent's"),
        ({"method": ["--prior", "TV", "--solver", "ConjugateGradient"]}, "found TV, expected a prior with a grad"),
        ({"method": ["--solver", "BackProjection", "--prior", "null"]}, "--prior: found none"),
    ],
)  # fmt: skip
def test_refused_options(tmp_path, box, capsys, change, message):
    more = change.pop("more", [])
    refused(capsys, command([box], tmp_path / "out", *more, **change), USAGE, message)


def test_a_second_search_keeps_the_tensors_of_the_first(tmp_path, box):
    method = ["--prior", "FieldsOfExperts", "--prior.kernel", "3", *SMOOTH[SMOOTH.index("--solver") :]]
    assert main(command([box], tmp_path / "a", parameter=["prior.filters"], method=method, steps=1)) == 0
    again = ["--config", str(tmp_path / "a" / "tuned.yaml"), "--least_eigenvalue", "1"]
    assert main(command([box], tmp_path / "b", parameter=["prior.log_weights"], method=again, steps=1)) == 0
    first, second = (load_file(tmp_path / name / "tuned.safetensors") for name in "ab")
    assert set(second) == {"prior.filters", "prior.log_weights"}
    assert torch.equal(first["prior.filters"], second["prior.filters"])


def test_searches_without_derivatives_take_weights_that_have_none(tmp_path, box, capsys, monkeypatch):
    """Hard thresholding; and a grid that the steps cut off says so."""
    (tmp_path / "hard.py").write_text(
        "import torch\nfrom resolvent.priors import Prior\n\n\nclass L0(Prior):\n"
        "    def _prox(self, v, gamma):\n        return torch.where(v.abs() ** 2 > 2 * gamma, v, 0)\n\n"
        "    def _value(self, x):\n        return (x != 0).to(x.real.dtype)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    method = ["--prior", "hard.L0", "--prior.weight", "0.01", "--solver", "FISTA", "--strength", "1"]
    argv = command([box], tmp_path / "out", *GRID, "--method.low", "-6", method=method, steps=3)
    assert main(argv) == 0
    assert "the search was cut off by --steps" in capsys.readouterr().out
    losses = {line["tried_loss"] for line in log(tmp_path / "out")[1:]}
    assert len(losses) == 3


def test_a_module_of_ones_own_that_cannot_be_imported(tmp_path, box, capsys, monkeypatch):
    (tmp_path / "wrong.py").write_text("import nothing_of_this_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    argv = ["reconstruct", box, "--out", str(tmp_path / "o.h5"), "--prior", "wrong.P"]
    refused(capsys, argv, USAGE, "; importing wrong: No module named 'nothing_of_this_name'")


def test_a_printed_configuration_is_taken(tmp_path, box, capsys):
    argv = command([box], tmp_path / "out", steps=1)
    with pytest.raises(SystemExit):
        main([*argv, "--print_config"])
    (tmp_path / "all.yaml").write_text(capsys.readouterr().out)
    assert main(["tune", "--config", str(tmp_path / "all.yaml")]) == 0
    assert (tmp_path / "out" / "tuned.yaml").exists()


def test_a_loss_that_rose_is_said(tmp_path, box, capsys):
    method = [*SPARSE[:2], "--prior.weight", "0.0001", *SPARSE[4:]]
    hoag = ["--method", "HOAG", "--method.eps", "0.01", "--method.step_size", "1e5"]
    assert main(command([box], tmp_path / "out", *hoag, method=method, steps=2)) == 0
    assert "the loss is higher than at the start" in capsys.readouterr().out


def test_refused_data(tmp_path, capsys):
    blind = scan(tmp_path / "blind.h5", truth=False)
    refused(capsys, command([blind], tmp_path / "out"), INPUT,
            "found no truth, expected it in the file, or a loss that needs none: SURE")  # fmt: skip
    silent = scan(tmp_path / "silent.h5", noise_std=None)
    refused(capsys, command([silent], tmp_path / "out", "--loss", "SURE"), INPUT, "found noise_std None")
    refused(capsys, command([str(tmp_path / "none.h5")], tmp_path / "out"), INPUT, "none.h5")
    save_measurement(tmp_path / "zero.h5", torch.zeros(1, 64), Dense(torch.eye(64), SHAPE), torch.ones(1, *SHAPE))
    refused(capsys, command([str(tmp_path / "zero.h5")], tmp_path / "out"), INPUT, "expected some that are not zero")


def test_lower_level_that_is_not_solved(tmp_path, box, capsys):
    short = ["--method", "MAID", "--method.max_lower", "3", "--method.eps", "1e-9"]
    refused(capsys, command([box], tmp_path / "out", *short), NUMERICAL, "lower level: found an accuracy of")


def test_numbers_that_are_not_finite(tmp_path, box, monkeypatch, capsys):
    """The last good checkpoint is whole: without the bad step the run ends as if nothing had happened."""
    every = ["--checkpoint_every", "0"]
    step = Method.minimise

    def minimise(self, upper, theta=None, *, state=None, callback=None, **kwargs):
        def worse(now):
            seen = len(log(tmp_path / "bad"))
            return callback(now._replace(high=now.high * float("nan")) if seen == 4 else now)

        return step(self, upper, theta, state=state, callback=worse, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Method, "minimise", minimise)
        refused(capsys, command([box], tmp_path / "bad", *every, steps=6), NUMERICAL, "loss: found nan in step 4")
    tuned(command([box], tmp_path / "whole", steps=6), tmp_path / "whole")
    tuned(command([box], tmp_path / "bad", *every, steps=6), tmp_path / "bad")
    assert way(tmp_path / "bad") == way(tmp_path / "whole")


def test_checkpoints_that_cannot_be_used(tmp_path, box, capsys):
    tuned(command([box], tmp_path, steps=2), tmp_path)
    (tmp_path / "tuned.yaml").unlink()
    refused(capsys, command([box], tmp_path, steps=3), INPUT, "found other settings, data or version")
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    refused(capsys, command([box], tmp_path, steps=2), INPUT, "checkpoint.safetensors: found a damaged checkpoint")


def test_data_held_out(tmp_path):
    """Lines of k-space are predicted from the others: no truth, no noise level."""
    truth = torch.zeros(1, 1, 8, 8, dtype=torch.complex64)
    truth[..., 2:6, 2:5] = 1
    physics = CartesianMRI(torch.ones(8, 8))
    y = physics.A(truth)
    y = y + 0.2 * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(0))
    save_measurement(tmp_path / "scan.h5", y, physics)
    wavelets = ["--prior", "InWavelets", "--prior.wavelet", "haar", "--prior.prior", "L1", "--prior.prior.weight",
                "0.3", "--strength", "0.1", "--solver", "FISTA", "--loss", "HeldOut"]  # fmt: skip
    arguments = command(
        [str(tmp_path / "scan.h5")], tmp_path / "out", method=wavelets, parameter=("prior.prior.weight",)
    )
    found = tuned(arguments, tmp_path / "out")
    lines = log(tmp_path / "out")
    assert lines[-1]["loss"] < lines[0]["loss"]
    weight = found["prior"]["init_args"]["prior"]["init_args"]["weight"]
    assert weight == lines[-1]["parameters"]["prior.prior.weight"] != 0.3


def test_a_weight_within_a_sum(tmp_path, box):
    """The configuration written keeps all terms, and changes the one that was tuned."""
    terms = "[{class_path: L1, init_args: {weight: 0.1}}, {class_path: Tikhonov, init_args: {weight: 0.2}}]"
    both = ["--prior", "Sum", "--prior.priors", terms, "--solver", "FISTA", "--strength", "0.1"]
    grid = [
        "--method",
        "Grid",
        "--method.low",
        "-9",
        "--method.high",
        "-1",
        "--method.points",
        "2",
        "--method.eps",
        "0.1",
    ]
    arguments = command([box], tmp_path / "out", *grid, method=both, parameter=("prior.priors.1.weight",), steps=2)
    first, second = tuned(arguments, tmp_path / "out")["prior"]["init_args"]["priors"]
    assert first["init_args"]["weight"] == 0.1
    assert second["init_args"]["weight"] == log(tmp_path / "out")[-1]["parameters"]["prior.priors.1.weight"]
