"""Two real brains, the same problem in resolvent, SigPy and BART: who reaches the objective first.

Same k-space, mask and maps; one function outside all of them computes the objective. k-space is embedded in
256 x 256 (empty around), where the Haar wavelets of all of them are the same orthonormal transform; total variation
is periodic, anisotropic in SigPy and isotropic in BART. The weight of a prior is a fraction of max |A^H y|, the same
for all of them: that of highest PSNR of the minimiser on the retrospective brain with another mask and other noise
(seeds 1), from a fixed list, so that nobody gains by stopping short of a minimum of too small a weight. SigPy runs
what its apps build; BART its default algorithm for the prior, and for wavelets also ADMM (-m). Seconds of BART are
those that it prints, without start-up and files. PSNR is that of the image first within 0.1 % and of the longest run.

    python benchmarks/mri_side_by_side.py [--only PRIOR ...] [--out FILE.md]

Needs the data beside the repository, the extra ``mri``, and BART (the program ``bart``) for its rows.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import sigpy as sp
import sigpy.mri
import torch
from _brains import Scan, accelerated, prospective
from _contest import Contender, Run, Standing, contest
from _timing import main, table
from torch import Tensor

from resolvent.operators import FiniteDifferences, poisson_disc
from resolvent.priors import L1, TV, Analysis, GroupL1, InWavelets
from resolvent.recon import FISTA, PrimalDual, RelativeChange, psnr

SIZE, LEVELS, MARGIN, LONGEST = 256, 5, 1e-3, 320
FRACTIONS = (0.0002, 0.0003, 0.0005, 0.0007, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008)
NEVER = RelativeChange(0.0)
PRIORS = ("L1 wavelet", "anisotropic TV", "isotropic TV")


# -- the problem ------------------------------------------------------------------------------------
def wavelet_term(x: Tensor) -> Tensor:
    """``||W x||_1``."""
    return InWavelets(L1(), "haar", LEVELS).fn(x)


def anisotropic(x: Tensor) -> Tensor:
    """The sum of the magnitudes of periodic differences."""
    return sum((x.roll(-1, axis) - x).abs().sum() for axis in (-2, -1))


def isotropic(x: Tensor) -> Tensor:
    """The sum of the lengths of periodic gradients."""
    return torch.stack([x.roll(-1, axis) - x for axis in (-2, -1)]).abs().square().sum(0).sqrt().sum()


def objective(scan: Scan, term: Callable[[Tensor], Tensor], weight: float) -> Callable[[Tensor], float]:
    """F in double precision, from the definition: transforms with shifts, no operator of anybody."""
    maps, mask, y = (t.to(torch.complex128) for t in (scan.physics.sensitivity_maps, scan.physics.mask, scan.y))

    def value(image: Tensor) -> float:
        x = image.to(torch.complex128).reshape(1, 1, SIZE, SIZE)
        k = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(maps * x, (-2, -1)), norm="ortho"), (-2, -1))
        return float((mask * k - y).abs().square().sum() / 2 + weight * term(x))

    return value


# -- resolvent --------------------------------------------------------------------------------------
def ours(scan: Scan, make: Callable[[int], torch.nn.Module]) -> Contender:
    """A solver of ours, made for a number of iterations."""
    return lambda n: Run(make(n).solve(scan.y, scan.physics).image)


# -- SigPy ------------------------------------------------------------------------------------------
def sigpy_arrays(scan: Scan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k-space, maps and weights."""
    return scan.y[0].numpy(), scan.physics.sensitivity_maps.numpy(), scan.physics.mask.numpy()


def sigpy_wavelet(scan: Scan, weight: float) -> Contender:
    """What ``sigpy.mri.app.L1WaveletRecon`` builds, with the level said: FISTA on A, W as unitary."""
    y, maps, weights = sigpy_arrays(scan)

    def run(n: int) -> Run:
        linop = sp.mri.linop.Sense(maps, weights=weights)
        w = sp.linop.Wavelet((SIZE, SIZE), wave_name="haar", level=LEVELS)
        prox = sp.prox.UnitaryTransform(sp.prox.L1Reg(w.oshape, weight), w)
        app = sp.app.LinearLeastSquares(linop, y, proxg=prox, max_iter=n, show_pbar=False)
        return Run(torch.from_numpy(app.run()))

    return run


def sigpy_tv(scan: Scan, weight: float) -> Contender:
    """``sigpy.mri.app.TotalVariationRecon``, a primal-dual method."""
    y, maps, weights = sigpy_arrays(scan)
    return lambda n: Run(
        torch.from_numpy(
            sp.mri.app.TotalVariationRecon(y, maps, weight, weights=weights, max_iter=n, show_pbar=False).run()
        )
    )


# -- BART -------------------------------------------------------------------------------------------
def bart(scan: Scan, *options: str) -> Contender:
    """``bart pics``; its own clock, which leaves out reading and writing."""
    folder = Path(tempfile.mkdtemp())
    write_cfl(folder / "kspace", scan.y[0].permute(1, 2, 0)[:, :, None])
    write_cfl(folder / "maps", scan.physics.sensitivity_maps.permute(1, 2, 0)[:, :, None])
    write_cfl(folder / "mask", scan.physics.mask[:, :, None, None].to(torch.complex64))

    def run(n: int) -> Run:
        command = ["bart", "pics", "-d4", "-w", "1", "-p", "mask", "-i", str(n), *options, "kspace", "maps", "image"]
        threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
        said = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=True, env=os.environ | threads
        ).stdout
        seconds = float(re.search(r"Total Time: ([\d.]+)", said).group(1))
        return Run(read_cfl(folder / "image"), seconds)

    return run


