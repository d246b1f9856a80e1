r"""Multinomial logistic regression with one weight decay per feature, learned on held-out examples.

.. math:: h = \tfrac1n \sum_i \ell(x^T a_i, c_i) + \tfrac12 \sum_j e^{\theta_j} \|x_j\|^2, \qquad
          g = \text{the mean of } \ell \text{ over held-out examples}.

Synthetic: 5 classes, 30 features of which 10 tell the classes apart, 200 examples to train, 500 held out, 2000 to test,
from one seed. Every method from theta = -3 with the same budget of gradients and products with the Hessian.

    python benchmarks/bilevel_logistic.py [--budget 5000] [--out FILE.md]
"""

import torch
from _timing import main, shown, table
from torch.nn.functional import cross_entropy

from resolvent.recon.bilevel import HOAG, MAID, AcceleratedMAID, Energy, FixedAccuracy, Measure, UpperLevel, polynomial

F64 = torch.float64
CLASSES, FEATURES, TELLING = 5, 30, 10


class Problem:
    """Examples of three splits and the two levels."""

    def __init__(self, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        centres = torch.zeros(CLASSES, FEATURES, dtype=F64)
        centres[:, :TELLING] = 0.7 * torch.randn(CLASSES, TELLING, generator=generator, dtype=F64)

        def draw(count):
            labels = torch.randint(CLASSES, (count,), generator=generator)
            return centres[labels] + torch.randn(count, FEATURES, generator=generator, dtype=F64), labels

        (a, c), held, self.test = draw(200), draw(500), draw(2000)
        self.held, bend = held, largest_eigenvalue(a)
        value = lambda x, theta: mean_loss(x, a, c) + (theta.exp() * x.square().sum((0, 2))).sum()[None] / 2  # noqa: E731
        start = torch.zeros(1, FEATURES, CLASSES, dtype=F64)
        lower = Energy(value, start, lambda t: t.exp().amin(), lambda t: bend + t.exp().amax())
        self.upper = UpperLevel(lower, Measure(lambda x: mean_loss(x, *held), largest_eigenvalue(held[0]), True))
        self.theta = torch.full((FEATURES,), -3.0, dtype=F64)

    def row(self, theta) -> list[str]:
        """Held-out loss, test loss and test accuracy at an accurate lower level."""
        x = self.upper.lower.solve(theta, 1e-5).x
        right = (self.test[0] @ x[0]).argmax(1) == self.test[1]
        losses = (mean_loss(x, *split) for split in (self.held, self.test))
        return [*(f"{float(loss):.4f}" for loss in losses), f"{100 * float(right.double().mean()):.1f}%"]


def mean_loss(x, a, c):
    """Mean cross entropy, shape ``(1,)``."""
    return cross_entropy(a @ x[0], c)[None]


def largest_eigenvalue(a) -> float:
    """A bound on the curvature of the mean cross entropy: half of that of the mean square."""
    return float(torch.linalg.matrix_norm(a, 2)) ** 2 / (2 * len(a))


METHODS = {
    "MAID": MAID(eps=0.1, step_size=1.0, limit=12),
    "accelerated MAID": AcceleratedMAID(eps=0.1, step_size=1.0, limit=12),
    "fixed 1e-1": FixedAccuracy(1e-1),
    "fixed 1e-3": FixedAccuracy(1e-3),
    "HOAG, geometric": HOAG(),
    "HOAG, quadratic": HOAG(schedule=polynomial(2)),
}


def report(budget: float) -> str:
    """One row a method."""
    problem = Problem()
    rows = [["start", "0", *problem.row(problem.theta)]]
    for name, method in METHODS.items():
        found = method.minimise(problem.upper, problem.theta, budget=budget)
        rows += shown([[name, str(int(found.cost[-1])), *problem.row(found.theta)]])
    return table(("method", "cost", "held-out loss", "test loss", "test accuracy"), rows)


if __name__ == "__main__":
    main(report, threads=1, budget=5000.0)
