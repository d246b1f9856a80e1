"""What a training run tells: lines of JSON in a file always, a bar on a terminal, TensorBoard on request."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..datasets.result import finite
from ..operators.extras import require
from ..operators.files import atomic


class TrainingLog:
    """The log of one run; one process of many writes it.

    :param path: of the JSON lines; those of steps after ``done`` are dropped, for they come again.
    :param as_json: the lines on standard output too.
    :param board: folder of TensorBoard's files; none are written if None.
    """

    def __init__(self, path: Path, done: int, steps: int, as_json: bool, board: Path | None):
        kept = [line for line in _lines(path) if line["step"] <= done]
        with atomic(path) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        self.file, self.as_json = path.open("a"), as_json
        self.bar = tqdm(total=steps, initial=done, unit="step", disable=as_json or not sys.stderr.isatty())
        self.board = None
        if board is not None:
            tensorboard = require("tensorboard", "tensorboard") and require("torch.utils.tensorboard", "tensorboard")
            self.board = tensorboard.SummaryWriter(str(board), purge_step=done + 1)

    def step(self) -> None:
        """One step is done."""
        self.bar.update()

    def write(self, step: int, **facts: Any) -> None:
        """Numbers of a step."""
        line = json.dumps(finite({"step": step, **facts}))
        print(line, file=self.file, flush=True)
        if self.as_json:
            print(line, flush=True)
        self.bar.set_postfix({name: f"{facts[name]:.4g}" for name in ("loss", "psnr") if name in facts})
        if self.board is not None:
            for name, value in facts.items():
                self.board.add_scalar(name, value, step)

    def picture(self, step: int, *images: Tensor) -> None:
        """Images ``(C, *spatial)`` side by side, of volumes the middle slices."""
        if self.board is not None:
            flat = [(i if i.ndim == 3 else i[..., i.shape[-1] // 2]).clamp(0, 1)[:3] for i in images]
            self.board.add_image("noisy, denoised, clean", torch.cat(flat, -1), step)

    def close(self) -> None:
        self.file.close()
        self.bar.close()
        if self.board is not None:
            self.board.close()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of an earlier run; the last may have been cut short."""
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):
            found.append(json.loads(text))
    return found
