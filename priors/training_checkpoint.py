"""A training run's state in one file: weights, optimisers' moments and the number of steps, bit for bit, no pickle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..operators.run_file import RunFile


class TrainingCheckpoint(RunFile):
    """A training run's :class:`RunFile`."""

    def save(self, done: int, network: nn.Module, *optimisers: Optimizer) -> None:
        """Replace the file; whatever interrupts this leaves the one before.

        :raises OSError: if it cannot be written.
        """
        self._keep(dict(_state(network, optimisers)), {"done": done})

    def load(self, network: nn.Module, *optimisers: Optimizer) -> int:
        """Put the file's state into all, and return how many steps were done: 0 where there is no file.

        :raises ValueError: if the file is damaged, newer than this version, or another run's.
        """
        if (kept := self._take()) is None:
            return 0
        tensors, note = kept
        _restore(network, optimisers, tensors)
        return note["done"]

    def done(self) -> int:
        """How many steps the file's run has done; as :meth:`load`."""
        note = self._note()
        return 0 if note is None else note["done"]


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
