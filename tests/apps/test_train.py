"""The train verb: killed or not, by one process or two, the same weights; bad numbers and data in one line."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import refused
from deepinv.loss import R2RLoss
from safetensors.torch import load_file
from skimage.io import imsave
from torch import nn
from torch.testing import assert_close

from resolvent.apps import train as verb
from resolvent.apps.cli import INPUT, NUMERICAL, TERMINATED, USAGE, main
from resolvent.datasets import load_result, save_measurement
from resolvent.operators import Dense, Exposure
from resolvent.priors import (
    ConditionalVelocity,
    Cosine,
    Denoiser,
    DenoiserDiffusion,
    Late,
    SelfSupervised,
    TrainingCheckpoint,
    VariancePreserving,
    VelocityDiffusion,
    downsampling,
    load_denoiser,
)
from resolvent.priors.losses import Batch
from resolvent.priors.self_tuning import Alignment
from resolvent.priors.weights_file import WeightsError, read_description
from resolvent.recon import MeanReverting

TINY = [
    "train", "magnitude-denoiser", "--network.widths", "[2,3]", "--data.shape", "[8,8,8]", "--data.count", "12",
    "--batch_size", "4", "--log_every", "1", "--validate_every", "5", "--device", "cpu",
]  # fmt: skip

TUNE = ["--tune", "noise.high=0.1:0.4", "dropout=0:0.5:0.1", "--tune_layers", "head|decoders"]

pytestmark = pytest.mark.usefixtures("one_thread")


def command(out, steps=8, *more):
    return [*TINY, "--out", str(out), "--steps", str(steps), *more]


def trained(out, steps=8, *more):
    assert main(command(out, steps, *more)) == 0
    return load_file(Path(out) / "weights.safetensors")


def log(out):
    return [json.loads(line) for line in (Path(out) / "log.jsonl").read_text().splitlines()]


def losses(out):
    return {line["step"]: line["loss"] for line in log(out)}


def paths(out):
    """All of the log but the time."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in log(out)]


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        picture = np.random.default_rng(i).integers(0, 256, (20, 24 + i), dtype=np.uint8)
        imsave(folder / f"{i}.png", picture, check_contrast=False)
    return folder


def test_weights_log_and_description(tmp_path):
    trained(tmp_path)
    about = read_description(tmp_path / "weights.safetensors")
    assert about["data"]["training"][0]["name"] == "blobs" and about["config"]["steps"] == 8
    lines = log(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["step"] for line in lines if "psnr" in line] == [5, 8]
    assert lines[-1]["psnr"] == pytest.approx(about["metrics"]["validation_psnr"])
    assert json.loads((tmp_path / "weights.json").read_text()) == about
    assert load_denoiser(tmp_path / "weights.safetensors")(torch.rand(1, 1, 5, 6, 7), 0.1).shape == (1, 1, 5, 6, 7)


def test_weights_are_written_last(tmp_path, monkeypatch):
    """They say that the run is over: whoever is killed before has all else, or it is made anew."""
    before, write = set(), verb.save_weights

    def watched(path, *args, **kwargs):
        before.update(p.name for p in path.parent.iterdir())
        write(path, *args, **kwargs)

    monkeypatch.setattr(verb, "save_weights", watched)
    trained(tmp_path, 4)
    assert {p.name for p in tmp_path.iterdir()} - before == {"weights.safetensors"} and "weights.json" in before


