"""Which columns of k-space to measure: chosen while the image forms, against orders that are fixed beforehand.

One real brain (the moco slice: coils combined by their own maps, k-space cut to its middle 128 x 108, which are pixels
of about 2 mm; magnitude of peak 1) measured column by column as one coil would, with noise of 0.01, a quarter of the
columns. Every row samples with the same prior, weights trained on planes of an average of other brains, and the same
PiGDM; the image is the mean of the particles' magnitudes. What has a parameter was chosen on planes of that average
that were not trained on (--choose prints it): the score's width, and how many columns of the middle come first.

    python benchmarks/active_mri.py [--weights brain-score] [--seeds 4] [--choose] [--picture FILE.png] [--out FILE.md]
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from _brains import coil_kspace
from _timing import main, table
from matplotlib.figure import Figure
from torch import Generator, Tensor

from resolvent.datasets import Slices, WithPhase
from resolvent.datasets.sources import counted
from resolvent.operators import CartesianMRI, sensitivity_maps
from resolvent.priors import DenoiserDiffusion, VarianceExploding
from resolvent.recon import (
    Acquisition,
    ActiveSampling,
    PairwiseEntropy,
    PiGDM,
    centre_first,
    equispaced,
    psnr,
    random_order,
    ssim,
    variable_density,
)
from resolvent.recon.orders import Order

NOISE, RATE, PARTICLES, STEPS, SCALE = 0.01, 4, 4, 30, 0.3
SHAPE = (128, 108)
#: Score's width, and columns of the middle to begin with; chosen by --choose.
STD, FIRST = 1.0, 3
ORDERS: dict[str, Order] = {
    "random": random_order, "equispaced": equispaced, "variable density": variable_density,
    "centre first": centre_first,
}  # fmt: skip
#: The columns that were chosen, all known from the first step on as in the fixed orders.
AGAIN = "chosen, sampled again"
VOLUMES = Path(__file__).resolve().parents[2] / "shared" / "data" / "volumes"


class Score(NamedTuple):
    """PSNR in dB and SSIM of the magnitude, PSNR of the complex mean, rms of the spread over that of its error."""

    psnr: float
    ssim: float
    complex_psnr: float
    spread: float


def brain() -> Tensor:
    """The moco slice, one complex image ``(1, 1, 128, 108)`` of magnitude at most 1."""
    kspace = coil_kspace()
    cut = [(n - m) // 2 for n, m in zip(kspace.shape[1:], SHAPE, strict=True)]
    middle = kspace[:, cut[0] : cut[0] + SHAPE[0], cut[1] : cut[1] + SHAPE[1]]
    image = CartesianMRI(torch.ones(SHAPE), sensitivity_maps(middle)).A_adjoint(middle[None])
    return image / image.abs().max()


def planes(count: int) -> list[Tensor]:
    """Planes of the average brain that no weights were trained on, with a phase, as large as they are."""
    slices = Slices(next(VOLUMES.glob("mni*.nii.gz")), (116, 98), 2, (0.65, 0.75), 2)
    source = WithPhase(slices)
    chosen = [round(i * (len(source) - 1) / max(1, count - 1)) for i in range(count)]
    return [torch.complex(*source.sample(i, counted(i))[:, None, None]) for i in chosen]


def sampler(weights: str) -> PiGDM:
    """The one sampler of all rows."""
    prior = DenoiserDiffusion(weights, VarianceExploding(0.02, 1.0))
    return PiGDM(prior, STEPS, NOISE, SCALE)


def acquired(truth: Tensor, weights: str, std: float, first: Sequence[int], seed: int) -> tuple[Score, Acquisition]:
    """The image of a quarter of the columns, those of ``first`` and then chosen ones."""
    generator = Generator().manual_seed(seed)
    physics = CartesianMRI(torch.ones(truth.shape[2:]))
    y = physics.A(truth)
    y = y + NOISE * torch.randn(y.shape, generator=generator, dtype=y.dtype)
    budget = truth.shape[-1] // RATE
    active = ActiveSampling(sampler(weights), physics.groups()["columns"], budget, PairwiseEntropy(std), PARTICLES)
    found = active.acquire(lambda mask: mask * y, physics, truth, first, generator)
    magnitude, known = found.samples.abs().mean(0, keepdim=True), truth.abs()
    error = (found.mean - truth[0]).abs().square().mean().sqrt()
    score = Score(
        float(psnr(magnitude, known)), float(ssim(magnitude, known)), float(psnr(found.mean[None], truth)),
        float(found.std.square().mean().sqrt() / error),
    )  # fmt: skip
    return score, found


def policies(columns: int, seed: int) -> dict[str, list[int]]:
    """What each row is told to begin with."""
    budget, generator = columns // RATE, Generator().manual_seed(seed + 1000)
    fixed = {name: order(columns, budget, generator) for name, order in ORDERS.items()}
    return {"chosen": centre_first(columns, FIRST)} | fixed


def summary(scores: Sequence[Score]) -> list[str]:
    """Means, and standard errors over the seeds of the first two."""
    columns = list(zip(*scores, strict=True))
    error = [statistics.stdev(c) / len(c) ** 0.5 if len(c) > 1 else float("nan") for c in columns]
    mean = [statistics.fmean(c) for c in columns]
    return [
        f"{mean[0]:.2f} ± {error[0]:.2f}", f"{mean[1]:.3f} ± {error[1]:.3f}", f"{mean[2]:.2f}", f"{mean[3]:.2f}",
    ]  # fmt: skip


def rows(weights: str, seeds: int, picture: Path | None) -> Iterator[list[str]]:
    """One for each policy; the picture is of the first seed."""
    truth, images, chosen = brain(), {}, ()
    scores: dict[str, list[Score]] = {}
    for seed in range(seeds):
        starts = policies(truth.shape[-1], seed)
        for name in (*starts, AGAIN):
            first = starts.get(name, chosen)
            score, found = acquired(truth, weights, STD, first, seed)
            chosen = found.order if name == "chosen" else chosen
            scores.setdefault(name, []).append(score)
            images.setdefault(name, found)
            print(seed, name, *(f"{v:.3f}" for v in score), *found.order, flush=True)
    for name, found in scores.items():
        yield [name, *summary(found)]
    if picture is not None:
        draw(truth, images, picture)


def draw(truth: Tensor, images: dict[str, Acquisition], path: Path) -> None:
    """Magnitudes in gray above what was measured of k-space; of the chosen ones the standard deviation, too."""
    shown = {"all columns": truth.abs()[0, 0]}
    shown |= {name: found.samples.abs().mean((0, 1)) for name, found in images.items()}
    figure = Figure(figsize=(11, 2.0), dpi=80, layout="constrained")
    axes = figure.subplots(2, len(shown) + 1, height_ratios=(8, 1), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for column, (name, image) in zip(axes.T, shown.items(), strict=False):
        column[0].imshow(image, cmap="gray", vmin=0, vmax=0.7)
        column[0].set_title(name, fontsize=8)
        taken = images[name].mask[0].any(0) if name in images else torch.ones(truth.shape[-1])
        column[1].imshow(taken.float().expand(12, -1), cmap="gray", vmin=0, vmax=1)
    axes[0, -1].imshow(images["chosen"].std[0], cmap="magma")
    axes[0, -1].set_title("chosen: std", fontsize=8)
    figure.savefig(path)


def choices(weights: str) -> Iterator[list[str]]:
    """The same on the planes kept back, for settings of the score and the start, and for the fixed orders."""
    held_out = planes(2)
    columns = held_out[0].shape[-1]

    def all_planes(std: float, first: Callable[[int], Sequence[int]]) -> list[str]:
        return summary([acquired(truth, weights, std, first(i), i)[0] for i, truth in enumerate(held_out)])

    for std, count in ((0.3, 6), (1.0, 6), (3.0, 6), (1.0, 3), (1.0, 12)):
        found = all_planes(std, lambda _, n=count: centre_first(columns, n))
        print(std, count, *found, flush=True)
        yield [f"chosen, std {std:g}, first {count}", *found]
    for name in ORDERS:
        found = all_planes(STD, lambda i, name=name: policies(columns, i)[name])
        print(name, *found, flush=True)
        yield [name, *found]


def report(weights: str, seeds: int, choose: bool, picture: Path | None) -> str:
    """The brain, or the planes kept back in its place."""
    found = choices(weights) if choose else rows(weights, seeds, picture)
    header = ("columns", "PSNR (dB)", "SSIM", "PSNR with phase (dB)", "spread / error")
    return f"{table(header, list(found))}\n\nWeights: {weights}."


if __name__ == "__main__":
    main(report, threads=1, weights="brain-score", seeds=4, choose=False, picture=Path)
