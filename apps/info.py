"""``resolvent info FILE…``: what a file is, by its content, and whether it is sound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from ..datasets import InputError, load_measurement, load_result
from ..datasets.hdf5 import reading, text
from .arguments import new_parser, parse

READERS = {
    "resolvent-measurement": lambda path: describe_measurement(path),
    "resolvent-result": lambda path: describe_result(path),
}


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = new_parser("info", "Say what a file is and whether it is sound.")
    parser.add_argument("files", nargs="+", help="measurement or result files")
    parser.add_argument("--json", action="store_true", help="one JSON object per file")
    config = parse(parser, argv)
    for name in config.files:
        facts = {"file": name, **describe(Path(name))}
        print(json.dumps(facts) if config.json else _table(facts))
    return 0


def describe(path: Path) -> dict[str, Any]:
    """Facts about a file of a format this program knows."""
    with reading(path) as file:
        found = text(file.attrs.get("format", "none"))
    if found not in READERS:
        raise InputError(f"{path}: attribute 'format' is {found!r}, expected one of {', '.join(READERS)}")
    return {"format": found, **READERS[found](path)}


def describe_measurement(path: Path) -> dict[str, Any]:
    """Shapes, units, noise level and the method a reconstruction would use."""
    m = load_measurement(path)
    facts: dict[str, Any] = {"operator": type(m.physics).__name__, "data": _array(m.y)}
    facts["image"] = f"{len(m.y)} x {m.physics.image_shape}"
    for name, value in m.physics.geometry().items():
        if isinstance(value, torch.Tensor):
            facts[name] = _array(value, m.physics.units.get(name, ""))
        elif value is not None:
            facts[name] = f"{value} {m.physics.units.get(name, '')}".strip()
    facts["x_update"] = getattr(m.physics, "x_update", "CG")
    facts["noise_std"] = m.noise_std if m.noise_std is not None else "not stated"
    facts["truth"] = "known" if m.truth is not None else "not known"
    return facts | {f"meta.{k}": v for k, v in m.meta.items()}


def describe_result(path: Path) -> dict[str, Any]:
    """The record of a reconstruction."""
    result = load_result(path)
    keys = ("operator", "solver", "status", "iterations", "seconds", "metrics", "warnings", "version", "input")
    return {"image": _array(result.image)} | {k: result.record[k] for k in keys if k in result.record}


def _array(value: torch.Tensor, unit: str = "") -> str:
    shape = " x ".join(map(str, value.shape))
    spread = f", {float(value.min()):.6g} to {float(value.max()):.6g} {unit}" if value.dtype.is_floating_point else ""
    return f"{shape} {str(value.dtype).removeprefix('torch.')}{spread}".strip()


def _table(facts: dict[str, Any]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{k:<{width}}  {v}" for k, v in facts.items()) + "\n"
