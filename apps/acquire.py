"""``resolvent acquire FILE --out PATH``: choose what to measure next; a fully sampled file stands for the scan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Generator, Tensor

from .. import priors, recon  # noqa: F401  (their classes are named on the command line)
from ..datasets import FileCheckpoint, InputError, Measurement, Result, load_measurement, save_result
from ..datasets.result import finite
from ..operators import Operator, Restricted
from ..priors import Diffusion
from ..recon import Acquisition, ActiveSampling, Problem, Sampler, Score, Solution
from ..recon.orders import Order
from .arguments import instantiate, keep_apart, new_parser, parse, plain
from .cli import UsageError
from .device import choose_device
from .fingerprint import digest_of
from .job import Job, check_writable, finished, unfinished, write_page
from .method import in_precision_of, refusals
from .progress import Reporter
from .record import assemble, axes_of

#: What of the command line determines the images; kept in the result and hashed into its fingerprint.
SETTINGS = (
    "prior", "sampler", "score", "groups", "budget", "particles", "window", "first", "first_count", "index", "seed",
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = build_parser()
    config = parse(parser, argv)
    check(config)
    settings = {k: v for k, v in plain(parser, config).items() if k in SETTINGS}
    made, source = instantiate(parser, config), Path(config.file)
    with refusals():
        made.sampler(made.prior)
    keep_apart(config.out, [source])
    job = Job(source, Path(config.out), settings, choose_device(config.device), digest_of(source))
    reporter = Reporter(as_json=config.json)
    if finished(job, config.overwrite):
        reporter.say("skipped", file=str(source), out=str(job.target), reason="finished")
        return 0
    measurement = fully_sampled(source, config)
    check_writable(job.target, config.report)
    with unfinished(job, config.checkpoint_every, reporter) as checkpoint:
        result = acquire(job, measurement, made, reporter, checkpoint)
        save_result(job.target, result)
    reporter.done(source, job.target, write_page(job, result) if config.report else None, result)
    return 0


def build_parser() -> ArgumentParser:
    """The verb's parser."""
    parser = new_parser("acquire", "Simulate a scan that chooses what to measure; write the image and the order.")
    add = parser.add_argument
    add("file", help="measurement file with all the data that the scan could take")
    add("--config", action="config", help="YAML with any of these options; may be given several times, later wins")
    add("--out", type=str | None, help="result file (.h5); its report is beside it")
    add("--prior", type=Diffusion | None, help="diffusion prior: --prior DenoiserDiffusion --prior.denoiser WEIGHTS")
    add("--sampler", type=Callable[[Diffusion], Sampler] | None, help="sampler class and its arguments")
    add("--score", type=Score | None, help="what a measurement is worth: --score PairwiseEntropy --score.std 1")
    add(
        "--groups", type=str | None, help="what is measured at once, such as columns; the operator's first if not given"
    )
    add("--budget", type=int | None, help="groups to measure; a quarter of them if not given")
    add("--particles", type=int, default=16, help="images drawn at once, whose predictions are compared")
    add("--window", type=tuple[float, float], default=(0.0, 0.8), help="shares of the steps between which to measure")
    add(
        "--first",
        type=list[int] | Order | None,
        help="groups to begin with, or a fixed order such as resolvent.recon.centre_first",
    )
    add(
        "--first_count", type=int | None, help="how many groups of a fixed order to begin with; the budget if not given"
    )
    add("--index", type=int, default=0, help="which of the file's images")
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
    add("--seed", type=int, default=0, help="seed of the particles and of a random order")
    add("--report", type=bool, default=True, help="write an HTML report beside the result")
    add("--overwrite", type=bool, default=False, help="replace a result made with other settings")
    add("--checkpoint_every", type=float, default=10.0, help="seconds between saves of an unfinished run")
    add("--json", type=bool, default=False, help="machine-readable lines on standard output")
    return parser


def check(config: Namespace) -> None:
    """Refuse a command line without what every acquisition needs.

    :raises UsageError: naming the option.
    """
    expected = {
        "out": "a .h5 file", "prior": "a diffusion prior such as DenoiserDiffusion",
        "sampler": "a sampler such as PiGDM", "score": "a score such as PairwiseEntropy",
    }  # fmt: skip
    for name, what in expected.items():
        if config[name] is None:
            raise UsageError(f"--{name}: found none, expected {what}")
    if config.first_count is not None and (config.first is None or isinstance(config.first, list)):
        raise UsageError(f"--first_count: found {config.first_count}, expected with a fixed order as --first")
    if Path(config.out).suffix not in (".h5", ".hdf5"):
        raise UsageError(f"--out: found {config.out!r}, expected a .h5 file")


