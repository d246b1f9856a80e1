"""Inpainting, super-resolution and motion deblurring: samplers with one trained prior, beside TV and plug-and-play.

Gray photographs in [0, 1]: the middle 128 x 128 of the first two of Set3C and of CBSD10. The box hides the middle
32 x 32 (deepinv's operator); super-resolution is by 4, bicubic with circular borders; the blur is circular
with the first motion kernel of Levin et al. 2009. Gaussian noise of 0.01, numpy's seed the picture's index.
One sample each, nothing clipped. The prior is a denoiser for all noise levels, trained by score matching on BSD400: on
the line of flows for FLAIR, PnP-Flow (of one draw a step) and FLOWER, with exploding variance for DPS, DiffPIR and
PiGDM. They begin at the strongest noise that it was trained for, but FLAIR, which weighs each time by the error there,
and PiGDM, which diverges from there and begins at noise three times as strong as the image. They take 100 steps, FLAIR
its authors' 50. What is published of their settings is for images of about unit variance: they are shown
(x - 1/2) / (1/4). FLAIR's data step takes the noise for "noises" times what it is. TV is ADMM to a relative change of
1e-4, HQS plug-and-play half-quadratic splitting with the denoiser of --denoiser.

What each method leaves open is chosen per task, by PSNR on crops of two pictures of BSD400; FLAIR's weight is measured
on four. Test pictures choose nothing. Seconds are of one image, and overhead is their ratio to the seconds inside the
network, its derivative's included, where the sampler asks for it. There is no column of LPIPS, whose weights are not
among the data.

    python benchmarks/flow_restoration.py [--only box …] [--weights image-score] [--denoiser image-denoiser]
        [--methods TV …, by their first letters] [--images 4] [--size 128] [--data ../shared/data] [--out FILE.md]
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import deepinv
import h5py
import numpy as np
import torch
from _photographs import DATA, middle, picture
from _timing import main, shown, table
from deepinv.physics.functional import bicubic_filter

from resolvent.operators import CircularBlur, Downsampling
from resolvent.priors import TV, Denoiser, DenoiserDiffusion, FlowMatching, VarianceExploding, load_denoiser
from resolvent.recon import (
    ADMM,
    DPS,
    FLAIR,
    CalibratedWeight,
    DiffPIR,
    Flower,
    HalfQuadratic,
    PiGDM,
    PnPFlow,
    Sampler,
    Solver,
    filled,
    psnr,
    ssim,
    velocity_errors,
)

#: Noise of the data, and the strongest that the prior was trained for; mean and standard deviation of photographs.
SIGMA, HIGH, MEAN, UNIT = 0.01, 5.0, 0.5, 0.25
#: Held out in the training of both networks.
CALIBRATION = ("test_011", "test_111", "test_211", "test_311")
TIMES = torch.linspace(0.995, 0.005, 34, dtype=torch.float64)


class FromTrained(FlowMatching):
    """The straight path from the strongest noise of the training on."""

    first = HIGH / (UNIT + HIGH)


class Watched(torch.nn.Module):
    """A network that counts its calls, and the seconds in it and in its derivative."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network, self.calls, self.seconds, self.began = network, 0, 0.0, 0.0

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        self.start()
        found = self.network(x, sigma)
        self.stop()
        self.calls += 1
        if found.requires_grad:
            found.register_hook(self.start)
            x.register_hook(self.stop)
        return found

    def start(self, *_: torch.Tensor) -> None:
        """Before the network, or before its derivative."""
        self.began = time.perf_counter()

    def stop(self, *_: torch.Tensor) -> None:
        """After it."""
        self.seconds += time.perf_counter() - self.began


class Standardised(torch.nn.Module):
    """A denoiser of images of mean 0 and variance 1."""

    def __init__(self, network: Watched):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return (self.network(MEAN + UNIT * x, UNIT * sigma) - MEAN) / UNIT


def solved(solver: Solver, cell: Cell) -> torch.Tensor:
    """An image; samplers are given their problem in standard units."""
    if not isinstance(solver, Sampler):
        return solver.solve(cell.y, cell.physics, x0=cell.start()).image
    y = (cell.y - cell.physics.A(torch.full_like(cell.truth, MEAN))) / UNIT
    x0 = (cell.start() - MEAN) / UNIT if isinstance(solver, PnPFlow) else None
    return MEAN + UNIT * solver.solve(y, cell.physics, x0=x0).image


