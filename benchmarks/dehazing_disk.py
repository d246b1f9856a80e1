"""A real scan under haze made of its own clutter: what joint sampling takes away, and what it leaves of the tissue.

The scan is of a tissue-mimicking disk in water, 32 plane waves 0.1 ms apart, beamformed to 128 x 256 pixels of 0.2 x
0.1 mm at base band. Haze is made of what frames 0 to 7 show below the disk, from 34.6 mm on, where nothing reflects:
pieces of it, some mirrored, joined along depth, low-passed across the beam by a Gaussian of 0.6 mm, falling by 1/e in
20 mm, at half the root mean square of the disk's own echoes. Scored are frames 16 and 24, settings were chosen
on frame 8. Priors: the weights "tissue-score" and "haze-score", which have seen simulated echoes only, on
patches of 128 x 64 pixels that overlap by a tenth. The Wiener filter is of the mean spectra of the same simulations.

gCNR is of the disk against the water around it in 256 bins, equal counts. KS is the distance of the disk's envelope
values from those without haze; NMSE that of the complex image; grain the width of the envelope's autocorrelation.

    python benchmarks/dehazing_disk.py [--data ../shared/data] [--frames 16 24] [--steps 40] [--out FILE.md]
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from _photographs import DATA
from _timing import main, shown, table
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from resolvent.datasets import Haze, Source, Tissue, demodulate
from resolvent.operators import PlaneWaveIQ, Superposition
from resolvent.priors import DenoiserDiffusion, Joint, Late, Patchwise, Schedule, VarianceExploding
from resolvent.recon import BackProjection, Flower, PiGDM, Projection, autocorrelation_widths, gcnr, ks_distance

F64 = torch.float64
RATE, CARRIER, START, SPEED = 20e6 / 3, 5e6, 9.95e-6, 1480.0
X = 1e-4 * (torch.arange(256, dtype=F64) - 127.5)
Z = 10e-3 + 2e-4 * torch.arange(168, dtype=F64)
ROWS, CLUTTER = 128, slice(123, 168)
CENTRE, RADIUS = (-0.7e-3, 22.6e-3), 10e-3
PATCH, NOISE, SCALE = (128, 64), 0.02, 0.25
SCHEDULE = VarianceExploding(0.005, 1.0)


# -- the scan -------------------------------------------------------------------------------------------
def beamformed(folder: Path, frames: list[int]) -> Tensor:
    """Frames ``(F, 168, 256)`` at base band."""
    rf = loadmat(folder / "ultrasound" / "PWI_disk.mat")["RF"].transpose(2, 1, 0)[frames]
    elements = 0.298e-3 * (torch.arange(128, dtype=F64) - 63.5)
    physics = PlaneWaveIQ([0.0], elements, X, Z, rf.shape[-1], RATE, CARRIER, START, SPEED, f_number=1.1)
    iq = demodulate(rf, RATE, CARRIER, 0.15 * CARRIER, START)[:, None, None]
    image = torch.cat([BackProjection()(one[None], physics) for one in iq])[:, 0]
    return image * torch.exp(-4j * torch.pi * CARRIER / SPEED * Z)[:, None]


def haze(clutter: Tensor, seed: int) -> Tensor:
    """Haze ``(128, 256)`` of root mean square 1 at the top, from clutter ``(F, rows, 256)``."""
    generator = np.random.default_rng(seed)
    rows, common = clutter.shape[1], 8
    ramp = np.sin(np.pi / 2 * (np.arange(common) + 0.5) / common)
    image = np.zeros((ROWS + rows, 256), np.complex128)
    for start in range(0, ROWS, rows - common):
        piece = clutter[generator.integers(len(clutter))].numpy()[:, :: generator.choice([-1, 1])].copy()
        piece[:common] *= ramp[:, None]
        piece[-common:] *= ramp[::-1, None]
        image[start : start + rows] += piece
    image = gaussian_filter1d(image[:ROWS], 6, axis=1)
    return torch.from_numpy(image / np.sqrt(np.mean(abs(image) ** 2))) * torch.exp(-(Z[:ROWS] - Z[0]) / 20e-3)[:, None]


def regions() -> tuple[Tensor, Tensor]:
    """Pixels of the disk and of the water around it."""
    depth, across = torch.meshgrid(Z[:ROWS], X, indexing="ij")
    distance = torch.hypot(across - CENTRE[0], depth - CENTRE[1]) / RADIUS
    return distance < 0.9, distance > 1.15


class Scene(NamedTuple):
    """A clean image, and it under haze, ``(1, 1, 128, 256)``; both in units of the hazy one's peak."""

    clean: Tensor
    hazy: Tensor


