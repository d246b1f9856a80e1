"""Sparse near-field radar by one-step images, L1, total variation and a learned 3-D denoiser: PSNR and SSIM.

The paper's simulated array (Oral and Oktem 2024) with 5, 10 and 20 frequencies, data of 10, 20 and 30 dB, scenes of
our own synthesis with independent phases (Blobs; the paper's are not public): unseen ones, whose seeds are neither the
denoiser's nor those of the few on which every method's one parameter is chosen, per cell, for the highest mean PSNR.
Magnitudes are compared at their own peaks. L1, TV and the denoiser enter the same algorithm, the constrained ADMM that
is told the noise level; their parameter is the threshold or, of the denoiser, its noise level at the scenes' peak of 1.
Measured data come without that peak: `--prior magnitude-denoiser` of the command line begins with the default L1's
image and sees images at their own peaks, at one level for all; it has a line too. The second table has the phase
random, smooth and constant in one cell. A mean is followed by its standard error; seconds are for one volume.

    python benchmarks/radar_table.py [--weights magnitude-denoiser] [--scenes 20] [--frequencies 5 10 20]
        [--only METHOD …] [--out FILE.md]
"""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import NamedTuple

import torch
from _timing import main, shown, table

from resolvent.datasets import blobs
from resolvent.operators import NearFieldMIMO
from resolvent.priors import L1, TV, Denoiser, Magnitude, MixedPrecision, Normalised, Prior
from resolvent.recon import (
    FISTA,
    BackProjection,
    ConstrainedADMM,
    Kirchhoff,
    RelativeChange,
    magnitude_psnr,
    magnitude_ssim,
    universal_threshold,
)

FREQUENCIES, SNRS, PHASES = (5, 10, 20), (10, 20, 30), ("random", "smooth", "constant")
#: The cell in which the phases are compared.
PHASE_CELL = (10, 20)
#: First seeds; a training's are from 1 000 000, the simulator's below 200 000.
SCORED, CHOOSING, CHOOSERS = 2_000_000, 3_000_000, 2
PNP, NAMED = "PnP, 3-D denoiser", "PnP, as by its name"
METHODS = ("back-projection", "Kirchhoff", "L1", "TV", PNP, NAMED)
#: The level of ``apps/presets/trained/near_field_mimo.yaml``.
LEVEL = 0.2
Reconstruct = Callable[[torch.Tensor, NearFieldMIMO], torch.Tensor]


class Method(NamedTuple):
    """A reconstruction by the norm of the noise and one parameter, and the parameter's values to choose from."""

    make: Callable[..., Reconstruct]
    grid: tuple[float, ...]


class Scene(NamedTuple):
    """Data, the norm of their noise, and the truth."""

    y: torch.Tensor
    noise: float
    truth: torch.Tensor


class Score(NamedTuple):
    """What a method made of one scene."""

    psnr: float
    ssim: float
    seconds: float


def methods(weights: str) -> dict[str, Method]:
    """All by name."""
    net = MixedPrecision(weights)
    return {
        "back-projection": Method(lambda *_: BackProjection(), (0.0,)),
        "Kirchhoff": Method(lambda *_: Kirchhoff(), (0.0,)),
        "L1": regularised(L1, 60, (0.003, 0.01, 0.04, 0.15)),
        "TV": regularised(lambda w: Magnitude(TV(w, iterations=5, outside="zero")), 60, (0.04, 0.15, 0.5, 1.5)),
        PNP: regularised(lambda sigma: Magnitude(Denoiser(net, sigma)), 30, (0.05, 0.1, 0.2)),
        NAMED: Method(partial(FromSparse, Magnitude(Normalised(Denoiser(net, LEVEL)))), (0.0,)),
    }


class FromSparse:
    """The constrained ADMM from the default L1's image."""

    def __init__(self, prior: Prior, noise: float, _: float):
        self.solver, self.noise = ConstrainedADMM(prior, noise, max_iter=30), noise

    def __call__(self, y: torch.Tensor, physics: NearFieldMIMO) -> torch.Tensor:
        threshold = universal_threshold(physics, y, self.noise / math.sqrt(y.numel()))
        sparse = FISTA(L1(threshold), max_iter=300, stop=RelativeChange(0.01))(y, physics)
        return self.solver.solve(y, physics, x0=sparse).image


