"""Public data sets by name: where they come from, their licence and SHA-256, and getting them.

Sets are described in ``registry.yaml``. A file is known by its SHA-256 alone: copies under any name in the
folders of the environment variable ``RESOLVENT_DATA`` (separated as in ``PATH``) are found without network.
Nothing is downloaded but by :func:`fetch`; a download that was cut off goes on where it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..operators.extras import require
from .errors import InputError
from .hdf5 import sha256

FOLDERS = "RESOLVENT_DATA"
BLOCK, TIMEOUT = 2**20, 60


class DataFile(NamedTuple):
    """One file of a set; ``url`` is None where no address is known."""

    name: str
    sha256: str
    size: int
    url: str | None


class DataSet(NamedTuple):
    """A public data set."""

    name: str
    about: str
    origin: str
    licence: str
    files: tuple[DataFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def known_sets() -> dict[str, DataSet]:
    """All known sets by name."""
    rows = yaml.safe_load((files(__package__) / "registry.yaml").read_text())
    return {name: _data_set(name, row) for name, row in rows.items()}


def _data_set(name: str, row: dict[str, Any]) -> DataSet:
    base = row.get("base")
    found = tuple(
        DataFile(file, f["sha256"], f["size"], f.get("url") or (base and base + file))
        for file, f in row["files"].items()
    )
    return DataSet(name, row["about"], row["origin"], row["licence"], found)


def fetch(name: str, cache: str | os.PathLike[str] | None = None) -> list[Path]:
    """Paths of a set's files, from this machine where they are there, else from their origin.

    :param cache: folder for downloads; the user's cache folder if None.
    :raises InputError: if there is no such set, a file has no address, or what came is not what was expected.
    """
    chosen, folder = _named(name), _cache(cache) / name
    present = find(name, cache)
    missing = next((f for f in chosen.files if f.name not in present and f.url is None), None)
    if missing is not None:
        raise InputError(
            f"{name}: no address known for {missing.name}; get it from {chosen.origin} and name its folder in {FOLDERS}"
        )
    return [present.get(file.name) or _download(file, folder) for file in chosen.files]


def find(name: str, cache: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """Those of a set's files that are on this machine, by name; never uses the network."""
    by_size: dict[int, list[DataFile]] = {}
    for file in _named(name).files:
        by_size.setdefault(file.size, []).append(file)
    folders = [_cache(cache) / name, *map(Path, filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)))]
    found: dict[str, Path] = {}
    for path, size in _walk(folders):
        wanted = [file for file in by_size.get(size, []) if file.name not in found]
        digest = sha256(path) if wanted else ""
        found |= {file.name: path for file in wanted if file.sha256 == digest}
    return found


def _walk(folders: list[Path]) -> Iterator[tuple[Path, int]]:
    """Readable files and their sizes."""
    for folder in folders:
        for root, _, names in os.walk(folder):
            for path in (Path(root, name) for name in sorted(names)):
                if path.is_file() and os.access(path, os.R_OK):
                    yield path, path.stat().st_size


def _named(name: str) -> DataSet:
    known = known_sets()
    if name not in known:
        raise InputError(f"{name!r} is no data set, expected one of {', '.join(known)}")
    return known[name]


def _cache(folder: str | os.PathLike[str] | None) -> Path:
    return Path(folder) if folder is not None else Path(require("pooch", "data").os_cache("resolvent"))


def _download(file: DataFile, folder: Path) -> Path:
    import requests

    try:
        kept = require("pooch", "data").retrieve(
            file.url, f"sha256:{file.sha256}", file.name, folder, downloader=_resume
        )
    except requests.RequestException as error:
        raise InputError(f"{file.url}: cannot be had ({type(error).__name__}); the same command goes on") from error
    except ValueError as error:
        raise InputError(f"{file.url}: is another file than when it was registered, expected {file.sha256}") from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error
    return Path(kept)


def _resume(url: str, output_file: str, _: Any) -> None:
    """pooch's downloader: what has come is kept beside the target in ``….part``, and the rest asked for."""
    import requests

    part = Path(output_file).with_name(f".{Path(url).name}.part")
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code != requests.codes.requested_range_not_satisfiable:
            response.raise_for_status()
            goes_on = response.status_code == requests.codes.partial_content
            with part.open("ab" if goes_on else "wb") as file:
                for block in response.iter_content(BLOCK):
                    file.write(block)
    part.replace(output_file)
