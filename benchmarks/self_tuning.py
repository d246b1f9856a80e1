"""The noise that a small blind denoiser learns from, tuned while it learns, against a grid of fixed ones.

The denoiser is told no noise level and is used at 0.1. It learns from 600 patches with noise of one level each, the
hyperparameter; the best one is known, for at 0.1 it minimises what it is used for. Weights, hyperparameter and the
figures below have different images of BSD400's training crops; first weights and batches are the same in all runs. A
run is as long with or without tuning; its cost is counted in floating-point operations, in units of a run at a fixed
level. One more run has the grid's best level after a tenth of its steps at the highest first one, which is about as
long as tuning takes to leave that. Weights learn from errors relative to the noise, by an Adam that remembers the size
of gradients for a hundred steps; in the rows "as usual" from plain errors, which a level of 0.4 makes sixteen times
larger than 0.1 does, and with a memory of a thousand steps. Rows "schedule" learn anew, without tuning, along the path
of levels that the first tuned run took; "last level" from its last one alone.

    python benchmarks/self_tuning.py [--share 1.0] [--out FILE.md]
"""

import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from _photographs import DATA
from _timing import main, shown, table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resolvent.datasets import ImageFolder
from resolvent.datasets.sources import counted
from resolvent.priors import (
    STN,
    Batch,
    Decades,
    DeltaSTN,
    Hyperparameters,
    LogMeanSquare,
    MeanSquare,
    Network,
    ScoreMatching,
    SelfTuner,
    TrainingLoss,
    cosine,
    repeat,
    train,
)
from resolvent.priors.hyperparameters import Values
from resolvent.priors.self_tuning import forgetful_adam
from resolvent.priors.training import descend

IMAGES = DATA / "natural" / "bsd400_train_gray180"
TARGET, LEVELS, STARTS = 0.1, Decades(0.02, 0.5), (0.03, 0.1, 0.4)
STEPS, SIZE, SIDE, EVERY = 2000, 16, 24, 5
Adam, RELATIVE = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer], ScoreMatching()


