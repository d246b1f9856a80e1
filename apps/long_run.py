"""What the verbs that run long share: signals that wait for a step's end, processes, events of the first of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from jsonargparse import Namespace

from ..priors.training import processes
from .cli import SIGNALS
from .progress import Reporter


@contextlib.contextmanager
def late_signals() -> Iterator[list[int]]:
    """Signals that ask for the end are noted, so that a step is never half done; a second one ends at once."""
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def note(number: int, _: Any) -> None:
        asked.append(SIGNALS[signal.Signals(number)])
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for number in SIGNALS:
            signal.signal(number, note)
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def process_group(config: Namespace) -> Iterator[None]:
    """The processes that ``torchrun`` started, if it did; each with its accelerator where there are any."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield
        return
    cuda = torch.cuda.is_available() and config.device in ("auto", "cuda")
    if cuda:
        config.device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(config.device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def say(config: Namespace, event: str, **facts: Any) -> None:
    """One event, of the first process."""
    if processes()[0] == 0:
        Reporter(config.json).say(event, **facts)
