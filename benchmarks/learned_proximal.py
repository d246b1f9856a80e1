"""A learned proximal network of the Laplacian density, against what proximal matching must find.

x ~ Laplace(0, 1), y = x + n, n ~ N(0, 1). The proximal operator of -log p is the soft threshold, its prior
|x|. At a finite gamma the loss's minimiser is the f that maximises E[exp(-(f - x)^2 / gamma^2) | y]: found
here by quadrature, stage after stage, so that no bias of gamma is taken for an error of training. The stage of
absolute differences has the posterior's median, which shows that it is the loss that finds the proximal operator.

The schedule is the published one (Fang, Buchanan and Sulam, ICLR 2024); --share runs a part of its steps.

    python benchmarks/learned_proximal.py [--share 1.0] [--seed 0] [--out FILE.md]
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from _timing import main, shown, table
from torch import Tensor

from resolvent.priors import (
    Batch,
    LearnedProximalNetwork,
    Network,
    PixelPotential,
    ProximalMatching,
    TrainingLoss,
    recover,
    train,
)
from resolvent.priors.training import Step

F64 = torch.float64
GRID = torch.linspace(-4, 4, 161, dtype=F64)
#: gamma (None: absolute differences), steps, rate of Adam.
SCHEDULE = (
    (None, 10_000, 1e-3), (None, 10_000, 1e-4), (0.5, 2000, 1e-3), (0.5, 2000, 1e-4), (0.4, 4000, 1e-4),
    (0.3, 4000, 1e-4), (0.2, 4000, 1e-5), (0.1, 4000, 1e-5), (0.1, 4000, 1e-6),
)  # fmt: skip
BATCH = 2000


def soft(y: Tensor) -> Tensor:
    """The proximal operator of |x|."""
    return y.sign() * (y.abs() - 1).clamp_min(0)


def posterior(y: Tensor, x: Tensor) -> Tensor:
    """The density of x given each y, on a grid of x, normalised."""
    weight = torch.exp(-x.abs() - (y[:, None] - x).square() / 2)
    return weight / weight.sum(1, keepdim=True)


def matching_oracle(y: Tensor, gamma: float) -> Tensor:
    """The minimiser of the loss among all functions, at each y."""
    x, f = torch.arange(-14, 14.001, 0.01, dtype=F64), torch.linspace(-4, 4, 2001, dtype=F64)
    gain = torch.exp(-((f[:, None] - x) / gamma).square())
    return f[(posterior(y, x) @ gain.T).argmax(1)]


def median_oracle(y: Tensor) -> Tensor:
    """The posterior's median at each y."""
    x = torch.linspace(-30, 30, 20_001, dtype=F64)
    return x[(posterior(y, x).cumsum(1) >= 0.5).double().argmax(1)]


class Stage(NamedTuple):
    """The steps before ``end`` that no earlier stage has."""

    end: int
    gamma: float | None
    rate: float


class Schedule(TrainingLoss):
    """The schedule with a share of its steps: the loss and the rate of each, and the data."""

    def __init__(self, share: float, gammas: Sequence[float | None]):
        rows = [row for row in SCHEDULE if row[0] in gammas]
        ends = itertools.accumulate(int(share * steps) for _, steps, _ in rows)
        self.stages = [Stage(end, gamma, rate) for end, (gamma, _, rate) in zip(ends, rows, strict=True)]
        self.steps = self.stages[-1].end

    def at(self, step: int) -> Stage:
        """The stage that a step lies in."""
        return next(stage for stage in self.stages if step < stage.end)

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        gamma, estimate = self.at(round(batch.progress * self.steps)).gamma, network(batch.noisy, batch.sigma)
        if gamma is None:
            return (estimate - batch.clean).abs().mean()
        return ProximalMatching(gamma)(estimate, batch.clean).mean()

    def batch(self, step: int) -> Batch:
        """Laplacian numbers as images of one pixel, and with noise."""
        x = torch.distributions.Laplace(0.0, 1.0).sample((BATCH, 1))
        return Batch(x, x + torch.randn_like(x), torch.ones(BATCH), step / self.steps)

    def last_of_its_gamma(self, done: int) -> bool:
        """Whether the last step of a gamma has been done."""
        return done == self.steps or self.at(done - 1).gamma != self.at(done).gamma

    def teach(self, network: LearnedProximalNetwork, seen: Callable[[float | None], None]) -> None:
        """Train in place; ``seen`` is called after each gamma's last step."""

        def after(step: Step) -> bool:
            if self.last_of_its_gamma(step.number):
                seen(self.at(step.number - 1).gamma)
            return False

        train(network, self.batch, self, self.steps, lambda k: self.at(k).rate, after=after)


def at(network: LearnedProximalNetwork, y: Tensor) -> Tensor:
    """f at numbers, in double precision."""
    return network(y.float()[:, None]).detach()[:, 0].double()


def prior_curve(network: LearnedProximalNetwork, x: Tensor) -> tuple[Tensor, float]:
    """R by inversion at numbers, less R(0), and the worst residual."""
    found = recover(network, torch.cat([x, torch.zeros(1, dtype=F64)]).float()[:, None])
    value = found.value.detach().double()
    return value[:-1] - value[-1], float(found.residual.max())


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.square().mean().sqrt())


def row(network: LearnedProximalNetwork, gamma: float | None) -> list[str]:
    """What a stage has come to."""
    y, x = GRID, torch.linspace(-3, 3, 121, dtype=F64)
    oracle = median_oracle(y) if gamma is None else matching_oracle(y, gamma)
    f, (curve, residual) = at(network, y), prior_curve(network, x)
    outer = x > 0.5
    centred = x[outer] - x[outer].mean()
    slope = float((centred * curve[outer]).sum() / centred.square().sum())
    one = int((y - 1).abs().argmin())
    return [
        "absolute" if gamma is None else f"{gamma}", f"{oracle[one]:.3f}", f"{f[one]:.3f}", f"{rms(f - oracle):.3f}",
        f"{rms(f - soft(y)):.3f}", f"{slope:.3f}", f"{rms(curve - x.abs()):.3f}", f"{residual:.1e}",
    ]  # fmt: skip


HEAD = [
    "loss, gamma",
    "oracle f(1)",
    "f(1)",
    "f - oracle, rms",
    "f - soft, rms",
    "slope of R",
    "R - |x|, rms",
    "residual",
]


def report(share: float, seed: int) -> str:
    """Train, and one row after each gamma's last stage."""
    torch.manual_seed(seed)
    network, rows = LearnedProximalNetwork(PixelPotential()), []

    def seen(gamma: float | None) -> None:
        rows.extend(shown([row(network, gamma)]))

    Schedule(share, [gamma for gamma, _, _ in SCHEDULE]).teach(network, seen)
    return table(HEAD, rows)


if __name__ == "__main__":
    main(report, threads=1, share=1.0, seed=0)
