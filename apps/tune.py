"""``resolvent tune FILE… --parameter NAME … --out DIR``: the parameters of a reconstruction, learnt from files.

Processes of ``torchrun`` share the images, and all take the same steps: those of one process within rounding.
"""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor

from .. import operators, priors, recon  # noqa: F401  (their classes are named on the command line)
from ..datasets import InputError
from ..operators.files import atomic, remove_partials
from ..operators.tensor_file import load_tensors, save_tensors
from ..priors.training import anywhere, processes
from ..recon import Diverged, RelativeChange, Solver
from ..recon.bilevel import Method, Search, State, UpperLevel, UpperLoss
from ..recon.bilevel.search import Visited
from .arguments import instantiate, new_parser, parse, plain
from .cli import Interrupted, NumericalFailure, UsageError
from .defaults import understood
from .device import choose_device
from .fingerprint import digest_of, files_of, fingerprint_of
from .long_run import late_signals, process_group, say
from .method import add_method_options, choose, settings_of
from .training_log import TrainingLog
from .tuning_checkpoint import TuningCheckpoint, nothing
from .tuning_problem import Relative, Scan, Tuned, load_scan, tuned_of, upper_level

#: A rise of the loss, relative, that is said.
RISEN = 1e-3
#: Why a method ended before it was done, and the option that says so.
CUT = {"max_steps": "steps", "budget": "budget"}
#: What of the command line, beside the reconstruction's own, determines the parameters.
SETTINGS = ("parameter", "method", "loss", "steps", "budget", "least_eigenvalue")
#: The method and the loss where none is chosen.
DEFAULTS = {
    "method": {"class_path": "AcceleratedMAID", "init_args": {"eps": 1e-3, "delta": 0.1, "gain": 5e-3}},
    "loss": {"class_path": "resolvent.recon.bilevel.MeanSquare"},
}
#: Steps without one that was taken, after which a line says what helps.
PATIENCE = 3
STUCK = (
    "no step was taken so far: the loss changes by less than the accuracy tells; the accuracy grows by itself, at a "
    "cost; a start elsewhere is cheaper, for a weight a larger one, or --method Brent, which needs no derivative"
)
#: What helps where an image moves on after all steps of a reconstruction.
DRIFTING = (
    "an image ends {:.2g} from where it would come to rest, and {:.2g} was asked: derivatives mean little there; a "
    "larger --solver.max_iter or --method.eps may do, or --method Brent, which needs no derivative"
)


@dataclass(frozen=True)
class Run:
    """One run: its objects, made from the settings, and where its files go."""

    tuned: Tuned
    method: Method
    upper: UpperLevel
    loss: Relative
    scans: list[Scan]
    held_out: UpperLevel | None
    settings: dict[str, Any]
    digests: list[str]
    out: Path
    device: str

    @property
    def fingerprint(self) -> str:
        """What the parameters depend on: settings, the files' bytes and version."""
        return fingerprint_of(self.settings, self.digests, list(files_of(self.settings).values()))


def main(argv: list[str]) -> int:
    """Run the verb."""
    chosen = {word.split("=")[0].removeprefix("--") for word in argv}
    argv, preset = understood(argv)
    preset.pop("start", None)  # images of a search begin where it says
    parser = build_parser(preset | {k: v for k, v in DEFAULTS.items() if k not in chosen})
    config = parse(parser, argv)
    check(config)
    with process_group(config):
        run = make(parser, config)
        if finished(run):
            say(config, "finished", file=str(run.out / "tuned.yaml"))
            return 0
        with late_signals() as asked, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "hypergradient: found strong convexity")
            carry_out(run, config, asked)
            if asked:
                raise Interrupted(asked[0])
    return 0


def build_parser(defaults: dict[str, Any]) -> ArgumentParser:
    """The verb's parser; ``defaults`` are the modality's."""
    parser = new_parser("tune", "Tune parameters of a reconstruction on measurement files; write its configuration.")
    add = parser.add_argument
    add("files", nargs="*", help="measurement files to learn from")
    add_method_options(parser)
    add("--out", type=str | None, help="folder for tuned.yaml, report.html, the log and the checkpoint")
    add(
        "--parameter",
        action="append",
        help="what is tuned: prior.weight, solver.step_size, …; may be given several times",
    )
    add("--method", type=Method, help="class and arguments: AcceleratedMAID, MAID, HOAG, FixedAccuracy, Brent, Grid, …")
    add("--loss", type=UpperLoss, help="class and arguments; MeanSquare and StructuralDissimilarity need a truth")
    add("--validation", type=list[str], default=[], help="measurement files that are only watched: [a.h5,b.h5]")
    add("--steps", type=int, default=50, help="steps of the method at most")
    add("--budget", type=float, default=math.inf, help="gradients and products at which no further step begins")
    add("--least_eigenvalue", type=float, default=0.0, help="a bound from below on the eigenvalues of A^H A")
    add("--report", type=bool, default=True, help="write an HTML report")
    add("--checkpoint_every", type=float, default=10.0, help="seconds between checkpoints")
    add("--json", type=bool, default=False, help="the log's lines on standard output")
    parser.set_defaults(defaults)
    return parser


