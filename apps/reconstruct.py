"""``resolvent reconstruct FILE… --out PATH``: measurement files in, images and reports out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

from .. import operators, priors, recon  # noqa: F401  (their classes are named on the command line)
from ..datasets import (
    FileCheckpoint,
    InputError,
    Measurement,
    Result,
    load_measurement,
    load_result,
    save_result,
)
from ..operators import Operator
from ..operators.norm import TINY, norms
from ..recon import Diverged, Migration, Problem, Sampler, Solution, Solver, data_residual, objective
from .arguments import keep_apart, new_parser, parse
from .cli import NumericalFailure, UsageError
from .defaults import modality, understood
from .device import choose_device
from .fingerprint import digest_of, files_of
from .first_image import first_image, named
from .job import Job, check_writable, finished, unfinished, write_page
from .method import add_method_options, build_solver, choose, refusals, refuse_strangers, settings_of
from .progress import Reporter
from .record import assemble

#: Suffixes that no folder of results is meant by.
PICTURES = (".cfl", ".gz", ".jpg", ".nii", ".npy", ".png", ".tif", ".tiff")
SUFFIXES = (".h5", ".hdf5")
#: What may be asked beside a replay.
REPLAYING = ("--replay", "--trust", "--out", "--json")
RECORDS = {"objective": objective, "data_residual": data_residual}


def main(argv: list[str]) -> int:
    """Run the verb."""
    wanted, preset = understood(argv)
    parser = build_parser(preset)
    config = parse(parser, wanted)
    reporter = Reporter(as_json=config.json)
    if config.replay is not None:
        refuse_beside_replay(argv, config.files)
        return replay(parser, config, reporter)
    if not config.files:
        raise UsageError("files: found none, expected at least one measurement file")
    if config.out is None:
        raise UsageError("--out: found none, expected a folder, or a .h5 file for a single input")
    jobs = plan(parser, config, [word.split("=")[0] for word in argv])
    carry_out(jobs, lambda job: reconstruct(parser, job, reporter, config), reporter)
    return 0


def carry_out(jobs: list[Job], run: Callable[[Job], None], reporter: Reporter) -> None:
    """One job after the other; what is wrong with one file keeps none of the others.

    :raises InputError: or whatever the first failure was, at the end, with how many there were.
    """
    failures: list[Exception] = []
    for job in jobs:
        try:
            run(job)
        except (InputError, NumericalFailure, Diverged, UsageError) as error:
            if len(jobs) == 1:
                raise
            reporter.say("failed", file=str(job.source), text=str(error))
            failures.append(error)
    if failures:
        kind = type(failures[0])
        raise kind(f"files: {len(failures)} of {len(jobs)} failed, expected none; the first: {failures[0]}")


def build_parser(preset: dict[str, Any]) -> ArgumentParser:
    """The verb's parser; ``preset`` holds the modality's defaults."""
    parser = new_parser("reconstruct", "Reconstruct images from measurement files; write results and reports.")
    add = parser.add_argument
    add("files", nargs="*", help="measurement files")
    add("--out", type=str | None, help="folder for the results, or one .h5 file for a single input")
    add_method_options(parser)
    add(
        "--start",
        type=str | None,
        help="result whose image to begin with, or for several files the folder of theirs; 'default': the image of the "
        "modality's default method",
    )
    add("--samples", type=int, default=1, help="images that a sampler draws; the result is their mean and spread")
    add("--report", type=bool, default=True, help="write an HTML report beside each result")
    add("--overwrite", type=bool, default=False, help="replace results made with other settings")
    add("--checkpoint_every", type=float, default=10.0, help="seconds between saves of an unfinished run")
    add("--replay", type=str | None, help="repeat the run of a result file and compare bit for bit")
    add(
        "--trust", type=str, nargs="*", default=[], help="packages whose classes a replayed file may name; they are run"
    )
    add("--json", type=bool, default=False, help="machine-readable lines on standard output")
    parser.set_defaults(preset)
    return parser


def plan(parser: ArgumentParser, config: Namespace, options: list[str]) -> list[Job]:
    """This process's share of the jobs; files are dealt out under torchrun.

    :param options: those on the command line.
    """
    settings, device = settings_of(parser, config), choose_device(config.device)
    make, prior = choose(parser, settings)
    solver = make(prior)
    check_samples(solver, config.samples)
    refuse_unheard(solver, options)
    if "objective" in settings["record"] and not all(prior.explicit_prior for prior in solver.priors):
        raise UsageError("--record: found objective of a prior without a value, expected data_residual or none")
    settings |= {} if len(solver.priors) else {"prior": None}
    out, sources = Path(config.out), [Path(f) for f in config.files]
    single = out.suffix in SUFFIXES
    if out.suffix in PICTURES:
        raise UsageError(f"--out: found {out}, expected a folder or a .h5 file; `resolvent export` makes others")
    for source in sources:
        if not source.exists():
            raise InputError(f"{source}: cannot be read (No such file or directory), expected a measurement file")
    if single and len(sources) > 1:
        raise UsageError(f"--out: found the file {out} for {len(sources)} inputs, expected a folder")
    refuse_several_kinds(sources)
    targets = [out if single else out / f"{s.stem}.h5" for s in sources]
    if len(set(targets)) < len(targets):
        raise UsageError("files: two inputs have the same name, expected different names in one --out folder")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    jobs = [Job(s, t, settings | named(config.start, s), device) for s, t in zip(sources, targets, strict=True)]
    for job in jobs:
        keep_apart(job.target, [*sources, *files_of(job.settings)])
    return jobs[rank::world]


def refuse_several_kinds(sources: list[Path]) -> None:
    """Refuse files of different operators, of which each has a method of its own.

    :raises UsageError: naming two.
    """
    kinds: dict[str, Path] = {}
    for source in sources:
        with contextlib.suppress(InputError, KeyError):
            kinds.setdefault(modality(source), source)
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise UsageError(f"files: found {first} of {one} and {second} of {other}, expected files of one operator")


def check_samples(solver: Solver, samples: int) -> None:
    """Refuse several samples of what draws none.

    :raises UsageError: saying which.
    """
    if samples < 1:
        raise UsageError(f"--samples: found {samples}, expected at least 1")
    if samples > 1 and not isinstance(solver, Sampler):
        raise UsageError(f"--samples: found {samples} of {type(solver).__name__}, expected a sampler such as PiGDM")


def reconstruct(parser: ArgumentParser, job: Job, reporter: Reporter, config: Namespace) -> None:
    """One file, unless its result is there already."""
    job = Job(job.source, job.target, job.settings, job.device, digest_of(job.source))
    if finished(job, config.overwrite):
        if config.report and not job.target.with_suffix(".html").exists():
            write_page(job, load_result(job.target))
        reporter.say("skipped", file=str(job.source), out=str(job.target), reason="finished")
        return
    measurement = load_measurement(job.source)
    check_writable(job.target, config.report)
    with unfinished(job, config.checkpoint_every, reporter) as checkpoint:
        result = solve(parser, job, measurement, reporter, checkpoint)
        if not config.overwrite:  # another run may have written there in the meantime
            finished(job, overwrite=False)
        save_result(job.target, result)
    reporter.done(job.source, job.target, write_page(job, result) if config.report else None, result)


def solve(
    parser: ArgumentParser, job: Job, measurement: Measurement, reporter: Reporter, checkpoint: FileCheckpoint | None
) -> Result:
    """Build the solver a job describes, run it, and put the record together."""
    torch.manual_seed(job.settings["seed"])
    y, physics = measurement.y.to(job.device), measurement.physics.to(job.device)
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    check_scale(job.source, y)
    with torch.no_grad(), refusals():
        problem = Problem(y, physics)
        x0 = first_image(parser, job.settings, job.source, problem, measurement.noise_std, reporter)
        solver, strength = build_solver(parser, job.settings, problem, measurement.noise_std)
        record = {name: RECORDS[name] for name in job.settings["record"]}
        with reporter.progress(job.source, solver.max_iter) as callback:
            run = {"x0": x0, "record": record, "callback": callback, "checkpoint": checkpoint}
            samples = job.settings.get("samples", 1)
            solution, std = solution_of(solver, y, physics, samples, **run)
        if set(solution.status) == {"diverged"}:
            raise NumericalFailure(
                f"{job.source}: diverged within {solution.iterations} iterations, expected finite numbers"
                f"{_smaller_step(solver)}"
            )
        return assemble(job.about() | {"strength": strength}, measurement, solver, solution, std, samples)


def _smaller_step(solver: Solver) -> str:
    return "; a smaller --solver.step_size may help" if hasattr(solver, "step_size") else ""


def check_scale(source: Path, y: torch.Tensor) -> None:
    """Refuse data whose squares leave the numbers of their precision.

    :raises InputError: naming the file.
    """
    size = norms(y)
    if not bool(torch.isfinite(size).all()) or bool(((size == 0) & (y != 0).flatten(1).any(1)).any()):
        found, kind = float(y.abs().max()), str(y.dtype).removeprefix("torch.")
        raise InputError(
            f"{source}: found data up to {found:g}, whose squares {kind} cannot hold, expected other units"
        )


def solution_of(
    solver: Solver, y: torch.Tensor, physics: Operator, samples: int, **run: Any
) -> tuple[Solution, torch.Tensor | None]:
    """The solution; of several samples their mean, whose history is the mean of theirs, and standard deviation."""
    if samples == 1 or not isinstance(solver, Sampler):
        return solver.solve(y, physics, **run), None
    drawn = solver.sample(y, physics, samples, **run)
    history = {name: values.unflatten(1, (len(y), samples)).mean(2) for name, values in drawn.history.items()}
    misfit = Problem(y, physics).relative_residual(drawn.mean)
    return Solution(drawn.mean, (solver.at_the_end,) * len(y), history, misfit, None, drawn.seconds), drawn.std


def refuse_unheard(solver: Solver, options: list[str]) -> None:
    """Refuse weights where a sampler or the prior itself goes by a noise level, and a prior where none is taken.

    :raises UsageError: naming the option.
    """
    for name in options:
        if isinstance(solver, Migration) and (name == "--strength" or name.split(".")[0] == "--prior"):
            raise UsageError(f"{name}: found for {type(solver).__name__}, expected none: it takes no prior")
    for name in ("--strength", "--prior.weight"):
        if name in options and isinstance(solver, Sampler):
            kind = type(solver).__name__
            raise UsageError(f"{name}: found for {kind}, expected none: a sampler weighs its prior by the noise level")
    fixed = [not getattr(prior, "weighted", True) for prior in solver.priors]
    if "--strength" in options and fixed and all(fixed):
        names = ", ".join(type(prior).__name__ for prior in solver.priors)
        raise UsageError(f"--strength: found for {names}, expected none: no weight makes it stronger")


def refuse_beside_replay(argv: list[str], files: list[str]) -> None:
    """Refuse settings and files where a run is to be repeated as it was.

    :raises UsageError: naming the first.
    """
    given = [word.split("=")[0] for word in argv if word.startswith("--")]
    others = [name for name in given if name not in REPLAYING] or files
    if others:
        raise UsageError(f"{others[0]}: found beside --replay, expected no more than {', '.join(REPLAYING[1:])}")


def replay(parser: ArgumentParser, config: Namespace, reporter: Reporter) -> int:
    """Repeat the run of a result and compare the images bit for bit."""
    path = Path(config.replay)
    old = load_result(path)
    if "solver" not in old.record.get("config", {}):
        raise InputError(f"{path}: its record has no solver, expected a result of 'resolvent reconstruct'")
    try:
        settings, source, threads = old.record["config"], Path(old.record["input"]["path"]), old.record["threads"]
        digest, device = old.record["input"]["sha256"], old.record["device"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: its record has no {error}, expected a result of 'resolvent reconstruct'") from error
    refuse_strangers(path, settings, config.trust)
    for file, made_with in {source: digest, **old.record.get("files", {})}.items():
        if (found := digest_of(Path(file))) != made_with:
            raise InputError(f"{file}: SHA-256 is {found[:12]}…, expected {made_with[:12]}… as when {path} was made")
    if config.out is not None:
        check_copy(Path(config.out), [path, source, *files_of(settings)])
    torch.set_num_threads(threads)
    job = Job(source, path, settings, device, digest)
    new = solve(parser, job, load_measurement(source), reporter, None)
    if config.out is not None:
        save_result(config.out, new)
    same = torch.equal(new.image, old.image)
    distance = float(
        torch.linalg.vector_norm(new.image - old.image) / torch.linalg.vector_norm(old.image).clamp_min(TINY)
    )
    reporter.say("replayed", file=str(path), identical=same, relative_difference=distance)
    if not same:
        raise NumericalFailure(
            f"{path}: replay differs by {distance:.2e} relative, expected the same image bit for bit"
        )
    return 0


def check_copy(out: Path, read: list[str | Path]) -> None:
    """Refuse a place for a replayed result that is read, or taken.

    :raises UsageError: or :class:`InputError`, naming it.
    """
    if out.suffix not in SUFFIXES:
        raise UsageError(f"--out: found {out}, expected a .h5 file beside --replay")
    keep_apart(out, read)
    if out.exists():
        raise InputError(f"{out}: exists, expected another --out")