def test_a_preset_with_a_word_that_is_no_option(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("steps: 5\nstpes: 10\n")
    command = ["train", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")]
    refused(capsys, command, USAGE, "preset: found 'stpes', expected options of this command")


@pytest.mark.parametrize(
    "line, message",
    [
        ("steps: many", "preset: --steps: found 'many', expected int"),
        ("noise: 5", "preset: --noise: found 5, expected one of the classes"),
    ],
)
def test_a_preset_with_a_value_of_another_kind(line, message, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(line + "\n")
    refused(capsys, ["train", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "out")], USAGE, message)


def test_configuration_file(tmp_path):
    """It replaces the preset's choices, and the command line replaces its own."""
    noise = {"class_path": "Gaussian", "init_args": {"high": 0.5}}
    (tmp_path / "own.yaml").write_text(json.dumps({"steps": 3, "seed": 4, "noise": noise}))
    assert main([*TINY, "--out", str(tmp_path), "--config", str(tmp_path / "own.yaml"), "--seed", "5"]) == 0
    found = read_description(tmp_path / "weights.safetensors")["config"]
    assert (found["steps"], found["seed"], found["noise"]["init_args"]["high"]) == (3, 5, 0.5)
    assert found["network"]["init_args"]["widths"] == [2, 3]


def test_seed_decides(tmp_path):
    first, again = trained(tmp_path / "a"), trained(tmp_path / "b")
    other = trained(tmp_path / "c", 8, "--seed", "1")
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_what_libraries_say_to_programmers_is_not_shown(tmp_path):
    """PyTorch, of its own derivatives along a direction."""
    run = [sys.executable, "-m", "resolvent.apps.cli", *command(tmp_path / "out", 5), *TUNE]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "FutureWarning" not in done.stderr


def test_hyperparameters_are_tuned(tmp_path):
    """Their path is in the log, their values with the weights, which are those of a network that was never tuned."""
    tuned, plain = trained(tmp_path / "tuned", 12, *TUNE), trained(tmp_path / "plain", 12)
    assert {k: t.shape for k, t in tuned.items()} == {k: t.shape for k, t in plain.items()}
    about, untuned = (read_description(tmp_path / name / "weights.safetensors") for name in ("tuned", "plain"))
    lines = log(tmp_path / "tuned")
    high, dropout = ([line[name] for line in lines] for name in ("noise.high", "dropout"))
    assert high[:4] == pytest.approx([0.25] * 4) and dropout[:4] == pytest.approx([0.1] * 4)
    assert len(set(high)) == len(set(dropout)) == 3
    assert about["hyperparameters"] == {"noise.high": high[-1], "dropout": dropout[-1]}
    assert about["config"]["tune"] == TUNE[1:3] and "hyperparameters" not in untuned
    assert not {"tune", "tune_layers", "tuning_rate"} & untuned["config"].keys()
    assert {"alignment of noise.high", "alignment of dropout"} < lines[-1].keys()
    assert about["metrics"]["validation_psnr_noisy"] == untuned["metrics"]["validation_psnr_noisy"]
    assert load_denoiser(tmp_path / "tuned" / "weights.safetensors")(torch.rand(1, 1, 5, 6, 7), 0.1).isfinite().all()


def test_images_have_one_use(tmp_path):
    """Weights, hyperparameters and figures: no image serves two of them."""
    config = command(tmp_path, 2, *TUNE)[1:]
    parser = verb.build_parser(verb.preset(config))
    run = verb.make(parser, verb.parse(parser, config))
    uses = [set(run.learnt), set(run.tuned_on), set(run.held_out[1])]
    assert all(uses) and sum(map(len, uses)) == len(set.union(*uses)) == len(run.source)


def test_values_act_on_their_image(tmp_path):
    """Each image has its own noise range and gain; without values, the run's."""
    config = command(tmp_path, 2, *TUNE)[1:]
    parser = verb.build_parser(verb.preset(config))
    run = verb.make(parser, verb.parse(parser, config))
    wide = run.batch(0, {"noise.low": torch.full((4,), 0.5), "noise.high": torch.tensor([0.5, 0.6, 0.7, 0.8])})
    plain, gained = run.batch(0), run.batch(0, {"augmentation": torch.tensor([0.0, 0.1, 0.5, 0.0])})
    assert ((wide.sigma >= 0.5) & (wide.sigma <= torch.tensor([0.5, 0.6, 0.7, 0.8]) + 1e-6)).all()
    assert wide.clean.equal(plain.clean) and plain.sigma.max() <= 0.2
    gain = gained.clean.flatten(1).sum(1) / plain.clean.flatten(1).sum(1)
    assert gain[0] == gain[3] == 1
    assert 0 < abs(gain[1] - 1) <= 0.1 + 1e-6 and 0 < abs(gain[2] - 1) <= 0.5 + 1e-6


def test_responses_that_lead_astray_are_reported(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verb.SelfTuner, "alignment", lambda self, steps: {"dropout": Alignment(-0.5, 0.1)})
    trained(tmp_path, 5, *TUNE)
    assert "warning: step 5, reason dropout: found a cosine of -0.50" in capsys.readouterr().out


@pytest.mark.slow
def test_training_denoises(tmp_path):
    """A few steps on scenes at one noise level: those held out gain 3 dB over their noisy selves."""
    noise = ["--noise.low", "0.2", "--noise.high", "0.2"]
    scenes = ["--data.shape", "[16,16,16]", "--data.count", "60", "--learning_rate", "0.01"]
    trained(tmp_path, 200, "--network.widths", "[8,16]", *noise, *scenes)
    metrics = read_description(tmp_path / "weights.safetensors")["metrics"]
    assert metrics["validation_psnr"] > metrics["validation_psnr_noisy"] + 3


def test_finished_run_is_left_alone(tmp_path, capsys):
    trained(tmp_path)
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns
    trained(tmp_path)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before
    refused(capsys, command(tmp_path, 9), INPUT, "exists, made with other settings, data or version")


def test_signal_ends_after_a_step_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    whole = trained(tmp_path / "whole")
    checkpoint = ["--checkpoint_every", "1000"]
    batch = verb.Run.batch

    def interrupting(run, step):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
        return batch(run, step)

    with monkeypatch.context() as patch:
        patch.setattr(verb.Run, "batch", interrupting)
        refused(capsys, command(tmp_path / "cut", 8, *checkpoint), TERMINATED, "the same command goes on")
    assert [line["step"] for line in log(tmp_path / "cut")] == [1, 2, 3, 4]
    cut = trained(tmp_path / "cut", 8, *checkpoint)
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_what_a_killed_writer_left_is_removed(tmp_path):
    """Of the weights too, which it may have been writing; other files of the folder stay."""
    left = [tmp_path / "out" / f".{name}.abc.partial" for name in ("weights.safetensors", "weights.json", "log.jsonl")]
    (tmp_path / "out").mkdir()
    for path in (*left, tmp_path / "out" / "mine.partial"):
        path.touch()
    trained(tmp_path / "out", 2)
    assert not any(path.exists() for path in left) and (tmp_path / "out" / "mine.partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize("every, tune", [("0", []), ("0.03", []), ("0", TUNE), ("0.03", TUNE)])
def test_killed_at_any_moment(tmp_path, every, tune):
    """SIGKILL after random steps, at a random moment of the next: the same weights and log, bit for bit."""
    arguments = command(tmp_path / "killed", 40, "--checkpoint_every", every, *tune)
    wait = [str(tmp_path / "killed" / "log.jsonl"), str(tmp_path / "killed" / "weights.safetensors"), "12", "0.02"]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), *wait, *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= 2
    whole = trained(tmp_path / "whole", 40, *tune)
    killed = load_file(tmp_path / "killed" / "weights.safetensors")
    assert whole.keys() == killed.keys() and all(torch.equal(whole[k], killed[k]) for k in whole)
    assert paths(tmp_path / "killed") == paths(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob("*.partial"))


def torchrun(processes, arguments):
    program = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    script = Path(__file__).with_name("one_process.py")
    done = subprocess.run([*program, str(script), *arguments], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]


WIDTHS = ["--network.widths", "[2,3]"]
BIAS_FREE = ["--network", "BiasFreeUNet", "--network.width", "2", "--network.halvings", "1", "--network.dim", "3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [WIDTHS, BIAS_FREE, [*WIDTHS, "--tune", "noise.high=0.1:0.4"]],
    ids=["magnitude", "bias-free", "tuned"],
)
def test_two_processes_are_one(network, tmp_path):
    """The global batch decides, not who computes it: batch normalisation included.

    In double precision, where Adam does not turn rounding errors into steps: the gradient of a bias before a batch
    normalisation is zero but for them.
    """
    options = [TINY[0], TINY[1], *network, *TINY[4:], "--steps", "6", "--out"]
    torchrun(2, [*options, str(tmp_path / "two")])
    torch.set_default_dtype(torch.float64)
    try:
        assert main([*options, str(tmp_path / "one")]) == 0
    finally:
        torch.set_default_dtype(torch.float32)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-10)
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert {t.dtype for t in one.values()} <= {torch.float64, torch.int64}
    assert_close(two, one, rtol=1e-7, atol=1e-9)


def test_loss_that_is_not_finite(tmp_path, monkeypatch, capsys):
    """The last good checkpoint is whole: without the bad batch the run ends as if nothing had happened."""
    batch, every = verb.Run.batch, ["--checkpoint_every", "0"]

    def bad(run, step):
        found = batch(run, step)
        return found._replace(noisy=found.noisy * float("nan")) if step == 5 else found

    with monkeypatch.context() as patch:
        patch.setattr(verb.Run, "batch", bad)
        message = "loss: found nan or a gradient that is not finite in step 6"
        refused(capsys, command(tmp_path / "bad", 8, *every), NUMERICAL, message)
    assert not (tmp_path / "bad" / "weights.safetensors").exists()
    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "bad")
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)
    assert log(tmp_path / "bad")[0]["step"] == 1 and len(log(tmp_path / "bad")) == 8


