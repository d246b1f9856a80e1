"""Weight and smoothing of total variation, learned on four photographs: what each method costs, from where it begins.

The first four images of Set12, and then every four of BSD68 in the order of their names, each image resized whole to
48 x 48, noise 0.1; theta from (-5, -5). Counted are gradients of the lower level and products with its Hessian until f,
accurately computed, is within 1% and 0.1% of its minimum by L-BFGS-B on accurate hypergradients. The formulas are those
of ``_smoothed_tv.py``.

    python benchmarks/bilevel_tv.py [--budget 9000] [--fours 17] [--data FOLDER] [--out FILE.md]
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from _photographs import DATA
from _smoothed_tv import START, Denoising, photographs
from _timing import main, shown, table
from torch import Tensor

from resolvent.recon.bilevel import HOAG, MAID, AcceleratedMAID, FixedAccuracy, Learned, polynomial

TOLERANCES = (0.01, 0.001)


def starts(kind: type[MAID]) -> list[MAID]:
    """Nine accuracies and steps to begin with."""
    return [kind(eps=e, delta=e, step_size=a, limit=12) for e in (10.0, 0.1, 1e-3) for a in (0.01, 1.0, 100.0)]


METHODS = {
    "MAID, 9 starts": starts(MAID),
    "accelerated MAID, 9 starts": starts(AcceleratedMAID),
    "fixed 1": [FixedAccuracy(1.0, step_size=1.0)],
    "fixed 0.1": [FixedAccuracy(0.1, step_size=1.0)],
    "fixed 1e-3": [FixedAccuracy(1e-3, step_size=1.0)],
    "fixed 1e-5": [FixedAccuracy(1e-5, step_size=1.0)],
    "HOAG, geometric": [HOAG()],
    "HOAG, quadratic": [HOAG(schedule=polynomial(2))],
    "HOAG, cubic": [HOAG(schedule=polynomial(3))],
}


def reached(problem: Denoising, found: Learned, target: float) -> int | None:
    """The cost at which accurately computed f first is no larger than ``target``."""
    for theta, low, cost in zip(found.history["theta"], found.history["low"], found.cost, strict=True):
        if low <= target and problem.value(theta, 1e-7) <= target:
            return int(cost)
    return None


def arrivals(costs: list[int | None]) -> str:
    """How many of several runs arrived, and at what cost."""
    there = [c for c in costs if c is not None]
    if len(costs) == 1:
        return str(there[0]) if there else "never"
    return f"{len(there)}/{len(costs)}: {min(there)}-{max(there)}" if there else f"0/{len(costs)}"


class Task(NamedTuple):
    """Four images, the best theta for them, and its f."""

    problem: Denoising
    theta: Tensor
    best: float


def task(folder: Path, first: int = 0) -> Task:
    """Of a folder's images, four from ``first``."""
    problem = Denoising(photographs(folder, first))
    return Task(problem, *problem.optimum())


def report(budget: float, fours: int, data: Path) -> str:
    """One row a method: on the four of Set12, then on those of BSD68."""
    alone, others = task(data / "set12"), [task(data / "bsd68_gray", 4 * i) for i in range(fours)]
    figures = table(("method", "to 1%", "to 0.1%", "last f, dB"), shown(rows([alone], budget)))
    if others:
        figures += "\n\n" + table(
            ("method, BSD68", "to 1%", "to 0.1%", "least of last f, dB"), shown(rows(others, budget))
        )
    place = ", ".join(f"{t:.3f}" for t in alone.theta.tolist())
    psnr = alone.problem.psnr
    begin = f"at the start {psnr(alone.problem.value(START)):.2f} dB."
    return f"f* = {alone.best:.5f} = {psnr(alone.best):.3f} dB at ({place}); {begin}\n\n{figures}"


def rows(tasks: list[Task], budget: float) -> Iterator[list[str]]:
    """What the runs of each method came to, of all tasks together."""
    for name, methods in METHODS.items():
        runs = [
            (t, m.minimise(t.problem.upper, START, budget=budget, callback=_until(t.best)))
            for t in tasks
            for m in methods
        ]
        cells = [
            arrivals([reached(t.problem, found, (1 + share) * t.best) for t, found in runs]) for share in TOLERANCES
        ]
        yield [name, *cells, f"{min(t.problem.psnr(t.problem.value(found.theta, 1e-6)) for t, found in runs):.3f}"]


def _until(best: float):
    """Ends a run a little below the finest tolerance."""
    return lambda state: float(state.high) > (1 + 0.8 * TOLERANCES[-1]) * best


if __name__ == "__main__":
    main(report, threads=1, budget=9000.0, fours=17, data=DATA / "natural")
