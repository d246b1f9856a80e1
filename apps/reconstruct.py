"""``resolvent reconstruct FILE… --out PATH``: measurement files in, images and reports out."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from .. import operators, priors, recon  # noqa: F401  (their classes are named on the command line)
from ..datasets import FileCheckpoint, InputError, Measurement, Result, load_measurement, load_result, save_result
from ..datasets.hdf5 import sha256
from ..operators import Operator, Scaled
from ..priors import Prior
from ..recon import (
    Migration,
    Problem,
    Solution,
    Solver,
    data_residual,
    magnitude_psnr,
    magnitude_ssim,
    objective,
)
from ..recon.metrics import nmse
from .arguments import instantiate, new_parser, parse
from .cli import NumericalFailure, UsageError
from .progress import Reporter

RECORDS = {"objective": objective, "data_residual": data_residual}
#: What of the command line determines an image; kept in the result and hashed into its fingerprint.
SETTINGS = ("prior", "solver", "strength", "seed", "record")


@dataclass(frozen=True)
class Job:
    """One file to reconstruct and where its result goes."""

    source: Path
    target: Path
    settings: dict[str, Any]
    device: str
    digest: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        """What the image depends on: input bytes, settings and version."""
        parts = json.dumps([self.digest, self.settings, version("resolvent")], sort_keys=True)
        return hashlib.sha256(parts.encode()).hexdigest()


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = build_parser(preset_for(argv))
    config = parse(parser, argv)
    reporter = Reporter(as_json=config.json, verb="reconstruct")
    if config.replay is not None:
        return replay(parser, config, reporter)
    if not config.files:
        raise UsageError("files: found none, expected at least one measurement file")
    if config.out is None:
        raise UsageError("--out: found none, expected a folder, or a .h5 file for a single input")
    for job in plan(parser, config):
        reconstruct(parser, job, reporter, overwrite=config.overwrite, report=config.report)
    return 0


def build_parser(preset: dict[str, Any]) -> ArgumentParser:
    """The verb's parser; ``preset`` holds the modality's defaults."""
    parser = new_parser("reconstruct", "Reconstruct images from measurement files; write results and reports.")
    add = parser.add_argument
    add("files", nargs="*", help="measurement files")
    add("--config", action="config", help="YAML with any of these options; may be given several times, later wins")
    add("--out", type=str | None, help="folder for the results, or one .h5 file for a single input")
    add("--prior", type=Prior | None, help="prior class and its arguments, such as --prior L1 --prior.weight 2")
    add("--solver", type=Callable[[Prior], Solver] | None, help="solver class and its arguments")
    add("--strength", type=float | Literal["universal"], default="universal",
        help="multiplies the prior's weight: 'universal' (from the noise) or a fraction of what would leave nothing")  # fmt: skip
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
    add("--seed", type=int, default=0, help="seed of whatever is random in the method")
    add("--record", type=list[Literal["objective", "data_residual"]], default=[], help="measures for the history")
    add("--report", type=bool, default=True, help="write an HTML report beside each result")
    add("--overwrite", type=bool, default=False, help="replace results made with other settings")
    add("--replay", type=str | None, help="repeat the run of a result file and compare bit for bit")
    add("--json", action="store_true", help="machine-readable lines on standard output")
    parser.set_defaults(preset)
    return parser


def preset_for(argv: list[str]) -> dict[str, Any]:
    """The defaults of the modality of the first measurement file, less what the command line chooses itself.

    A solver chosen by name thus has its own defaults, not those meant for another one.
    """
    for argument in argv:
        with contextlib.suppress(InputError, KeyError):
            if not argument.startswith("-") and Path(argument).is_file():
                preset = yaml.safe_load(preset_path(modality(Path(argument))).read_text())
                return {k: v for k, v in preset.items() if k not in chosen_keys(argv)}
    return {}


def chosen_keys(argv: list[str]) -> set[str]:
    """Top-level keys given whole on the command line or in the configuration files that it names."""
    words = [word for argument in argv for word in argument.split("=", 1)]
    keys = {word.removeprefix("--") for word in words if word.startswith("--")}
    for name in (value for option, value in itertools.pairwise(words) if option == "--config"):
        with contextlib.suppress(OSError, yaml.YAMLError):
            keys |= set(yaml.safe_load(Path(name).read_text()) or {})
    return keys


def modality(path: Path) -> str:
    """Name of the operator in a measurement file."""
    from ..datasets.hdf5 import reading, text

    with reading(path) as file:
        group = file["physics"]
        while text(group.attrs["operator"]) == "Scaled":
            group = group["physics"]
        return text(group.attrs["operator"])


def preset_path(operator: str) -> Path:
    """The YAML of an operator's default reconstruction; the general one where it has none."""
    folder = Path(str(files(__package__) / "presets"))
    snake = "".join("_" + c.lower() if c.isupper() and (i and not operator[i - 1].isupper()) else c.lower()
                    for i, c in enumerate(operator))  # fmt: skip
    own = folder / f"{snake}.yaml"
    return own if own.exists() else folder / "default.yaml"