def scenes(folder: Path, frames: list[int]) -> list[Scene]:
    """One for each frame, each under haze of its own."""
    images, clutter, (disk, _) = beamformed(folder, frames)[:, :ROWS], beamformed(folder, list(range(8))), regions()
    found = []
    for frame, image in zip(frames, images, strict=True):
        veil = haze(clutter[:, CLUTTER], frame)
        veil = veil * (0.5 * image[disk].abs().square().mean().sqrt() / veil[disk].abs().square().mean().sqrt())
        peak = (image + veil).abs().max()
        found.append(Scene(*(v.to(torch.complex64)[None, None] / peak for v in (image, image + veil))))
    return found


# -- what takes haze away ---------------------------------------------------------------------------------
def joint_prior(schedule: Schedule = SCHEDULE, weights: tuple[str, str] = ("tissue-score", "haze-score")) -> Joint:
    """Tissue and haze, on patches."""
    parts = [Patchwise(DenoiserDiffusion(name, schedule), PATCH, 0.1) for name in weights]
    return Joint(parts, schedule=schedule)


def spectrum(source: Source) -> Tensor:
    """The mean power spectrum ``(128, 256)`` of simulated echoes."""
    pieces = torch.stack([source.sample(i, torch.Generator()) for i in range(100)])[:, 0]
    return 2 * torch.fft.fft2(pieces, norm="ortho").abs().square().mean(0)


def wiener(y: Tensor) -> Tensor:
    """The best linear filter for the mean spectra."""
    tissue, veil = (spectrum(kind(shape=(ROWS, 256))) for kind in (Tissue, Haze))
    return torch.fft.ifft2(tissue / (tissue + veil + NOISE**2) * torch.fft.fft2(y))


def sampled(make: Callable[[Joint], torch.nn.Module], samples: int, first: float = 1.0) -> Callable[[Tensor], Tensor]:
    """The mean tissue of joint samples; from half of the data for either part at time ``first`` where it is not 1."""

    def tissue(y: Tensor) -> Tensor:
        sampler, physics = make(joint_prior(Late(SCHEDULE, first))), Superposition([1.0, 1.0], y.shape[1:])
        start = torch.cat([y, y], 1) / 2 if first < 1 else None
        found = sampler.sample(y, physics, samples, torch.Generator().manual_seed(0), x0=start)
        return found.mean[:, :1]

    return tissue


def methods(steps: int, samples: int) -> dict[str, Callable[[Scene], Tensor]]:
    """From a scene to what is held to be tissue."""
    of = {
        "Wiener": wiener,
        "Projection": sampled(lambda p: Projection(p, steps), samples),
        "Flower, uncertain": sampled(lambda p: Flower(p, steps, NOISE, SCALE, uncertain=True), samples),
        "PiGDM": sampled(lambda p: PiGDM(p, steps, NOISE, SCALE), samples),
        "PiGDM from y / 2 at time .85": sampled(lambda p: PiGDM(p, steps, NOISE, SCALE), samples, 0.85),
    }
    known = {"no haze": lambda s: s.clean, "haze": lambda s: s.hazy}
    return known | {name: (lambda s, f=f: f(s.hazy)) for name, f in of.items()}


class Figures(NamedTuple):
    """The metrics of one image."""

    gcnr: float
    ks: float
    nmse: float
    axial: float
    lateral: float


def figures(image: Tensor, clean: Tensor) -> Figures:
    """Of the tissue found, beside that without haze."""
    disk, water = regions()
    envelope, truth = image[0, 0].abs(), clean[0, 0].abs()
    count = min(int(disk.sum()), int(water.sum()))
    pick = [torch.randperm(int(m.sum()), generator=torch.Generator().manual_seed(0))[:count] for m in (disk, water)]
    contrast = gcnr(*(envelope[m][p] for m, p in zip((disk, water), pick, strict=True)))
    grain = autocorrelation_widths(envelope[30:96, 60:180])
    error = (image - clean).abs().square().sum() / clean.abs().square().sum()
    return Figures(
        contrast.value, ks_distance(truth[disk], envelope[disk]), float(error), 0.2 * grain[0], 0.1 * grain[1]
    )


def row(name: str, found: Sequence[Figures]) -> list[str]:
    """A method's, the mean over frames."""
    of = Figures(*(float(np.mean(column)) for column in zip(*found, strict=True)))
    return [name, f"{of.gcnr:.3f}", f"{of.ks:.3f}", f"{of.nmse:.3f}", f"{of.axial:.2f} x {of.lateral:.2f}"]


def report(data: Path, frames: list[int], steps: int, samples: int) -> str:
    """One row for each method."""
    disk, water = (int(region.sum()) for region in regions())
    seen = scenes(data, frames)
    rows = shown(
        row(name, [figures(method(scene), scene.clean) for scene in seen])
        for name, method in methods(steps, samples).items()
    )
    header = ("tissue from", "gCNR", "KS of the disk", "NMSE", "grain, axial x lateral (mm)")
    of = f"gCNR of {min(disk, water)} pixels each, KS of {disk}"
    return f"{table(header, rows)}\n\n{len(frames)} frames; {of}; mean of {samples} samples of {steps} steps."


if __name__ == "__main__":
    main(report, threads=1, data=DATA, frames=[16, 24], steps=40, samples=2)
