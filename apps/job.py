"""One file to be worked on: what its result depends on, where it goes, and how it is gone on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..datasets import FileCheckpoint, InputError, Result, load_result, printable
from ..operators.files import atomic, remove_partials
from ..recon import Diverged
from .cli import NumericalFailure, UsageError
from .document import refuse_other
from .fingerprint import files_of, fingerprint_of
from .progress import Reporter
from .report import write_report


@dataclass(frozen=True)
class Job:
    """One file to reconstruct and where its result goes."""

    source: Path
    target: Path
    settings: dict[str, Any]
    device: str
    digest: str = ""

    @property
    def fingerprint(self) -> str:
        """What the image depends on: input bytes, settings, the files of weights that they name, and version."""
        return fingerprint_of(self.digest, self.settings, list(files_of(self.settings).values()))

    def about(self) -> dict[str, Any]:
        """The job's part of the result's record."""
        return {
            "input": {"path": str(self.source), "sha256": self.digest}, "config": self.settings,
            "files": files_of(self.settings),
            "seed": self.settings["seed"], "device": self.device, "fingerprint": self.fingerprint,
        }  # fmt: skip


def finished(job: Job, overwrite: bool) -> bool:
    """Whether the job's result exists; one made otherwise is not touched unless asked, what is no result never."""
    if not job.target.exists():
        return False
    with contextlib.suppress(InputError):
        found = load_result(job.target).record.get("fingerprint")
        if overwrite or found == job.fingerprint:
            return not overwrite
    if overwrite:
        raise InputError(f"{job.target}: exists and is no whole result, expected another --out")
    raise InputError(f"{job.target}: exists, made with other settings or input; expected another --out, or --overwrite")


@contextlib.contextmanager
def unfinished(job: Job, every: float, reporter: Reporter) -> Iterator[FileCheckpoint]:
    """The run's progress in a file beside its result, until that is written, or is known never to be.

    :param every: seconds between saves.
    :raises InputError: if one of the two cannot be written.
    """
    remove_partials(job.target)
    checkpoint = FileCheckpoint(job.target.with_name(f".{job.target.name}.checkpoint"), job.fingerprint, every)
    if checkpoint.fits():
        reporter.say("resuming", file=str(job.source), checkpoint=str(checkpoint.path))
    try:
        yield checkpoint
    except (Diverged, NumericalFailure, UsageError):
        checkpoint.clear()
        raise
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{job.target}: cannot be written ({error}), expected space beside it") from error
    checkpoint.clear()


def check_writable(target: Path, report: bool) -> None:
    """Refuse a place where no file can be written, or no report beside it.

    :raises InputError: naming it.
    """
    if report:
        refuse_other(target.with_suffix(".html"))
    probe = target.with_name(f".{target.name}.probe")
    try:
        with atomic(probe):
            pass
        probe.unlink()
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}), expected a writable place") from error


def write_page(job: Job, result: Result) -> Path:
    """The report beside a job's result."""
    page = job.target.with_suffix(".html")
    write_report([result], [printable(job.source.stem)], page)
    return page
