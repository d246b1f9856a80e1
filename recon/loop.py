"""The loop, once for every algorithm: stopping per image, history, callbacks, checkpoints, divergence.

An algorithm hands over its state, a NamedTuple of tensors (or tuples of tensors) whose first axis is
the batch and whose first field is the image ``x``. Images that are done are frozen; the others go on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from .problem import Problem
from .stopping import Criterion

if TYPE_CHECKING:
    from .solver import Solver, State

Record = Callable[[Problem, "State"], Tensor]
History = dict[str, list[list[float]]]


@dataclass
class Progress:
    """Where a run stands; what a callback sees and a checkpoint keeps."""

    iteration: int
    state: Any
    status: list[str]
    history: History = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether no image is running."""
        return "running" not in self.status


class Checkpoint(Protocol):
    """Where a run keeps its progress; :mod:`resolvent.datasets` has one for files."""

    def load(self, like: Progress) -> Progress | None:
        """The progress kept earlier, its state shaped ``like`` this one, or None."""
        ...

    def due(self) -> bool:
        """Whether it is time to save."""
        ...

    def save(self, progress: Progress) -> None:
        """Keep this progress in place of the one before, all of it or nothing."""
        ...


Callback = Callable[[Progress], bool | None]


def run(
    solver: Solver,
    problem: Problem,
    state: State,
    *,
    stop: Criterion,
    max_iter: int,
    record: Mapping[str, Record],
    callback: Callback | None,
    checkpoint: Checkpoint | None,
    seconds: float = 0.0,
) -> Progress:
    """Iterate ``solver.step`` from ``state``, made in so many ``seconds``, until every image is done."""
    progress = Progress(0, state, ["running"] * len(state.x), seconds=seconds)
    progress = repeat(partial(_advance, solver, problem, stop, record), progress, max_iter, callback, checkpoint)
    _finish(progress, solver.at_the_end)
    return progress


def repeat(
    advance: Callable[[Progress], Progress],
    progress: Progress,
    max_iter: int,
    callback: Callback | None,
    checkpoint: Checkpoint | None,
) -> Progress:
    """Iterate ``advance`` from where the checkpoint stands, or else from ``progress``; what ends it early is kept."""
    if checkpoint is not None:
        progress = checkpoint.load(progress) or progress
    try:
        while not progress.done and progress.iteration < max_iter:
            progress = advance(progress)
            stopped = callback is not None and callback(progress) is False
            if checkpoint is not None and (stopped or checkpoint.due()):
                checkpoint.save(progress)
            if stopped:
                _finish(progress, "interrupted")
    except BaseException:
        if checkpoint is not None and progress.iteration:
            checkpoint.save(_whole(progress))
        raise
    return progress


def _advance(
    solver: Solver, problem: Problem, stop: Criterion, record: Mapping[str, Record], progress: Progress
) -> Progress:
    """One step of all running images; an interruption in here leaves ``progress`` where it was."""
    began, before = time.perf_counter(), progress.state
    now = solver.step(problem, before)
    change = solver.change(before, now)
    measured = {"relative_change": change.tolist()}
    if stop.name not in measured:
        measured[stop.name] = stop.measure(solver, problem, before, now).tolist()
    measured = {name: _held(progress, name, values) for name, values in measured.items()}
    status = _judged(progress, measured["relative_change"], measured[stop.name], stop)
    moving = [old == "running" and new != "diverged" for old, new in zip(progress.status, status, strict=True)]
    if not all(moving):
        now = _choose(torch.tensor(moving, device=change.device), now, before)
    measured |= {name: measure(problem, now).tolist() for name, measure in record.items()}
    seconds = progress.seconds + time.perf_counter() - began
    for name, values in (measured | {"seconds": [seconds] * len(status)}).items():
        progress.history.setdefault(name, []).append(values)
    return Progress(progress.iteration + 1, now, status, progress.history, seconds)


def _whole(progress: Progress) -> Progress:
    """Without what an interrupted iteration has already put into the history."""
    history = {name: values[: progress.iteration] for name, values in progress.history.items()}
    return replace(progress, history=history)


def _judged(progress: Progress, changes: list[float], measured: list[float], stop: Criterion) -> list[str]:
    """Each image's status after a step."""
    tol = stop.tol if stop.tol > 0 and progress.iteration + 1 >= stop.first else -math.inf
    return [_judge(s, c, m, tol) for s, c, m in zip(progress.status, changes, measured, strict=True)]


def _held(progress: Progress, name: str, values: list[float]) -> list[float]:
    """An image at rest keeps the number at which it stopped."""
    before = progress.history.get(name, [values])[-1]
    return [v if s == "running" else b for s, v, b in zip(progress.status, values, before, strict=True)]


def _judge(status: str, change: float, measured: float, tol: float) -> str:
    if status != "running":
        return status
    if not change < float("inf"):
        return "diverged"
    return "converged" if measured <= tol else "running"


def _finish(progress: Progress, how: str) -> None:
    progress.status = [how if s == "running" else s for s in progress.status]


def _choose(take: Tensor, new: Any, old: Any) -> Any:
    """``new`` for the images of ``take``, ``old`` for the others, throughout a state."""
    if isinstance(new, Tensor):
        return torch.where(take.to(new.device).reshape(-1, *[1] * (new.ndim - 1)), new, old)
    items = [_choose(take, a, b) for a, b in zip(new, old, strict=True)]
    return type(new)(*items) if hasattr(new, "_fields") else tuple(items)
