"""Which samplers draw from the posterior: their mean and spread beside those in closed form.

The prior is Gaussian, or a mixture of two, of smooth 8 x 8 images; the data are a part of the pixels, a blur or means
of blocks, with noise. Every sampler takes the exact mean of the image given the noisy one, so that what is left is its
own doing. In units of the posterior's standard deviation of each pixel, and over all pixels that the data leave
uncertain: bias, the root mean square of mean less mean; spread, the root of the mean ratio of the variances; and the
root mean square error of a single sample and of the mean image. A sampler of the posterior has bias 0 and spread 1, to
within the chance of so many samples, about 0.07.

    python benchmarks/posterior_calibration.py [--samples 200] [--seed 0] [--out FILE.md]
"""

import argparse
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from resolvent.operators import Dense, Operator
from resolvent.priors import Diffusion, GaussianMixture, VariancePreserving
from resolvent.recon import (
    DAPS,
    DPS,
    FLAIR,
    CalibratedWeight,
    CoarseToFine,
    DiffPIR,
    Flower,
    MomentMatching,
    PiGDM,
    PnPFlow,
    Projection,
    Sampler,
    velocity_errors,
)

F64 = torch.float64
SIDE, SIGMA = 8, 0.1
N = SIDE**2


class Task(NamedTuple):
    """A prior, data, and the posterior."""

    prior: GaussianMixture
    physics: Operator
    y: Tensor
    truth: Tensor
    posterior: GaussianMixture


def smooth(width: float) -> Tensor:
    """The covariance of images whose pixels resemble each other within a width, of variance 1."""
    axis = torch.arange(SIDE, dtype=F64)
    one = torch.exp(-((axis[:, None] - axis).square()) / (2 * width**2))
    return torch.kron(one, one) + 0.02 * torch.eye(N, dtype=F64)


def gaussian() -> GaussianMixture:
    """One kind of image."""
    return GaussianMixture(torch.ones(1, dtype=F64), torch.zeros(1, 1, SIDE, SIDE, dtype=F64), smooth(1.5)[None])


def mixture() -> GaussianMixture:
    """Two kinds, bright on the left or on the right, fine or coarse."""
    ramp = torch.linspace(-1.5, 1.5, SIDE, dtype=F64).expand(1, SIDE, SIDE)
    return GaussianMixture(torch.ones(2, dtype=F64), torch.stack([ramp, -ramp]), torch.stack([smooth(1), smooth(2)]))


def kept_pixels() -> Operator:
    """Half of the pixels."""
    return Dense(
        torch.eye(N, dtype=F64)[torch.randperm(N, generator=torch.Generator().manual_seed(0))[:32]], (1, SIDE, SIDE)
    )


def blurred() -> Operator:
    """A Gaussian blur of 1.5 pixels."""
    axis = torch.arange(SIDE, dtype=F64)
    one = torch.exp(-((axis[:, None] - axis).square()) / (2 * 1.5**2))
    one = one / one.sum(1, keepdim=True)
    return Dense(torch.kron(one, one), (1, SIDE, SIDE))


