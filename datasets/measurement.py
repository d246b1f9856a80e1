"""Measurement files: data, the operator that made them, noise level, truth and provenance in one HDF5.

    /                 format = "resolvent-measurement", version = 1, created_by, meta (JSON)
    /data             (batch, *data_shape); attribute noise_std if known
    /physics          attribute operator = class name; one dataset per constructor argument, with unit
    /truth            (batch, *image_shape), optional

The format is described for writers in other languages in ``docs/measurement-format.md``.
"""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from deepinv.physics import GaussianNoise
from torch import Tensor

from .. import operators
from ..operators import Operator
from .arrays import require_memory
from .errors import InputError
from .formats import refuse_other_formats
from .hdf5 import check_format, read_tensor, reading, stored_text, text, to_numpy, writing

FORMAT, VERSION = "resolvent-measurement", 1


@dataclass(frozen=True)
class Measurement:
    """What a measurement file holds.

    :param y: data ``(B, *physics.data_shape)``.
    :param physics: the operator; its noise model carries ``noise_std`` where known.
    :param truth: image ``(B, *physics.image_shape)`` if known.
    :param noise_std: total standard deviation of one sample (of complex noise: both parts together).
    :param meta: free JSON-like information.
    """

    y: Tensor
    physics: Operator
    truth: Tensor | None = None
    noise_std: float | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