def test_disk_full(tmp_path, monkeypatch, capsys):
    save = TrainingCheckpoint.save

    def full(self, done, *state):
        if done > 3:
            raise OSError(28, "No space left on device")
        save(self, done, *state)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "save", full)
        refused(capsys, command(tmp_path, 8, "--checkpoint_every", "0"), INPUT, "No space left on device")
    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path)
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_checkpoints_that_cannot_be_used(tmp_path, capsys):
    options = ["--checkpoint_every", "0"]
    trained(tmp_path, 8, *options)
    (tmp_path / "weights.safetensors").unlink()
    refused(capsys, command(tmp_path, 9), INPUT, "found other settings, data or version")
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    refused(capsys, command(tmp_path, 8), INPUT, "checkpoint.safetensors: found a damaged checkpoint")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--steps", "0"], "--steps: found 0, expected at least 1"),
        (["--learning_rate", "-1"], "--learning_rate: found -1.0, expected a finite number"),
        (["--network.dim", "4"], "dim: found 4, expected 2 or 3"),
        (["--noise.high", "-1"], "low, high, power: found 0.0, -1.0, 1.0"),
        (["--data.shape", "[8,8]"], "shape: found [8, 8], expected three sides"),
        (["--tune", "dropout"], "--tune: found 'dropout', expected NAME=LOW:HIGH or NAME=LOW:HIGH:START"),
        (["--tune", "sharpness=0:1"], "found 'sharpness', expected one of dropout, weight_decay, augmentation, noise."),
        (["--tune", "dropout=0:1"], "--tune dropout=0:1: found 0:1, expected 0 <= LOW < HIGH < 1"),
        (["--tune", "weight_decay=0:1"], "low, high: found 0.0, 1.0, expected 0 < low < high"),
        (["--tune", "dropout=0:0.5:0.7"], "value: found 0.7, expected one between 0 and 0.5"),
        (["--tune", "noise.low=0:0.3"], "low, high, power: found 0.3, 0.2, 1.0"),
        ([*TUNE[:-1], "nothing"], "--tune_layers: found 'nothing', expected a layer's name"),
        (["--tune", "dropout=0:0.5", "--tuning_rate", "-1"], "--tuning_rate: found -1.0, expected a finite number"),
    ],
)
def test_refused_options(tmp_path, capsys, options, message):
    refused(capsys, [*command(tmp_path), *options], USAGE, message)