def check(config: Namespace) -> None:
    """Refuse what no run has.

    :raises UsageError: naming the option.
    :raises InputError: naming a file that is not there.
    """
    if not config.files:
        raise UsageError("files: found none, expected measurement files to learn from")
    for name in (*config.files, *config.validation):
        if not Path(name).exists():
            raise InputError(f"{name}: cannot be read (No such file or directory), expected a measurement file")
    if config.out is None:
        raise UsageError("--out: found none, expected a folder")
    if not config.parameter:
        raise UsageError("--parameter: found none, expected the name of what is tuned, such as prior.weight")
    if config.steps < 1:
        raise UsageError(f"--steps: found {config.steps}, expected at least 1")
    if not config.least_eigenvalue >= 0:
        raise UsageError(f"--least_eigenvalue: found {config.least_eigenvalue:g}, expected a number not below 0")
    if not config.budget > 0:
        raise UsageError(f"--budget: found {config.budget:g}, expected more than 0")


def make(parser: ArgumentParser, config: Namespace) -> Run:
    """The objects that a configuration names, and the files' data.

    :raises UsageError: if the settings make no sense.
    :raises InputError: if a file cannot be used.
    """
    method_settings = settings_of(parser, config)
    everything = plain(parser, config)
    settings = method_settings | {name: everything[name] for name in SETTINGS} | {"files": len(config.files)}
    torch.manual_seed(config.seed)
    made, device = instantiate(parser, config), choose_device(config.device)
    solver, prior = choose(parser, method_settings)
    tuned = tuned_of(solver, prior, config.parameter, device, config.least_eigenvalue)
    paths = [Path(name) for name in (*config.files, *config.validation)]
    digests = [digest_of(path) for path in paths]
    scans = [load_scan(path, tuned, method_settings, device) for path in paths]
    learnt, watched = scans[: len(config.files)], scans[len(config.files) :]
    try:
        along = not isinstance(made.method, Search)
        upper = upper_level(learnt, tuned, made.loss, along)
        held_out = upper_level(watched, tuned, made.loss, along) if watched else None
        relative = Relative(upper)
    except InputError:
        raise
    except ValueError as error:
        raise UsageError(f"files: {error}") from error
    upper = UpperLevel(upper.lower, relative)
    return Run(tuned, made.method, upper, relative, learnt, held_out, settings, digests, Path(config.out), device)


def finished(run: Run) -> bool:
    """Whether the run's configuration is there already; that of another run is not touched.

    :raises InputError: if there is another.
    """
    path = run.out / "tuned.yaml"
    if not path.exists():
        return False
    if run.fingerprint in path.read_text():
        return True
    raise InputError(f"{path}: exists, made with other settings, data or version; expected another --out")


def carry_out(run: Run, config: Namespace, asked: list[int]) -> None:
    """Tune, or go on with it, and write what was found at the end.

    :param asked: the signals that arrived; the first ends the run after its step.
    """
    first = processes()[0] == 0
    checkpoint = TuningCheckpoint(run.out / "checkpoint.safetensors", run.fingerprint, config.checkpoint_every, first)
    if first:
        remove_partials(run.out)
    kept = checkpoint.load(run.device)
    theta = run.tuned.parameters.gather().detach()
    if run.held_out is None and len(run.upper.lower.start()) == 1:
        say(config, "note", text="one image and no --validation: the parameters are the best for that image")
    try:
        done, state, rows = kept or (0, run.method.init(run.upper, theta), nothing())
        with observer(run, config, done if kept else -1) as after:
            if kept is None:
                rows = after(done, state, rows)
                note_drifting(run, config, state)
            done, state, stopped = descend(run, config, checkpoint, (done, state, rows), after, asked)
    except Diverged as error:
        raise NumericalFailure(
            f"{error} The last good checkpoint is kept; a larger --method.eps, a smaller --method.step_size or another "
            "start of the parameters helps"
        ) from error
    except (InputError, BrokenPipeError):
        raise
    except ValueError as error:
        raise UsageError(f"--parameter: {error}") from error
    except OSError as error:
        raise InputError(
            f"{run.out}: cannot be written ({error}), expected space; the last checkpoint is kept"
        ) from error
    if not stopped and first:
        write(run, config, state)