class Method(NamedTuple):
    """A solver by its parameters, the values to choose these from, and the network in it."""

    make: Callable[..., Solver]
    grid: dict[str, tuple]
    network: Watched | None

    def trials(self) -> list[dict]:
        """Every choice of parameters."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


def all_methods(score: torch.nn.Module, denoiser: torch.nn.Module, calibration: torch.Tensor) -> dict[str, Method]:
    """All of them."""
    net, reference, noise = Watched(score), Watched(denoiser), SIGMA / UNIT
    flow, exploding, lower = (
        DenoiserDiffusion(Standardised(net), path)
        for path in (FromTrained(), VarianceExploding(0.01, HIGH / UNIT), VarianceExploding(0.01, 3.0))
    )
    errors = velocity_errors(flow, (calibration - MEAN) / UNIT, TIMES, torch.Generator().manual_seed(0))
    return {
        "TV": Method(lambda weight: ADMM(TV(weight * SIGMA)), {"weight": (0.03, 0.1, 0.3, 1.0)}, None),
        "HQS, plug-and-play": Method(
            lambda weight, last: HalfQuadratic(Denoiser(reference, None), last * SIGMA, weight / last**2),
            {"weight": (0.23, 0.7, 2.0), "last": (1.0, 3.0)}, reference,
        ),
        "FLAIR": Method(
            lambda shift, noises: FLAIR(flow, CalibratedWeight(TIMES, errors, shift), 50, noises * noise),
            {"shift": (0.6, 1.0, 1.2), "noises": (1.0, 5.0, 20.0)}, net,
        ),
        "PnP-Flow": Method(lambda power: PnPFlow(flow, 100, 1.8, power, 1), {"power": (0.0, 0.3, 1.0)}, net),
        "FLOWER": Method(lambda scale: Flower(flow, 100, noise, scale), {"scale": (0.6, 1.0, 2.0)}, net),
        "DiffPIR": Method(
            lambda weight: DiffPIR(exploding, 100, noise, weight), {"weight": (0.1, 0.3, 1.0, 3.0)}, net
        ),
        "DPS": Method(lambda guidance: DPS(exploding, 100, guidance), {"guidance": (1.0, 3.0, 10.0)}, net),
        "PiGDM": Method(lambda scale: PiGDM(lower, 100, noise, scale), {"scale": (1.0, 2.0)}, net),
    }  # fmt: skip


def box(shape: tuple[int, ...], data: Path) -> deepinv.physics.LinearPhysics:
    """All but the middle quarter of each axis."""
    mask = torch.ones(shape)
    h, w = shape[1:]
    mask[:, h * 3 // 8 : h * 5 // 8, w * 3 // 8 : w * 5 // 8] = 0
    return deepinv.physics.Inpainting(shape, mask)


def smaller(shape: tuple[int, ...], data: Path) -> deepinv.physics.LinearPhysics:
    """A bicubic filter, and every fourth pixel."""
    return Downsampling(bicubic_filter(4)[0, 0], shape, 4)


def blurred(shape: tuple[int, ...], data: Path) -> deepinv.physics.LinearPhysics:
    """The first of Levin's kernels; MATLAB's arrays are transposed in HDF5."""
    with h5py.File(data / "blur" / "Levin09.mat") as file:
        kernel = file[file["kernels"][()].flatten()[0]][()].T
    return CircularBlur(torch.as_tensor(kernel), shape)


TASKS = {"box": box, "x 4": smaller, "motion": blurred}


class Cell(NamedTuple):
    """A picture, its data and the operator."""

    truth: torch.Tensor
    y: torch.Tensor
    physics: deepinv.physics.LinearPhysics

    def start(self) -> torch.Tensor:
        """An image to begin at: holes filled, few pixels enlarged, a blur as it is."""
        if isinstance(self.physics, deepinv.physics.Inpainting):
            return filled(self.physics, self.y)
        if self.y.shape != self.truth.shape:
            return torch.nn.functional.interpolate(self.y, self.truth.shape[2:], mode="bicubic")
        return self.y


def cells(task: str, images: Sequence[np.ndarray], data: Path) -> Iterator[Cell]:
    """One after the other."""
    for i, image in enumerate(images):
        truth = torch.as_tensor(image, dtype=torch.float32)[None, None]
        physics = TASKS[task](tuple(truth.shape[1:]), data)
        clean = physics.A(truth)
        noise = np.random.default_rng(i).normal(0, SIGMA, clean.shape)
        yield Cell(truth, clean + torch.as_tensor(noise, dtype=torch.float32), physics)


class Result(NamedTuple):
    """Means over pictures."""

    psnr: float
    ssim: float
    seconds: float
    calls: float
    overhead: float


def run(method: Method, parameters: dict, of: Sequence[Cell]) -> Result:
    """One method on some pictures; the samplers' own noise is that of seed 0."""
    images, net, solver = [], method.network, method.make(**parameters)
    if net is not None:
        net.calls, net.seconds = 0, 0.0
    began = time.perf_counter()
    for cell in of:
        torch.manual_seed(0)
        images.append(solved(solver, cell))
    seconds = time.perf_counter() - began
    means = [statistics.mean(float(f(x, c.truth, 1.0)) for x, c in zip(images, of, strict=True)) for f in (psnr, ssim)]
    calls, inside = (net.calls, net.seconds) if net is not None else (0, float("nan"))
    return Result(*means, seconds / len(of), calls / len(of), seconds / inside)