def plan(parser: ArgumentParser, config: Namespace) -> list[Job]:
    """This process's share of the jobs; files are dealt out under torchrun."""
    settings, device = settings_of(parser, config), choose_device(config.device)
    out, sources = Path(config.out), [Path(f) for f in config.files]
    single = out.suffix in (".h5", ".hdf5")
    if single and len(sources) > 1:
        raise UsageError(f"--out: found the file {out} for {len(sources)} inputs, expected a folder")
    targets = [out if single else out / f"{s.stem}.h5" for s in sources]
    if len(set(targets)) < len(targets):
        raise UsageError("files: two inputs have the same name, expected different names in one --out folder")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    jobs = [Job(s, t, settings, device) for s, t in zip(sources, targets, strict=True)]
    return jobs[rank::world]


def settings_of(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """The part of the configuration that determines the image, as plain values."""
    text = parser.dump(config, format="json")
    return {k: v for k, v in json.loads(text).items() if k in SETTINGS}


def choose_device(name: str) -> str:
    """``auto`` is the first accelerator, else the processor."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device: found {name!r}, expected a device of this machine") from error
    return name


def reconstruct(parser: ArgumentParser, job: Job, reporter: Reporter, overwrite: bool, report: bool) -> None:
    """One file, unless its result is there already."""
    job = Job(job.source, job.target, job.settings, job.device, _digest(job.source))
    if _finished(job, overwrite):
        reporter.say("skipped", file=str(job.source), out=str(job.target), reason="finished")
        return
    _check_writable(job.target)
    measurement = load_measurement(job.source)
    checkpoint = FileCheckpoint(job.target.with_name(f".{job.target.name}.checkpoint"), job.fingerprint)
    try:
        result = solve(parser, job, measurement, reporter, checkpoint)
    except NumericalFailure:
        checkpoint.clear()
        raise
    save_result(job.target, result)
    checkpoint.clear()
    page = _write_report(job, result) if report else None
    reporter.done(job.source, job.target, page, result)


def solve(
    parser: ArgumentParser, job: Job, measurement: Measurement, reporter: Reporter, checkpoint: FileCheckpoint | None
) -> Result:
    """Build the solver a job describes, run it, and put the record together."""
    if checkpoint is not None and checkpoint.path.exists():
        reporter.say("resuming", file=str(job.source), checkpoint=str(checkpoint.path))
    torch.manual_seed(job.settings["seed"])
    y, physics = measurement.y.to(job.device), measurement.physics.to(job.device)
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    with torch.no_grad():
        solver, strength = build_solver(parser, job.settings, physics, y, measurement.noise_std)
        record = {name: RECORDS[name] for name in job.settings["record"]}
        with reporter.progress(job.source, solver.max_iter) as callback:
            solution = solver.solve(y, physics, record=record, callback=callback, checkpoint=checkpoint)
        if "diverged" in solution.status:
            raise NumericalFailure(
                f"{job.source}: image {solution.status.index('diverged')} diverged in iteration "
                f"{solution.iterations}, expected finite numbers; a smaller --solver.step_size may help"
            )
        return assemble(job, measurement, solver, solution, strength)


def build_solver(
    parser: ArgumentParser, settings: dict[str, Any], physics: Operator, y: torch.Tensor, noise_std: float | None
) -> tuple[Solver, float | None]:
    """The solver with its prior at the right strength; the strength's largest value is returned too."""
    chosen = instantiate(parser, parser.parse_object({"files": [], **settings}))
    if chosen.solver is None:
        raise UsageError("--solver: found none, and this modality has no default; expected a solver")
    try:
        solver = chosen.solver(chosen.prior)
        if not len(solver.priors):
            return solver, None
        strength = prior_strength(chosen.strength, solver, Problem(y, physics), noise_std)
        return chosen.solver(chosen.prior.scaled(strength)), float(torch.as_tensor(strength).max())
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from error


def prior_strength(
    strength: float | str, solver: Solver, problem: Problem, noise_std: float | None
) -> float | torch.Tensor:
    """What multiplies the prior's weight: a fraction of the solver's unit, or the noise's own threshold."""
    if strength == "universal":
        threshold = solver.universal_weight(problem, noise_std)
        seen = threshold[threshold > 0]
        return float(threshold.max()) if len(seen) and bool((seen == seen[0]).all()) else threshold
    if float(strength) < 0:
        raise UsageError(f"--strength: found {strength}, expected 'universal' or a number not below 0")
    return float(strength) * solver.weight_unit(problem)


def assemble(job: Job, m: Measurement, solver: Solver, solution: Solution, strength: float | None) -> Result:
    """Image, history and record of a finished run."""
    image = solution.image.cpu()
    truth = m.truth.to(image.dtype) if m.truth is not None else None
    record = {
        "input": {"path": str(job.source), "sha256": job.digest}, "operator": type(m.physics).__name__,
        "config": job.settings, "version": version("resolvent"), "torch": torch.__version__,
        "seed": job.settings["seed"], "threads": torch.get_num_threads(), "device": job.device,
        "solver": type(solver).__name__, "status": list(solution.status), "iterations": solution.iterations,
        "certificate": solution.certificate.tolist(), "strength": strength, "noise_std": m.noise_std,
        "x_update": getattr(m.physics, "x_update", None), "seconds": solution.seconds,
        "metrics": measures(solver, image, truth, m), "warnings": cautions(solver, solution, m), "fingerprint": job.fingerprint,
        "meta": dict(m.meta),
    }  # fmt: skip
    return Result(image, solution.history, record, truth, axes_of(m.physics))


def measures(solver: Solver, image: torch.Tensor, truth: torch.Tensor | None, m: Measurement) -> dict[str, Any]:
    """Residual, peak, and against the truth PSNR, SSIM and NMSE; lists with one number per image."""
    y = m.y.to(torch.promote_types(m.y.dtype, torch.float32))
    residual = torch.linalg.vector_norm((m.physics.cpu().A(image) - y).flatten(1), dim=1)
    found: dict[str, Any] = {}
    if not isinstance(solver, Migration):
        found["relative_residual"] = (residual / torch.linalg.vector_norm(y.flatten(1), dim=1)).tolist()
    found["peak"] = image.abs().flatten(1).amax(1).tolist()
    if truth is not None:
        found |= {"psnr": magnitude_psnr(image, truth).tolist(), "ssim": magnitude_ssim(image, truth).tolist()}
        found["nmse"] = nmse(image, truth).tolist()
    return found


def cautions(solver: Solver, solution: Solution, m: Measurement) -> list[str]:
    """What a reader of the result should know."""
    notes = []
    stopped = sum(s == "max_iter" for s in solution.status)
    if stopped and not isinstance(solver, Migration):
        notes.append(
            f"{stopped} of {len(solution.status)} images stopped at max_iter = {solver.max_iter}, not converged"
        )
    if not bool(solution.image.abs().sum() > 0):
        notes.append("the image is zero everywhere: the prior is stronger than the data")
    if m.noise_std is None:
        notes.append("the file states no noise level; strength was estimated from the data")
    return notes


def axes_of(physics: Operator) -> dict[str, torch.Tensor]:
    """Voxel coordinates of an operator that has them."""
    inner = physics.physics if isinstance(physics, Scaled) else physics
    grid = inner.geometry()
    return {name: grid[name].cpu() for name in ("x", "y", "z") if isinstance(grid.get(name), torch.Tensor)}


def replay(parser: ArgumentParser, config: Namespace, reporter: Reporter) -> int:
    """Repeat the run of a result and compare the images bit for bit."""
    path = Path(config.replay)
    old = load_result(path)
    try:
        settings, source, threads = old.record["config"], Path(old.record["input"]["path"]), old.record["threads"]
        digest, device = old.record["input"]["sha256"], old.record["device"]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: its record has no {error}, expected a result of 'resolvent reconstruct'") from error
    found = _digest(source)
    if found != digest:
        raise InputError(f"{source}: SHA-256 is {found[:12]}…, expected {digest[:12]}… as when {path} was made")
    torch.set_num_threads(threads)
    job = Job(source, path, settings, device, digest)
    new = solve(parser, job, load_measurement(source), reporter, None)
    if config.out is not None:
        save_result(config.out, new)
    same = torch.equal(new.image, old.image)
    distance = float(
        torch.linalg.vector_norm(new.image - old.image) / torch.linalg.vector_norm(old.image).clamp_min(1e-30)
    )
    reporter.say("replayed", file=str(path), identical=same, relative_difference=distance)
    if not same:
        raise NumericalFailure(
            f"{path}: replay differs by {distance:.2e} relative, expected the same image bit for bit"
        )
    return 0


def _digest(source: Path) -> str:
    try:
        return sha256(source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}), expected a measurement file") from error


def _finished(job: Job, overwrite: bool) -> bool:
    """Whether the job's result exists; one made otherwise is not touched unless asked."""
    if not job.target.exists() or overwrite:
        return False
    with contextlib.suppress(InputError):
        if load_result(job.target).record.get("fingerprint") == job.fingerprint:
            return True
    raise InputError(
        f"{job.target}: exists, made with other settings or input; expected another --out, or --overwrite true"
    )


def _check_writable(target: Path) -> None:
    from ..operators.files import atomic

    probe = target.with_name(f".{target.name}.probe")
    try:
        with atomic(probe):
            pass
        probe.unlink()
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}), expected a writable place") from error


def _write_report(job: Job, result: Result) -> Path:
    from .report import write_report

    page = job.target.with_suffix(".html")
    write_report([result], [job.source.stem], page)
    return page