def note_drifting(run: Run, config: Namespace, state: State) -> None:
    """A line at the start, where a method that wants derivatives has images that are not at rest."""
    distance = float(state.certificate.max())
    if not isinstance(run.method, Search) and distance > float(state.eps):
        say(config, "note", text=DRIFTING.format(distance, float(state.eps)))


def descend(
    run: Run,
    config: Namespace,
    checkpoint: TuningCheckpoint,
    begin: tuple[int, State, Tensor],
    after: Callable[[int, State, Tensor], Tensor],
    asked: list[int],
) -> tuple[int, State, bool]:
    """The method's steps, each with its line and maybe its checkpoint; whether a signal cut them short."""
    done, state, rows = begin
    stopped, taken = False, done > 0 or isinstance(run.method, Search)

    def watch(now: State) -> bool:
        nonlocal done, rows, stopped, taken
        if not bool(now.theta.isfinite().all() & now.low.isfinite() & now.high.isfinite()):
            raise NumericalFailure(
                f"loss: found {float(now.high):.3g} in step {done + 1}, expected finite; the last good checkpoint is "
                "kept, a smaller --method.step_size helps"
            )
        done, taken = done + 1, taken or bool(now.accepted)
        rows = after(done, now, rows)
        if done == PATIENCE and not taken:
            say(config, "note", text=STUCK)
        stopped = anywhere(bool(asked))
        if stopped or checkpoint.due():
            checkpoint.save(done, now, rows)
        return not stopped

    if done == 0:
        checkpoint.save(done, state, rows)
    if done < config.steps:
        began = float(run.upper.value(state.x, state.theta))
        found = run.method.minimise(
            run.upper, state=state, max_steps=config.steps - done, budget=config.budget, callback=watch
        )
        state = found.state
        if found.status in CUT and isinstance(run.method, Search):
            say(config, "note", text=f"the search was cut off by --{CUT[found.status]}, the rest of it not tried")
        if float(run.upper.value(state.x, state.theta)) > began + RISEN * abs(began):
            say(config, "note", text="the loss is higher than at the start; log.jsonl has what was seen on the way")
    checkpoint.save(done, state, rows)
    return done, state, stopped


@contextlib.contextmanager
def observer(run: Run, config: Namespace, logged: int) -> Iterator[Callable[[int, State, Tensor], Tensor]]:
    """What follows each step: the loss of the files that are only watched, and the line of the process that logs.

    :param logged: the last step whose line is kept from an earlier run; -1 if none is.
    """
    log, start = None, time.monotonic()
    if processes()[0] == 0:
        log = TrainingLog(run.out / "log.jsonl", logged, config.steps, config.json, None)

    def after(step: int, state: State, rows: Tensor) -> Tensor:
        facts = facts_of(run, state)
        if run.held_out is not None and (step == 0 or bool(state.accepted)):
            x0 = rows.to(state.x) if len(rows) else None
            solution = run.held_out.lower.solve(state.theta, float(state.eps), x0)
            rows, facts["validation"] = solution.x, float(run.held_out.loss(solution.x).mean())
        if log is not None:
            log.step()
            log.write(step, **facts, seconds=time.monotonic() - start)
            if not config.json:
                print(sentence(step, facts), flush=True)
        return rows

    try:
        yield after
    finally:
        if log is not None:
            log.close()


def facts_of(run: Run, state: State) -> dict[str, Any]:
    """The numbers of a step: the loss with its bounds, parameters, accuracies, cost."""
    theta, scale = state.theta, run.loss.scale
    value = float(run.upper.value(state.x, theta)) * scale
    found = run.tuned.parameters.scatter(theta)
    return {
        "loss": value, "low": float(state.low) * scale, "high": float(state.high) * scale,
        "parameters": {name: _plain(value) for name, value in found.items()},
        "gradient": float(torch.linalg.vector_norm(state.gradient)) * scale,
        "eps": float(state.eps), "delta": float(state.delta), "certificate": float(state.certificate.max()),
        "step_size": float(state.step_size), "accepted": bool(state.accepted),
        "gradients": int(state.gradients), "products": int(state.products),
        "cost": int(state.gradients) + int(state.products),
    } | tried(run, state)  # fmt: skip


