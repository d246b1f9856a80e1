"""Low-light photographs by the exposure process: what its steps are worth, with the exact mean and with a network.

First table: pixels of brightness Gamma(2, rate 4), whose mean given photon counts is known. Mean square errors over
that of the exact mean; theory adds the variance of the photons that further steps make up. Second table: the middle
128 x 128 of every sixth picture of BSD68 at exposures of 1/100 and 1/250, with 5000 photons in white at full exposure
and read noise of one. Networks of 0.2 million parameters, trained on crops of BSD400 for one step or, in as many passes
through them, for two; with the mask that weighs image against residual (BalancedUNet), and giving the image alone
(TimeUNet). PSNR in dB, averaged over pictures; nothing was chosen on them.

    python benchmarks/low_light.py [--passes 1400] [--images 12] [--data ../shared/data] [--out FILE.md]
"""

import itertools
import time
from pathlib import Path

import torch
from _crops import crops, trained
from _photographs import DATA, middle, picture
from _timing import main, table
from torch import Tensor

from resolvent.operators import Exposure
from resolvent.priors import BalancedUNet, ExposurePrior, ProgressiveExposure, ShortExposure, TimeUNet
from resolvent.recon import ExposureDiffusion, psnr

F64 = torch.float64
SHAPE, RATE, GAIN, READ, SIDE = 2.0, 4.0, 2e-4, 2e-4, 128
EXPOSURES = (1 / 100, 1 / 250)
STEPS = (1, 2, 3, 5)


def gamma_mean(x: Tensor, exposure: Tensor) -> Tensor:
    """The mean of a Gamma brightness given its counts ``exposure x / GAIN``."""
    return (GAIN * SHAPE + exposure * x) / (GAIN * RATE + exposure)


def theory(exposure: float, steps: int) -> float:
    """Mean square error of the last estimate over that of the exact mean, g E[x] / (g b + l).

    A step from exposure l to l' adds g E[x] (l' - l) / (g b + l')^2, uncorrelated with what was wrong before.
    """
    levels = [GAIN * RATE + exposure ** (1 - k / steps) for k in range(steps)]
    added = sum((there - here) / there**2 for here, there in itertools.pairwise(levels))
    return 1 + levels[0] * added


def exact_rows(pixels: int = 400_000) -> list[list[str]]:
    """The first table's."""
    generator, rows = torch.Generator().manual_seed(0), []
    torch.manual_seed(0)
    truth = torch.distributions.Gamma(SHAPE, RATE).sample((1, 1, 1, pixels)).to(F64)
    for exposure in EXPOSURES:
        physics = Exposure(exposure, GAIN, 0.0, (1, 1, pixels))
        y = GAIN * torch.poisson(exposure * truth / GAIN, generator)
        best = (gamma_mean(y / exposure, torch.tensor(exposure)) - truth).square().mean()
        for steps in (*STEPS, 50):
            sampler = ExposureDiffusion(ExposurePrior(gamma_mean), steps)
            found = sampler.sample(y, physics, 1, torch.Generator().manual_seed(steps)).mean
            ratio = float((found - truth).square().mean() / best)
            rows.append([f"1/{1 / exposure:.0f}", str(steps), f"{ratio:.3f}", f"{theory(exposure, steps):.3f}"])
    return rows


def networks(data: Path, passes: int) -> dict[str, ExposurePrior]:
    """The second table's, trained."""
    source, noise, found = crops(data / "natural" / "bsd400_train_gray180", 64), ShortExposure(GAIN, READ), {}
    for name, kind, steps in [
        ("image alone, trained for 1 step", TimeUNet, 1),
        ("mask, trained for 1 step", BalancedUNet, 1),
        ("mask, trained for 2 steps", BalancedUNet, 2),
    ]:
        torch.manual_seed(0)
        loss = ProgressiveExposure(GAIN, steps)
        found[name] = ExposurePrior(trained(kind([16, 32, 64], 8), source, noise, loss, passes // steps, 8))
    return found


def trained_rows(priors: dict[str, ExposurePrior], data: Path, count: int) -> list[list[str]]:
    """The second table's."""
    paths = sorted((data / "natural" / "bsd68_gray").glob("*.png"))[::6][:count]
    truth = torch.stack([torch.as_tensor(middle(picture(path), SIDE), dtype=torch.float32)[None] for path in paths])
    rows = []
    for exposure in EXPOSURES:
        physics = Exposure(exposure, GAIN, READ, (1, SIDE, SIDE))
        torch.manual_seed(0)
        y = physics(truth)
        rows.append([f"1/{1 / exposure:.0f}", "amplified raw", *[f"{mean_psnr(y / exposure, truth):.2f}"] * len(STEPS)])
        for name, prior in priors.items():
            images = [ExposureDiffusion(prior, steps).sample(y, physics, 1, seeded()).mean for steps in STEPS]
            rows.append([f"1/{1 / exposure:.0f}", name, *(f"{mean_psnr(x, truth):.2f}" for x in images)])
    return rows


def seeded() -> torch.Generator:
    """The same photons for everyone."""
    return torch.Generator().manual_seed(0)


def mean_psnr(x: Tensor, truth: Tensor) -> float:
    """dB at peak 1."""
    return float(psnr(x, truth, 1.0).mean())


def report(passes: int, images: int, data: Path) -> str:
    """Measure, train, measure."""
    first = table(["exposure", "steps", "error", "theory"], exact_rows())
    began = time.perf_counter()
    priors = networks(data, passes)
    minutes = (time.perf_counter() - began) / 60
    head = ["exposure", "network", *(f"{k} step{'s' * (k > 1)}, dB" for k in STEPS)]
    second = table(head, trained_rows(priors, data, images))
    note = f"{images} pictures; {passes} passes of training each, {minutes:.0f} minutes in all."
    return f"{first}\n\n{second}\n\n{note}"


if __name__ == "__main__":
    main(report, threads=1, passes=1400, images=12, data=DATA)
