"""The image that a reconstruction begins with: that of an earlier result, or of the modality's own method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from torch import Tensor

from ..datasets import InputError, load_result
from ..recon import Problem
from .defaults import modality, preset_of
from .method import build_solver
from .progress import Reporter

#: In place of a result: the image of the method that the modality has without a prior of one's own.
DEFAULT = "default"


def named(start: str | None, source: Path) -> dict[str, str]:
    """The setting that names a file's first image, if any: ``start`` itself, in a folder the result of its name."""
    if start is None:
        return {}
    return {"start": str(Path(start) / f"{source.stem}.h5" if Path(start).is_dir() else start)}


def first_image(
    parser: ArgumentParser,
    settings: dict[str, Any],
    source: Path,
    problem: Problem,
    noise_std: float | None,
    reporter: Reporter,
) -> Tensor | None:
    """What the settings of ``source`` name to begin with, if anything."""
    start = settings.get("start")
    if start is None:
        return None
    if start != DEFAULT:
        return of_result(start, source, problem)
    method = {"prior": None, "strength": "universal", **preset_of(modality(source))}
    solver, _ = build_solver(parser, method, problem, noise_std)
    with reporter.progress(source, solver.max_iter) as callback:
        return solver.solve(problem.y, problem.physics, callback=callback).image


def of_result(path: str, source: Path, problem: Problem) -> Tensor:
    """The image of a result, as precise as the data of ``source`` ask, and where they are.

    :raises InputError: if there is no result, or its image is of another kind than the data's.
    """
    image, expected = load_result(path).image, problem.back_projection
    if image.shape != expected.shape or (image.is_complex() and not expected.is_complex()):
        raise InputError(f"{path}: found {_kind(image)}, expected {_kind(expected)} to begin with, as {source} has")
    return image.to(expected)


def _kind(image: Tensor) -> str:
    return f"{'complex' if image.is_complex() else 'real'} images {tuple(image.shape)}"