def write_cfl(path: Path, array: Tensor) -> None:
    """BART's pair of files."""
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    array.numpy().astype(np.complex64).T.tofile(path.with_suffix(".cfl"))


def read_cfl(path: Path) -> Tensor:
    """An image from BART."""
    return torch.from_numpy(np.fromfile(path.with_suffix(".cfl"), np.complex64).reshape(SIZE, SIZE).T.copy())


# -- contests ---------------------------------------------------------------------------------------
def retrospective(seed: int) -> Scan:
    """The brain whose truth is known, by a mask and with noise of this seed."""
    return accelerated(poisson_disc((256, 216), 4, seed), 0.005, seed, (SIZE, SIZE))


def weight_of(scan: Scan, fraction: float) -> float:
    """The weight that a fraction is for a scan."""
    return fraction * float(scan.physics.A_adjoint(scan.y).abs().max())


def solver(prior: str, weight: float) -> Callable[[int], torch.nn.Module]:
    """Our solver of a contest's objective, made for a number of iterations."""
    differences = FiniteDifferences((1, SIZE, SIZE), "periodic")
    if prior == "L1 wavelet":
        return lambda n: FISTA(InWavelets(L1(weight), "haar", LEVELS), max_iter=n, stop=NEVER)
    magnitudes = L1(weight) if prior == "anisotropic TV" else GroupL1(weight, axes=(1,))
    return lambda n: PrimalDual(Analysis(magnitudes, differences), max_iter=n, stop=NEVER)


def best_fraction(prior: str) -> float:
    """The fraction whose minimiser has the highest PSNR on a scan that is not scored."""
    scan = retrospective(1)

    def quality(fraction: float) -> float:
        image = solver(prior, weight_of(scan, fraction))(LONGEST)(scan.y, scan.physics)
        return float(psnr(image.abs(), scan.truth))

    return max(FRACTIONS, key=quality)


def contests(scan: Scan, prior: str, fraction: float) -> tuple[Callable[[Tensor], Tensor], dict[str, Contender]]:
    """A prior's term outside everybody and the contenders."""
    weight = weight_of(scan, fraction)
    haar = ("-n", "--wavelet", "haar", "-R", f"W:3:0:{weight}")
    found = {
        "L1 wavelet": lambda: (wavelet_term, {
            "resolvent FISTA": ours(scan, solver(prior, weight)),
            "SigPy L1WaveletRecon": sigpy_wavelet(scan, weight),
            "BART pics": bart(scan, *haar), "BART pics -m": bart(scan, "-m", *haar),
        }),
        "anisotropic TV": lambda: (anisotropic, {
            "resolvent PrimalDual": ours(scan, solver(prior, weight)),
            "SigPy TotalVariationRecon": sigpy_tv(scan, weight),
        }),
        "isotropic TV": lambda: (isotropic, {
            "resolvent FISTA": ours(scan, lambda n: FISTA(TV(weight, iterations=4), max_iter=n, stop=NEVER)),
            "resolvent PrimalDual": ours(scan, solver(prior, weight)),
            "BART pics": bart(scan, "-R", f"T:3:0:{weight}"),
        }),
    }  # fmt: skip
    term, some = found[prior]()
    return term, {name: c for name, c in some.items() if shutil.which("bart") or "BART" not in name}


def rows(brain: str, scan: Scan, prior: str, fraction: float) -> list[list[str]]:
    """One contest."""
    term, contenders = contests(scan, prior, fraction)
    lowest, standings = contest(contenders, objective(scan, term, weight_of(scan, fraction)), LONGEST, MARGIN)
    first = next(iter(standings.values())).seconds
    called = f"{prior}, {fraction:g}"
    return [line(brain, called, name, s, lowest, first, scan) for name, s in standings.items()]


def line(brain: str, prior: str, name: str, s: Standing, lowest: float, first: float, scan: Scan) -> list[str]:
    """One contender's figures."""
    reached = f"{s.iterations}" if s.iterations else f"not in {LONGEST}"
    seconds = f"{s.seconds:.3f}" if s.iterations else f"> {s.seconds:.3f}"
    return [
        brain,
        prior,
        name,
        reached,
        seconds,
        f"{s.seconds / first:.2f}",
        f"{100 * (s.best / lowest - 1):.3f} %",
        decibels(s.image, scan),
        decibels(s.last, scan),
    ]


def decibels(image: Tensor, scan: Scan) -> str:
    """PSNR of the magnitude, where the truth is known."""
    return "" if scan.truth is None else f"{float(psnr(image.abs().reshape(scan.truth.shape), scan.truth)):.2f}"


def report(priors: Sequence[str]) -> str:
    """The table."""
    fractions = {prior: best_fraction(prior) for prior in priors}
    brains = {
        "prospective, R = 8": prospective((SIZE, SIZE)),
        "retrospective, Poisson disc, R = 4": retrospective(0),
    }
    header = ("brain", "prior, weight", "who", "iterations to 0.1 %", "seconds", "over resolvent's first",
              f"excess after {LONGEST}", "PSNR (dB)", f"after {LONGEST}")  # fmt: skip
    lines = [row for brain, scan in brains.items() for p, f in fractions.items() for row in rows(brain, scan, p, f)]
    return table(header, lines)


if __name__ == "__main__":
    main(report, threads=1, parts=PRIORS)
