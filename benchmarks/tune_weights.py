"""Tuned weights beside the best of a fine grid, and what a missing truth costs.

An MRI slice (the phantom, total variation and wavelets) and a radar scene (blobs, sparsity plus total variation along
the grid), each reconstructed by FISTA. The grid has one solve for each of its weights, to the accuracy at which the
tuning ends; its best is the reference. The gap is that of PSNR, 10 log10 of the mean square errors' ratio, on the files
tuned on; cost counts gradients of the lower level and products with its derivative. Seeds are fixed, times are not
measured.

    python benchmarks/tune_weights.py [--only "MRI, TV" …] [--size 64] [--frequencies 5] [--points 25] [--steps 25]
        [--out FILE.md]
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from _timing import main, shown, table

from resolvent.apps import cli

SCENES = ("MRI, wavelets", "MRI, TV", "radar, L1", "radar, TV")
LOSSES = ("MeanSquare", "SURE", "DiscrepancyPrinciple", "HeldOut")
EPS = 1e-4
#: Share of the loss that a step must promise; the verb's own.
GAIN = 5e-3


def scenes(folder: Path, size: int, frequencies: int) -> dict[str, tuple[Path, dict, str]]:
    """Name to file, prior and the weight's name."""
    scan, scene = folder / "mri.h5", folder / "radar.h5"
    run(["simulate", "mri", "--size", size, "--coils", 1, "--acceleration", 2, "--snr", 20, "--out", scan])
    run(["simulate", "near-field", "--n_frequencies", frequencies, "--snr", 15, "--out", scene])
    wavelets = {"class_path": "InWavelets", "init_args": {"prior": kind("L1", weight=0.1)}}
    found = (
        (scan, wavelets, "prior.prior.weight"), (scan, kind("TV", weight=0.1, iterations=10), "prior.weight"),
        (scene, kind("L1", weight=0.1), "prior.weight"), (scene, kind("TV", weight=0.1, iterations=5), "prior.weight"),
    )  # fmt: skip
    return dict(zip(SCENES, found, strict=True))


def kind(name: str, **arguments: float) -> dict:
    """A class as configuration files name it."""
    return {"class_path": name, "init_args": arguments}


def run(arguments: list[object]) -> None:
    """One command."""
    code = cli.main([str(a) for a in arguments])
    if code:
        raise SystemExit(code)


def tune(scene: tuple[Path, dict, str], out: Path, method: dict, loss: str, steps: int) -> list[dict]:
    """The log of one run."""
    source, prior, name = scene
    axes = [-2, -1] if "radar" in source.stem else [-1]
    settings = {
        "prior": prior, "solver": kind("FISTA", max_iter=2000), "strength": "universal", "method": method,
        "loss": kind(loss, axes=axes) if loss == "HeldOut" else kind(loss),
    }  # fmt: skip
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    run(["tune", source, "--config", config, "--parameter", name, "--steps", steps, "--out", out, "--report", "false"])
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def error_at(scene: tuple[Path, dict, str], weight: float, out: Path) -> float:
    """The mean square error of the image of one weight: a grid of a point beside it."""
    at = math.log(weight)
    log = tune(scene, out, grid(at, at + 1, 2), "MeanSquare", 2)
    return min((abs(line["parameters"][scene[2]] - best), line["loss"]) for line in log for best in (weight,))[1]


def grid(low: float, high: float, points: int) -> dict:
    """Weights equally spaced by their logarithm."""
    return kind("Grid", low=low, high=high, points=points, eps=EPS)


def rows(
    name: str, scene: tuple[Path, dict, str], folder: Path, points: int, steps: int, ends: tuple[float, float] = (-6, 2)
) -> Iterator[list[str]]:
    """The grid between ``ends``, then every loss."""
    searched = tune(scene, folder / f"{name} grid", grid(*ends, points), "MeanSquare", points + 1)
    best, cost = searched[-1]["loss"], searched[-1]["cost"]
    yield row(name, "grid of the truth", searched[-1]["parameters"][scene[2]], 0.0, 1.0, "-")
    for loss in LOSSES:
        method = kind("AcceleratedMAID", eps=EPS, delta=1e-2, gain=GAIN)
        log = tune(scene, folder / f"{name} {loss}", method, loss, steps)
        weight = log[-1]["parameters"][scene[2]]
        error = error_at(scene, weight, folder / f"{name} {loss} error")
        enough = next(line["cost"] for line in log if close(line["parameters"][scene[2]], weight))
        gap = 10 * math.log10(error / best)
        yield row(name, loss, weight, gap, log[-1]["cost"] / cost, f"{enough / cost:.2f}")


def close(a: float, b: float) -> bool:
    """Whether two weights are within a tenth."""
    return abs(math.log(a / b)) < 0.1


def row(name: str, loss: str, weight: float, gap: float, cost: float, enough: str) -> list[str]:
    """One line of the table."""
    return [name, loss, f"{weight:.4g}", f"{gap:+.3f}", f"{cost:.2f}", enough]


HEAD = ("scene, prior", "loss", "weight", "gap (dB)", "cost over the grid's", "until within 10%")


def report(only: Sequence[str], size: int, frequencies: int, points: int, steps: int) -> str:
    """All scenes, or some by name."""
    with tempfile.TemporaryDirectory() as folder:
        found = {k: v for k, v in scenes(Path(folder), size, frequencies).items() if k in only}
        lines = shown(r for name, scene in found.items() for r in rows(name, scene, Path(folder), points, steps))
    return table(HEAD, lines)


if __name__ == "__main__":
    main(report, threads=1, parts=SCENES, size=64, frequencies=5, points=25, steps=25)
