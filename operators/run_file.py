"""A run's state in one file: killed at any moment, the same run goes on where it was."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .files import first_line, remove_partials
from .tensor_file import load_note, load_tensors, save_tensors

Read = TypeVar("Read")

#: Grows when a state changes so that older programs cannot read it.
FORMAT = 1


class RunFile:
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

    def clear(self) -> None:
        """Remove the file; the run is over."""
        self.path.unlink(missing_ok=True)

    def _keep(self, tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> None:
        """Replace the file; whatever interrupts this leaves the one before.

        :raises OSError: if it cannot be written.
        """
        if self.writes:
            save_tensors(self.path, tensors, {"format": FORMAT, "fingerprint": self.fingerprint, **note})
        self._last = time.monotonic()

    def _take(self, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The tensors and the note; None where there is no file. Raises as :meth:`_note`."""
        return None if (note := self._note()) is None else (self._read(load_tensors, device)[0], note)

    def _note(self) -> dict[str, Any] | None:
        """What the file says beside its tensors; None where there is no file.

        :raises ValueError: if the file is damaged, newer than this version, or another run's.
        """
        if not self.path.exists():
            return None
        note = self._read(load_note)
        if note.get("format", 0) > FORMAT:
            found = f"format {note['format']}, expected at most {FORMAT}: a newer version's"
            raise ValueError(f"{self.path}: found {found}")
        if note.get("fingerprint") != self.fingerprint:
            found = "other settings, data or version, expected this run's; or another --out"
            raise ValueError(f"{self.path}: found {found}")
        return note

    def _read(self, read: Callable[..., Read], *device: str | torch.device) -> Read:
        try:
            return read(self.path, *device)
        except (OSError, ValueError) as error:
            reason = first_line(error)
            raise ValueError(f"{self.path}: found a damaged checkpoint ({reason}), expected it whole") from error
