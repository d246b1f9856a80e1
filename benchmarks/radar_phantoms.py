"""Where L1 and a learned 3-D denoiser see the tumours of two real breast phantoms (MERIT), and others of known place.

A tumour's place is the centre of what exceeds half the peak around the brightest voxel: a denoiser's image of a ball is
flat inside, and L1's is one voxel. The distance of the brightest voxel itself from the truth stands beside it. One of
four of the file's frequencies is used, so that the x-update is exact.

The real phantoms choose nothing. The voxel and the denoiser's noise level are chosen on simulated scans of the same
array, medium, frequencies and subtraction: a ball of 8 to 24 mm at a random place, less the same ball turned by 36
degrees about the axis, which is as bright, so that the nearer of the two counts; of one phase, or of independent ones,
in turn; noise of the relative norm that L1 leaves of the real data. Least mean distance of the centre, to a tenth of a
millimetre, then highest mean PSNR of the magnitude at its own peak.

L1 is the default of `resolvent reconstruct`. What its image, scaled to fit best, leaves of the data is the misfit that
the denoiser is told, in the constrained ADMM, which starts from it and sees images at their own peaks. Simulated data
are made on the finer grid; its voxel is a seventh of the resolution in range.

    python benchmarks/radar_phantoms.py [--weights magnitude-denoiser] [--scans 8] [--data ../shared/data]
        [--out FILE.md]
"""

import argparse
import itertools
import math
import statistics
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _timing import machine, table
from scipy.ndimage import label

from resolvent.operators import SPEED_OF_LIGHT, NearFieldMIMO
from resolvent.priors import L1, Denoiser, Magnitude, MixedPrecision, Normalised
from resolvent.recon import FISTA, BackProjection, ConstrainedADMM, Problem, RelativeChange, magnitude_psnr

#: The homogeneous phantoms and the centres of their tumours, mm.
PHANTOMS = {"B0_P3": (15, 0, 35), "B0_P5": (15, 0, 30)}
EVERY, RADIUS, TURN = 4, 70.0, math.radians(36)
#: Voxels tried, mm; data are simulated on the first.
SPACINGS = (2.5, 5.0)
#: Norm of the noise over that of the data, simulated: what the default L1 leaves of the phantoms' is 0.96 and 0.98.
NOISE = 0.97
FIRST_SEED = 5_000_000


class Scan(NamedTuple):
    """Data, where the brightest voxel may be (mm), and the ball's diameter (mm; 0 where no image is known)."""

    y: torch.Tensor
    centres: Sequence[Sequence[float]]
    diameter: float = 0.0


class Outcome(NamedTuple):
    """Where the tumour is seen (mm), how far that and the brightest voxel are from the nearest centre (mm), PSNR."""

    place: np.ndarray
    error: float
    brightest: float
    psnr: float


class Trial(NamedTuple):
    """A method and its parameters: the voxel (mm), the denoiser's noise level."""

    method: str
    spacing: float
    sigma: float = 0.0

    def __str__(self) -> str:
        return f"{self.spacing:g} mm" + (f", {self.sigma:g}" if self.sigma else "")


PNP = "PnP, 3-D denoiser"
#: A method's trials, the finer grid first.
TRIALS = [Trial(method, spacing) for method in ("back-projection", "L1") for spacing in SPACINGS] + [
    Trial(PNP, spacing, sigma) for spacing in SPACINGS for sigma in (0.05, 0.1, 0.2)
]


