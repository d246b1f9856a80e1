"""A tuning run's state in one file, bit for bit, no pickle."""

from __future__ import annotations

import torch
from torch import Tensor

from ..datasets import InputError
from ..operators.run_file import RunFile
from ..recon.bilevel import Constants, State


class TuningCheckpoint(RunFile):
    """A tuning run's :class:`RunFile`."""

    def save(self, done: int, state: State, extra: Tensor) -> None:
        """Replace the file; whatever interrupts this leaves the one before.

        :param extra: rows that a validation begins with.
        """
        fields = state._asdict()
        named = {f"constants.{k}": t for k, t in fields.pop("constants")._asdict().items()} | {"extra": extra}
        named |= {f"memory.{i}": t for i, t in enumerate(fields.pop("memory"))} | fields
        self._keep(named, {"done": done})

    def load(self, device: str) -> tuple[int, State, Tensor] | None:
        """The steps done, the state and the validation's rows; None where there is no file.

        :raises InputError: if the file is damaged, or another run's.
        """
        try:
            kept = self._take(device)
        except ValueError as error:
            raise InputError(str(error)) from error
        if kept is None:
            return None
        tensors, note = kept
        memory = [tensors[f"memory.{i}"] for i in range(sum(name.startswith("memory.") for name in tensors))]
        constants = Constants(*(tensors[f"constants.{name}"] for name in Constants._fields))
        fields = {name: tensors[name] for name in State._fields if name in tensors}
        return note["done"], State(**fields, constants=constants, memory=tuple(memory)), tensors["extra"]


def nothing() -> Tensor:
    """No rows of a validation."""
    return torch.empty(0)
