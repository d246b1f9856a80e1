"""Where L1 and a learned 3-D denoiser see the tumours of two real breast phantoms (MERIT), and others of known place.

A tumour's place is the centre of what exceeds half the peak around the brightest voxel: a denoiser's image of a ball is
flat inside, and L1's is one voxel. The distance of the brightest voxel itself from the truth stands beside it. One of
four of the file's frequencies is used, so that the x-update is exact; voxels of 5 mm. The last table has each phantom
from every quarter of the frequencies (the first, fifth and so on; the second, sixth and so on), either half and all,
and how often the centre lies within the tumour, of 11 and 20 mm.

Almost all of the real data is what the model leaves out, so that data simulated from the model say little. Here a
simulated scan has errors: a ball of 8 to 24 mm at a random place, of one phase or of independent ones in turn, less the
same ball turned by 36 degrees about the axis, which is as bright, so that the nearer of the two counts; in a medium of
permittivity 7 to 9 and behind a path of -40 to 40 mm of air that nobody was told; every antenna with a gain and a phase
of its own (a quarter neper and half a radian); and clutter, a real scan turned at random and every channel's phase
random: the energy of channels and frequencies and the delays of echoes are the real ones, a common place they have not.
Its norm is 0.97 of the data's, about what the default L1 leaves of the real ones.

The data are taken as they are, or equalised, every channel and then every frequency to mean power 1 (antennas without
amplitude calibration, and the loudest hold clutter), or equalised and focused: permittivity and path are those whose
back-projection has the highest peak.

The truth of the real phantoms chooses nothing. How data are treated is chosen alike for all methods, by the least mean
distance of the centre over methods and simulated scans; everything tried is shown, and what is chosen is marked.

L1 is the default of `resolvent reconstruct`, its weight halved where it leaves nothing. What its image, scaled to fit
best, leaves of the data is the misfit that the denoiser is told, in the constrained ADMM, which starts from it and sees
images at their own peaks.

    python benchmarks/radar_phantoms.py [--weights magnitude-denoiser] [--scans 12] [--data ../shared/data]
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
#: Diameters of these, mm.
DIAMETERS = {"B0_P3": 11, "B0_P5": 20}
#: One of how many of the frequencies a part of the data has.
PARTS = {"a quarter": 4, "half": 2, "all": 1}
EVERY, RADIUS, TURN = 4, 70.0, math.radians(36)
#: Voxels, mm; data are simulated on the finer.
SPACING, FINE = 5.0, 2.5
#: Antennas of the rings, of which the file has one after the other.
RINGS = (10, 10, 4)
#: Norm of the clutter over that of the data, simulated: what the default L1 leaves of the phantoms' is 0.96 and 0.98.
CLUTTER = 0.97
#: The simulated antennas' errors: standard deviations of the logarithm of the gain, and of the phase in radians.
GAIN, PHASE = 0.25, 0.5
#: The denoiser's noise level, at peak 1: the trained preset's.
LEVEL = 0.2
FIRST_SEED = 7_000_000


class Medium(NamedTuple):
    """Permittivity, and a path common to all channels in metres of air."""

    permittivity: float = 8.0
    path: float = 0.0


class Scan(NamedTuple):
    """Data, where the brightest voxel may be (mm), the ball's diameter (mm; 0 where no image is known), the medium."""

    y: torch.Tensor
    centres: Sequence[Sequence[float]]
    diameter: float = 0.0
    medium: Medium | None = None


class Outcome(NamedTuple):
    """Where the tumour is seen (mm), how far that and the brightest voxel are from the nearest centre (mm), PSNR."""

    place: np.ndarray
    error: float
    brightest: float
    psnr: float


class Trial(NamedTuple):
    """A method and how its data are treated."""

    method: str
    data: str


PNP = "PnP, 3-D denoiser"
RAW, EQUAL, FOCUSED = "as measured", "equalised", "equalised, focused"
METHODS = ("back-projection", "L1", PNP)
TRIALS = [Trial(method, data) for method in METHODS for data in (RAW, EQUAL, FOCUSED)]
#: Media that focusing tries.
MEDIA = [Medium(eps, 1e-3 * path) for eps in (7.0, 8.0, 9.0) for path in range(-40, 41, 5)]


