"""Who reaches the same objective first, each in as many iterations as it needs.

The objective is one function outside all of them; the target is the lowest value that anybody reached in
the longest run, plus a margin.
"""

import bisect
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

#: Iterations tried, each about a quarter more than the one before.
COUNTS = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 32, 40, 50, 64, 80, 100, 128, 160, 200, 256, 320, 400, 512, 640, 800)

Objective = Callable[[torch.Tensor], float]


class Run(NamedTuple):
    """An image after some iterations, and the seconds that its maker says they took; None to have them measured."""

    image: torch.Tensor
    seconds: float | None = None


Contender = Callable[[int], Run]


class Standing(NamedTuple):
    """What one contender needed to reach the target; iterations are None where it never did.

    ``image`` is the one that reached it, ``last`` that of the longest run and ``best`` the objective there.
    """

    iterations: int | None
    seconds: float
    image: torch.Tensor
    last: torch.Tensor
    best: float


def timed(contender: Contender, iterations: int) -> Run:
    """A run with its wall-clock seconds."""
    began = time.perf_counter()
    run = contender(iterations)
    return run if run.seconds is not None else Run(run.image, time.perf_counter() - began)


def contest(
    contenders: Mapping[str, Contender],
    objective: Objective,
    longest: int,
    margin: float,
    repeats: int = 3,
) -> tuple[float, dict[str, Standing]]:
    """The lowest objective of all, and how soon each contender came within ``margin`` of it.

    :param longest: iterations of the longest runs.
    :param repeats: timed runs at the iterations found, contenders taking turns; the median counts. Of who was
        never there the longest run counts.
    """
    final = {name: timed(run, longest) for name, run in contenders.items()}
    values = {name: objective(run.image) for name, run in final.items()}
    target = min(values.values()) * (1 + margin)
    needed = {
        name: _needed(run, objective, target, longest) if values[name] <= target else None
        for name, run in contenders.items()
    }
    runs = {name: [] if needed[name] else [final[name]] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            if n := needed[name]:
                runs[name].append(timed(run, n))
    return min(values.values()), {
        name: Standing(
            needed[name], statistics.median(r.seconds for r in runs[name]), runs[name][-1].image, final[name].image,
            values[name],
        )
        for name in contenders
    }  # fmt: skip


def _needed(contender: Contender, objective: Objective, target: float, longest: int) -> int | None:
    """The fewest iterations of those tried that reach the target, by bisection: who is there once stays there."""
    counts = [n for n in COUNTS if n < longest] + [longest]
    first = bisect.bisect_left(counts, True, key=lambda n: objective(contender(n).image) <= target)
    return counts[first] if first < len(counts) else None


#: Heading of what :func:`sides` says.
SIDES = ("resolvent: step (iterations), seconds", "resolvent FISTA", "deepinv", "deepinv / same", "deepinv / FISTA")


def sides(standings: Mapping[str, Standing]) -> list[str]:
    """The fastest variant of resolvent's algorithm, of FISTA and of deepinv's; the ratios of their times."""
    fastest = [_fastest(standings, who) for who in ("resolvent", "FISTA", "deepinv")]
    shown = [f"{name} ({s.iterations or f'never, within {s.best:.4g}'}), {s.seconds:.3f}" for name, s in fastest]
    same, best, theirs = (s.seconds for _, s in fastest)
    return [*shown, f"{theirs / same:.2f}", f"{theirs / best:.2f}"]


def _fastest(standings: Mapping[str, Standing], who: str) -> tuple[str, Standing]:
    of = {name: s for name, s in standings.items() if name.startswith(who)}
    reached = {name: s for name, s in of.items() if s.iterations} or of
    return min(reached.items(), key=lambda item: item[1].seconds)


def solving(make: Callable[[int], torch.nn.Module], y: torch.Tensor, physics: torch.nn.Module) -> Contender:
    """A solver of either side, made for a number of iterations."""
    return lambda n: Run(make(n)(y, physics))
