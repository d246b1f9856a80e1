"""Result files: the image and everything needed to make it again, in one HDF5.

/                 format = "resolvent-result", version = 1, record (JSON)
/image            (batch, C, *spatial)
/truth            the same shape, optional
/std              the same shape, real: standard deviation of the samples whose mean the image is, optional
/window           (spatial axes, 2): first index inside the frame of what was measured and first beyond it, optional
/mask             (*data_shape): which data were measured, of an acquisition, optional
/axes/<name>      voxel coordinates with unit, optional
/history/<name>   (iterations, batch)
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .errors import InputError
from .hdf5 import check_format, read_tensor, reading, stored_text, text, to_numpy, writing

FORMAT, VERSION = "resolvent-result", 1
#: Tensors that not every result has.
OPTIONAL = ("truth", "std", "mask", "window")


@dataclass(frozen=True)
class Result:
    """A reconstruction and its record.

    :param image: ``(B, C, *spatial)``.
    :param history: per name, numbers ``(iterations, B)``.
    :param record: JSON-like: ``input`` (path, sha256), ``config``, ``version``, ``seed``, ``threads``,
        ``device``, ``status``, ``metrics``, ``warnings``, ``seconds``, ``fingerprint``.
    :param std: of the samples whose mean the image is, ``(B, C, *spatial)``, real.
    :param mask: which data were measured, ``(*data_shape)``, if the run chose them; ``record["order"]`` says when.
    :param window: the part of each spatial axis that lies inside the frame of what was measured, start and stop,
        integers ``(spatial axes, 2)``; all of it if None.
    :param axes: voxel coordinates per spatial axis, in metres, if the operator has them.
    """

    image: Tensor
    history: dict[str, Tensor] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    truth: Tensor | None = None
    axes: dict[str, Tensor] = field(default_factory=dict)
    std: Tensor | None = None
    mask: Tensor | None = None
    window: Tensor | None = None

    def upright(self) -> Result:
        """Image, truth and standard deviation with all axes ascending, as programs without axes take them to be."""
        downward = descending(self.axes)
        found = {"image": self.image, "truth": self.truth, "std": self.std}
        turned = {name: values.flip(downward) for name, values in found.items() if values is not None}
        return replace(self, **turned, axes=ascending(self.axes))

    def framed(self) -> Result:
        """Image, truth and standard deviation cut to the frame of what was measured."""
        if self.window is None:
            return self
        inside = (..., *(slice(*ends) for ends in self.window.tolist()))
        found = {"image": self.image, "truth": self.truth, "std": self.std}
        cut = {name: values[inside] for name, values in found.items() if values is not None}
        return replace(self, **cut, window=None)


def finite(value: Any) -> Any:
    """JSON-like ``value`` with null for what JSON has no number for."""
    if isinstance(value, Mapping):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def in_order(axes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Axes in the order of an image's: x, y, z of a volume; of a flat image rows first, as z before x."""
    names = sorted(axes, reverse=len(axes) == 2)
    return {name: axes[name] for name in names}


def descending(axes: Mapping[str, Tensor]) -> list[int]:
    """Places, from the last, of an image's axes whose coordinates fall."""
    return [i - len(axes) for i, v in enumerate(in_order(axes).values()) if _falls(v)]


def ascending(axes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The axes, turned where they fall."""
    return {name: values.flip(0) if _falls(values) else values for name, values in axes.items()}


def _falls(values: Tensor) -> bool:
    return len(values) > 1 and bool((values.diff() < 0).all())


def save_result(path: str | os.PathLike[str], result: Result) -> None:
    """Write a result file, whole or not at all."""
    with writing(path) as file:
        record = {name: finite(value) if name == "metrics" else value for name, value in result.record.items()}
        record = stored_text(json.dumps(record))
        file.attrs.update(format=stored_text(FORMAT), version=VERSION, record=record)
        file["image"] = to_numpy(result.image)
        for name in OPTIONAL:
            if getattr(result, name) is not None:
                file[name] = to_numpy(getattr(result, name))
        for name, values in result.axes.items():
            file[f"axes/{name}"] = to_numpy(values)
            file[f"axes/{name}"].attrs["unit"] = stored_text("m")
        for name, values in result.history.items():
            file[f"history/{name}"] = to_numpy(values)


def load_result(path: str | os.PathLike[str]) -> Result:
    """Read a result file.

    :raises InputError: if it is not one.
    """
    path = Path(path)
    with reading(path) as file:
        check_format(path, file, FORMAT, VERSION)
        if "image" not in file:
            raise InputError(f"{path}: '/image' is missing")
        groups = {name: dict(file[name]) if name in file else {} for name in ("axes", "history")}
        try:
            record = dict(json.loads(text(file.attrs.get("record", "{}"))))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: attribute 'record' is not a JSON object ({error})") from error
        found = Result(
            image=read_tensor(path, file["image"]),
            history={name: read_tensor(path, item) for name, item in groups["history"].items()},
            record=_with_nan(record),
            axes={name: read_tensor(path, item) for name, item in groups["axes"].items()},
            **{name: read_tensor(path, file[name]) for name in OPTIONAL if name in file},
        )
    _check_window(path, found)
    return found


def _with_nan(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose numbers per image are all numbers again."""
    metrics = record.get("metrics")
    if not isinstance(metrics, dict):
        return record
    known = {
        name: [math.nan if v is None else v for v in values]
        for name, values in metrics.items()
        if isinstance(values, list)
    }
    return record | {"metrics": metrics | known}


def _check_window(path: Path, result: Result) -> None:
    if result.window is None:
        return
    ends, lengths = result.window.tolist(), result.image.shape[2:]
    fits = result.window.shape == (len(lengths), 2) and not result.window.is_floating_point()
    if not fits or not all(0 <= a < b <= n for (a, b), n in zip(ends, lengths, strict=True)):
        expected = f"a start and a stop for each axis of images {tuple(lengths)}"
        raise InputError(f"{path}: '/window': found {ends}, expected {expected}")
