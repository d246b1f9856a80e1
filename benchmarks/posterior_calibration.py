"""Which samplers draw from the posterior: their mean and spread beside those in closed form.

The prior is Gaussian, or a mixture of two, of smooth 8 x 8 images; the data are a part of the pixels, a blur or means
of blocks, with noise. Every sampler takes the exact mean of the image given the noisy one, so that what is left is its
own doing. In units of the posterior's standard deviation of each pixel, and over all pixels that the data leave
uncertain: bias, the root mean square of mean less mean; spread, the root of the mean ratio of the variances; and the
root mean square error of a single sample and of the mean image. A sampler of the posterior has bias 0 and spread 1, to
within the chance of so many samples, about 0.07.

    python benchmarks/posterior_calibration.py [--samples 200] [--seed 0] [--out FILE.md]
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from _timing import main, shown, table
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


LEGEND = (
    "Cells: bias and spread in posterior standard deviations. Samples the posterior: bias below 0.2 and spread from "
    "0.9 to 1.1 in every column; nearly: 0.4, and 0.8 to 1.25."
)
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


def rows(samples: int, seed: int) -> Iterator[list[str]]:
    """One for each sampler, the posterior's own first."""
    tasks = [task(prior(), physics(), seed) for prior in PRIORS.values() for physics in OPERATORS.values()]
    exact = [(of.posterior, of.truth) for of in tasks]
    drawn = [[rms(e.sample(samples) - truth), rms(e.moments()[0] - truth)] for e, truth in exact]
    yield ["the posterior", *["0, 1"] * len(tasks), means(drawn), "yes"]
    for name, make in SAMPLERS.items():
        found = [measured(make(of.prior), of, samples, seed) for of in tasks]
        cells = [f"{bias:.2f}, {spread:.2f}" for bias, spread, *_ in found]
        yield [name, *cells, means([errors for _, _, *errors in found]), calibrated(found)]


def means(errors: list[list[float]]) -> str:
    """Over the tasks."""
    return ", ".join(f"{sum(column) / len(column):.3f}" for column in zip(*errors, strict=True))


def report(samples: int, seed: int) -> str:
    """The table."""
    names = [f"{prior}, {physics}" for prior in PRIORS for physics in OPERATORS]
    head = ("sampler", *names, "error of a sample, of the mean", "samples the posterior")
    return f"{table(head, shown(rows(samples, seed)))}\n\n{LEGEND}"


if __name__ == "__main__":
    main(report, threads=1, samples=200, seed=0)