class Phantoms:
    """The file, its array around the phantoms' inside on any grid, and the denoiser."""

    def __init__(self, data: Path, weights: str):
        self.file, self.net = np.load(data / "radar" / "merit_multistatic.npz"), MixedPrecision(weights)
        self.grid, self.sparse = cache(self.grid), cache(self.sparse)

    def grid(self, spacing: float) -> NearFieldMIMO:
        """At permittivity 8; phases alone."""
        n, step = int(RADIUS / spacing), 1e-3 * spacing
        lateral, depth = step * torch.arange(-n, n + 1), step * torch.arange(n + 1)
        x, y, z = torch.meshgrid(lateral, lateral, depth, indexing="ij")
        return NearFieldMIMO(
            self.file["ant"], self.file["ant"], self.file["freqs"][::EVERY], lateral, lateral, depth,
            pairs=self.file["ch"], support=x**2 + y**2 + z**2 <= (1e-3 * RADIUS) ** 2 + 1e-9,
            propagation_speed=SPEED_OF_LIGHT / 8**0.5, spreading=False,
        )  # fmt: skip

    def real(self, name: str) -> Scan:
        """A phantom less the same turned."""
        y = (self.file[f"{name}_p000"] - self.file[f"{name}_p036"])[::EVERY]
        return Scan(torch.as_tensor(y)[None, None], [PHANTOMS[name]])

    def simulated(self, number: int) -> Scan:
        """A ball less the same turned, in noise."""
        rng, physics = np.random.default_rng(FIRST_SEED + number), self.grid(SPACINGS[0])
        diameter, centres = rng.uniform(8, 24), places(rng)
        scene = ball(physics, centres[0], diameter) - ball(physics, centres[1], diameter)
        phase = rng.uniform(0, 2 * math.pi, scene.shape if number % 2 else ())
        clean = physics.A(scene * torch.as_tensor(np.exp(1j * phase)).to(torch.complex64))
        noise = torch.randn(clean.shape, dtype=clean.dtype, generator=torch.Generator().manual_seed(number))
        scale = NOISE / math.sqrt(1 - NOISE**2) * clean.norm() / noise.norm()
        return Scan(clean + scale * noise, centres, diameter)

    def sparse(self, y: torch.Tensor, spacing: float) -> torch.Tensor:
        """The default L1, scaled to fit the data best."""
        physics, stop = self.grid(spacing), RelativeChange(0.01)
        weight = FISTA(L1()).universal_weight(Problem(y, physics), None)
        image = FISTA(L1(weight), max_iter=300, stop=stop)(y, physics)
        explained = physics.A(image)
        scale = torch.vdot(explained.flatten(), y.flatten()).real / explained.abs().square().sum().clamp_min(1e-30)
        return scale * image

    def image(self, y: torch.Tensor, trial: Trial) -> torch.Tensor:
        """What a method makes of data."""
        physics = self.grid(trial.spacing)
        if trial.method == "back-projection":
            return BackProjection()(y, physics)
        start = self.sparse(y, trial.spacing)
        if trial.method == "L1":
            return start
        misfit = float(torch.linalg.vector_norm(physics.A(start) - y))
        prior = Normalised(Magnitude(Denoiser(self.net, trial.sigma)))
        return ConstrainedADMM(prior, misfit, max_iter=30).solve(y, physics, x0=start).image

    def outcome(self, scan: Scan, trial: Trial) -> Outcome:
        """How well a method shows where the tumour is."""
        physics, image = self.grid(trial.spacing), self.image(scan.y, trial)
        magnitude = (image.abs()[0, 0] * physics.support).numpy()
        brightest, place = (millimetres(physics, index) for index in (peak(magnitude), middle(magnitude)))
        errors = (min(float(np.linalg.norm(p - centre)) for centre in scan.centres) for p in (place, brightest))
        if not scan.diameter:
            return Outcome(place, *errors, math.nan)
        truth = sum(ball(physics, c, scan.diameter) for c in scan.centres)
        return Outcome(place, *errors, float(magnitude_psnr(image, truth)))


def peak(magnitude: np.ndarray) -> tuple[int, ...]:
    """The index of the brightest voxel."""
    return tuple(int(i) for i in np.unravel_index(int(magnitude.argmax()), magnitude.shape))


def middle(magnitude: np.ndarray) -> np.ndarray:
    """The centre of mass of what exceeds half the peak and hangs together with it, as an index."""
    parts = np.zeros(magnitude.shape, int)
    label(magnitude > magnitude.max() / 2, output=parts)
    inside = parts == parts[peak(magnitude)]
    return np.average(np.argwhere(inside), axis=0, weights=magnitude[inside])