def fully_sampled(path: Path, config: Namespace) -> Measurement:
    """One image's data of a file, all of which were measured.

    :raises InputError: if some were not.
    """
    m = load_measurement(path)
    if not 0 <= config.index < len(m.y):
        raise UsageError(f"--index: found {config.index}, expected from 0 to {len(m.y) - 1}, the images of {path}")
    physics = m.physics.of_images(torch.tensor([config.index]), len(m.y))
    missing = float((next(iter(physics.groups().values())) < 0).double().mean())
    if missing:
        raise InputError(f"{path}: found {1 - missing:.0%} of the data measured, expected all: a fully sampled file")
    one = slice(config.index, config.index + 1)
    return replace(m, y=m.y[one], physics=physics, truth=None if m.truth is None else m.truth[one])


def chosen_groups(physics: Operator, name: str | None) -> tuple[str, Tensor]:
    """The operator's groups of that name, the first ones if None.

    :raises UsageError: if it has none.
    """
    known = physics.groups()
    name = next(iter(known)) if name is None else name
    if name not in known:
        raise UsageError(f"--groups: found {name!r}, expected one of {', '.join(known)} of {type(physics).__name__}")
    return name, known[name]


def acquire(job: Job, m: Measurement, made: Namespace, reporter: Reporter, checkpoint: FileCheckpoint) -> Result:
    """The acquisition of a file whose data stand for the scan, and its record."""
    name, groups = chosen_groups(m.physics, made.groups)
    numbers = groups.unique().tolist()
    budget = max(1, len(numbers) // 4) if made.budget is None else made.budget
    y, physics = m.y.to(job.device), m.physics.to(job.device)
    y = y.to(torch.promote_types(y.dtype, torch.float32))
    sampler = made.sampler(in_precision_of(made.prior, y))
    generator = Generator().manual_seed(made.seed)
    with torch.no_grad(), refusals(), reporter.acquisition(job.source, sampler.max_iter) as callback:
        active = ActiveSampling(sampler, groups.to(job.device), budget, made.score, made.particles, made.window)
        first = first_groups(made, numbers, budget, generator)
        like = physics.A_adjoint(y)
        found = active.acquire(lambda mask: mask * y, physics, like, first, generator, callback, checkpoint)
        return recorded(job, m, sampler, found, name)


def first_groups(made: Namespace, numbers: list[int], budget: int, generator: Generator) -> list[int]:
    """The groups that are measured before any image is thought of."""
    order: Order | list[int] | None = made.first
    if order is None or isinstance(order, list):
        return order or []
    count = budget if made.first_count is None else made.first_count
    try:
        places = order(len(numbers), count, generator)
    except TypeError as error:
        raise UsageError(
            f"--first: found {getattr(order, '__name__', order)} ({error}), expected an order such as centre_first"
        ) from error
    return [numbers[place] for place in places]


def recorded(job: Job, m: Measurement, sampler: Sampler, found: Acquisition, groups: str) -> Result:
    """The result: measured against the data taken, shown on the operator's own axes."""
    taken = Restricted(m.physics.cpu(), found.mask.cpu())
    seen = replace(m, y=found.y.cpu(), physics=taken)
    mean = found.mean[None].cpu()
    misfit = Problem(seen.y, taken).relative_residual(mean)
    solution = Solution(mean, (sampler.at_the_end,), history_of(found), misfit, None, found.seconds)
    result = assemble(job.about(), seen, sampler, solution, found.std[None], len(found.samples))
    about = {
        "operator": type(m.physics).__name__, "iterations": sampler.max_iter, "groups": groups,
        "order": list(found.order), "choices": [finite(choice._asdict()) for choice in found.choices],
    }  # fmt: skip
    about["warnings"] = result.record["warnings"] + blind(found)
    return replace(result, record=result.record | about, axes=axes_of(m.physics), mask=found.mask.cpu())


def blind(found: Acquisition) -> list[str]:
    """A caution where the score could not tell groups apart."""
    tied, scored = sum(c.ties > 1 for c in found.choices), sum(c.ties > 0 for c in found.choices)
    if not tied:
        return []
    return [f"{tied} of {scored} choices were between groups of equal score: a larger --score.std tells them apart"]


def history_of(found: Acquisition) -> dict[str, Tensor]:
    """Score and spread of the measurements that were chosen."""
    chosen = [choice for choice in found.choices if math.isfinite(choice.score)]
    columns = {name: [[getattr(choice, name)] for choice in chosen] for name in ("score", "spread")}
    return {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items() if column}