def save_measurement(
    path: str | os.PathLike[str],
    y: Tensor,
    physics: Operator,
    truth: Tensor | None = None,
    noise_std: float | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write a measurement file, whole or not at all.

    :param y: data ``(B, *physics.data_shape)`` (a missing batch axis is added).
    :param noise_std: total standard deviation of one sample; that of the operator's Gaussian noise model if None.
    :raises InputError: if shapes, values or noise level do not fit, or the place cannot be written.
    """
    path = Path(path)
    y = _complex(path, _with_batch(path, "data", torch.as_tensor(y), physics.data_shape), physics)
    truth = None if truth is None else _with_batch(path, "truth", torch.as_tensor(truth), physics.image_shape)
    noise_std = _noise_level(path, _stated(path, physics) if noise_std is None else noise_std)
    try:
        note = json.dumps(dict(meta or {}))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: meta holds what JSON cannot ({error})") from error
    with writing(path) as file:
        about = {"format": FORMAT, "created_by": f"resolvent {version('resolvent')}", "meta": note}
        file.attrs.update({key: stored_text(value) for key, value in about.items()}, version=VERSION)
        file["data"] = to_numpy(y)
        if noise_std is not None:
            file["data"].attrs["noise_std"] = noise_std
        _write_physics(file.create_group("physics"), physics)
        if truth is not None:
            file["truth"] = to_numpy(truth)


def _stated(path: Path, physics: Operator) -> float | None:
    """The level of the operator's Gaussian noise, if it has any."""
    model = physics.noise_model
    levels = model.sigma.flatten() if isinstance(model, GaussianNoise) else torch.zeros(1)
    if len(levels.unique()) > 1:
        raise InputError(f"{path}: found {len(levels)} noise levels, expected one; state it as noise_std")
    return float(levels[0]) or None


def load_measurement(path: str | os.PathLike[str]) -> Measurement:
    """Read a measurement file and rebuild its operator.

    :raises InputError: for anything that is not a valid, complete, finite measurement.
    """
    path = Path(path)
    refuse_other_formats(path, "resolvent measurement")
    with reading(path) as file:
        check_format(path, file, FORMAT, VERSION)
        for name in ("data", "physics"):
            if name not in file:
                raise InputError(f"{path}: '/{name}' is missing")
        physics = _read_physics(path, file["physics"])
        needed = 10 * 16 * math.prod(physics.image_shape)
        require_memory(f"{path}: a grid of {' x '.join(map(str, physics.image_shape[1:]))} voxels", needed)
        y = _complex(path, _with_batch(path, "data", read_tensor(path, file["data"]), physics.data_shape), physics)
        truth = None
        if "truth" in file:
            truth = _with_batch(path, "truth", read_tensor(path, file["truth"]), physics.image_shape)
        noise_std = _noise_level(path, file["data"].attrs.get("noise_std"))
        meta = _read_meta(path, file)
    if noise_std:
        physics.noise_model = GaussianNoise(sigma=noise_std)
    return Measurement(y, physics, truth, noise_std, meta)


def _write_physics(group: h5py.Group, physics: Operator) -> None:
    group.attrs["operator"] = stored_text(type(physics).__name__)
    for name, value in physics.geometry().items():
        if isinstance(value, Operator):
            _write_physics(group.create_group(name), value)
        elif value is not None:
            group[name] = values = to_numpy(value)
            if values.dtype.kind in "fc" and (bad := int((~np.isfinite(values)).sum())):
                raise InputError(f"{group.file.filename}: {name} has {bad} NaN or infinite values, expected none")
            if name in physics.units:
                group[name].attrs["unit"] = stored_text(physics.units[name])


def _read_physics(path: Path, group: h5py.Group) -> Operator:
    name = text(group.attrs.get("operator", "none"))
    known = {n: c for n, c in vars(operators).items() if isinstance(c, type) and issubclass(c, Operator)}
    if name not in known or known[name] is Operator:
        names = ", ".join(sorted(n for n in known if n != "Operator"))
        raise InputError(f"{path}: operator is {name!r}, expected one of {names}")
    kind = known[name]
    _check_arguments(path, group, kind)
    arguments = {key: _read_argument(path, group, key, kind) for key in group}
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {name}: {error}") from error


def _check_arguments(path: Path, group: h5py.Group, kind: type[Operator]) -> None:
    parameters = [p for p in inspect.signature(kind).parameters.values() if p.kind is not p.VAR_KEYWORD]
    allowed = {p.name for p in parameters}
    for key in group:
        if key not in allowed:
            raise InputError(
                f"{path}: {group.name}/{key} is no argument of {kind.__name__}, expected {sorted(allowed)}"
            )
    for p in parameters:
        if p.default is p.empty and p.name not in group:
            raise InputError(f"{path}: {group.name}/{p.name} is missing, {kind.__name__} needs it")


def _read_argument(path: Path, group: h5py.Group, key: str, kind: type[Operator]) -> Any:
    item = group[key]
    if isinstance(item, h5py.Group):
        return _read_physics(path, item)
    expected, found = kind.units.get(key), item.attrs.get("unit")
    if expected is not None and found is not None and text(found) != expected:
        raise InputError(f"{path}: {item.name} is in {text(found)!r}, expected {expected!r}")
    value = read_tensor(path, item)
    bad = int((~torch.isfinite(value)).sum())
    if bad:
        raise InputError(f"{path}: {item.name} has {bad} NaN or infinite values, expected none")
    return value.item() if value.ndim == 0 else value


def _with_batch(path: Path, what: str, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``value`` as ``(B, *shape)``, finite; leading axes of length one may be missing."""
    bare = tuple(shape)
    while len(bare) > 1 and bare[0] == 1 and len(bare) > value.ndim:
        bare = bare[1:]
    if tuple(value.shape) == bare:
        value = value.reshape(1, *shape)
    if tuple(value.shape[1:]) != tuple(shape) or len(value) == 0:
        raise InputError(
            f"{path}: {what} has shape {tuple(value.shape)}, the geometry expects (batch, {str(shape)[1:-1]})"
        )
    bad = ~torch.isfinite(value)
    if bad.any():
        first = tuple(int(i) for i in bad.nonzero()[0])
        raise InputError(
            f"{path}: {what} has {int(bad.sum())} NaN or infinite values, the first at {first}, expected none"
        )
    return value


def _complex(path: Path, y: Tensor, physics: Operator) -> Tensor:
    """``y``, if it has the imaginary part that the operator's data have."""
    if physics.complex_data and not y.is_complex():
        kind = str(y.dtype).removeprefix("torch.")
        raise InputError(f"{path}: data are {kind}, expected complex numbers of {type(physics).__name__}")
    return y


def _noise_level(path: Path, value: Any) -> float | None:
    if value is None:
        return None
    try:
        level = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: noise_std is {value!r}, expected a number") from error
    if not (math.isfinite(level) and level >= 0):
        raise InputError(f"{path}: noise_std is {level:g}, expected a finite number not below 0")
    return level


def _read_meta(path: Path, file: h5py.File) -> dict[str, Any]:
    try:
        return dict(json.loads(text(file.attrs.get("meta", "{}"))))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: attribute 'meta' is not a JSON object ({error})") from error
