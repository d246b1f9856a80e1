"""A run's progress in a file: killed at any moment, the same command goes on where it was.

Tensors are stored bit for bit (safetensors), so that a resumed run takes the same iterates as an
uninterrupted one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..operators.files import atomic, remove_partials


class FileCheckpoint:
    """Keeps the latest progress of one run at ``path``; implements :class:`resolvent.recon.loop.Checkpoint`.

    :param fingerprint: what the run depends on; a file of another fingerprint is not taken up.
    :param every: seconds between saves.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, every: float = 10.0):
        self.path, self.fingerprint, self.every = Path(path), fingerprint, every
        self.resumed_from = 0
        self._last = time.monotonic()
        remove_partials(self.path)

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.every

    def save(self, progress: Any) -> None:
        note = {"fingerprint": self.fingerprint, "iteration": progress.iteration, "status": progress.status}
        note |= {"history": progress.history, "seconds": progress.seconds}
        tensors = {name: _storable(t) for name, t in _leaves(progress.state)}
        with atomic(self.path) as partial:
            try:
                save_file(tensors, partial, metadata={"progress": json.dumps(note)})
            except SafetensorError as error:
                raise OSError(str(error)) from error
        self._last = time.monotonic()

    def fits(self) -> bool:
        """Whether the file is there, and of a run of this fingerprint."""
        return self._note() is not None

    def load(self, like: Any) -> Any:
        note = self._note()
        if note is None:
            return None
        with safe_open(self.path, framework="pt") as file:
            state = _fill(like.state, file.get_tensor)
        self.resumed_from = note["iteration"]
        return type(like)(note["iteration"], state, note["status"], note["history"], note["seconds"])

    def _note(self) -> dict[str, Any] | None:
        """What the file says beside its tensors; None if it is damaged or of another run."""
        try:
            with safe_open(self.path, framework="pt") as file:
                note = json.loads((file.metadata() or {}).get("progress", "{}"))
        except (OSError, SafetensorError, ValueError):
            return None
        return note if note.get("fingerprint") == self.fingerprint else None

    def clear(self) -> None:
        """Remove the file; the run is over."""
        self.path.unlink(missing_ok=True)


def _leaves(tree: Any, name: str = "state") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield name, tree
    else:
        for i, item in enumerate(tree):
            yield from _leaves(item, f"{name}.{i}")


def _fill(tree: Any, get: Any, name: str = "state") -> Any:
    """``tree`` with every tensor replaced by the stored one of its name."""
    if isinstance(tree, Tensor):
        stored = get(name)
        return (torch.view_as_complex(stored) if tree.is_complex() else stored).to(tree.device)
    items = [_fill(item, get, f"{name}.{i}") for i, item in enumerate(tree)]
    return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)


def _storable(t: Tensor) -> Tensor:
    t = t.detach().cpu().resolve_conj()
    return (torch.view_as_real(t) if t.is_complex() else t).clone().contiguous()
