"""Bilevel least squares with a known solution: where adaptive accuracy pays, and how good the certificates are.

f is in closed form. Counted are gradients of the lower level, solved by gradient descent, until f - f* <= 5e-3 of
problems of 80 x 4 whose A_3 has the range of A_2; the step 0.01 at first; sums over the seeds. Products with the
Hessian are given beside them. Certificates are of accelerated gradient descent, on problems with ranges of their own:
omega by the theorem and looked at more closely, over the true error, of 9 pairs of accuracies and each seed.

    python benchmarks/bilevel_quadratic.py [--conditions 2 5 10 20 30] [--seeds 3] [--out FILE.md]
"""

import torch
from _quadratic import Descended, Quadratic
from _timing import main, shown, table

from resolvent.recon.bilevel import MAID, AcceleratedMAID, FixedAccuracy, Hypergradient, hypergradient, sharpened

GAP = 5e-3
#: Gradients of one solve, which no method is to run out of.
PLENTY = 10**8


def methods() -> dict:
    """Name to method, in the order of the columns."""
    limits = {"step_size": 0.01, "max_trial_gradients": PLENTY}
    found = {
        "fixed 1e-4": FixedAccuracy(1e-4, **limits),
        "MAID": MAID(**limits),
        "accelerated": AcceleratedMAID(**limits),
    }
    for method in found.values():
        method.max_lower = PLENTY
    return found


def needed(method, cond: float, seeds: int) -> tuple[int, int] | None:
    """Gradients and products at which f is within the gap, summed over the seeds; None if a run does not arrive."""
    total = torch.zeros(2, dtype=torch.long)
    for seed in range(seeds):
        problem = Quadratic(cond=cond, seed=seed, lower=Descended, aligned=True)
        close = lambda state, p=problem: not p.value(state.theta) - p.best <= GAP  # noqa: E731
        found = method.minimise(problem.upper, problem.theta, max_steps=3000, callback=close)
        if not problem.value(found.theta) - problem.best <= GAP:
            return None
        total += torch.stack([found.history["gradients"][-1], found.history["products"][-1]])
    return int(total[0]), int(total[1])


def looseness(cond: float, seeds: int) -> list[float]:
    """Median and least of omega over the true error, then of the closer look."""
    plain, closer = [], []
    for seed in range(seeds):
        problem = Quadratic(cond=cond, seed=seed)
        exact = problem.gradient(problem.theta)
        for eps in (1e-1, 1e-3, 1e-5):
            x = problem.lower.solve(problem.theta, eps).x
            for delta in (1e-1, 1e-3, 1e-5):
                found = hypergradient(problem.upper, problem.theta, x, delta)
                plain.append(over(found, exact))
                closer.append(over(sharpened(problem.upper, problem.theta, x, found), exact))
    return [float(f(torch.tensor(r))) for r in (plain, closer) for f in (torch.median, torch.amin)]


def over(found: Hypergradient, exact: torch.Tensor) -> float:
    """The bound over the true error."""
    return float(found.bound / torch.linalg.vector_norm(found.value - exact))


def row(cond: float, seeds: int) -> list[str]:
    """Of a condition number."""
    costs = [needed(method, cond, seeds) for method in methods().values()]
    shares = [f"{c[0] / costs[0][0]:.2f}" if c and costs[0] else "-" for c in costs[1:]]
    arrived = [f"{c[0]} ({c[1]})" if c else "never" for c in costs]
    return [f"{cond:g}", *arrived, *shares, *(f"{r:.3g}" for r in looseness(cond, seeds))]


def report(conditions: list[float], seeds: int) -> str:
    """One row a condition number."""
    head = ["condition", *(f"{name}: gradients (products)" for name in methods()), "MAID / fixed",
            "accelerated / fixed", "omega / error, median", "least", "closer look, median", "least"]  # fmt: skip
    return table(head, shown(row(cond, seeds) for cond in conditions))


if __name__ == "__main__":
    main(report, threads=1, conditions=[2.0, 5.0, 10.0, 20.0, 30.0], seeds=3)
