"""Sparse near-field radar by one-step images, L1, total variation and a learned 3-D denoiser: PSNR and SSIM.

The paper's simulated array (Oral and Oktem 2024) with 5, 10 and 20 frequencies, data of 10, 20 and 30 dB, scenes of
our own synthesis with independent phases (Blobs; the paper's are not public): unseen ones, whose seeds are neither the
denoiser's nor those of the few on which every method's one parameter is chosen, per cell, for the highest mean PSNR.
Magnitudes are compared at their own peaks. L1, TV and the denoiser enter the same algorithm, the constrained ADMM that
is told the noise level; their parameter is the threshold or, of the denoiser, its noise level. The second table has
the phase random, smooth and constant in one cell. A mean is followed by its standard error; seconds are for one volume.

The third is real: the two homogeneous MERIT phantoms, the distance of the brightest voxel from the tumour's centre. No
truth chooses anything there. L1 is the default of `resolvent reconstruct`; what its image, scaled to fit best, leaves
of the data is the misfit that TV and the denoiser are told. These start from it and see every image at its own peak,
inside the phantom only, with the medians of the first table's parameters.

    python benchmarks/radar_table.py [--weights magnitude-denoiser] [--scenes 20] [--frequencies 5 10 20]
        [--data ../shared/data] [--out FILE.md]
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _timing import machine, table

from resolvent.datasets import blobs
from resolvent.operators import SPEED_OF_LIGHT, NearFieldMIMO
from resolvent.priors import L1, TV, Denoiser, Magnitude, MixedPrecision, Normalised, Prior
from resolvent.recon import (
    FISTA,
    BackProjection,
    ConstrainedADMM,
    Kirchhoff,
    Problem,
    RelativeChange,
    Solver,
    magnitude_psnr,
    magnitude_ssim,
)

FREQUENCIES, SNRS, PHASES = (5, 10, 20), (10, 20, 30), ("random", "smooth", "constant")
#: The cell in which the phases are compared.
PHASE_CELL = (10, 20)
#: First seeds; a training's are from 1 000 000, the simulator's below 200 000.
SCORED, CHOOSING, CHOOSERS = 2_000_000, 3_000_000, 2
PNP = "PnP, 3-D denoiser"
#: MERIT's homogeneous phantoms and the centres of their tumours, mm.
PHANTOMS = {"B0_P3": (15, 0, 35), "B0_P5": (15, 0, 30)}
#: One of so many of the real data's frequencies is used, so that the x-update is exact; 0.33 m stay unambiguous.
EVERY = 4


class Method(NamedTuple):
    """A solver by the norm of the noise and one parameter, and the parameter's values to choose from."""

    make: Callable[..., Solver]
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
    }


def regularised(prior: Callable[[float], Prior], max_iter: int, grid: tuple[float, ...]) -> Method:
    """The constrained ADMM around a prior of one parameter, for scenes of peak 1."""

    def make(noise: float, parameter: float, wrap: Callable[[Prior], Prior] = lambda inner: inner) -> Solver:
        return ConstrainedADMM(wrap(prior(parameter)), noise, max_iter=max_iter)

    return Method(make, grid)


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


def score(solver: Solver, physics: NearFieldMIMO, scene: Scene) -> Score:
    """One reconstruction against the truth."""
    began = time.perf_counter()
    image = solver(scene.y, physics)
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

    def rows(self, contenders: dict[str, Method], chosen: dict[str, list[float]]) -> Iterator[list[str]]:
        """One line per method; the parameters go into ``chosen``."""
        physics = array(self.frequencies)
        choosing, scored = (
            [simulate(physics, self.snr, first + i, self.phase) for i in range(count)]
            for first, count in ((CHOOSING, CHOOSERS), (SCORED, self.scenes))
        )
        for name, method in contenders.items():
            parameter = choose(method, physics, choosing)
            chosen.setdefault(name, []).append(parameter)
            # a first run builds what the operator keeps, which is no scene's cost
            score(method.make(scored[0].noise, parameter), physics, scored[0])
            found = [score(method.make(s.noise, parameter), physics, s) for s in scored]
            psnrs, ssims, seconds = zip(*found, strict=True)
            yield [
                str(self.frequencies), f"{self.snr:g}", self.phase, name, f"{parameter:g}" if parameter else "",
                measured(psnrs, 2), measured(ssims, 3), f"{statistics.median(seconds):.2f}",
            ]  # fmt: skip


HEAD = ("frequencies", "SNR (dB)", "phase", "method", "chosen", "PSNR (dB)", "SSIM", "seconds")


