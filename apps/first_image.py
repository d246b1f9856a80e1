"""The image that a reconstruction begins with, if it is that of an earlier result."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..datasets import InputError, load_result
from ..recon import Problem


def named(start: str | None, source: Path) -> dict[str, str]:
    """The setting that names a file's first result, if any: ``start`` itself, in a folder the result of its name."""
    if start is None:
        return {}
    return {"start": str(Path(start) / f"{source.stem}.h5" if Path(start).is_dir() else start)}


def first_image(start: str | None, source: Path, problem: Problem) -> Tensor | None:
    """The image of the result ``start``, as precise as the data ``source`` ask, and where they are.

    :raises InputError: if that is no result, or its image is of another kind than the data's.
    """
    if start is None:
        return None
    image, expected = load_result(start).image, problem.back_projection
    if image.shape != expected.shape or (image.is_complex() and not expected.is_complex()):
        raise InputError(f"{start}: found {_kind(image)}, expected {_kind(expected)} to begin with, as {source} has")
    return image.to(expected)


def _kind(image: Tensor) -> str:
    return f"{'complex' if image.is_complex() else 'real'} images {tuple(image.shape)}"
