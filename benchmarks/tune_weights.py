"""Tuned weights beside the best of a fine grid, and what a missing truth costs.

An MRI slice (the phantom, total variation and wavelets) and a radar scene (blobs on every other voxel of the paper's
grid, sparsity and total variation), each reconstructed by FISTA. The grid is the same for all: 17 weights from e^-5 to
e, each 1.45 times the one before, one solve for each from the image of the one before, to the accuracy with which the
tuning begins; its best is the reference. The tuning begins at 0.1. The gap is that of PSNR, 10 log10 of the mean square
errors' ratio, on the files tuned on; cost counts gradients of the lower level and products with its derivative. Seeds
are fixed, times are not measured.

    python benchmarks/tune_weights.py [--size 64] [--frequencies 4] [--steps 25] [--only "MRI, TV" …] [--out FILE.md]
"""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from _timing import main, shown, table

from resolvent.apps import cli
from resolvent.apps.simulate import add_noise
from resolvent.datasets import blobs, save_measurement
from resolvent.operators import NearFieldMIMO

SCENES = ("MRI, wavelets", "MRI, TV", "radar, L1", "radar, TV")
#: Logarithms of the grid's ends, and its weights.
LOW, HIGH, POINTS = -5, 1, 17
LOSSES = ("MeanSquare", "SURE", "DiscrepancyPrinciple", "HeldOut")
#: The verb's own accuracies, and the share of the loss that a step must promise.
EPS, DELTA, GAIN = 1e-3, 0.1, 5e-3


def scenes(folder: Path, size: int, frequencies: int) -> dict[str, tuple[Path, dict, str]]:
    """Name to file, prior and the weight's name."""
    scan, scene = folder / "mri.h5", folder / "radar.h5"
    run(["simulate", "mri", "--size", size, "--coils", 1, "--acceleration", 2, "--snr", 20, "--out", scan])
    simulate_radar(scene, frequencies)
    wavelets = {"class_path": "InWavelets", "init_args": {"prior": kind("L1", weight=0.1)}}
    found = (
        (scan, wavelets, "prior.prior.weight"), (scan, kind("TV", weight=0.1, iterations=10), "prior.weight"),
        (scene, kind("L1", weight=0.1), "prior.weight"), (scene, kind("TV", weight=0.1, iterations=5), "prior.weight"),
    )  # fmt: skip
    return dict(zip(SCENES, found, strict=True))


def simulate_radar(path: Path, frequencies: int) -> None:
    """Blobs on 13 x 13 x 25 voxels, data of 12 x 13 antennas at 15 dB."""
    whole = NearFieldMIMO.paper(frequencies)
    axes = [axis[::2] for axis in (whole.x, whole.y, whole.z)]
    physics = NearFieldMIMO(whole.transmitters, whole.receivers, whole.frequencies, *axes)
    truth = blobs(tuple(len(axis) for axis in axes), 0)
    y, noise_std = add_noise(physics.A(truth), 15, 0)
    save_measurement(path, y, physics, truth, noise_std)


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


def grid(low: float = LOW, high: float = HIGH, points: int = POINTS) -> dict:
    """Weights equally spaced by their logarithm."""
    return kind("Grid", low=low, high=high, points=points, eps=EPS)


def search() -> dict:
    """Tuning as the verb does it."""
    return kind("AcceleratedMAID", eps=EPS, delta=DELTA, gain=GAIN)


def rows(name: str, scene: tuple[Path, dict, str], folder: Path, steps: int) -> Iterator[list[str]]:
    """The grid, then every loss."""
    searched = tune(scene, folder / f"{name} grid", grid(), "MeanSquare", POINTS + 1)
    best, cost = searched[-1]["loss"], searched[-1]["cost"]
    yield row(name, "grid of the truth", searched[-1]["parameters"][scene[2]], 0.0, 1.0, "-")
    for loss in LOSSES:
        log = tune(scene, folder / f"{name} {loss}", search(), loss, steps)
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


def report(only: Sequence[str], size: int, frequencies: int, steps: int) -> str:
    """All scenes, or some by name."""
    with tempfile.TemporaryDirectory() as folder:
        found = {k: v for k, v in scenes(Path(folder), size, frequencies).items() if k in only}
        lines = shown(r for name, scene in found.items() for r in rows(name, scene, Path(folder), steps))
    return table(HEAD, lines)


if __name__ == "__main__":
    main(report, threads=1, parts=SCENES, size=64, frequencies=4, steps=25)
