"""Files appear whole under their names, or not at all; what goes wrong with one is said in a line."""

from __future__ import annotations

import errno
import glob
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it takes that name, on failure it is removed.

    Of a link the file is written that it leads to.

    :raises OSError: if the folder cannot be made or written, or the name is that of a folder, a device or a pipe.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        raise FileExistsError(errno.EEXIST, "is a folder, a device or a pipe", str(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.{os.getpid()}."
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=prefix, suffix=".partial")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        _flush(partial)
        partial.chmod(0o666 & ~_umask())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def remove_partials(path: str | os.PathLike[str]) -> None:
    """Remove what writers of ``path`` that were killed have left beside it; of a folder, writers of its files.

    What a living process writes has its number, and stays.
    """
    target = Path(path).resolve()
    folder, name = (target, "*") if target.is_dir() else (target.parent, glob.escape(target.name))
    for partial in folder.glob(f".{name}.*.partial"):
        if not _lives(partial.name.split(".")[-3]):
            partial.unlink(missing_ok=True)


def _lives(number: str) -> bool:
    """Whether there is a process of that number."""
    if not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def first_line(error: Exception) -> str:
    """What an error says first; its kind, if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
