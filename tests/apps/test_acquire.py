"""Acquisitions from the command line: what is measured, what is written, and what is refused in one line."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resolvent.apps.cli import INPUT, INTERRUPTED, NUMERICAL, TERMINATED, USAGE, main
from resolvent.datasets import load_measurement, load_result, save_measurement
from resolvent.operators import CartesianMRI, Dense, NearFieldMIMO
from resolvent.priors import DRUNet, GaussianPrior, save_weights
from resolvent.recon import MomentMatching

ROWS, COLUMNS = 6, 12
#: Priors in closed form, and a score without a number, for the command line to name.
NAMED = """
import os

import torch
from resolvent.priors import GaussianPrior, VarianceExploding
from resolvent.recon import Score


class Smooth(GaussianPrior):
    def __init__(self, shape: tuple[int, ...], schedule: VarianceExploding):
        grid = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij")
        places = torch.stack(grid).flatten(1).T
        covariance = torch.exp(-(places[:, None] - places).square().sum(2) / 6) + 1e-3 * torch.eye(len(places))
        values, vectors = torch.linalg.eigh(covariance.to(torch.complex64))
        self.root = vectors * values.sqrt()
        full = self.root @ self.root.mH
        made = GaussianPrior.dense(torch.zeros(1, *shape, dtype=torch.complex64), full, schedule)
        self.__dict__.update(made.__dict__)


class Logged(Smooth):
    # leaves a line in a file for every estimate

    def estimate(self, x, t):
        with open(os.environ["LOG"], "a") as file:
            print(t, file=file)
        return super().estimate(x, t)


