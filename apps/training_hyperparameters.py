"""``resolvent train … --tune NAME=LOW:HIGH …``: which hyperparameters are learned, and what they do to a batch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from ..priors import Corruption, Decades, Hyperparameters, Interval, Range
from .arguments import brief
from .cli import UsageError

#: What may be tuned besides the noise's arguments, and between which values.
LIMITS = {"dropout": (0.0, 1.0), "weight_decay": (0.0, float("inf")), "augmentation": (0.0, 1.0)}
NOISE = "noise."
NUMBER = r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?"
WORD = re.compile(rf"([\w.]+)=({NUMBER}):({NUMBER})(?::({NUMBER}))?")


def hyperparameters(words: Sequence[str], noise: Corruption, arguments: Mapping[str, Any]) -> Hyperparameters:
    """The hyperparameters of the option's words, at the middles of their ranges where no start is given.

    :param noise: the corruption, and ``arguments`` those of its constructor, whose numbers may be tuned.
    :raises UsageError: if a word names no hyperparameter, or values that it cannot have.
    """
    ranges: dict[str, Range] = {}
    starts: dict[str, float] = {}
    for word in words:
        name, low, high, start = _parts(word)
        ranges[name] = _range(word, name, low, high, arguments)
        try:
            starts[name] = float(ranges[name](torch.zeros(()))) if start is None else start
            ranges[name].inverse(starts[name])
        except ValueError as error:
            raise UsageError(f"--tune {word}: {error}") from error
    _check_noise([_parts(word)[:3] for word in words], noise, arguments)
    return Hyperparameters(ranges, starts)


def with_arguments(noise: Corruption, arguments: Mapping[str, Any], values: Mapping[str, float]) -> Corruption:
    """The corruption with those of its arguments replaced that are among the hyperparameters."""
    tuned = {name.removeprefix(NOISE): v for name, v in values.items() if name.startswith(NOISE)}
    return type(noise)(**{**arguments, **tuned}) if tuned else noise


def augmented(clean: Tensor, values: Mapping[str, float], generator: Generator) -> Tensor:
    r"""The image times a gain drawn from :math:`\mathcal{U}(1 - a, 1 + a)`, a the strength of the augmentation."""
    if "augmentation" not in values:
        return clean
    return clean * (1 + values["augmentation"] * (2 * torch.rand((), generator=generator) - 1))


def rows(values: Mapping[str, Tensor], count: int) -> list[dict[str, float]]:
    """Each image's hyperparameters."""
    if not values:
        return [{}] * count
    return [dict(zip(values, row, strict=True)) for row in zip(*(v.tolist() for v in values.values()), strict=True)]


def _parts(word: str) -> tuple[str, float, float, float | None]:
    found = WORD.fullmatch(word)
    if not found:
        raise UsageError(f"--tune: found {word!r}, expected NAME=LOW:HIGH or NAME=LOW:HIGH:START")
    name, low, high, start = found.groups()
    return name, float(low), float(high), None if start is None else float(start)


def _range(word: str, name: str, low: float, high: float, arguments: Mapping[str, Any]) -> Range:
    known = [NOISE + key for key, value in arguments.items() if isinstance(value, int | float)]
    if name not in LIMITS and name not in known:
        raise UsageError(f"--tune: found {name!r}, expected one of {', '.join([*LIMITS, *known])}")
    least, most = LIMITS.get(name, (-float("inf"), float("inf")))
    if not least <= low < high < most:
        raise UsageError(f"--tune {word}: found {low:g}:{high:g}, expected {least:g} <= LOW < HIGH < {most:g}")
    try:
        return Decades(low, high) if name == "weight_decay" else Interval(low, high)
    except ValueError as error:
        raise UsageError(f"--tune {word}: {error}") from error


def _check_noise(bounds: Sequence[tuple[str, float, float]], noise: Corruption, arguments: Mapping[str, Any]) -> None:
    """Refuse ranges some of whose values the corruption refuses."""
    for corner in itertools.product(*([(name, low), (name, high)] for name, low, high in bounds)):
        try:
            with_arguments(noise, arguments, dict(corner))
        except ValueError as error:
            raise UsageError(f"--tune: {brief(error)} at every value of the ranges") from error
