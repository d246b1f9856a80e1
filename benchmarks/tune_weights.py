"""Tuned weights beside the best of a fine grid, and what a missing truth costs.

An MRI slice (the phantom, total variation and wavelets) and a radar scene (blobs on every other voxel of the paper's
grid, sparsity and total variation), each reconstructed by FISTA. The grid is the same for all: 61 weights from e^-5 to
e, each 1.1 times the one before, as fine as the weights are compared; its best is the reference. It is solved twice:
each weight from the image of the one before, and, as 61 reconstructions would be, from nothing (the mean of every
fifth, 61 times); to the accuracy with which the tuning begins, in at most as many steps as a reconstruction has.
Images of the radar do not come to rest in those, and always begin from nothing. Tuning begins at 0.1; the search with
derivatives ends at a quarter of the cost of the 61 reconstructions at the latest. The gap is that of PSNR, 10 log10 of
the mean square errors' ratio, on the files tuned on; cost counts gradients of the lower level and products with its
derivative. Seeds are fixed, times are not measured.

    python benchmarks/tune_weights.py [--size 64] [--frequencies 4] [--steps 25] [--only "MRI, TV" …] [--out FILE.md]
"""

import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from _timing import main, shown, table

from resolvent.apps import cli
from resolvent.apps.simulate import add_noise
from resolvent.datasets import blobs, save_measurement
from resolvent.operators import NearFieldMIMO

SCENES = ("MRI, wavelets", "MRI, TV", "radar, L1", "radar, TV")
#: Logarithms of the grid's ends, and its weights.
LOW, HIGH, POINTS = -5, 1, 61
START = 0.1
#: Of the grid's weights one of so many is solved from nothing.
EVERY = 5
LOSSES = ("MeanSquare", "SURE", "DiscrepancyPrinciple", "HeldOut")
#: The verb's own accuracies, and the share of the loss that a step must promise.
EPS, DELTA, GAIN = 1e-3, 0.1, 5e-3


class Scene(NamedTuple):
    """A file, the prior of a weight, its name, steps of a reconstruction, and axes along which data are held out."""

    source: Path
    prior: Callable[[float], dict]
    name: str
    max_iter: int = 2000
    axes: tuple[int, ...] = (-1,)


def scenes(folder: Path, size: int, frequencies: int) -> dict[str, Scene]:
    """By name."""
    scan, scene = folder / "mri.h5", folder / "radar.h5"
    run(["simulate", "mri", "--size", size, "--coils", 1, "--acceleration", 2, "--snr", 20, "--out", scan])
    simulate_radar(scene, frequencies)
    few = {"max_iter": 300, "axes": (-2, -1)}
    found = (
        Scene(scan, lambda w: kind("InWavelets", prior=kind("L1", weight=w)), "prior.prior.weight"),
        Scene(scan, lambda w: kind("TV", weight=w, iterations=10), "prior.weight"),
        Scene(scene, lambda w: kind("L1", weight=w), "prior.weight", **few),
        Scene(scene, lambda w: kind("TV", weight=w, iterations=5), "prior.weight", **few),
    )
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


def tune(
    scene: Scene,
    out: Path,
    method: dict,
    loss: str,
    weight: float = START,
    steps: int = POINTS + 1,
    budget: float = math.inf,
) -> list[dict]:
    """The log of one run that begins at a weight."""
    settings = {
        "prior": scene.prior(weight), "solver": kind("FISTA", max_iter=scene.max_iter),
        "strength": "universal", "method": method, "steps": steps, "budget": budget, "report": False,
        "loss": kind(loss, axes=list(scene.axes)) if loss == "HeldOut" else kind(loss),
    }  # fmt: skip
    config = out.with_suffix(".yaml")
    config.write_text(yaml.safe_dump(settings))
    run(["tune", scene.source, "--config", config, "--parameter", scene.name, "--out", out])
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def alone(scene: Scene, weight: float, out: Path) -> dict:
    """What one weight's image, solved from nothing, comes to."""
    nearby = grid(math.log(weight), math.log(weight) + 1e-3, 2)
    return tune(scene, out.with_name(f"{out.name} {weight:.6g}"), nearby, "MeanSquare", weight, steps=1)[0]


def reconstructions(scene: Scene, out: Path) -> float:
    """What the grid costs if every weight begins from nothing."""
    weights = [math.exp(LOW + i * (HIGH - LOW) / (POINTS - 1)) for i in range(0, POINTS, EVERY)]
    return POINTS * statistics.fmean(alone(scene, weight, out)["cost"] for weight in weights)


def grid(low: float = LOW, high: float = HIGH, points: int = POINTS) -> dict:
    """Weights equally spaced by their logarithm."""
    return kind("Grid", low=low, high=high, points=points, eps=EPS)


def search() -> dict:
    """Tuning as the verb does it."""
    return kind("AcceleratedMAID", eps=EPS, delta=DELTA, gain=GAIN)


def sections() -> dict:
    """Search without derivatives, to a fifth of the weight."""
    return kind("Brent", eps=EPS)


def rows(name: str, scene: Scene, folder: Path, steps: int) -> Iterator[list[str]]:
    """The grid, then every loss."""
    folder = folder / name.replace(", ", "-")
    folder.mkdir()
    whole = reconstructions(scene, folder / "alone")
    searched = tune(scene, folder / "grid", grid(), "MeanSquare")
    best, warm = searched[-1]["loss"], searched[-1]["cost"] - searched[0]["cost"]

    def found(method: str, loss: str, log: list[dict]) -> list[str]:
        weight = log[-1]["parameters"][scene.name]
        gap = 10 * math.log10(alone(scene, weight, folder / f"{method} {loss} found")["loss"] / best)
        enough = next(line["cost"] for line in log if close(line["parameters"][scene.name], weight))
        shares = [f"{cost / of:.3f}" for cost in (log[-1]["cost"], enough) for of in (whole, warm)]
        return [name, method, loss, f"{weight:.4g}", f"{gap:+.3f}", str(log[-1]["cost"]), *shares[:3]]

    yield found("grid", "MeanSquare", searched)
    for loss in LOSSES:
        yield found("search", loss, tune(scene, folder / loss, search(), loss, steps=steps, budget=whole / 4))
    for loss in LOSSES:
        yield found("Brent", loss, tune(scene, folder / f"Brent {loss}", sections(), loss, steps=steps))


def close(a: float, b: float) -> bool:
    """Whether two weights are within a tenth."""
    return abs(math.log(a / b)) < 0.1


HEAD = (
    "scene, prior", "method", "loss", "weight", "gap (dB)", "cost", "over 61 reconstructions'", "over the warm grid's",
    "weight within 10% at",
)  # fmt: skip


def report(only: Sequence[str], size: int, frequencies: int, steps: int) -> str:
    """All scenes, or some by name."""
    with tempfile.TemporaryDirectory() as folder:
        found = {k: v for k, v in scenes(Path(folder), size, frequencies).items() if k in only}
        lines = shown(r for name, scene in found.items() for r in rows(name, scene, Path(folder), steps))
    return table(HEAD, lines)


if __name__ == "__main__":
    main(report, threads=1, parts=SCENES, size=64, frequencies=4, steps=25)
