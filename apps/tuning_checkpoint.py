"""A tuning run's state in one file, bit for bit, no pickle."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..datasets import InputError
from ..operators.files import atomic, first_line, remove_partials
from ..recon.bilevel import Constants, State


class TuningCheckpoint:
    """The state at ``path``.

    :param fingerprint: what the run depends on; the file of another run is refused.
    :param every: seconds between saves.
    :param writes: whether this process saves; one of many does.
    """

    def __init__(self, path: Path, fingerprint: str, every: float, writes: bool):
        self.path, self.fingerprint, self.every, self.writes = path, fingerprint, every, writes
        self._last = time.monotonic()
        if writes:
            remove_partials(path)

    def due(self) -> bool:
        """Whether it is time to save."""
        return time.monotonic() - self._last >= self.every

    def save(self, done: int, state: State, extra: Tensor) -> None:
        """Replace the file; whatever interrupts this leaves the one before.

        :param extra: rows that a validation begins with.
        """
        self._last = time.monotonic()
        if not self.writes:
            return
        fields = state._asdict()
        named = {f"constants.{k}": t for k, t in fields.pop("constants")._asdict().items()} | {"extra": extra}
        named |= {f"memory.{i}": t for i, t in enumerate(fields.pop("memory"))} | fields
        tensors = {name: t.detach().cpu().clone().contiguous() for name, t in named.items()}
        note = {"fingerprint": self.fingerprint, "done": done}
        with atomic(self.path) as partial:
            try:
                save_file(tensors, partial, metadata={"tuning": json.dumps(note)})
            except SafetensorError as error:
                raise OSError(str(error)) from error

    def load(self, device: str) -> tuple[int, State, Tensor] | None:
        """The steps done, the state and the validation's rows; None where there is no file.

        :raises InputError: if the file is damaged, or another run's.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt", device=device) as file:
                note: dict[str, Any] = json.loads((file.metadata() or {}).get("tuning", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, ValueError) as error:
            reason = first_line(error)
            raise InputError(f"{self.path}: found a damaged checkpoint ({reason}), expected it whole") from error
        if note.get("fingerprint") != self.fingerprint:
            raise InputError(
                f"{self.path}: found other settings, data or version, expected this run's; or another --out"
            )
        memory = [tensors[f"memory.{i}"] for i in range(sum(name.startswith("memory.") for name in tensors))]
        constants = Constants(*(tensors[f"constants.{name}"] for name in Constants._fields))
        fields = {name: tensors[name] for name in State._fields if name in tensors}
        return note["done"], State(**fields, constants=constants, memory=tuple(memory)), tensors["extra"]


def nothing() -> Tensor:
    """No rows of a validation."""
    return torch.empty(0)