def block_means() -> Operator:
    """Means of 2 x 2 pixels."""
    one = (torch.arange(SIDE) // 2 == torch.arange(SIDE // 2)[:, None]).to(F64) / 2
    return Dense(torch.kron(one, one), (1, SIDE, SIDE))


PRIORS = {"Gaussian": gaussian, "mixture": mixture}
OPERATORS = {"half the pixels": kept_pixels, "blur": blurred, "2 x 2 means": block_means}


def weight(prior: Diffusion, shift: float | None) -> CalibratedWeight:
    """FLAIR's, from the prior's own images."""
    times, generator = torch.linspace(1, 0, 100, dtype=F64), torch.Generator().manual_seed(1)
    return CalibratedWeight(times, velocity_errors(prior, prior.sample(500, generator), times, generator), shift)


def diffused(prior: GaussianMixture) -> GaussianMixture:
    """The prior on the path of diffusion models; it comes on that of flows."""
    return GaussianMixture(prior.weights, prior.means, prior.covariances, VariancePreserving())


#: The samplers at the settings of their papers where these do not depend on the data.
SAMPLERS: dict[str, Callable[[GaussianMixture], Sampler]] = {
    "MomentMatching": lambda p: MomentMatching(p, 200, SIGMA, cg_iterations=30, cg_rtol=1e-2),
    "PiGDM": lambda p: PiGDM(p, 200, SIGMA),
    "DPS": lambda p: DPS(diffused(p), 400),
    "Projection": lambda p: Projection(p, 200),
    "DiffPIR": lambda p: DiffPIR(diffused(p), 100, SIGMA),
    "DAPS": lambda p: DAPS(diffused(p), 100, SIGMA),
    "Flower, uncertain": lambda p: Flower(p, 100, SIGMA, uncertain=True),
    "Flower": lambda p: Flower(p, 100, SIGMA),
    "PnPFlow": lambda p: PnPFlow(p, 100),
    "FLAIR": lambda p: FLAIR(p, weight(p, None), noise_std=SIGMA),
    "FLAIR, not shifted": lambda p: FLAIR(p, weight(p, 0.0), noise_std=SIGMA),
    "CoarseToFine": lambda p: CoarseToFine(p, 400, SIGMA, step_size=0.05),
}


def task(prior: GaussianMixture, physics: Operator, seed: int) -> Task:
    """An image of the prior, its data and its posterior."""
    generator = torch.Generator().manual_seed(seed)
    truth = prior.sample(1, generator)
    clean = physics.A(truth)
    y = clean + SIGMA * torch.randn(clean.shape, generator=generator, dtype=F64)
    return Task(prior, physics, y, truth, prior.posterior(y, physics, SIGMA))


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(x.square().mean().sqrt())


def measured(sampler: Sampler, of: Task, samples: int, seed: int) -> list[float]:
    """Bias, spread, and the errors of one sample and of the mean."""
    found = sampler.sample(of.y, of.physics, samples, torch.Generator().manual_seed(seed))
    mean, std = of.posterior.moments()
    spread = math.sqrt(float((found.std[0] / std).square().mean()))
    errors = rms(found.samples - of.truth[:, None]), rms(found.mean - of.truth)
    return [rms((found.mean[0] - mean) / std), spread, *errors]


def calibrated(rows: list[list[float]]) -> str:
    """What a sampler's biases and spreads over all tasks come to."""
    bias, spread = max(row[0] for row in rows), [row[1] for row in rows]
    if bias < 0.2 and min(spread) > 0.9 and max(spread) < 1.1:
        return "yes"
    return "nearly" if bias < 0.4 and min(spread) > 0.8 and max(spread) < 1.25 else "no"


def table(samples: int, seed: int) -> Iterator[str]:
    """One row for each sampler."""
    tasks = [task(prior(), physics(), seed) for prior in PRIORS.values() for physics in OPERATORS.values()]
    names = [f"{prior}, {physics}" for prior in PRIORS for physics in OPERATORS]
    yield "| sampler | " + " | ".join(names) + " | error of a sample, of the mean | samples the posterior |"
    yield "| --- " * (len(names) + 3) + "|"
    exact = [of.posterior for of in tasks]
    drawn = [
        [rms(e.sample(samples) - of.truth), rms(e.moments()[0] - of.truth)] for e, of in zip(exact, tasks, strict=True)
    ]
    one, mean = (sum(row[i] for row in drawn) / len(drawn) for i in (0, 1))
    yield "| the posterior |" + " 0, 1 |" * len(names) + f" {one:.3f}, {mean:.3f} | yes |"
    for name, make in SAMPLERS.items():
        rows = [measured(make(of.prior), of, samples, seed) for of in tasks]
        one, mean = (sum(row[i] for row in rows) / len(rows) for i in (2, 3))
        cells = " | ".join(f"{row[0]:.2f}, {row[1]:.2f}" for row in rows)
        yield f"| {name} | {cells} | {one:.3f}, {mean:.3f} | {calibrated(rows)} |"


def main() -> None:
    """Measure and print, row after row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = []
    for line in table(arguments.samples, arguments.seed):
        print(line, flush=True)
        lines.append(line)
    lines += ["", "Cells: bias and spread in posterior standard deviations. Samples the posterior: bias below 0.2 and"
              " spread from 0.9 to 1.1 in every column; nearly: 0.4, and 0.8 to 1.25."]  # fmt: skip
    print(lines[-1])
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
