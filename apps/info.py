"""``resolvent info FILE…``: what a file is, by its content, and whether it is sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..datasets import Arrays, InputError, load_measurement, load_result, printable, read_arrays, recognise
from ..datasets.hdf5 import begins, is_hdf5, reading, text
from ..datasets.kspace import acceleration, batched, calibration_block, sampling_mask
from ..datasets.result import finite
from ..operators import Operator
from ..priors.weights_file import read_description
from .arguments import new_parser, parse
from .kspace_files import with_axis

READERS = {
    "resolvent-measurement": lambda path: describe_measurement(path),
    "resolvent-result": lambda path: describe_result(path),
}


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = new_parser("info", "Say what a file is and whether it is sound.")
    parser.add_argument("files", nargs="+", help="measurements, results, trained weights, or files of other programs")
    parser.add_argument("--json", type=bool, default=False, help="one JSON object per file")
    config = parse(parser, argv)
    failures = []
    for name in config.files:
        try:
            facts = {"file": name, **describe(Path(name))}
        except InputError as error:
            if len(config.files) == 1:
                raise
            facts = {"file": name, "unsound": str(error)}
            failures.append(error)
        print(json.dumps(finite(facts), default=str) if config.json else _table(facts))
    if failures:
        raise InputError(f"files: {len(failures)} of {len(config.files)} are unsound; the first: {failures[0]}")
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Facts about a file of a format this program knows."""
    if begins(path)[8:10] == b'{"':
        return {"format": "safetensors", **describe_weights(path)}
    found = own_format(path)
    if found is None:
        return {"format": recognise(path).name, **describe_arrays(read_arrays(path))}
    if found not in READERS:
        raise InputError(f"{path}: attribute 'format' is {found!r}, expected one of {', '.join(READERS)}")
    return {"format": found, **READERS[found](path)}


def own_format(path: Path) -> str | None:
    """The attribute by which this program's HDF5 files are known; None of other files."""
    if not is_hdf5(begins(path), path):
        return None
    with reading(path) as file:
        return text(file.attrs["format"]) if "format" in file.attrs else None


def describe_measurement(path: Path) -> dict[str, Any]:
    """Shapes, units, noise level and the method a reconstruction would use."""
    m = load_measurement(path)
    facts: dict[str, Any] = {"operator": type(m.physics).__name__, "data": _array(m.y)}
    facts["image"] = " x ".join(map(str, (len(m.y), *m.physics.image_shape)))
    facts |= _geometry(m.physics)
    facts["x_update"] = m.physics.x_update
    facts["noise_std"] = m.noise_std if m.noise_std is not None else "not stated"
    facts["truth"] = "known" if m.truth is not None else "not known"
    return facts | {f"meta.{k}": v for k, v in m.meta.items()}


def _geometry(physics: Operator) -> dict[str, Any]:
    """The operator's arguments; those of an operator within it by dotted names."""
    facts: dict[str, Any] = {}
    for name, value in physics.geometry().items():
        if isinstance(value, torch.Tensor):
            facts[name] = _array(value, physics.units.get(name, ""))
        elif isinstance(value, Operator):
            facts |= {name: type(value).__name__} | {f"{name}.{k}": v for k, v in _geometry(value).items()}
        elif value is not None:
            facts[name] = f"{value} {physics.units.get(name, '')}".strip()
    return facts


def describe_result(path: Path) -> dict[str, Any]:
    """The record of a reconstruction."""
    result = load_result(path)
    keys = (
        "operator", "solver", "groups", "order", "status", "iterations", "seconds", "metrics", "warnings", "version",
        "input",
    )  # fmt: skip
    more = {name: getattr(result, name) for name in ("std", "mask")}
    facts = {name: _array(value) for name, value in {"image": result.image, **more}.items() if value is not None}
    if result.window is not None and result.framed().image.shape != result.image.shape:
        facts["frame"] = ", ".join(f"{a} to {b - 1}" for a, b in result.window.tolist())
    return facts | {k: result.record[k] for k in keys if k in result.record}


def describe_weights(path: Path) -> dict[str, Any]:
    """What a file of trained weights says of itself."""
    try:
        facts = read_description(path)
    except ValueError as error:
        raise InputError(str(error)) from error
    return {k: json.dumps(v) if isinstance(v, dict) else v for k, v in facts.items() if k not in ("format", "data")}


def describe_arrays(found: Arrays) -> dict[str, Any]:
    """Shape, type and range of each array, of k-space what was sampled; then what else the file says."""
    facts: dict[str, Any] = {}
    for name, value in found.arrays.items():
        facts[name] = _array(value)
        if value.is_complex() and 2 <= value.ndim <= 5:
            facts |= {f"{name}.{k}": v for k, v in _sampling(value, found.facts).items()}
    return facts | {k: v for k, v in found.facts.items() if k not in facts}


def _sampling(value: torch.Tensor, facts: dict[str, Any]) -> dict[str, Any]:
    """Which share of a complex array is not zero; where some is, what this means if it is k-space."""
    axis = facts.get("coil_axis")
    value = value if axis is None else with_axis(value, axis)
    mask = sampling_mask(batched(value, facts.get("coil_axis", _coil_axis(value)), facts.get("batch_axis")))
    if bool(mask.all()):
        return {}
    block = " x ".join(map(str, calibration_block(mask if mask.ndim <= 3 else mask[0, 0])))
    return {"sampled": f"{1 / acceleration(mask):.4g} (acceleration {acceleration(mask):.3g})", "calibration": block}


def _coil_axis(value: torch.Tensor) -> int | None:
    """The shortest of three or more axes."""
    return min(range(value.ndim), key=lambda axis: value.shape[axis]) if value.ndim > 2 else None


def _array(value: torch.Tensor, unit: str = "") -> str:
    shape = " x ".join(map(str, value.shape)) or "one"
    return f"{shape} {str(value.dtype).removeprefix('torch.')}{_range(value)} {unit}".strip()


def _range(value: torch.Tensor) -> str:
    """From the least to the greatest finite value, of complex numbers of their magnitudes."""
    size = value.abs() if value.is_complex() else value
    finite = size[torch.isfinite(size)]
    if not finite.numel():
        return ", empty" if not value.numel() else ", nothing finite"
    bad = value.numel() - finite.numel()
    spread = f", {'magnitude ' * value.is_complex()}{float(finite.min()):.6g} to {float(finite.max()):.6g}"
    return spread + (f", {bad} not finite" if bad else "")


def _table(facts: dict[str, Any]) -> str:
    shown = {printable(k): printable(v, 500) for k, v in facts.items()}
    width = min(40, max(map(len, shown)))
    return "\n".join(f"{k:<{width}}  {v}" for k, v in shown.items()) + "\n"
