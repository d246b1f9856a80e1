"""What tells whether a run is the same as another: its parts, the bytes of the files it reads, and the version."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..datasets import InputError
from ..datasets.hdf5 import begins, sha256


def fingerprint_of(*parts: Any) -> str:
    """SHA-256 of what a result depends on, as JSON has it, and of the version."""
    return hashlib.sha256(json.dumps([*parts, version("resolvent")], sort_keys=True).encode()).hexdigest()


def files_of(settings: Any) -> dict[str, str]:
    """Every file that the settings name, weights, tensors and first images, with its SHA-256."""
    if isinstance(settings, dict | list):
        parts = settings.values() if isinstance(settings, dict) else settings
        return {file: digest for part in parts for file, digest in files_of(part).items()}
    return {settings: sha256(settings)} if isinstance(settings, str) and Path(settings).is_file() else {}


def digest_of(source: Path) -> str:
    """SHA-256 of a file.

    :raises InputError: if it cannot be read.
    """
    begins(source)
    try:
        return sha256(source)
    except OSError as error:
        raise InputError(f"{source}: cannot be read ({error.strerror}), expected a measurement file") from error