def choose(method: Method, of: Sequence[Cell]) -> tuple[dict, float]:
    """What does best on training pictures, and its PSNR there."""
    scores = [run(method, p, of).psnr for p in method.trials()]
    best = max(range(len(scores)), key=scores.__getitem__)
    return method.trials()[best], scores[best]


def training_pictures(data: Path, names: Sequence[str], size: int) -> list[np.ndarray]:
    """The middles of pictures of BSD400."""
    return [middle(picture(data / "natural" / "bsd400_train_gray180" / f"{name}.png"), size) for name in names]


def test_pictures(data: Path, count: int, size: int) -> list[np.ndarray]:
    """In turn of Set3C and CBSD10."""
    sets = [sorted((data / "natural" / name).glob("*.png"))[:3] for name in ("set3c", "cbsd10")]
    return [middle(picture(path), size) for pair in zip(*sets, strict=True) for path in pair][:count]


def rows(contenders: dict[str, Method], task: str, images: Sequence[np.ndarray], data: Path) -> Iterator[list]:
    """One for each method."""
    trial, test = (list(cells(task, i, data)) for i in (training_pictures(data, CALIBRATION[::2], 64), images))
    begun = [(c.start(), c.truth) for c in test]
    figures = (statistics.mean(float(f(x, truth, 1.0)) for x, truth in begun) for f in (psnr, ssim))
    yield [task, "start", *(f"{v:.{n}f}" for v, n in zip(figures, (2, 3), strict=True)), *[""] * 5]
    for name, method in contenders.items():
        chosen, before = choose(method, trial)
        r = run(method, chosen, test)
        overhead = f"{r.overhead:.2f}" if method.network else ""
        shown = ", ".join(f"{k} {v}" for k, v in chosen.items())
        figures = [f"{r.psnr:.2f}", f"{r.ssim:.3f}", f"{r.seconds:.1f}", f"{r.calls:.0f}", overhead, f"{before:.2f}"]
        yield [task, name, *figures, shown]


def report(
    tasks: Sequence[str], weights: str, denoiser: str, methods: Sequence[str], images: int, size: int, data: Path
) -> str:
    """Choose and restore."""
    calibration = np.stack(training_pictures(data, CALIBRATION, 96))
    contenders = all_methods(
        load_denoiser(weights), load_denoiser(denoiser), torch.as_tensor(calibration, dtype=torch.float32)[:, None]
    )
    contenders = {n: m for n, m in contenders.items() if n.startswith(tuple(methods))}
    pictures = test_pictures(data, images, size)
    found = shown(row for task in tasks for row in rows(contenders, task, pictures, data))
    header = ("task", "method", "PSNR, dB", "SSIM", "seconds", "network calls", "overhead",
              "PSNR on training crops, dB", "chosen there")  # fmt: skip
    return f"{table(header, found)}\n\nMeans over {len(pictures)} pictures."


if __name__ == "__main__":
    main(
        report, threads=1, parts=tuple(TASKS), weights="image-score", denoiser="image-denoiser", methods=[""], images=4,
        size=128, data=DATA,
    )  # fmt: skip
