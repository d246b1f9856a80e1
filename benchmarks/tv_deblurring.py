"""TV deblurring of a 256 x 256 photograph: when resolvent and deepinv reach the same objective.

Both run ADMM on F(x) = 1/2 ||A x - y||^2 + lambda TV(x), A a circular 2-D Gaussian blur
(deepinv.physics.BlurFFT, closed-form data step), TV isotropic with zero difference across the last
row and column. deepinv: ADMM + TVPrior(n_it_max=20), the setting of its documentation. resolvent:
ADMM + TV(), 20 inner iterations by default as well, its dual handed from one outer iteration to the
next. F of every iterate is evaluated by one function of this file, outside the clock. deepinv's time
is that at which it is first within 1e-4 of the F it ends at; ours that at which F is no more than this.

The step size is tuned: deepinv's best of the list is the one with the lowest final F, ours the one that
reaches that F first; the last column compares at equal step. All else is as both libraries come, but
deepinv's dual starts at 0 and its evaluation of the cost is off, both in its favour.

    python benchmarks/tv_deblurring.py [--out FILE.md]
"""

import time

import deepinv
import skimage
import torch
from _timing import main, table
from deepinv.optim.data_fidelity import L2

from resolvent.priors import TV
from resolvent.recon import ADMM, RelativeChange

WEIGHT, SIGMA, STEPS, OURS, THEIRS, SHOWN = 0.01, 0.02, (1.0, 3.0, 10.0, 30.0), 150, 150, (1, 2, 5, 10, 20, 40, 80)


def problem() -> tuple[torch.Tensor, deepinv.physics.BlurFFT]:
    """A blurred, noisy photograph and the blur."""
    photo = torch.as_tensor(skimage.data.camera(), dtype=torch.float32)[None, None] / 255
    image = torch.nn.functional.avg_pool2d(photo, 2)
    physics = deepinv.physics.BlurFFT(
        img_size=(1, 256, 256), filter=deepinv.physics.functional.blur.gaussian_blur(sigma=(2.0, 2.0)), device="cpu"
    )
    y = physics.A(image)
    return y + SIGMA * torch.randn(y.shape, generator=torch.Generator().manual_seed(0)), physics


def objective(x: torch.Tensor, y: torch.Tensor, physics) -> float:
    """F in float64, the same for both."""
    v = x.double()
    rows = torch.nn.functional.pad(v[..., 1:, :] - v[..., :-1, :], (0, 0, 0, 1))
    columns = torch.nn.functional.pad(v[..., :, 1:] - v[..., :, :-1], (0, 1, 0, 0))
    fit = 0.5 * (physics.A(x) - y).double().square().sum()
    return float(fit + WEIGHT * (rows.square() + columns.square()).sqrt().sum())


class Watch:
    """Seconds of processor time since the start, with the time spent looking taken out."""

    def __init__(self):
        self.curve, self.away, self.began = [], 0.0, time.process_time()

    def look(self, score) -> None:
        """Note the time, then evaluate ``score()`` off the clock."""
        now = time.process_time()
        self.curve.append((now - self.began - self.away, score()))
        self.away += time.process_time() - now


def run_ours(y, physics, step: float) -> list[tuple[float, float]]:
    """F over time of resolvent's ADMM, scored through its callback."""
    solver = ADMM(TV(WEIGHT), step, max_iter=OURS, stop=RelativeChange(0.0))
    watch = Watch()
    solver.solve(y, physics, callback=lambda p: watch.look(lambda: objective(p.state.x, y, physics)))
    return watch.curve


def run_theirs(y, physics, step: float) -> list[tuple[float, float]]:
    """F over time of deepinv's ADMM: the iterates are seen as its prior's proximal step returns them.

    Its own evaluation of the cost, which nothing here reads, is switched off.
    """
    prior = deepinv.optim.TVPrior(n_it_max=20)
    solver = deepinv.optim.ADMM(
        data_fidelity=L2(), prior=prior, lambda_reg=WEIGHT, stepsize=step, max_iter=THEIRS, early_stop=False,
        custom_init=lambda y, p: {"est": (p.A_adjoint(y), torch.zeros_like(y))},
    )  # fmt: skip
    solver.has_cost = solver.fixed_point.iterator.has_cost = False
    shrink = prior.prox

    def watched(x, *args, **kwargs):
        z = shrink(x, *args, **kwargs)
        watch.look(lambda: objective(z, y, physics))
        return z

    prior.prox = watched
    watch = Watch()
    solver(y, physics)
    return watch.curve


def reached(curve, target: float) -> float:
    """The first time at which F is at most ``target``; infinity if never."""
    return next((t for t, f in curve if f <= target), float("inf"))


def settled(curve) -> tuple[float, float]:
    """The F within 1e-4 of the last, and when it was first reached."""
    target = curve[-1][1] * (1 + 1e-4)
    return target, reached(curve, target)


@torch.no_grad()
def report() -> str:
    """The race, and both curves."""
    y, physics = problem()
    run_ours(y, physics, 1.0)
    theirs = {step: run_theirs(y, physics, step) for step in STEPS}
    ours = {step: run_ours(y, physics, step) for step in STEPS}
    best = min(theirs, key=lambda s: theirs[s][-1][1])
    rows = []
    for label, step in [(f"best final F, step {best:g}", best), *((f"step {s:g}", s) for s in STEPS if s != best)]:
        target, seconds = settled(theirs[step])
        mine = {s: reached(curve, target) for s, curve in ours.items()}
        winner = min(mine, key=mine.get)
        rows.append([label, f"{target:.5f}", f"{seconds:.2f}", f"{mine[winner]:.2f}", f"{winner:g}",
                     f"{seconds / mine[winner]:.1f}", f"{seconds / mine[step]:.1f}"])  # fmt: skip
    head = ("deepinv", "F reached", "deepinv s", "resolvent s", "its step", "times sooner", "same step: times sooner")
    return f"{table(head, rows)}\n\n{curves(theirs, ours)}"


def curves(theirs, ours) -> str:
    """F(time) of both sides after some numbers of iterations, per step size."""
    rows = [
        [who, f"{step:g}", *(f"{curve[n - 1][1]:.4f} at {curve[n - 1][0]:.2f} s" for n in (*SHOWN, len(curve)))]
        for who, runs in (("deepinv", theirs), ("resolvent", ours))
        for step, curve in runs.items()
    ]
    return table(("F after iterations", "step", *map(str, SHOWN), "last"), rows)


if __name__ == "__main__":
    main(report, threads=1)