class Nothing(Score):
    def __call__(self, distances):
        return distances.sum((1, 2)) * float("nan")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A module of names, a fully sampled file, one with a column missing, and weights for real images."""
    folder = tmp_path_factory.mktemp("acquire")
    (folder / "named.py").write_text(NAMED)
    sys.path.insert(0, str(folder))
    truth = smooth().sample(1, torch.Generator().manual_seed(3))
    for name, mask in {
        "full": torch.ones(ROWS, COLUMNS),
        "part": (torch.arange(COLUMNS) != 3).expand(ROWS, COLUMNS),
    }.items():
        physics = CartesianMRI(mask)
        y = physics.A(truth) + 0.05 * torch.randn(1, 1, ROWS, COLUMNS, dtype=truth.dtype)
        save_measurement(folder / f"{name}.h5", y * mask, physics, truth, noise_std=0.05)
    save_weights(folder / "colour.safetensors", DRUNet([2, 2, 2, 2], 1, 3))
    yield folder
    sys.path.remove(str(folder))


def smooth() -> GaussianPrior:
    import named  # pyright: ignore[reportMissingImports]

    from resolvent.priors import VarianceExploding

    return named.Smooth((ROWS, COLUMNS), VarianceExploding(0.02, 20))


def options(shape=(ROWS, COLUMNS), steps=30, std=1.0):
    return [
        "--prior", "named.Smooth", "--prior.shape", str(list(shape)), "--prior.schedule", "VarianceExploding",
        "--prior.schedule.low", "0.02", "--prior.schedule.high", "20", "--sampler", "MomentMatching",
        "--sampler.steps", str(steps), "--score", "PairwiseEntropy", "--score.std", str(std), "--particles", "8",
    ]  # fmt: skip


def run(folder, out, *more, name="full.h5", **kwargs):
    return main(["acquire", str(folder / name), "--out", str(out), *options(**kwargs), *more])


def test_an_acquisition_is_a_result(folder, tmp_path, capsys):
    out = tmp_path / "a.h5"
    assert run(folder, out) == 0
    result, m = load_result(out), load_measurement(folder / "full.h5")
    order, record = result.record["order"], result.record
    assert len(set(order)) == 3 and (record["groups"], record["iterations"]) == ("columns", 30)
    assert sorted(order) == result.mask[0].any(0).nonzero().flatten().tolist() and int(result.mask.sum()) == 3 * ROWS
    assert result.image.shape == result.std.shape == m.truth.shape and not result.std.is_complex()
    assert [c["group"] for c in record["choices"]] == order and result.history["score"].shape == (3, 1)
    assert 0.5 < record["metrics"]["error_over_spread"][0] < 2 and record["metrics"]["relative_residual"][0] < 0.2
    assert record["metrics"]["spread"][0] < 1 and record["warnings"] == []
    page = out.with_suffix(".html").read_text()
    assert "Uncertainty" in page and "Measurements" in page and "standard deviation" in page
    capsys.readouterr()
    assert main(["info", str(out)]) == 0 and f"order       {order}" in capsys.readouterr().out
    assert main(["report", str(out), "--out", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text().count("<section") == page.count("<section")


def test_the_samples_are_of_the_posterior_of_what_was_measured(folder, tmp_path):
    """Mean and standard deviation against those of the Gaussian given the columns taken."""
    out = tmp_path / "a.h5"
    assert run(folder, out, "--particles", "200", "--report", "false", "--seed", "1", "--sampler.steps", "100") == 0
    result, m, prior = load_result(out), load_measurement(folder / "full.h5"), smooth()
    rows = result.mask.flatten()
    matrix = (
        m.physics.A(torch.eye(ROWS * COLUMNS, dtype=torch.complex64).reshape(-1, 1, ROWS, COLUMNS)).flatten(1).mT[rows]
    )
    covariance = prior.root @ prior.root.mH
    gain = covariance @ matrix.mH @ torch.linalg.inv(matrix @ covariance @ matrix.mH + 0.05**2 * torch.eye(len(matrix)))
    mean, posterior = gain @ m.y.flatten()[rows], covariance - gain @ matrix @ covariance
    std = posterior.diagonal().real.sqrt()
    bias = ((result.image.flatten() - mean).abs() / std).square().mean().sqrt()
    spread = (result.std.flatten() / std).square().mean().sqrt()
    assert bias < 0.25 and 0.85 < spread < 1.15


def test_the_same_command_again_is_done_already(folder, tmp_path, capsys):
    out = tmp_path / "a.h5"
    assert run(folder, out, "--report", "false") == 0
    before = out.read_bytes()
    capsys.readouterr()
    assert run(folder, out, "--report", "false") == 0
    assert "skipped" in capsys.readouterr().out and out.read_bytes() == before
    assert run(folder, out, "--report", "false", "--seed", "1") == INPUT
    assert run(folder, out, "--report", "false", "--seed", "1", "--overwrite", "true") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_an_order_can_be_given(folder, tmp_path, capsys):
    """A list to begin with, a function for all of it; every measurement is one line for programs."""
    out = tmp_path / "a.h5"
    assert run(folder, out, "--first", "[6,2]", "--budget", "4", "--json", "--report", "false") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events] == ["measured"] * 4 + ["finished"]
    assert [e["group"] for e in events[:2]] == [6, 2] and events[0]["score"] is None and events[2]["score"] > 0
    assert load_result(out).history["score"].shape == (2, 1)
    fixed = ["--first", "resolvent.recon.centre_first", "--budget", "3", "--overwrite", "true"]
    assert run(folder, out, *fixed) == 0
    assert load_result(out).record["order"] == [6, 5, 7] and load_result(out).history == {}
    assert run(folder, out, *fixed, "--first_count", "1", "--report", "false") == 0
    assert load_result(out).record["order"][0] == 6 and load_result(out).history["spread"].shape == (2, 1)


def test_a_score_that_cannot_tell_groups_apart_is_said(folder, tmp_path):
    assert run(folder, tmp_path / "a.h5", "--report", "false", std=1e-3) == 0
    (warning,) = load_result(tmp_path / "a.h5").record["warnings"]
    assert warning.startswith("3 of 3 choices were between groups of equal score")


def array():
    line = torch.linspace(-0.1, 0.1, 4)
    return NearFieldMIMO(
        torch.stack([line, -line, 0 * line], 1), torch.stack([line, line, 0 * line], 1), torch.linspace(4e9, 8e9, 3),
        torch.linspace(-0.1, 0.1, 3), torch.linspace(-0.1, 0.1, 3), torch.linspace(0.3, 0.4, 4),
    )  # fmt: skip


@pytest.mark.parametrize("groups, each", [("transmitters", 12), ("pairs", 3), ("frequencies", 16)])
def test_antennas_of_an_array(groups, each, folder, tmp_path):
    physics = array()
    truth = torch.randn(1, 1, 3, 3, 4, dtype=torch.complex64)
    y = physics.A(truth)
    save_measurement(tmp_path / "radar.h5", y, physics, truth, float(0.1 * y.abs().square().mean().sqrt()))
    std = float(y.abs().mean())
    argv = ["--groups", groups, "--budget", "2", "--sampler.cg_iterations", "5"]
    assert run(tmp_path, tmp_path / "o.h5", *argv, name="radar.h5", shape=(3, 3, 4), steps=8, std=std) == 0
    result = load_result(tmp_path / "o.h5")
    assert int(result.mask.sum()) == 2 * each and set(result.axes) == {"x", "y", "z"}
    assert "Uncertainty" in (tmp_path / "o.html").read_text()


def test_pixels_in_double_precision(folder, tmp_path):
    truth = smooth().sample(2, torch.Generator().manual_seed(0)).to(torch.complex128)
    physics = Dense(torch.eye(ROWS * COLUMNS, dtype=torch.float64), (1, ROWS, COLUMNS))
    save_measurement(tmp_path / "p.h5", physics.A(truth), physics, truth, noise_std=0.05)
    assert run(tmp_path, tmp_path / "o.h5", "--budget", "5", "--index", "1", name="p.h5", steps=12) == 0
    result = load_result(tmp_path / "o.h5")
    assert result.image.dtype == torch.complex128 and torch.equal(result.truth[0], truth[1])
    assert result.record["groups"] == "data" and int(result.mask.sum()) == 5


def test_an_image_whose_coils_are_its_own(folder, tmp_path):
    """One of several with coil maps of their own is scanned as it is by itself."""
    truth = smooth().sample(2, torch.Generator().manual_seed(0)).to(torch.complex64)
    maps = torch.randn(2, 3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1), dtype=torch.complex64)
    full = torch.ones(ROWS, COLUMNS)
    both, alone = CartesianMRI(full, maps), CartesianMRI(full, maps[1])
    save_measurement(tmp_path / "both.h5", both.A(truth), both, truth, noise_std=0.05)
    save_measurement(tmp_path / "alone.h5", alone.A(truth[1:]), alone, truth[1:], noise_std=0.05)
    argv = ["--budget", "5", "--sampler.cg_iterations", "5"]
    assert run(tmp_path, tmp_path / "b.h5", *argv, "--index", "1", name="both.h5", steps=8) == 0
    assert run(tmp_path, tmp_path / "a.h5", *argv, name="alone.h5", steps=8) == 0
    found, expected = load_result(tmp_path / "b.h5"), load_result(tmp_path / "a.h5")
    assert torch.allclose(found.image, expected.image, atol=1e-4) and torch.equal(found.mask, expected.mask)


REFUSED = {
    "budget": (["--budget", "13"], USAGE, "budget: found 13, expected from 1 to 12, the number of groups"),
    "groups": (["--groups", "rows"], USAGE, "--groups: found 'rows', expected one of columns of CartesianMRI"),
    "first twice": (["--first", "[1,1]"], USAGE, "first: found [1, 1], expected at most 3 different groups"),
    "first too many": (["--first", "[1,2,3,4]"], USAGE, "expected at most 3 different groups from 0 to 11"),
    "order too long": (
        ["--first", "resolvent.recon.equispaced", "--first_count", "13"], USAGE, "budget: found 13, expected from 0"
    ),
    "no order": (["--first", "resolvent.recon.greedy_design"], USAGE, "--first: found greedy_design (greedy_"),
    "count of no order": (["--first_count", "2"], USAGE, "--first_count: found 2, expected with a fixed order"),
    "no argument of a sampler": (["--sampler", "FLAIR"], USAGE, "--sampler: found no weight, expected with resolvent."),
    "seed": (["--seed", str(2**64)], USAGE, "--seed: found 18446744073709551616, expected an integer of 64 bits"),
    "half a group": (["--budget", "2.5"], USAGE, "--budget: found '2.5', expected int"),
    "no argument": (["--prior", "DenoiserDiffusion"], USAGE, "--prior: found no denoiser, expected with resolvent."),
    "index": (["--index", "1"], USAGE, "--index: found 1, expected from 0 to 0"),
    "score": (["--score.std", "0"], USAGE, "std: found 0.0, expected a finite standard deviation above 0"),
    "score without a number": (["--score", "named.Nothing", "--score.std", "1"], NUMERICAL, "found nan for group 0"),
    "particles": (["--particles", "1"], USAGE, "particles, window: found 1"),
    "prior": (["--prior", "L1"], USAGE, "--prior: found 'L1'"),
    "sampler": (["--sampler", "FISTA"], USAGE, "--sampler: found 'FISTA'"),
    "device": (["--device", "tpu9"], USAGE, "--device: found 'tpu9'"),
    "out": (["--out", "folder"], USAGE, "--out: found 'folder', expected a .h5 file"),
}  # fmt: skip


def fails(argv, code, message, capsys):
    capsys.readouterr()
    assert main(argv) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("resolvent: ") and message in line, line


@pytest.mark.parametrize("case", REFUSED)
def test_a_command_line_that_makes_no_sense_writes_nothing(case, folder, tmp_path, capsys):
    more, code, message = REFUSED[case]
    argv = ["acquire", str(folder / "full.h5"), "--out", str(tmp_path / "o" / "a.h5"), *options(), *more]
    fails(argv, code, message, capsys)
    assert not list((tmp_path).rglob("*.h5")) and not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("missing", ["out", "prior", "sampler", "score"])
def test_what_is_missing_is_named(missing, folder, tmp_path, capsys):
    argv = ["acquire", str(folder / "full.h5"), "--out", str(tmp_path / "a.h5"), *options()]
    words = [
        w for i, w in enumerate(argv) if not w.startswith(f"--{missing}") and not argv[i - 1].startswith(f"--{missing}")
    ]
    fails(words, USAGE, f"--{missing}: found none, expected", capsys)


@pytest.mark.parametrize(
    "name, message",
    [
        ("part.h5", "part.h5: found 92% of the data measured, expected all: a fully sampled file"),
        ("nowhere.h5", "nowhere.h5: cannot be read (No such file or directory)"),
        ("named.py", "named.py: not an HDF5 file"),
        ("colour.safetensors", "colour.safetensors: "),
    ],
)
def test_files_that_cannot_be_acquired(name, message, folder, tmp_path, capsys):
    fails(["acquire", str(folder / name), "--out", str(tmp_path / "a.h5"), *options()], INPUT, message, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "weights, code, message",
    [
        ("colour.safetensors", USAGE, "DRUNet: found an image of shape (32, 1, 6, 12), expected (B, 3, n, n)"),
        ("full.h5", INPUT, "full.h5: found damaged or no weights"),
        ("none", USAGE, "none: found no file of weights, expected one, or a name: "),
    ],
)
def test_weights_that_do_not_fit(weights, code, message, folder, tmp_path, capsys):
    path = str(folder / weights) if weights != "none" else weights
    argv = ["acquire", str(folder / "full.h5"), "--out", str(tmp_path / "a.h5"), "--score", "PairwiseEntropy"]
    argv += ["--score.std", "1", "--sampler", "PiGDM", "--prior", "DenoiserDiffusion", "--prior.denoiser", path]
    fails(argv, code, message, capsys)
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_noise_level_needs_one_of_the_sampler(folder, tmp_path, capsys):
    m = load_measurement(folder / "full.h5")
    save_measurement(tmp_path / "m.h5", m.y, CartesianMRI(m.physics.mask), m.truth)
    argv = ["acquire", str(tmp_path / "m.h5"), "--out", str(tmp_path / "a.h5"), *options(steps=5), "--report", "false"]
    fails(argv, USAGE, "noise_std: found none stated and none above 0 in the data", capsys)
    assert main([*argv, "--sampler.noise_std", "0.05"]) == 0


def same(a, b):
    """Two results that agree bit for bit, and say the same of what was chosen."""
    a, b = load_result(a), load_result(b)
    assert torch.equal(a.image, b.image) and torch.equal(a.std, b.std) and torch.equal(a.mask, b.mask)
    assert a.record["choices"] == b.record["choices"] and a.record["metrics"] == b.record["metrics"]
    assert all(torch.equal(a.history[name], b.history[name]) for name in a.history)


MOVE = MomentMatching.move


def steps_seen(monkeypatch, number=signal.SIGINT, at=None):
    """The steps that samplers take from now on; a signal hits them in the middle of one."""
    seen = []

    def move(self, problem, state, k):
        seen.append(k)
        if k == at:
            signal.raise_signal(number)
        return MOVE(self, problem, state, k)

    monkeypatch.setattr(MomentMatching, "move", move)
    return seen


@pytest.mark.parametrize("number, code", [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_interrupted_the_same_command_goes_on(number, code, folder, tmp_path, monkeypatch, capsys):
    options = ["--report", "false", "--first", "resolvent.recon.random_order", "--first_count", "1", "--json"]
    assert run(folder, tmp_path / "whole.h5", *options) == 0
    said = capsys.readouterr().out.splitlines()
    steps_seen(monkeypatch, number, at=13)
    assert run(folder, tmp_path / "cut.h5", *options) == code
    first, error = capsys.readouterr()
    assert error == "resolvent: interrupted; what is finished is kept, the same command goes on\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".cut.h5.checkpoint", "whole.h5"]
    seen = steps_seen(monkeypatch)
    assert run(folder, tmp_path / "cut.h5", *options) == 0 and seen == list(range(13, 30))
    resuming, *rest = capsys.readouterr().out.splitlines()
    assert json.loads(resuming)["event"] == "resuming"
    measured = [json.loads(line)["group"] for line in first.splitlines() + rest[:-1]]
    assert measured == [json.loads(line)["group"] for line in said[:-1]]
    same(tmp_path / "cut.h5", tmp_path / "whole.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.h5", "whole.h5"]


def test_another_command_begins_anew(folder, tmp_path, monkeypatch, capsys):
    steps_seen(monkeypatch, at=13)
    assert run(folder, tmp_path / "a.h5", "--report", "false") == INTERRUPTED
    seen = steps_seen(monkeypatch)
    capsys.readouterr()
    assert run(folder, tmp_path / "a.h5", "--report", "false", "--seed", "1") == 0 and seen == list(range(30))
    assert "resuming" not in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]


def test_what_can_never_end_leaves_nothing(folder, tmp_path, capsys):
    """A score without a number after a first measurement: the run is over, its progress too."""
    argv = ["--score", "named.Nothing", "--score.std", "1", "--first", "[3]", "--checkpoint_every", "0"]
    assert run(folder, tmp_path / "a.h5", *argv) == NUMERICAL
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("every", ["0", "0.03"])
def test_killed_at_any_moment(every, folder, tmp_path):
    """SIGKILL after random steps, at a random moment of the next: the same result, bit for bit."""
    path = os.pathsep.join([str(folder), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONPATH": path, "LOG": str(tmp_path / "log")}
    kills = {}
    for name, steps in {"cut.h5": "25", "whole.h5": "1000000"}.items():
        argv = ["acquire", str(folder / "full.h5"), "--out", str(tmp_path / name), *options(steps=60)]
        argv += ["--prior", "named.Logged", "--checkpoint_every", every, "--report", "false"]
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("killed.py")), str(tmp_path / "log"), str(tmp_path / name),
             steps, "0.02", *argv],
            capture_output=True, text=True, timeout=300, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        kills[name] = int(done.stdout.split()[-1])
    assert kills["cut.h5"] >= 2 and kills["whole.h5"] == 0
    same(tmp_path / "cut.h5", tmp_path / "whole.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.h5", "log", "whole.h5"]
