"""What a run tells its user: a bar on a terminal, lines for programs, silence elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..datasets import Result, printable
from ..datasets.errors import LONGEST
from ..datasets.result import finite
from ..recon import Choice, Progress


class Reporter:
    """Events of one command.

    :param as_json: one JSON object per line on standard output instead of sentences.
    """

    def __init__(self, as_json: bool):
        self.as_json = as_json

    def say(self, event: str, **facts: Any) -> None:
        """One event; a ``text`` is a sentence by itself."""
        if self.as_json:
            print(json.dumps(finite({"event": event, **facts})), flush=True)
        else:
            told = (str(v) if k == "text" else f"{k} {v}" for k, v in facts.items())
            print(printable(f"{event}: " + ", ".join(told), LONGEST), flush=True)

    @contextmanager
    def progress(self, source: Path, total: int) -> Iterator[Callable[[Progress], None]]:
        """A callback that shows iterations, residual and remaining time."""
        bar = tqdm(total=total, desc=source.name, unit="it", disable=self.as_json or not sys.stderr.isatty())

        def update(progress: Progress) -> None:
            change = max(progress.history["relative_change"][-1])
            bar.update(progress.iteration - bar.n)
            bar.set_postfix_str(f"change {change:.1e}")
            if self.as_json:
                self.say("iteration", file=str(source), iteration=progress.iteration, of=total, relative_change=change)

        with bar:
            yield update

    @contextmanager
    def acquisition(self, source: Path, total: int) -> Iterator[Callable[[int, Sequence[Choice]], None]]:
        """A callback that shows steps, and each measurement as it is made."""
        bar = tqdm(total=total, desc=source.name, unit="step", disable=self.as_json or not sys.stderr.isatty())

        def update(done: int, choices: Sequence[Choice]) -> None:
            bar.update(done - bar.n)
            bar.set_postfix_str(f"{len(choices)} measured")
            for choice in [c for c in choices if c.step == done - 1] if self.as_json else ():
                self.say("measured", file=str(source), of=total, **choice._asdict())

        with bar:
            yield update

    def done(self, source: Path, target: Path, page: Path | None, result: Result) -> None:
        """A finished file: where its image and report are, and how it went."""
        record = result.record
        facts = {"file": str(source), "image": str(target), "report": str(page) if page else None}
        facts |= {k: record[k] for k in ("status", "iterations", "seconds", "metrics", "warnings")}
        if self.as_json:
            self.say("finished", **facts)
            return
        numbers = ", ".join(f"{k} {_span(v)}" for k, v in record["metrics"].items())
        status, name = ", ".join(sorted(set(record["status"]))), printable(source, LONGEST)
        print(f"{name}: {status} after {record['iterations']} iterations, {record['seconds']:.1f} s; {numbers}")
        for warning in record["warnings"]:
            print(f"  warning: {warning}")
        print(f"  image  {printable(target, LONGEST)}")
        if page:
            print(f"  report {printable(page, LONGEST)}", flush=True)


def _span(values: Sequence[float]) -> str:
    """A metric of one image, or from the least to the greatest of a batch."""
    least, greatest = f"{min(values):.4g}", f"{max(values):.4g}"
    return least if least == greatest else f"{least} to {greatest}"
