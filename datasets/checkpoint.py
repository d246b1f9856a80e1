"""A reconstruction's progress in a file: a resumed run takes the same iterates as an uninterrupted one, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..operators.run_file import RunFile
from ..operators.tensor_file import load_tensors


class FileCheckpoint(RunFile):
    """Keeps the latest progress of one run at ``path``; implements :class:`resolvent.recon.loop.Checkpoint`.

    :param fingerprint: what the run depends on; a file of another fingerprint is not taken up.
    :param every: seconds between saves.
    """

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, every: float = 10.0):
        super().__init__(path, fingerprint, every)
        self.resumed_from = 0

    def save(self, progress: Any) -> None:
        """Replace the file; whatever interrupts this leaves the one before."""
        note = {"iteration": progress.iteration, "status": progress.status, "history": progress.history}
        self._keep(dict(_leaves(progress.state)), note | {"seconds": progress.seconds})

    def fits(self) -> bool:
        """Whether the file is there, whole, and of a run of this fingerprint."""
        try:
            return self._note() is not None
        except ValueError:
            return False

    def load(self, like: Any) -> Any:
        """The progress kept, its state of the kinds and on the devices of ``like``'s; None where no file fits."""
        if not self.fits():
            return None
        tensors, note = self._read(load_tensors)
        self.resumed_from = note["iteration"]
        state = _fill(like.state, tensors)
        return type(like)(note["iteration"], state, note["status"], note["history"], note["seconds"])


def _leaves(tree: Any, name: str = "state") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield name, tree
    else:
        for i, item in enumerate(tree):
            yield from _leaves(item, f"{name}.{i}")


def _fill(tree: Any, stored: Mapping[str, Tensor], name: str = "state") -> Any:
    """``tree`` with every tensor replaced by the stored one of its name."""
    if isinstance(tree, Tensor):
        return stored[name].to(tree.device)
    items = [_fill(item, stored, f"{name}.{i}") for i, item in enumerate(tree)]
    return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