class BlindDenoiser(Network):
    """``x`` plus three convolutions of it."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.width, self.channels, self.dim = width, 1, 2
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, width), (width, width), (width, 1))]
        self.layers = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])

    def forward(self, x: Tensor, sigma: object) -> Tensor:
        return x + self.layers(x)


class Patches(NamedTuple):
    """Patches for the weights, the hyperparameter and the figures, each ``(n, 1, side, side)``."""

    learnt: Tensor
    tuned_on: Tensor
    reported: Tensor


class Outcome(NamedTuple):
    """Loss on the patches for the figures, the last level, and the level of each step."""

    loss: float
    level: float
    path: list[float]


def patches() -> Patches:
    """Two patches of each of 300 images, four of each of 50, and of the 50 others."""
    source = ImageFolder(IMAGES, SIDE)

    def cut(images: range, each: int) -> Tensor:
        return torch.stack([source.sample(i, counted("patch", i, j)) for i in images for j in range(each)])

    return Patches(cut(range(300), 2), cut(range(300, 350), 4), cut(range(350, 400), 4))


def noisy(clean: Tensor, level: Tensor, generator: torch.Generator) -> Batch:
    """Each image with noise of its level."""
    noise = torch.randn(clean.shape, generator=generator)
    return Batch(clean, clean + level[:, None, None, None] * noise, level)


def drawn(images: Tensor, level: Callable[[int], Tensor], *counters: int | str) -> Callable[[int], Batch]:
    """Batches whose images and noise depend on the counters and the step."""

    def batch(k: int) -> Batch:
        generator = counted(*counters, k)
        return noisy(images[torch.randint(len(images), (SIZE,), generator=generator)], level(k), generator)

    return batch


def constant(level: float) -> Callable[[int], Tensor]:
    """The same level for each image of each step."""
    return lambda k: torch.full((SIZE,), level)


def network(seed: int) -> BlindDenoiser:
    """With its first weights."""
    torch.manual_seed(seed)
    return BlindDenoiser()


def reported(denoiser: Network, images: Patches) -> float:
    """Mean square error at the level aimed at."""
    level = torch.full((len(images.reported),), TARGET)
    with torch.no_grad():
        return float(MeanSquare()(denoiser, noisy(images.reported, level, counted("reported"))))


def fixed(
    level: Callable[[int], Tensor],
    images: Patches,
    steps: int,
    seed: int = 0,
    loss: TrainingLoss = RELATIVE,
    adam: Adam = forgetful_adam,
) -> float:
    """The loss after learning from given levels."""
    denoiser, batch, rate = network(seed), drawn(images.learnt, level, seed), cosine(3e-3, 1e-5, steps)
    optimiser = adam(denoiser.parameters())

    def step(k: int) -> float:
        return descend(denoiser, optimiser, loss, batch(k), rate(k), k)

    repeat(step, (denoiser, optimiser), steps, rate)
    return reported(denoiser, images)


class Method(NamedTuple):
    """A way of tuning: its name, and which layers respond; loss and optimiser of weights and responses."""

    name: str
    kind: type[STN] | type[DeltaSTN]
    layers: str
    loss: TrainingLoss = RELATIVE
    adam: Adam = forgetful_adam


#: The last two layers respond, or all three.
METHODS = (
    Method("Delta-STN, last two layers", DeltaSTN, "[24]"),
    Method("Delta-STN, last two layers, as usual", DeltaSTN, "[24]", MeanSquare(), torch.optim.Adam),
    Method("STN", STN, ""),
    Method("Delta-STN", DeltaSTN, ""),
)


def tuner(method: Method, start: float, images: Patches, steps: int, seed: int) -> SelfTuner:
    """A tuned run before its first step."""
    model = method.kind(network(seed), Hyperparameters({"level": LEVELS}, {"level": start}), f"layers.{method.layers}")

    def batch(k: int, values: Values) -> Batch:
        return drawn(images.learnt, lambda _: values["level"], seed)(k)

    return SelfTuner(
        model, batch, drawn(images.tuned_on, constant(TARGET), seed, "tuning"), method.loss, cosine(3e-3, 1e-5, steps),
        lambda k: counted(seed, k, "perturbation"), SIZE, every=EVERY, warm_up=steps // 20, tuning_rate=0.03,
        validation_loss=LogMeanSquare(), optimiser=method.adam,
    )  # fmt: skip


def tuned(method: Method, start: float, images: Patches, steps: int, seed: int = 0) -> Outcome:
    """The loss after learning with tuning, from a first level."""
    running, path = tuner(method, start, images, steps, seed), []

    def after(_: object) -> bool:
        path.append(running.model.hyperparameters.current()["level"])
        return False

    repeat(running.step, running.state, steps, running.rate, after=after)
    return Outcome(reported(running.model.plain(), images), path[-1], path)


def cost(method: Method, images: Patches) -> float:
    """Operations of a cycle of tuned training over those of as many plain steps."""
    running = tuner(method, TARGET, images, 1, 0)
    running.warm_up = 0
    plain = drawn(images.learnt, constant(TARGET), 0)
    counts = [
        operations(lambda: [running.step(k) for k in range(EVERY)]),
        operations(lambda: train(network(0), plain, MeanSquare(), EVERY, lambda k: 1e-3)),
    ]
    return counts[0] / counts[1]


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def spread(values: list[float]) -> str:
    """The coefficient of variation."""
    return f"{100 * statistics.stdev(values) / statistics.mean(values):.0f} %"


HEAD = ("training", "first level", "last level", "spread", "mean square error", "over the grid's best", "cost")


class Runs:
    """Rows of the table, each loss against the best of the grid."""

    def __init__(self, best: float):
        self.best = best

    def row(self, name: str, first: float, last: float, loss: float, cost: float = 1, spread: str = "") -> list[str]:
        """One run."""
        against = f"{100 * (loss / self.best - 1):+.1f} %"
        return [name, f"{first:.3f}", f"{last:.3f}", spread, f"{loss:.3e}", against, f"{cost:.1f}"]


def tuned_rows(runs: Runs, method: Method, images: Patches, steps: int) -> Iterator[list[str]]:
    """Three tuned runs, and what learns anew from the first one's path."""
    found = [tuned(method, start, images, steps) for start in STARTS]
    again, paid = spread([outcome.level for outcome in found]), cost(method, images)
    for start, (loss, level, _) in zip(STARTS, found, strict=True):
        yield runs.row(method.name, start, level, loss, paid, again)
    path = found[0].path
    schedule = fixed(lambda k: torch.full((SIZE,), path[k]), images, steps)
    yield runs.row(f"{method.name}: schedule", path[0], path[-1], schedule)
    yield runs.row(f"{method.name}: last level", path[-1], path[-1], fixed(constant(path[-1]), images, steps))


def rows(share: float) -> Iterator[list[str]]:
    """The grid, then the tuned runs."""
    images, steps = patches(), int(share * STEPS)
    levels = torch.logspace(math.log10(0.02), math.log10(0.5), 10).tolist()
    grid = {level: fixed(constant(level), images, steps) for level in levels}
    best, runs = min(grid, key=lambda level: grid[level]), Runs(min(grid.values()))
    yield from (runs.row("fixed", level, level, loss) for level, loss in grid.items())
    for name, usual in {"": (), ", as usual": (MeanSquare(), torch.optim.Adam)}.items():
        late = fixed(lambda k: constant(max(STARTS) if k < steps // 10 else best)(k), images, steps, 0, *usual)
        yield runs.row(f"fixed after a tenth{name}", max(STARTS), best, late)
    for method in METHODS:
        yield from tuned_rows(runs, method, images, steps)


def report(share: float) -> str:
    """All rows."""
    return table(HEAD, shown(rows(share)))


if __name__ == "__main__":
    main(report, threads=1, share=1.0)