class Phantoms:
    """The file, its array around the phantoms' inside in any medium, and the denoiser."""

    def __init__(self, data: Path, weights: str, every: int = EVERY, first: int = 0):
        self.file, self.net = np.load(data / "radar" / "merit_multistatic.npz"), MixedPrecision(weights)
        self.antennas, self.pairs = self.file["ant"], self.file["ch"]
        self.used = slice(first, None, every)
        self.frequencies = self.file["freqs"][self.used]
        self.grid, self.treated, self.sparse = cache(self.grid), cache(self.treated), cache(self.sparse)

    def grid(self, permittivity: float, spacing: float = SPACING) -> NearFieldMIMO:
        """Phases alone."""
        n, step = int(RADIUS / spacing), 1e-3 * spacing
        lateral, depth = step * torch.arange(-n, n + 1), step * torch.arange(n + 1)
        x, y, z = torch.meshgrid(lateral, lateral, depth, indexing="ij")
        return self.seeing(lateral, depth, x**2 + y**2 + z**2 <= (1e-3 * RADIUS) ** 2 + 1e-9, permittivity)

    def seeing(
        self, lateral: torch.Tensor, depth: torch.Tensor, support: torch.Tensor, permittivity: float
    ) -> NearFieldMIMO:
        """The array before the voxels of a support."""
        return NearFieldMIMO(
            self.antennas, self.antennas, self.frequencies, lateral, lateral, depth, pairs=self.pairs, support=support,
            propagation_speed=SPEED_OF_LIGHT / permittivity**0.5, spreading=False,
        )  # fmt: skip

    def real(self, name: str) -> Scan:
        """A phantom less the same turned."""
        y = (self.file[f"{name}_p000"] - self.file[f"{name}_p036"])[self.used]
        return Scan(torch.as_tensor(y)[None, None], [PHANTOMS[name]])

    def simulated(self, number: int) -> Scan:
        """A ball less the same turned, in an unknown medium, by uncalibrated antennas, in clutter."""
        rng = np.random.default_rng(FIRST_SEED + number)
        diameter, centres = rng.uniform(8, 24), places(rng)
        medium = Medium(rng.uniform(7, 9), rng.uniform(-0.04, 0.04))
        fine = self.grid(Medium().permittivity, FINE)
        scene = ball(fine, centres[0], diameter) - ball(fine, centres[1], diameter)
        world = self.seeing(fine.x, fine.z, scene[0, 0] != 0, medium.permittivity)
        phase = rng.uniform(0, 2 * math.pi, scene.shape if number % 2 else ())
        clean = world.A(scene * torch.as_tensor(np.exp(1j * phase)).to(torch.complex64))
        gain = np.exp(
            GAIN * rng.standard_normal(len(self.antennas)) + 1j * PHASE * rng.standard_normal(len(self.antennas))
        )
        clean = self.delayed(clean * torch.as_tensor(gain[self.pairs].prod(1)).to(clean.dtype), medium.path)
        clutter = self.clutter(rng, list(PHANTOMS)[number // 2 % 2])
        scale = math.sqrt(1 - CLUTTER**2) / CLUTTER * clutter.norm() / clean.norm()
        return Scan(scale * clean + clutter, centres, diameter, medium)

    def delayed(self, y: torch.Tensor, path: float | torch.Tensor) -> torch.Tensor:
        """Data after a longer path in air, m; one number or one per image."""
        wavenumbers = 2 * math.pi * torch.as_tensor(self.frequencies)[:, None] / SPEED_OF_LIGHT
        path = torch.as_tensor(path, dtype=torch.float64).reshape(-1, 1, 1, 1)
        return y * torch.exp(-1j * wavenumbers * path).to(y.dtype)

    def clutter(self, rng: np.random.Generator, name: str) -> torch.Tensor:
        """A phantom's data without a place: the array turned by some antennas, and the channels' phases random."""
        ring = np.repeat(range(len(RINGS)), RINGS)
        first, size = np.cumsum((0, *RINGS[:-1]))[ring], np.array(RINGS)[ring]
        turned = first + (np.arange(len(ring)) - first + rng.integers(math.lcm(*RINGS))) % size
        channel = {frozenset(pair): i for i, pair in enumerate(self.pairs.tolist())}
        source = [channel[frozenset(pair)] for pair in turned[self.pairs].tolist()]
        phase = torch.as_tensor(np.exp(2j * math.pi * rng.random(len(source))))
        return self.real(name).y[..., source] * phase.to(torch.complex64)

    def treated(self, y: torch.Tensor, treatment: str) -> tuple[torch.Tensor, Medium]:
        """The data that a method is given, and in which medium; a path is taken out."""
        if treatment == RAW:
            return y, Medium()
        y = equalised(y)
        return (y, Medium()) if treatment == EQUAL else self.focused(y)

    def focused(self, y: torch.Tensor) -> tuple[torch.Tensor, Medium]:
        """Of the media tried, the one whose back-projection has the highest peak."""
        peaks = []
        for permittivity, media in itertools.groupby(MEDIA, lambda m: m.permittivity):
            paths = torch.tensor([m.path for m in media], dtype=torch.float64)
            images = BackProjection()(self.delayed(y, -paths), self.grid(permittivity))
            peaks += images.abs().flatten(1).amax(1).tolist()
        best = MEDIA[int(np.argmax(peaks))]
        return self.delayed(y, -best.path), best

    def sparse(self, y: torch.Tensor, permittivity: float) -> torch.Tensor:
        """The default L1, its weight halved until something is left, scaled to fit the data best."""
        physics, stop = self.grid(permittivity), RelativeChange(0.01)
        weight = FISTA(L1()).universal_weight(Problem(y, physics), None)
        weights = (0.5**halvings * weight for halvings in itertools.count())
        images = (FISTA(L1(w), max_iter=300, stop=stop)(y, physics) for w in weights)
        image = next(image for image in images if image.any())
        explained = physics.A(image)
        scale = torch.vdot(explained.flatten(), y.flatten()).real / explained.abs().square().sum().clamp_min(1e-30)
        return scale * image

    def image(self, y: torch.Tensor, medium: Medium, trial: Trial) -> torch.Tensor:
        """What a method makes of treated data."""
        physics = self.grid(medium.permittivity)
        if trial.method == "back-projection":
            return BackProjection()(y, physics)
        start = self.sparse(y, medium.permittivity)
        if trial.method == "L1":
            return start
        misfit = float(torch.linalg.vector_norm(physics.A(start) - y))
        prior = Normalised(Magnitude(Denoiser(self.net, LEVEL)))
        return ConstrainedADMM(prior, misfit, max_iter=30).solve(y, physics, x0=start).image

    def outcome(self, scan: Scan, trial: Trial) -> Outcome:
        """How well a method shows where the tumour is."""
        y, medium = self.treated(scan.y, trial.data)
        physics, image = self.grid(medium.permittivity), self.image(y, medium, trial)
        magnitude = (image.abs()[0, 0] * physics.support).numpy()
        brightest, place = (millimetres(physics, index) for index in (peak(magnitude), middle(magnitude)))
        errors = (min(float(np.linalg.norm(p - centre)) for centre in scan.centres) for p in (place, brightest))
        if not scan.diameter:
            return Outcome(place, *errors, math.nan)
        truth = sum(ball(physics, c, scan.diameter) for c in scan.centres)
        return Outcome(place, *errors, float(magnitude_psnr(image, truth)))


def equalised(y: torch.Tensor) -> torch.Tensor:
    """Every channel to mean power 1, then every frequency."""
    for axis in (2, 3):
        y = y / y.abs().square().mean(axis, keepdim=True).sqrt()
    return y


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


def simulated(phantoms: Phantoms, count: int) -> tuple[str, str]:
    """How well each trial places balls of known place, and the treatment of the data that is best for all methods."""
    scans, errors, rows = [phantoms.simulated(n) for n in range(count)], {}, []
    for trial in TRIALS:
        outcomes = [phantoms.outcome(scan, trial) for scan in scans]
        errors[trial] = [o.error for o in outcomes]
        shown = (measured([getattr(o, name) for o in outcomes]) for name in ("error", "brightest", "psnr"))
        rows.append([trial.method, trial.data, *shown])
        print(" | ".join(rows[-1]), flush=True)
    for trial, row in zip(TRIALS, rows, strict=True):
        sparse = errors[Trial("L1", trial.data)]
        nearer = [other - own for own, other in zip(errors[trial], sparse, strict=True)]
        row.insert(3, "" if trial.method == "L1" else measured(nearer))
    best = min((RAW, EQUAL, FOCUSED), key=lambda data: sum(sum(e) for t, e in errors.items() if t.data == data))
    header = ("method", "data", "centre off (mm)", "nearer than L1 by (mm)", "brightest off (mm)", "PSNR (dB)")
    return f"{table(header, rows)}\n\n{media(phantoms, scans)}", best


def media(phantoms: Phantoms, scans: Sequence[Scan]) -> str:
    """What focusing finds where the medium is known, and in the phantoms."""
    pairs = [(phantoms.treated(scan.y, FOCUSED)[1], scan.medium) for scan in scans]
    wrong = [np.abs(np.subtract(found, true)) for found, true in pairs]
    told = [np.abs(np.subtract(Medium(), true)) for _, true in pairs]
    rows = [
        [name, *(measured([scale * e[i] for e in errors], digits) for i, scale, digits in ((0, 1, 2), (1, 1e3, 0)))]
        for name, errors in (("simulated, error of 8 and 0 mm", told), ("simulated, error of what is found", wrong))
    ]
    for name in PHANTOMS:
        medium = phantoms.treated(phantoms.real(name).y, FOCUSED)[1]
        rows.append([f"{name}, found", f"{medium.permittivity:g}", f"{1e3 * medium.path:.0f}"])
    return table(("medium", "permittivity", "path (mm)"), rows)


def shares(data: Path, weights: str, treatment: str) -> str:
    """How far from the truth each method sees the phantoms' tumours, from each quarter and half of the data."""
    found = {share: parts(data, weights, treatment, every) for share, every in PARTS.items()}
    every_part = {m: {n: [e for off in found.values() for e in off[m][n]] for n in PHANTOMS} for m in METHODS}
    rows = [row for share, off in (found | {"each part once": every_part}).items() for row in located(share, off)]
    columns = (*(f"{name}, centre off (mm)" for name in PHANTOMS), "both", "within the tumour", "nearer than L1")
    return table(("frequencies", "method", *columns), rows)


#: Distances of the centre from the truth by method and phantom, in one part of the data after the other.
Distances = dict[str, dict[str, list[float]]]


def parts(data: Path, weights: str, treatment: str, every: int) -> Distances:
    """From each ``every``-th frequency, beginning with each of the first."""
    some = [Phantoms(data, weights, every, first) for first in range(every)]
    return {
        method: {n: [p.outcome(p.real(n), Trial(method, treatment)).error for p in some] for n in PHANTOMS}
        for method in METHODS
    }


def located(share: str, off: Distances) -> list[list[str]]:
    """Each method's mean distances, how often the centre lies in the tumour, and how often it is nearer than L1's."""
    rows = []
    for method, own in off.items():
        inside = [e <= DIAMETERS[n] / 2 for n, errors in own.items() for e in errors]
        nearer = [a < b for n in PHANTOMS for a, b in zip(own[n], off["L1"][n], strict=True)]
        both = statistics.mean(e for errors in own.values() for e in errors)
        count = "" if method == "L1" else f"{sum(nearer)} of {len(nearer)}"
        places = [ranging(errors) for errors in own.values()]
        rows.append([share, method, *places, f"{both:.1f}", f"{sum(inside)} of {len(inside)}", count])
        print(" | ".join(rows[-1]), flush=True)
    return rows


def ranging(values: Sequence[float]) -> str:
    """The mean, and the least and the most of several."""
    around = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{around}"


def measured(values: Sequence[float], digits: int = 1) -> str:
    """Mean and standard error."""
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}"


def real(phantoms: Phantoms, best: str) -> str:
    """Where every trial sees the tumours of the phantoms; the chosen treatment is marked."""
    rows = []
    scans = {name: phantoms.real(name) for name in PHANTOMS}
    for (name, scan), trial in itertools.product(scans.items(), TRIALS):
        found = phantoms.outcome(scan, trial)
        place, chosen = ", ".join(f"{p:.1f}" for p in found.place), "chosen" if trial.data == best else ""
        rows.append(
            [name, trial.method, trial.data, chosen, f"({place})", f"{found.error:.1f}", f"{found.brightest:.1f}"]
        )
        print(" | ".join(rows[-1]), flush=True)
    return table(("phantom", "method", "data", "", "centre (mm)", "off (mm)", "brightest off (mm)"), rows)


@torch.no_grad()
def main() -> None:
    """Choose on simulated scans, then measure the real ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="magnitude-denoiser", help="name or file of the 3-D denoiser")
    parser.add_argument("--scans", type=int, default=12, help="simulated, 2 at least")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    options = parser.parse_args()
    phantoms = Phantoms(options.data, options.weights)
    choices, best = simulated(phantoms, options.scans)
    tables = (choices, real(phantoms, best), shares(options.data, options.weights, best))
    text = "\n\n".join((*tables, f"Means over {options.scans} simulated scans; {machine()}.\n"))
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
