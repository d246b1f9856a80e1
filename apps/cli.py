"""The command ``resolvent``: verbs, exit codes, and every failure in one line.

Nothing heavy is imported before a verb is known, so that ``--help`` is immediate.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .memory import keep_memory

#: Verb to module (with a ``main(argv) -> int``) and one line of help.
VERBS = {
    "reconstruct": ("reconstruct", "measurement files in, images and reports out"),
    "acquire": ("acquire", "a fully sampled file in, which of its data are worth most, and their image, out"),
    "train": ("train", "images in, the weights of a denoiser out"),
    "tune": ("tune", "measurement files in, the parameters of their reconstruction out"),
    "simulate": ("simulate", "make a measurement file from a synthetic scene"),
    "import": ("import_", "make a measurement file from another program's file"),
    "export": ("export", "write an image as NIfTI, BART, npy, HDF5 or PNG"),
    "info": ("info", "say what a file is and whether it is sound"),
    "datasets": ("datasets", "list public data sets, and get them"),
    "inspect": ("inspect", "say what a prior's proximal step does at an image"),
    "report": ("report", "an HTML report from one or more result files"),
    "demo": ("demo", "simulate, reconstruct and report; needs no data and no network"),
}

OK, INTERNAL, USAGE, INPUT, NUMERICAL, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 130, 143
#: Exit status of the signals that ask for the end.
SIGNALS = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}


class UsageError(Exception):
    """The command line or a configuration file does not make sense; the message is one line."""


class NumericalFailure(Exception):
    """A computation did not end in finite numbers; the message is one line."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end; ``code`` is the exit status."""

    def __init__(self, code: int):
        super().__init__()
        self.code = code


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return the exit status: 0, 1 internal, 2 usage, 3 input, 4 numerical, 130/143 signals."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [a for a in argv if a != "--debug"]
    try:
        return _dispatch(argv)
    except KeyboardInterrupt as stop:
        return _fail(
            "interrupted; what is finished is kept, the same command goes on", getattr(stop, "code", INTERRUPTED)
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        if debug:
            raise
        return _fail(*_explain(error))


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return OK if argv else USAGE
    if argv[0] == "--version":
        print(version("resolvent"))
        return OK
    if argv[0] not in VERBS:
        raise UsageError(f"verb: found {argv[0]!r}, expected one of {', '.join(VERBS)}")
    with _interrupting(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        module = importlib.import_module(f".{VERBS[argv[0]][0]}", __package__)
        return module.main(argv[1:])


@contextmanager
def _interrupting() -> Iterator[None]:
    """Turn signals into :class:`Interrupted` while a verb runs."""

    def interrupt(number: int, _: Any) -> None:
        raise Interrupted(SIGNALS[signal.Signals(number)])

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _help() -> str:
    lines = ["usage: resolvent VERB … [--help] [--debug]", "", "Reconstruct images from measurements.", ""]
    lines += [f"  {verb:<12} {about}" for verb, (_, about) in VERBS.items()]
    lines += ["", "`resolvent VERB --help` explains a verb; --debug shows the traceback of a failure."]
    return "\n".join(lines)


def _explain(error: Exception) -> tuple[str, int]:
    """One line and the exit status for an exception."""
    from ..datasets import InputError
    from ..operators.extras import MissingExtra
    from ..recon import Diverged

    kinds: dict[type[Exception], int] = {
        UsageError: USAGE, MissingExtra: USAGE, InputError: INPUT, NumericalFailure: NUMERICAL, Diverged: NUMERICAL,
    }  # fmt: skip
    for kind, code in kinds.items():
        if isinstance(error, kind):
            return str(error), code
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{str(error.filename)[:60]}…: found a name that is too long, expected one of a file", INPUT
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = error.filename or "standard output or a temporary file"
        return f"{place}: cannot be written ({error.strerror}), expected space", INPUT
    if isinstance(error, RecursionError):
        return "configuration: found one that is nested too deeply, expected a few levels", USAGE
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"out of memory: {error}", NUMERICAL
    return f"internal error, {type(error).__name__}: {error} (--debug shows where)", INTERNAL


def _fail(message: str, code: int) -> int:
    print(f"resolvent: {' '.join(str(message).split())}", file=sys.stderr)
    return code


def run() -> Any:
    """Entry point of the console script."""
    for name in ("stdout", "stderr"):
        _make_writable(name)
    keep_memory()
    sys.exit(main())


def _make_writable(name: str) -> None:
    """A stream that is closed is written to nowhere; what its encoding lacks becomes question marks."""
    stream = getattr(sys, name)
    if stream is None:
        setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    elif isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")


if __name__ == "__main__":
    importlib.import_module(f"{__package__}.cli").run()  # as the module whose exceptions the verbs raise