def simulated(contenders: dict[str, Method], frequencies: Sequence[int], scenes: int) -> tuple[str, dict[str, float]]:
    """Both tables of simulated scenes, and each method's median parameter."""
    chosen: dict[str, list[float]] = {}
    cells = [Cell(n, snr, "random", scenes) for n in frequencies for snr in SNRS]
    first = [row for cell in cells for row in shown(cell.rows(contenders, chosen))]
    others = [Cell(*PHASE_CELL, phase, scenes) for phase in PHASES[1:]] if PHASE_CELL[0] in frequencies else []
    same = [row for row in first if row[:2] == [str(value) for value in PHASE_CELL]]
    second = same + [row for cell in others for row in shown(cell.rows(contenders, {}))]
    medians = {name: statistics.median_low(values) for name, values in chosen.items()}
    return "\n\n".join(table(HEAD, rows) for rows in (first, second) if rows), medians


def shown(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Rows, printed as they come."""
    for row in rows:
        print(" | ".join(row), flush=True)
        yield row


def merit(data: Path, contenders: dict[str, Method], parameters: dict[str, float]) -> str:
    """Where each method sees the tumours of the real phantoms."""
    scan = np.load(data / "radar" / "merit_multistatic.npz")
    physics, rows = hemisphere(scan), []
    for name, centre in PHANTOMS.items():
        y = torch.as_tensor((scan[f"{name}_p000"] - scan[f"{name}_p036"])[::EVERY])[None, None]
        sparse = default_l1(y, physics)
        explained = physics.A(sparse)
        scale = torch.vdot(explained.flatten(), y.flatten()).real / explained.abs().square().sum()
        misfit, start = float(torch.linalg.vector_norm(scale * explained - y)), scale * sparse
        images = {"back-projection": BackProjection()(y, physics), "L1": sparse}
        for method in ("TV", PNP):
            solver = contenders[method].make(misfit, parameters[method], Normalised)
            images[method] = solver.solve(y, physics, x0=start).image
        for method, image in images.items():
            rows.append([name, method, *localised(image.abs()[0, 0] * physics.support, physics, centre)])
            print(" | ".join(rows[-1]), flush=True)
    return table(("phantom", "method", "brightest voxel (mm)", "error (mm)", "peak / mean"), rows)


def default_l1(y: torch.Tensor, physics: NearFieldMIMO) -> torch.Tensor:
    """What the command line does without further options."""
    solver = FISTA(L1(), max_iter=300, stop=RelativeChange(0.01))
    weight = solver.universal_weight(Problem(y, physics), None)
    return FISTA(L1(weight), max_iter=solver.max_iter, stop=solver.stop)(y, physics)


def hemisphere(scan) -> NearFieldMIMO:
    """The phantoms' inside on a grid of 2.5 mm, at permittivity 8; phases alone."""
    lateral, depth = 2.5e-3 * torch.arange(-28, 29), 2.5e-3 * torch.arange(29)
    x, y, z = torch.meshgrid(lateral, lateral, depth, indexing="ij")
    return NearFieldMIMO(
        scan["ant"], scan["ant"], scan["freqs"][::EVERY], lateral, lateral, depth, pairs=scan["ch"],
        support=x**2 + y**2 + z**2 <= 0.07**2 + 1e-9, propagation_speed=SPEED_OF_LIGHT / 8**0.5, spreading=False,
    )  # fmt: skip


def localised(image: torch.Tensor, physics: NearFieldMIMO, centre: tuple[float, ...]) -> list[str]:
    """Where the brightest voxel is, how far from the centre, and how it stands out."""
    i, j, k = np.unravel_index(int(image.argmax()), image.shape)
    place = 1e3 * np.array([float(physics.x[i]), float(physics.y[j]), float(physics.z[k])])
    contrast = float(image.max() / image[physics.support].mean())
    return [str(tuple(place.round(1).tolist())), f"{np.linalg.norm(place - centre):.1f}", f"{contrast:.1f}"]


@torch.no_grad()
def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="magnitude-denoiser", help="name or file of the 3-D denoiser")
    parser.add_argument("--scenes", type=int, default=20, help="scored in each cell")
    parser.add_argument("--frequencies", type=int, nargs="+", default=FREQUENCIES)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    options = parser.parse_args()
    torch.set_num_threads(2)
    began, contenders = time.perf_counter(), methods(options.weights)
    text, parameters = simulated(contenders, options.frequencies, options.scenes)
    text += f"\n\n{merit(options.data, contenders, parameters)}"
    text += (
        f"\n\n{options.scenes} scenes in each cell; {time.perf_counter() - began:.0f} s on {machine()}, 2 threads.\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