def tried(run: Run, state: State) -> dict[str, Any]:
    """What a search looked at last, the best or not; nothing of a method that descends."""
    if not isinstance(run.method, Search):
        return {}
    visited = Visited(*state.memory)
    found = run.tuned.parameters.scatter(visited.theta[-1])
    return {"tried": {n: _plain(v) for n, v in found.items()}, "tried_loss": float(visited.value[-1]) * run.loss.scale}


def _plain(value: Tensor) -> float | dict[str, float]:
    """A number, or a tensor's norm."""
    return float(value) if value.ndim == 0 else {"norm": float(torch.linalg.vector_norm(value))}


def sentence(step: int, facts: dict[str, Any]) -> str:
    """A step's line for people."""
    named = in_words(facts["parameters"])
    if not facts["accepted"] and step and "tried" in facts:
        named += f" (tried {in_words(facts['tried'])}: {facts['tried_loss']:.5g})"
    held_out = f", validation {facts['validation']:.5g}" if "validation" in facts else ""
    how = "start" if step == 0 else "accepted" if facts["accepted"] else "kept"
    return (f"step {step}: {how}, loss {facts['loss']:.5g}{held_out}; {named}; "
            f"accuracy {facts['eps']:.2g}, cost {facts['cost']}")  # fmt: skip


def write(run: Run, config: Namespace, state: State) -> None:
    """The configuration that was found, and the report; the configuration last, for it says that the run is over."""
    from .tuning_report import write_report

    values = run.tuned.parameters.scatter(state.theta)
    settings = {k: v for k, v in run.settings.items() if k not in (*SETTINGS, "files")}
    tensors = {name: t for name, t in values.items() if t.ndim}
    if tensors:
        tensors = kept_tensors(settings.get("parameters")) | tensors
        path = run.out / "tuned.safetensors"
        save_tensors(path, tensors)
        settings["parameters"] = str(path.resolve())
    for name, value in values.items():
        if not value.ndim:
            root, *path = name.split(".")
            settings[root] = replaced(settings[root], path, float(value))
    settings["solver"] = at_rest(settings["solver"], run.tuned.make(run.tuned.prior), float(state.eps))
    if config.report:
        write_report(run, state, run.out / "report.html")
    head = f"# Tuned by resolvent {version('resolvent')}: {', '.join(values)}.\n# fingerprint: {run.fingerprint}\n"
    with atomic(run.out / "tuned.yaml") as partial:
        partial.write_text(head + yaml.safe_dump(settings, sort_keys=False))
    say(config, "tuned", file=str(run.out / "tuned.yaml"), parameters={n: _plain(v) for n, v in values.items()})


def kept_tensors(path: str | None) -> dict[str, Tensor]:
    """Those of an earlier run from whose ``tuned.yaml`` this one began."""
    return {} if path is None else load_tensors(path)[0]


def at_rest(spec: dict[str, Any], solver: Solver, eps: float) -> dict[str, Any]:
    """A solver's settings with a stop at which images are those that were compared: within ``eps`` of their rest.

    What is left of a way of ``max_iter`` steps is less than its last step as often.
    """
    tol = eps / solver.max_iter
    if isinstance(solver.stop, RelativeChange) and solver.stop.tol <= tol:
        return spec
    stop = {"class_path": "resolvent.recon.RelativeChange", "init_args": {"tol": tol}}
    return {**spec, "init_args": {**(spec.get("init_args") or {}), "stop": stop}}


def replaced(spec: Any, path: list[str], value: float) -> Any:
    """A class's settings, a list of them or a number, with another number at ``path``.

    The index of a list's only entry may be left out in the settings.
    """
    if not path:
        return value
    name, *rest = path
    if isinstance(spec, list):
        return [replaced(entry, rest, value) if i == int(name) else entry for i, entry in enumerate(spec)]
    if not isinstance(spec, dict):
        return value
    arguments = dict(spec.get("init_args") or {})
    return {**spec, "init_args": arguments | {name: replaced(arguments.get(name), rest, value)}}


def in_words(parameters: dict[str, Any]) -> str:
    """Names and numbers."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} of norm {value['norm']:.4g}"
        for name, value in parameters.items()
    )
