"""Bilevel least squares with a known solution: how good the certificate is, and where adaptive accuracy pays.

f is in closed form. Counted are gradients of the lower level and products with its Hessian until f - f* <= 5e-3 of a
problem of 80 x 4, the step 0.01 at first; means of omega over the true error are geometric.

    python benchmarks/bilevel_quadratic.py [--conditions 2 5 10 20] [--budget 200000] [--out FILE.md]
"""

import argparse
from pathlib import Path

import torch
from _quadratic import Quadratic

from resolvent.recon.bilevel import MAID, AcceleratedMAID, FixedAccuracy, hypergradient

GAP = 5e-3
METHODS = {
    "fixed 1e-4": FixedAccuracy(1e-4, step_size=0.01),
    "MAID": MAID(step_size=0.01),
    "accelerated": AcceleratedMAID(step_size=0.01),
}


def looseness(cond: float) -> tuple[float, float]:
    """The median and the least of omega over the true error, of 9 accuracies and 4 problems."""
    ratios = []
    for seed in range(4):
        problem = Quadratic(cond=cond, seed=seed)
        exact = problem.gradient(problem.theta)
        for eps in (1e-1, 1e-3, 1e-5):
            x = problem.lower.solve(problem.theta, eps).x
            for delta in (1e-1, 1e-3, 1e-5):
                found = hypergradient(problem.upper, problem.theta, x, delta)
                ratios.append(float(found.bound / torch.linalg.vector_norm(found.value - exact)))
    return float(torch.tensor(ratios).median()), min(ratios)


def needed(method, problem: Quadratic, budget: float) -> int | None:
    """The cost at which f is within the gap."""
    close = lambda state: not problem.value(state.theta) - problem.best <= GAP  # noqa: E731
    found = method.minimise(problem.upper, problem.theta, max_steps=10**6, budget=budget, callback=close)
    return int(found.cost[-1]) if problem.value(found.theta) - problem.best <= GAP else None


def run(conditions: list[float], budget: float) -> str:
    """One row a condition number."""
    head = ["condition", *METHODS, "MAID / fixed", "accelerated / fixed", "omega / error, median", "least"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for cond in conditions:
        costs = [needed(method, Quadratic(cond=cond), budget) for method in METHODS.values()]
        shares = [f"{c / costs[0]:.2f}" if c and costs[0] else "-" for c in costs[1:]]
        shown = [str(c) if c else "never" for c in costs]
        row = [f"{cond:g}", *shown, *shares, *(f"{r:.3g}" for r in looseness(cond))]
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conditions", type=float, nargs="*", default=[2.0, 5.0, 10.0, 20.0])
    parser.add_argument("--budget", type=float, default=200_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    table = run(arguments.conditions, arguments.budget)
    print(table)
    if arguments.out:
        arguments.out.write_text(table + "\n")