def test_refused_presets_and_data(tmp_path, pictures, capsys):
    refused(capsys, ["train", "nothing", "--out", str(tmp_path)], USAGE, "preset: found 'nothing', expected one of ")
    image = ["train", "image-denoiser", "--out", str(tmp_path / "out"), "--steps", "2"]
    refused(capsys, image, USAGE, "path")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(capsys, [*image, "--data.path", str(empty)], INPUT, "found no file in this folder")
    refused(capsys, [*image, "--data.path", str(tmp_path / "none")], INPUT, "found nothing there")
    folder = [*image, "--data.path", str(pictures), "--data.size", "16"]
    refused(capsys, [*folder, "--data.channels", "3"], INPUT, "found an image of shape (1, 3, 16, 16), expected (B, 1,")
    refused(capsys, [*folder, "--data.channels", "2"], USAGE, "channels: found 2, expected 1 or 3")
    refused(capsys, [*folder, "--data.size", "0"], USAGE, "size: found 0, expected at least 1")
    refused(capsys, [*folder, "--data.size", "99"], INPUT, "found an image of 20 x 24, expected at least 99 x 99")
    refused(capsys, [*folder, "--network.widths", "[-2,2,2,2]"], USAGE, "widths: found [-2, 2, 2, 2], expected 4")
    other = ["--validation", "ImageFolder", "--validation.path", str(pictures), "--validation.size", "16"]
    message = "validation: DRUNet: found an image of shape (1, 3, 16, 16), expected (B, 1,"
    refused(capsys, [*folder, *other, "--validation.channels", "3"], INPUT, message)
    whole = (pictures / "3.png").read_bytes()
    for kept, message in ((len(whole) // 2, "3.png: damaged image file"), (0, "3.png: of no known format")):
        (pictures / "3.png").write_bytes(whole[:kept])
        refused(capsys, folder, INPUT, message)
    (pictures / "3.png").write_bytes(whole)
    for i in range(3):
        (pictures / f"{i}.png").unlink()
    refused(capsys, folder, INPUT, "data: found 1 image, expected at least 2")


def test_from_pictures_to_a_reconstruction(tmp_path, pictures):
    options = ["--data.path", str(pictures), "--data.size", "16", "--steps", "3", "--batch_size", "2"]
    network = ["--network.widths", "[2,2,2,2]", "--network.blocks", "1"]
    assert main(["train", "image-denoiser", "--out", str(tmp_path / "net"), *options, *network]) == 0
    scan, weights = tmp_path / "scan.h5", str(tmp_path / "net" / "weights.safetensors")
    save_measurement(scan, torch.rand(1, 64), Dense(torch.eye(64), (1, 8, 8)), noise_std=0.1)
    prior = ["--prior", "Denoiser", "--prior.denoiser", weights, "--prior.sigma", "0.1"]
    solver = ["--solver", "ADMM", "--solver.max_iter", "3", "--report", "false"]
    assert main(["reconstruct", str(scan), "--out", str(tmp_path / "image.h5"), *prior, *solver]) == 0
    assert load_result(tmp_path / "image.h5").image.isfinite().all()


@pytest.mark.parametrize("loss", ["SureGaussianLoss", "R2RLoss", "Neighbor2Neighbor"])
def test_losses_of_deepinv_by_name(tmp_path, pictures, loss):
    own = ["--loss", "SelfSupervised", "--loss.loss", f"deepinv.loss.{loss}"]
    own += ["--loss.loss.sigma", "0.1"] if loss == "SureGaussianLoss" else []
    options = [
        "--data.path",
        str(pictures),
        "--data.size",
        "16",
        "--steps",
        "2",
        "--batch_size",
        "2",
        "--log_every",
        "1",
    ]
    noise = ["--noise.low", "0.1", "--noise.high", "0.1"]
    for out in ("a", "b"):
        assert main(["train", "image-denoiser", "--out", str(tmp_path / out), *options, *noise, *own]) == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    description = (tmp_path / "a" / "weights.json").read_text()
    assert " at 0x" not in description and '"gives": "clean images"' in description


def test_tensorboard_is_an_extra(tmp_path, capsys):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert main(command(tmp_path, 2, "--tensorboard")) != 0
        assert "pip install 'resolvent[tensorboard]'" in capsys.readouterr().err
    else:
        trained(tmp_path, 2, "--tensorboard")
        assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("preset", ["image-score", "image-flow"])
def test_presets_of_diffusion(tmp_path, pictures, preset):
    """The averaged weights are written; cut short and gone on with, they are the same."""
    small = {
        "image-score": ["--network.widths", "[2,2,2,2]", "--network.blocks", "1"],
        "image-flow": ["--network.widths", "[4,8]"],
    }
    options = ["--data.path", str(pictures), "--data.size", "16", "--batch_size", "2", *small[preset]]

    def run(out, *more):
        assert main(["train", preset, *options, "--steps", "4", "--out", str(tmp_path / out), *more]) == 0
        return load_file(tmp_path / out / "weights.safetensors")

    averaged, last = run("a"), run("b", "--average", "0")
    assert any(not torch.equal(averaged[k], last[k]) for k in averaged)
    (tmp_path / "a" / "weights.safetensors").unlink()
    again = run("a")
    assert all(torch.equal(averaged[k], again[k]) for k in averaged)
    model = {"image-score": DenoiserDiffusion, "image-flow": VelocityDiffusion}[preset](
        str(tmp_path / "a" / "weights.safetensors")
    )
    assert model.denoise(torch.rand(2, 1, 16, 16), 0.3).shape == (2, 1, 16, 16)
    assert np.isfinite(read_description(tmp_path / "a" / "weights.safetensors")["metrics"]["validation_psnr"])


def test_preset_of_super_resolution(tmp_path, pictures):
    """Trained, the network makes a prior given an image; its PSNR stands beside that of the low resolution."""
    out = ["--out", str(tmp_path), "--steps", "4", "--batch_size", "2", "--network.widths", "[4,8]"]
    assert main(["train", "super-resolution", "--data.path", str(pictures), "--data.size", "16", *out]) == 0
    metrics = read_description(tmp_path / "weights.safetensors")["metrics"]
    assert np.isfinite(metrics["validation_psnr"]) and metrics["validation_psnr_noisy"] > 0
    made = ConditionalVelocity(str(tmp_path / "weights.safetensors"))
    assert made.scale == 0.1 and isinstance(made.trained, Cosine)
    with pytest.raises(WeightsError, match="gives a velocity of residuals, expected one that gives clean images"):
        Denoiser(str(tmp_path / "weights.safetensors"))
    sampler = MeanReverting(made, 3)
    physics = downsampling((1, 16, 16), 4)
    found = sampler.sample(physics.A(torch.rand(2, 1, 16, 16)), physics, 2)
    assert found.mean.shape == (2, 1, 16, 16) and found.samples.isfinite().all()


LATE = {"class_path": "Late", "init_args": {"schedule": {"class_path": "VariancePreserving"}, "first": 0.5}}


@pytest.mark.parametrize("preset, learn", [("image-flow", "noise"), ("super-resolution", "loss")])
def test_networks_of_times_keep_the_schedule_they_were_trained_for(tmp_path, pictures, preset, learn):
    """A schedule within a schedule, too; what is written is what a sampler then walks."""
    (tmp_path / "c.yaml").write_text(json.dumps({learn: {"schedule": LATE}, "loss": {"schedule": LATE}}))
    out = ["--out", str(tmp_path), "--steps", "2", "--batch_size", "2", "--network.widths", "[4,8]"]
    options = ["--data.path", str(pictures), "--data.size", "16", "--config", str(tmp_path / "c.yaml")]
    assert main(["train", preset, *options, *out]) == 0
    prior = {"image-flow": VelocityDiffusion, "super-resolution": ConditionalVelocity}[preset]
    made, t = prior(str(tmp_path / "weights.safetensors")), torch.linspace(0, 1, 5, dtype=torch.float64)
    found = made.trained if isinstance(made, ConditionalVelocity) else made.schedule
    assert isinstance(found, Late) and isinstance(found.schedule, VariancePreserving)
    assert torch.equal(found.noise(t), Late(VariancePreserving(), 0.5).noise(t))


def test_preset_of_low_light(tmp_path, pictures):
    """Trained, the network reconstructs a raw image of short exposure from its file."""
    out = ["--out", str(tmp_path), "--steps", "4", "--batch_size", "2", "--network.widths", "[4,8]"]
    assert main(["train", "low-light", "--data.path", str(pictures), "--data.size", "16", *out]) == 0
    physics = Exposure(0.05, 2e-4, 2e-4, (1, 16, 16))
    save_measurement(tmp_path / "raw.h5", physics(torch.rand(1, 1, 16, 16)), physics)
    solver = ["--solver", "ExposureDiffusion", "--solver.steps", "2", "--samples", "2", "--report", "false"]
    prior = ["--prior", "ExposurePrior", "--prior.denoiser", str(tmp_path / "weights.safetensors")]
    image = str(tmp_path / "image.h5")
    assert main(["reconstruct", str(tmp_path / "raw.h5"), "--out", image, *solver, *prior]) == 0
    assert load_result(image).image.shape == (1, 1, 16, 16)


def noisy_pictures(folder, count=6):
    """Pictures of ramps with noise of 0.1, as a camera might leave them."""
    folder.mkdir()
    rng, ramp = np.random.default_rng(0), np.linspace(60, 190, 40)
    for i in range(count):
        noisy = np.roll(ramp, 5 * i) + rng.normal(0, 25.5, (40, 40))
        imsave(folder / f"{i}.png", noisy.clip(0, 255).astype(np.uint8), check_contrast=False)
    return folder


NETWORKS = {
    "ResidualDenoising": ["--network", "DRUNet", "--network.widths", "[2,2,2,2]", "--network.blocks", "1"],
    "BlindSpot": ["--network", "BlindSpotNetwork", "--network.width", "4", "--network.depth", "1"],
    "SelfSupervised": ["--network", "DRUNet", "--network.widths", "[2,2,2,2]", "--network.blocks", "1",
                       "--loss.loss", "deepinv.loss.R2RLoss"],
}  # fmt: skip


@pytest.mark.parametrize("loss", NETWORKS)
def test_noisy_images_alone_are_enough(loss, tmp_path):
    """Nothing is added to them, and a validation has their loss, no PSNR against images that nobody has."""
    data = ["--data.path", str(noisy_pictures(tmp_path / "noisy")), "--data.size", "20"]
    measured = ["--noise", "AsMeasured", "--noise.sigma", "0.1", "--loss", loss, *NETWORKS[loss]]
    options = ["--steps", "3", "--batch_size", "2", "--device", "cpu", "--out", str(tmp_path / "net")]
    assert main(["train", "image-denoiser", *data, *measured, *options]) == 0
    metrics = read_description(tmp_path / "net" / "weights.safetensors")["metrics"]
    assert metrics.keys() == {"validation_loss", "validation_images"}
    last = log(tmp_path / "net")[-1]
    assert last["step"] == 3 and np.isfinite(last["validation_loss"]) and "psnr" not in last


def test_training_goes_on_from_weights(tmp_path, capsys):
    """The network is that of the weights; without a step of any length it stays."""
    first = trained(tmp_path / "a", 3)
    weights = str(tmp_path / "a" / "weights.safetensors")
    data = ["--data.shape", "[8,8,8]", "--data.count", "12", "--batch_size", "4", "--device", "cpu", "--steps", "2"]
    argv = ["train", "magnitude-denoiser", *data, "--start", weights, "--out", str(tmp_path / "b")]
    assert main([*argv, "--learning_rate", "0", "--final_learning_rate", "0"]) == 0
    again, about = (
        load_file(tmp_path / "b" / "weights.safetensors"),
        read_description(tmp_path / "b" / "weights.safetensors"),
    )
    kernels = [name for name, t in first.items() if t.ndim > 1]
    assert kernels and all(torch.equal(first[name], again[name]) for name in kernels)
    assert about["config"]["start"]["file"] == "weights.safetensors" and len(about["config"]["start"]["sha256"]) == 64
    refused(capsys, [*argv, "--network.widths", "[2,3]"], USAGE, "--network: found beside --start")
    refused(capsys, [*argv[:-1], str(tmp_path / "c"), "--start", "nowhere"], INPUT, "--start: nowhere: found no file")


def test_validation_sees_the_same_randomness(tmp_path):
    """A network that does not learn has one loss."""
    data = ["--data.path", str(noisy_pictures(tmp_path / "noisy")), "--data.size", "20", "--validate_every", "1"]
    measured = [
        "--noise",
        "AsMeasured",
        "--noise.sigma",
        "0.1",
        "--loss",
        "SelfSupervised",
        *NETWORKS["SelfSupervised"],
    ]
    rates = ["--learning_rate", "0", "--final_learning_rate", "0", "--steps", "3", "--batch_size", "2"]
    out = ["--device", "cpu", "--log_every", "1", "--out", str(tmp_path / "net")]
    assert main(["train", "image-denoiser", *data, *measured, *rates, *out]) == 0
    assert len({line["validation_loss"] for line in log(tmp_path / "net")}) == 1


CONTRADICTIONS = {
    "time": (["image-flow", "--noise", "Gaussian"], "hears a time, for Gaussian, whose strength is a noise level"),
    "schedule": (["image-flow", "--noise.schedule", "Cosine"], "for OnPath of Cosine, expected the same schedule, F"),
    "level": (["image-denoiser", "--noise", "OnPath"], "MeanSquare, which hears a noise level, for OnPath, whose"),
    "zero": (["image-denoiser", "--loss", "ScoreMatching"], "for Gaussian from 0, expected low above 0"),
    "gain": (["low-light", "--loss.gain", "0.1"], "for ShortExposure of gain 0.0002, expected gain 0.1"),
    "exposure": (["image-denoiser", "--noise", "ShortExposure"], "for ShortExposure, whose strength is an exposure"),
    "degraded": (["image-denoiser", "--noise", "LowResolution", "--loss", "ResidualDenoising"],
                 "found ResidualDenoising, which hears a noise level, for LowResolution, whose strength is a time"),
    "residual": (["super-resolution", "--noise", "Gaussian"],
                 "which hears a time for the residual, for Gaussian, whose strength is a noise level"),
    "score": (["image-denoiser", "--loss", "SelfSupervised", "--loss.loss", "deepinv.loss.ScoreLoss"],
              "found ScoreLoss, which changes the network"),
    "state": (["image-denoiser", "--loss", "SelfSupervised", "--loss.loss", "deepinv.loss.SureGaussianLoss",
               "--loss.loss.sigma", "0.1", "--loss.loss.unsure", "true"], "SureGaussianLoss, which has a state"),
    "clean": (["image-denoiser", "--loss", "SelfSupervised", "--loss.loss", "deepinv.loss.SupLoss"],
              "found SupLoss, which needs clean images"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_losses_and_noise_that_contradict_each_other(case, tmp_path, pictures, capsys):
    options, message = CONTRADICTIONS[case]
    data = ["--data.path", str(pictures), "--data.size", "16", "--out", str(tmp_path / "o")]
    refused(capsys, ["train", *options, *data], USAGE, message)


def test_blind_spots_need_whole_cells(tmp_path, pictures, capsys):
    options = ["--noise", "AsMeasured", "--noise.sigma", "0.1", "--loss", "BlindSpot", *NETWORKS["BlindSpot"]]
    data = ["--data.path", str(pictures), "--data.size", "16", "--batch_size", "2", "--out", str(tmp_path / "o")]
    refused(
        capsys, ["train", "image-denoiser", *options, *data], INPUT, "found 16 x 16 pixels, expected sides that are"
    )


def test_recorrupted_images_are_denoised_at_the_level_that_they_have():
    """One gain per level: that of the noise of both, 1 / (1 + sigma^2 / (1 - alpha)) for images of variance 1."""

    class Gain(nn.Module):
        def forward(self, x, sigma):
            return x / (1 + torch.as_tensor(sigma).reshape(-1, 1, 1, 1) ** 2)

    def risk(scale):
        class Scaled(Gain):
            def forward(self, x, sigma):
                return scale * super().forward(x, sigma)

        torch.manual_seed(0)
        clean = torch.randn(4, 1, 400, 400)
        sigma = torch.full((4,), 0.5)
        batch = Batch(clean, clean + 0.5 * torch.randn_like(clean), sigma)
        return float(SelfSupervised(R2RLoss(alpha=0.5))(Scaled(), batch))

    assert risk(1.0) < min(risk(0.97), risk(1.03))


def test_clean_images_are_missed(tmp_path, capsys):
    data = [
        "--data.path",
        str(noisy_pictures(tmp_path / "noisy", 2)),
        "--data.size",
        "20",
        "--out",
        str(tmp_path / "o"),
    ]
    message = "--loss: found MeanSquare, which needs the clean images that AsMeasured has not"
    refused(capsys, ["train", "image-denoiser", *data, "--noise", "AsMeasured", "--noise.sigma", "0.1"], USAGE, message)


def test_what_cannot_be_tuned(tmp_path, capsys):
    """A training without clean images, a network that is a gradient, a loss that looks into its network."""
    data = ["--data.path", str(noisy_pictures(tmp_path / "noisy")), "--data.size", "20", "--out", str(tmp_path / "o")]
    options = [*data, "--batch_size", "2", "--device", "cpu", "--tune", "dropout=0:0.5"]
    measured = ["--noise", "AsMeasured", "--noise.sigma", "0.1", "--loss", "ResidualDenoising"]
    image = ["train", "image-denoiser", *options]
    refused(
        capsys, [*image, *measured], USAGE, "--tune: found the noise AsMeasured, expected one added to clean images"
    )
    blind = ["--loss", "BlindSpot", *NETWORKS["BlindSpot"]]
    refused(capsys, [*image, *blind], USAGE, "--tune: found BlindSpotNetwork and BlindSpot, expected a network that")
    message = "--tune: found LearnedProximalNetwork and StagedMatching, expected a network that torch.func.jvp"
    refused(capsys, ["train", "learned-proximal", *options], USAGE, message)
