"""A training run's state in one file: weights, optimisers' moments and the number of steps, bit for bit, no pickle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..operators.files import atomic, first_line, remove_partials

#: Grows when the file changes so that older programs cannot read it.
FORMAT = 1


class TrainingCheckpoint:
    """The state at ``path``.

    :param fingerprint: what the run depends on; the file of another run is refused.
    :param every: seconds between saves.
    :param writes: whether this process saves; one of many does.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, every: float = 60.0, writes: bool = True):
        self.path, self.fingerprint, self.every, self.writes = Path(path), fingerprint, every, writes
        self._last = time.monotonic()
        if writes:
            remove_partials(self.path)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.every

    def save(self, done: int, network: nn.Module, *optimisers: Optimizer) -> None:
        """Replace the file; whatever interrupts this leaves the one before.

        :raises OSError: if it cannot be written.
        """
        self._last = time.monotonic()
        if not self.writes:
            return
        tensors = {
            name: t.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, t in _state(network, optimisers)
        }
        note = {"format": FORMAT, "fingerprint": self.fingerprint, "done": done}
        with atomic(self.path) as partial:
            try:
                save_file(tensors, partial, metadata={"training": json.dumps(note)})
            except SafetensorError as error:
                raise OSError(str(error)) from error

    def load(self, network: nn.Module, *optimisers: Optimizer) -> int:
        """Put the file's state into all, and return how many steps were done: 0 where there is no file.

        :raises ValueError: if the file is damaged, newer than this version, or another run's.
        """
        if not self.path.exists():
            return 0
        note, tensors = self._read()
        _restore(network, optimisers, tensors)
        return note["done"]

    def done(self) -> int:
        """How many steps the file's run has done; as :meth:`load`."""
        return self._read()[0]["done"] if self.path.exists() else 0

    def _read(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(self.path, framework="pt") as file:
                note = json.loads((file.metadata() or {}).get("training", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            reason = first_line(error)
            raise ValueError(f"{self.path}: found a damaged checkpoint ({reason}), expected it whole") from error
        if note.get("format", 0) > FORMAT:
            raise ValueError(
                f"{self.path}: found format {note['format']}, expected at most {FORMAT}: a newer version's"
            )
        if note.get("fingerprint") != self.fingerprint:
            raise ValueError(
                f"{self.path}: found other settings, data or version, expected this run's; or another --out"
            )
        return note, tensors


def _state(network: nn.Module, optimisers: Sequence[Optimizer]) -> Iterator[tuple[str, Tensor]]:
    for name, t in network.state_dict().items():
        yield f"network.{name}", t
    for first, optimiser in _numbered(optimisers):
        for index, moments in optimiser.state_dict()["state"].items():
            for name, t in moments.items():
                yield f"optimiser.{first + index}.{name}", torch.as_tensor(t)


def _restore(network: nn.Module, optimisers: Sequence[Optimizer], tensors: dict[str, Tensor]) -> None:
    network.load_state_dict({k.removeprefix("network."): t for k, t in tensors.items() if k.startswith("network.")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, t in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            moments.setdefault(int(index), {})[name] = t
    for first, optimiser in _numbered(optimisers):
        groups = optimiser.state_dict()["param_groups"]
        own = {i: moments[first + i] for group in groups for i in group["params"] if first + i in moments}
        optimiser.load_state_dict({"state": own, "param_groups": groups})


def _numbered(optimisers: Sequence[Optimizer]) -> Iterator[tuple[int, Optimizer]]:
    """Each optimiser with the number of its first parameter, counted through all of them."""
    first = 0
    for optimiser in optimisers:
        yield first, optimiser
        first += sum(len(group["params"]) for group in optimiser.param_groups)
