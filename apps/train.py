"""``resolvent train PRIOR --data … --out DIR``: images in, a file of weights out.

A process of many (``torchrun``) takes its share of each batch; the batch, and so the result within rounding, is the
same for any number of them.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from .. import datasets, priors  # noqa: F401  (their classes are named on the command line)
from ..datasets import InputError, Source
from ..datasets.hdf5 import sha256
from ..datasets.result import finite
from ..datasets.sources import counted, split
from ..operators.files import atomic, remove_partials
from ..priors import (
    Corruption,
    DeltaSTN,
    MovingAverage,
    Network,
    SelfTuner,
    TrainingCheckpoint,
    TrainingLoss,
    cosine,
    load_denoiser,
    repeat,
    save_weights,
    train,
)
from ..priors.training import NotFinite, Step, processes
from ..priors.weights_file import description_of, read_description, resolve
from .arguments import brief, instantiate, new_parser, parse, plain
from .cli import Interrupted, NumericalFailure, UsageError
from .defaults import chosen_values
from .device import choose_device
from .long_run import late_signals, process_group, say
from .training_hyperparameters import hyperparameters
from .training_log import TrainingLog
from .training_run import Run, denoised, mean_psnr, quality

#: What of the command line determines the weights; kept in their description and hashed into the fingerprint.
SETTINGS = (
    "network", "data", "validation", "noise", "loss", "average", "steps", "batch_size", "learning_rate",
    "final_learning_rate", "seed", "mixed_precision",
)  # fmt: skip
#: What joins them where hyperparameters are tuned.
TUNING = ("tune", "tune_layers", "tuning_rate")
#: Of the images learnt from, every so many are for the hyperparameters; the share of steps before they move, and
#: how many batches a check of the responses takes.
TUNED_ON, WARM_UP, CHECKED = 5, 0.05, 4
TUNABLE = "dropout, weight_decay, augmentation, or a number of the noise such as noise.high"


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = build_parser(preset(argv))
    config = parse(parser, argv)
    if config.out is None:
        raise UsageError("--out: found none, expected a folder")
    if config.start is not None and any(word.startswith("--network") for word in argv):
        raise UsageError("--network: found beside --start, expected none: the network is that of the weights")
    with process_group(config):
        run = make(parser, config)
        tuner = self_tuner(run, config) if config.tune else None
        if finished(run):
            say(config, "finished", weights=str(run.out / "weights.safetensors"))
            return 0
        with late_signals() as asked:
            carry_out(run, tuner, config, asked)
            if asked:
                raise Interrupted(asked[0])
    return 0


def build_parser(defaults: dict[str, Any]) -> ArgumentParser:
    """The verb's parser; ``defaults`` are the preset's."""
    parser = new_parser("train", f"Train a denoiser; write its weights. PRESET is one of {', '.join(presets())}.")
    add = parser.add_argument
    add("preset", help="name of a preset, or a YAML file like one")
    add("--config", action="config", help="YAML with any of these options; may be given several times, later wins")
    add("--out", type=str | None, help="folder for the weights, the log and the checkpoint")
    add("--network", type=Network, help="network class and its arguments")
    add("--start", type=str | None, help="weights to go on from, file or name; the network is theirs, not the preset's")
    add("--data", type=Source, help="source of clean images, class and arguments: --data ImageFolder --data.path DIR")
    add("--validation", type=Source | None, help="source held out; every tenth image of --data if not given")
    add("--noise", type=Corruption, help="noise class and its arguments: --noise Gaussian --noise.high 0.2")
    add("--loss", type=TrainingLoss, help="loss class and its arguments")
    add("--average", type=float, default=0.0, help="decay of the moving average of the weights; 0 for the last weights")
    add("--steps", type=int, default=10000, help="steps of the optimiser")
    add("--batch_size", type=int, default=16, help="images in a step, of all processes together")
    add("--learning_rate", type=float, default=1e-3, help="of the first step")
    add("--final_learning_rate", type=float, default=1e-5, help="of the last step; a cosine leads there")
    add("--tune", type=str, nargs="+", metavar="NAME=LOW:HIGH[:START]", help=f"learn hyperparameters too: {TUNABLE}")
    add("--tune_layers", type=str, default="", help="regular expression for names of layers that respond; all if empty")
    add("--tuning_rate", type=float, default=0.01, help="learning rate of the hyperparameters")
    add("--seed", type=int, default=0, help="seed of the first weights, the pieces and the noise")
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
    add("--mixed_precision", type=bool | None, help="products in bfloat16; on cuda unless false, elsewhere if true")
    add("--log_every", type=int, default=50, help="steps between lines of the log")
    add("--validate_every", type=int, default=500, help="steps between validations")
    add("--validation_images", type=int, default=16, help="how many images held out a validation takes")
    add("--checkpoint_every", type=float, default=60.0, help="seconds between checkpoints")
    add("--tensorboard", type=bool, default=False, help="write TensorBoard's files too")
    add("--json", type=bool, default=False, help="the log's lines on standard output")
    check_preset(parser, defaults)
    parser.set_defaults(defaults)
    return parser


def check_preset(parser: ArgumentParser, defaults: dict[str, Any]) -> None:
    """Refuse a preset with options that there are not, or values of another type; classes may lack arguments still.

    :raises UsageError: naming the first.
    """
    known = {action.dest for action in parser._actions}
    if strange := [key for key in defaults if key not in known]:
        raise UsageError(f"preset: found {strange[0]!r}, expected options of this command")
    values = {key: value for key, value in defaults.items() if not isinstance(value, dict)}
    try:
        parser.parse_object({"preset": "", **values})
    except ArgumentError as error:
        raise UsageError(f"preset: {brief(error)}") from error


def presets() -> dict[str, Path]:
    """The presets by name."""
    folder = Path(str(files(__package__))) / "presets" / "train"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset(argv: list[str]) -> dict[str, Any]:
    """The defaults of the preset that a command line begins with, less what it chooses itself.

    :raises UsageError: if there is none of that name.
    """
    if not argv or argv[0].startswith("-"):
        return {}
    path = presets().get(argv[0], Path(argv[0]))
    try:
        values = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeError):
        values = None
    if not isinstance(values, dict):
        raise UsageError(f"preset: found {argv[0]!r}, expected one of {', '.join(presets())}, or a YAML file")
    return {k: v for k, v in values.items() if k not in chosen_values(argv)}


def make(parser: ArgumentParser, config: Namespace) -> Run:
    """The objects that a configuration names, the network with its first weights.

    :raises UsageError: if the settings make no sense.
    :raises InputError: if the data cannot be used.
    """
    names = SETTINGS + (TUNING if config.tune else ())
    settings = {k: v for k, v in plain(parser, config).items() if k in names}
    check(config)
    torch.manual_seed(config.seed)
    made = instantiate(parser, config)
    device = choose_device(config.device)
    learnt, held_out = shares(made.data, made.validation)
    learnt, tuned_on = apart(learnt) if config.tune else (learnt, [])
    network = made.network
    if config.start is not None:
        network, about = started(config.start, made.loss.gives)
        settings |= about
    network = channels_last(network.to(device))
    average = MovingAverage(network, config.average) if config.average else None
    run = Run(
        network, made.data, learnt, held_out, made.noise, made.loss, average, settings, Path(config.out), device,
        tuned_on,
    )  # fmt: skip
    _check_channels(run)
    _check_loss(run)
    return run


def started(path_or_name: str, gives: str) -> tuple[Network, dict[str, Any]]:
    """The network of trained weights, to be trained further, and what the settings say of it.

    :raises InputError: if there is none that gives what the loss's do.
    """
    try:
        network, path = load_denoiser(path_or_name, gives), resolve(path_or_name)
    except ValueError as error:
        raise InputError(f"--start: {error}") from error
    about = {"network": network.description, "start": {"file": path.name, "sha256": sha256(path)}}
    return network.requires_grad_(True), about


def channels_last(network: Network) -> Network:
    """``network`` with the channels of a voxel side by side in memory, where its convolutions are fastest."""
    memory_format = {2: torch.channels_last, 3: torch.channels_last_3d}[network.dim]
    return network.to(memory_format=memory_format)


def shares(data: Source, validation: Source | None) -> tuple[list[int], tuple[Source, list[int]]]:
    """Indices to learn from; the source validated on, and its indices."""
    if validation is not None:
        return list(range(len(data))), (validation, list(range(len(validation))))
    learnt, held_out = split(data)
    return learnt, (data, held_out)


def apart(learnt: list[int]) -> tuple[list[int], list[int]]:
    """Indices that weights learn from, and every fifth, from which hyperparameters do.

    :raises InputError: if there are not two.
    """
    if len(learnt) < 2:
        raise InputError(f"data: found {len(learnt)} image to learn from, expected at least 2 with --tune")
    return [i for place, i in enumerate(learnt) if place % TUNED_ON], learnt[::TUNED_ON]


def self_tuner(run: Run, config: Namespace) -> SelfTuner:
    """What takes the steps of a run with ``--tune``.

    :raises UsageError: if the option makes no sense.
    """
    chosen = hyperparameters(config.tune, run.noise, run.settings["noise"].get("init_args", {}))
    torch.manual_seed(counted(config.seed, "responses").initial_seed())
    try:
        model = DeltaSTN(run.network, chosen, config.tune_layers)
    except (ValueError, re.error) as error:
        raise UsageError(f"--tune_layers: found {config.tune_layers!r}, expected a layer's name ({error})") from error
    tuner = SelfTuner(
        model, run.batch, run.tuning_batch, run.loss, learning_rate(config),
        lambda k: counted(config.seed, k, "hyperparameters"), config.batch_size,
        warm_up=int(WARM_UP * config.steps), tuning_rate=config.tuning_rate, mixed=run.mixed,
    )  # fmt: skip
    _check_tuner(run, tuner)
    return tuner


def _check_tuner(run: Run, tuner: SelfTuner) -> None:
    if run.average:
        raise UsageError(
            f"--average: found {run.average.decay} beside --tune, expected 0: tuned weights have no average"
        )
    if not run.noise.from_clean:
        found = type(run.noise).__name__
        raise UsageError(f"--tune: found the noise {found}, expected one added to clean images, which judge")
    try:
        tuner.check()
    except (AttributeError, RuntimeError, ValueError) as error:
        found = f"{type(run.network).__name__} and {type(run.loss).__name__}"
        expected = "a network that torch.func.jvp differentiates, and a loss that only calls it"
        raise UsageError(f"--tune: found {found}, expected {expected}") from error


def learning_rate(config: Namespace) -> Callable[[int], float]:
    """The learning rate of each step."""
    return cosine(config.learning_rate, config.final_learning_rate, config.steps)


def check(config: Namespace) -> None:
    """Refuse numbers that no training has.

    :raises UsageError: naming the option.
    """
    for name in ("steps", "batch_size", "log_every", "validate_every", "validation_images"):
        if config[name] < 1:
            raise UsageError(f"--{name}: found {config[name]}, expected at least 1")
    for name in ("learning_rate", "final_learning_rate", "tuning_rate"):
        if not 0 <= config[name] < float("inf"):
            raise UsageError(f"--{name}: found {config[name]}, expected a finite number not below 0")
    for name in ("network", "data", "noise", "loss"):
        if config[name] is None:
            raise UsageError(f"--{name}: found none, and this preset has no default; expected a class")
    world = processes()[1]
    if not 0 <= config.average < 1:
        raise UsageError(f"--average: found {config.average}, expected a number from 0 to below 1")
    if config.batch_size % world:
        raise UsageError(f"--batch_size: found {config.batch_size}, expected a multiple of the {world} processes")


def _check_channels(run: Run) -> None:
    source, indices = run.held_out
    for option, images, index in (("data", run.source, run.learnt[0]), ("validation", source, indices[0])):
        try:
            run.network.checked(images.sample(index, counted(0))[None])
        except ValueError as error:
            raise InputError(f"{option}: {error}") from error


def _check_loss(run: Run) -> None:
    try:
        run.loss.check(run.noise)
    except ValueError as error:
        raise UsageError(f"--loss: {error}") from error


def finished(run: Run) -> bool:
    """Whether the run's weights are there already; those of another run are not touched.

    :raises InputError: if there are others.
    """
    path = run.out / "weights.safetensors"
    if not path.exists():
        return False
    with contextlib.suppress(ValueError):
        if read_description(path).get("fingerprint") == run.fingerprint:
            return True
    raise InputError(f"{path}: exists, made with other settings, data or version; expected another --out")


def carry_out(run: Run, tuner: SelfTuner | None, config: Namespace, asked: list[int]) -> None:
    """Train, or go on with it, and write the weights at the end.

    :param asked: the signals that arrived; the first ends the training after its step.
    """
    path = run.out / "checkpoint.safetensors"
    checkpoint = TrainingCheckpoint(path, run.fingerprint, config.checkpoint_every, writes=processes()[0] == 0)
    if checkpoint.writes:
        remove_partials(run.out)
    try:
        rate = learning_rate(config)
        with observer(run, tuner, config, checkpoint.done()) as seen:

            def after(step: Step) -> bool:
                return seen(step) or bool(asked)

            if tuner is None:
                done = train(
                    run.network, run.batch, run.loss, config.steps, rate, checkpoint, after, run.mixed, run.average
                )
            else:
                done = repeat(tuner.step, tuner.state, config.steps, rate, checkpoint, after)
        if done == config.steps and checkpoint.writes:
            write_weights(run, tuner)
            say(config, "trained", weights=str(run.out / "weights.safetensors"))
    except NotFinite as error:
        raise NumericalFailure(f"{error}; the last good checkpoint is kept, a smaller --learning_rate helps") from error
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(
            f"{run.out}: cannot be written ({error}), expected a folder with space; the last checkpoint is kept"
        ) from error
    except ValueError as error:
        raise InputError(str(error)) from error


@contextlib.contextmanager
def observer(run: Run, tuner: SelfTuner | None, config: Namespace, done: int) -> Iterator[Callable[[Step], bool]]:
    """What follows each step on the process that logs: its line, and every so often a validation."""
    if processes()[0] > 0:
        yield lambda step: False
        return
    board = run.out / "tensorboard" if config.tensorboard else None
    log = TrainingLog(run.out / "log.jsonl", done, config.steps, config.json, board)
    held_out, start = run.validation(config.validation_images), time.monotonic()

    def after(step: Step) -> bool:
        log.step()
        last = step.number == config.steps
        facts = {"loss": step.loss, "learning_rate": step.learning_rate, "seconds": time.monotonic() - start}
        validated = last or step.number % config.validate_every == 0
        if validated:
            estimate = denoised(run, held_out)
            facts |= quality(run, estimate, held_out)
            log.picture(step.number, held_out.noisy[0], estimate[0], held_out.clean[0])
            facts |= responses(tuner, config, step.number) if tuner else {}
        if validated or step.number % config.log_every == 0:
            log.write(step.number, **facts, **(tuner.model.hyperparameters.current() if tuner else {}))
        return False

    with contextlib.closing(log):
        yield after


def responses(tuner: SelfTuner, config: Namespace, step: int) -> dict[str, float]:
    """How well the responses learnt are aligned with the exact ones; below 0 a hyperparameter is led astray."""
    found = tuner.alignment(range(step, step + CHECKED))
    for name, alignment in found.items():
        if alignment.astray:
            reason = f"{name}: found a cosine of {alignment.cosine:.2f} between its responses and exact ones"
            say(config, "warning", step=step, reason=f"{reason}, expected above 0: a smaller --learning_rate helps")
    return {f"alignment of {name}": alignment.cosine for name, alignment in found.items()}


def write_weights(run: Run, tuner: SelfTuner | None) -> None:
    """The description (data, settings, PSNR on all that was held out), then the network, which ends the run."""
    held_out = run.validation(len(run.held_out[1]))
    metrics: dict[str, float] = {"validation_images": len(held_out.clean)}
    metrics |= quality(run, denoised(run, held_out), held_out, "validation_psnr")
    if run.noise.from_clean:
        metrics["validation_psnr_noisy"] = mean_psnr(held_out.noisy, held_out.clean)
    about = {"config": run.settings, "data": run.data, "metrics": finite(metrics), "gives": run.loss.gives}
    if tuner is not None:
        about["hyperparameters"] = tuner.model.hyperparameters.current()
    about |= {"fingerprint": run.fingerprint, "version": version("resolvent")}
    with atomic(run.out / "weights.json") as partial:
        partial.write_text(json.dumps(description_of(run.result, **about), indent=1) + "\n")
    save_weights(run.out / "weights.safetensors", run.result, **about)