def regularised(prior: Callable[[float], Prior], max_iter: int, grid: tuple[float, ...]) -> Method:
    """The constrained ADMM around a prior of one parameter, for scenes of peak 1."""

    return Method(lambda noise, parameter: ConstrainedADMM(prior(parameter), noise, max_iter=max_iter), grid)


@cache
def array(frequencies: int) -> NearFieldMIMO:
    """The simulated array; it keeps the factorisation of its x-update."""
    return NearFieldMIMO.paper(frequencies)


def simulate(physics: NearFieldMIMO, snr: float, seed: int, phase: str) -> Scene:
    """A scene and its data, circular noise ``snr`` dB below their mean power."""
    truth = blobs(tuple(physics.image_shape[1:]), seed, phase)
    clean = physics.A(truth)
    std = float(clean.abs().square().mean().sqrt()) * 10 ** (-snr / 20)
    noise = torch.randn(clean.shape, dtype=clean.dtype, generator=torch.Generator().manual_seed(seed))
    return Scene(clean + std * noise, std * math.sqrt(clean.numel()), truth)


def score(reconstruct: Reconstruct, physics: NearFieldMIMO, scene: Scene) -> Score:
    """One reconstruction against the truth."""
    began = time.perf_counter()
    image = reconstruct(scene.y, physics)
    seconds = time.perf_counter() - began
    return Score(float(magnitude_psnr(image, scene.truth)), float(magnitude_ssim(image, scene.truth)), seconds)


def choose(method: Method, physics: NearFieldMIMO, scenes: Sequence[Scene]) -> float:
    """The parameter of the highest mean PSNR."""
    if len(method.grid) == 1:
        return method.grid[0]
    return max(method.grid, key=lambda p: sum(score(method.make(s.noise, p), physics, s).psnr for s in scenes))


def measured(values: Sequence[float], digits: int) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


class Cell(NamedTuple):
    """One set-up, and how many scenes it is measured on."""

    frequencies: int
    snr: float
    phase: str
    scenes: int

    def rows(self, contenders: dict[str, Method]) -> Iterator[list[str]]:
        """One line per method."""
        physics = array(self.frequencies)
        choosing, scored = (
            [simulate(physics, self.snr, first + i, self.phase) for i in range(count)]
            for first, count in ((CHOOSING, CHOOSERS), (SCORED, self.scenes))
        )
        for name, method in contenders.items():
            parameter = choose(method, physics, choosing)
            # a first run builds what the operator keeps, which is no scene's cost
            score(method.make(scored[0].noise, parameter), physics, scored[0])
            found = [score(method.make(s.noise, parameter), physics, s) for s in scored]
            psnrs, ssims, seconds = zip(*found, strict=True)
            yield [
                str(self.frequencies), f"{self.snr:g}", self.phase, name, f"{parameter:g}" if parameter else "",
                measured(psnrs, 2), measured(ssims, 3), f"{statistics.median(seconds):.2f}",
            ]  # fmt: skip


HEAD = ("frequencies", "SNR (dB)", "phase", "method", "chosen", "PSNR (dB)", "SSIM", "seconds")


def tables(contenders: dict[str, Method], frequencies: Sequence[int], scenes: int) -> str:
    """Both of them."""
    cells = [Cell(n, snr, "random", scenes) for n in frequencies for snr in SNRS]
    first = shown(row for cell in cells for row in cell.rows(contenders))
    others = [Cell(*PHASE_CELL, phase, scenes) for phase in PHASES[1:]] if PHASE_CELL[0] in frequencies else []
    same = [row for row in first if row[:2] == [str(value) for value in PHASE_CELL]]
    second = same + shown(row for cell in others for row in cell.rows(contenders))
    return "\n\n".join(table(HEAD, rows) for rows in (first, second) if rows)


@torch.no_grad()
def report(only: Sequence[str], weights: str, scenes: int, frequencies: Sequence[int]) -> str:
    """The tables, and how long they took."""
    began, contenders = time.perf_counter(), methods(weights)
    text = tables({name: contenders[name] for name in only}, frequencies, scenes)
    return f"{text}\n\n{scenes} scenes in each cell; {time.perf_counter() - began:.0f} s."


if __name__ == "__main__":
    main(report, threads=2, parts=METHODS, weights="magnitude-denoiser", scenes=20, frequencies=list(FREQUENCIES))
