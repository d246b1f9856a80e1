"""Weight and smoothing of total variation, learned on four photographs: what each method costs, from where it begins.

The first four images of Set12, each resized whole to 48 x 48, noise 0.1; theta from (-5, -5). Counted are gradients of
the lower level and products with its Hessian until f, accurately computed, is within 1% and 0.1% of its minimum by
L-BFGS-B on accurate hypergradients. The formulas are those of ``_smoothed_tv.py``.

    python benchmarks/bilevel_tv.py [--budget 9000] [--data FOLDER] [--out FILE.md]
"""

import argparse
from pathlib import Path

from _smoothed_tv import START, Denoising, photographs

from resolvent.recon.bilevel import HOAG, MAID, AcceleratedMAID, FixedAccuracy, Learned, polynomial

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "natural" / "set12"
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


def shown(costs: list[int | None]) -> str:
    """How many of several runs arrived, and at what cost."""
    there = [c for c in costs if c is not None]
    if len(costs) == 1:
        return str(there[0]) if there else "never"
    return f"{len(there)}/{len(costs)}: {min(there)}-{max(there)}" if there else f"0/{len(costs)}"


def run(data: Path, budget: float) -> str:
    """One row a method."""
    problem = Denoising(photographs(data))
    theta, best = problem.optimum()
    place = ", ".join(f"{t:.3f}" for t in theta.tolist())
    lines = [
        f"f* = {best:.5f} = {problem.psnr(best):.3f} dB at ({place}); "
        f"at the start {problem.psnr(problem.value(START)):.2f} dB.",
        "", "| method | to 1% | to 0.1% | last f, dB |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, methods in METHODS.items():
        runs = [m.minimise(problem.upper, START, budget=budget, callback=_until(best)) for m in methods]
        cells = [shown([reached(problem, found, (1 + t) * best) for found in runs]) for t in TOLERANCES]
        last = min(problem.psnr(problem.value(found.theta, 1e-6)) for found in runs)
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {last:.3f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def _until(best: float):
    """Ends a run a little below the finest tolerance."""
    return lambda state: float(state.high) > (1 + 0.8 * TOLERANCES[-1]) * best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=9000)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = run(arguments.data, arguments.budget)
    print(table)
    if arguments.out:
        arguments.out.write_text(table + "\n")