def millimetres(physics: NearFieldMIMO, index: Sequence[float] | np.ndarray) -> np.ndarray:
    """The place of an index of an even grid."""
    axes = (physics.x, physics.y, physics.z)
    return 1e3 * np.array([float(a[0] + i * (a[1] - a[0])) for a, i in zip(axes, index, strict=True)])


def places(rng: np.random.Generator) -> list[np.ndarray]:
    """A centre inside the phantom, 15 mm from its border at least, and the same turned either way."""
    while True:
        x, y, z = rng.uniform((-55, -55, 5), 55)
        if math.hypot(x, y, z) <= RADIUS - 15:
            turn = rng.choice((-1, 1)) * TURN
            turned = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn), z
            return [np.array((x, y, z)), np.array(turned)]


def ball(physics: NearFieldMIMO, centre: Sequence[float], diameter: float) -> torch.Tensor:
    """Magnitude 1 inside, with an edge of a voxel, ``(1, 1, x, y, z)``."""
    axes = torch.meshgrid(physics.x, physics.y, physics.z, indexing="ij")
    distance = sum((1e3 * a - float(c)).square() for a, c in zip(axes, centre, strict=True)).sqrt()
    spacing = 1e3 * float(physics.x[1] - physics.x[0])
    return (((diameter / 2 - distance) / spacing + 0.5).clamp(0, 1) * physics.support).float()[None, None]


def simulated(phantoms: Phantoms, count: int) -> tuple[str, dict[str, Trial]]:
    """Every trial on simulated scans, and what each method does best with."""
    scans, found, rows = [phantoms.simulated(n) for n in range(count)], {}, []
    for trial in TRIALS:
        outcomes = [phantoms.outcome(scan, trial) for scan in scans]
        found[trial] = statistics.mean(o.error for o in outcomes), statistics.mean(o.psnr for o in outcomes)
        shown = (measured([getattr(o, name) for o in outcomes]) for name in ("error", "brightest", "psnr"))
        rows.append([trial.method, str(trial), *shown])
        print(" | ".join(rows[-1]), flush=True)
    best = {
        method: min((t for t in found if t.method == method), key=lambda t: (round(found[t][0], 1), -found[t][1]))
        for method in dict.fromkeys(t.method for t in TRIALS)
    }
    return table(("method", "voxel, level", "centre off (mm)", "brightest off (mm)", "PSNR (dB)"), rows), best


def measured(values: Sequence[float]) -> str:
    """Mean and standard error."""
    return f"{statistics.mean(values):.1f} ± {statistics.stdev(values) / math.sqrt(len(values)):.1f}"


def real(phantoms: Phantoms, best: dict[str, Trial]) -> str:
    """Where each method, its parameters chosen, sees the tumours of the phantoms."""
    rows = []
    scans = {name: phantoms.real(name) for name in PHANTOMS}
    for (name, scan), (method, trial) in itertools.product(scans.items(), best.items()):
        found = phantoms.outcome(scan, trial)
        place = ", ".join(f"{p:.1f}" for p in found.place)
        rows.append([name, method, str(trial), f"({place})", f"{found.error:.1f}", f"{found.brightest:.1f}"])
        print(" | ".join(rows[-1]), flush=True)
    return table(("phantom", "method", "chosen", "centre (mm)", "off (mm)", "brightest off (mm)"), rows)


@torch.no_grad()
def main() -> None:
    """Choose on simulated scans, then measure the real ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="magnitude-denoiser", help="name or file of the 3-D denoiser")
    parser.add_argument("--scans", type=int, default=8, help="simulated, 2 at least")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    options = parser.parse_args()
    phantoms = Phantoms(options.data, options.weights)
    choices, best = simulated(phantoms, options.scans)
    text = f"{choices}\n\n{real(phantoms, best)}\n\nMeans over {options.scans} simulated scans; {machine()}.\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
