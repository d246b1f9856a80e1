"""Two real brains, the same problem in resolvent, SigPy, BART and deepinv: who reaches the objective first.

Same k-space, mask and maps; one function outside all of them computes the objective. k-space is embedded in
256 x 256 (empty around), where the Haar wavelets of all of them are the same orthonormal transform; total variation
is periodic, anisotropic in SigPy and isotropic in BART. The weight is 0.002 of max |A^H y| for all. Each contender
has the settings that its own users get, except for those named in the table.

    python benchmarks/mri_side_by_side.py [--out FILE.md]

Needs the extra `mri`, and BART (the program ``bart``) for its rows.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import sigpy as sp
import sigpy.mri
import torch
from _brains import Scan
from _contest import Contender, Run
from torch import Tensor

from resolvent.operators import CartesianMRI, sensitivity_maps
from resolvent.priors import L1, InWavelets
from resolvent.recon import FISTA, RelativeChange

SIZE, LEVELS, FRACTION, MARGIN = 256, 5, 0.002, 1e-3
NEVER = RelativeChange(0.0)


# -- the problem ------------------------------------------------------------------------------------
def embedded(scan: Scan) -> Scan:
    """The scan on a grid of 256 x 256, maps from there; the truth is of no use any more."""
    room = [SIZE - n for n in scan.y.shape[-2:]]
    pad = (room[1] // 2, room[1] - room[1] // 2, room[0] // 2, room[0] - room[0] // 2)
    y, mask = (torch.nn.functional.pad(t, pad) for t in (scan.y, scan.physics.mask))
    maps = sensitivity_maps(y[0])
    physics = CartesianMRI(mask, maps)
    scale = physics.A_adjoint(y).abs().max()
    return Scan(y / scale, physics, None)


def wavelet_term(x: Tensor) -> Tensor:
    """``||W x||_1``."""
    return InWavelets(L1(), "haar", LEVELS).fn(x)


def anisotropic(x: Tensor) -> Tensor:
    """The sum of the magnitudes of periodic differences."""
    return sum((x.roll(-1, axis) - x).abs().sum() for axis in (-2, -1))


def isotropic(x: Tensor) -> Tensor:
    """The sum of the lengths of periodic gradients."""
    return torch.stack([x.roll(-1, axis) - x for axis in (-2, -1)]).abs().square().sum(0).sqrt().sum()


def objective(scan: Scan, term: Callable[[Tensor], Tensor]) -> Callable[[Tensor], float]:
    """F in double precision, from the definition: transforms with shifts, no operator of anybody."""
    maps, mask, y = (t.to(torch.complex128) for t in (scan.physics.sensitivity_maps, scan.physics.mask, scan.y))

    def value(image: Tensor) -> float:
        x = image.to(torch.complex128).reshape(1, 1, SIZE, SIZE)
        k = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(maps * x, (-2, -1)), norm="ortho"), (-2, -1))
        return float((mask * k - y).abs().square().sum() / 2 + FRACTION * term(x))

    return value


# -- resolvent --------------------------------------------------------------------------------------
def ours(scan: Scan, make: Callable[[int], torch.nn.Module]) -> Contender:
    """A solver of ours, made for a number of iterations."""
    return lambda n: Run(make(n).solve(scan.y, scan.physics).image)


# -- SigPy ------------------------------------------------------------------------------------------
def sigpy_arrays(scan: Scan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k-space, maps and weights."""
    return scan.y[0].numpy(), scan.physics.sensitivity_maps.numpy(), scan.physics.mask.numpy()


def sigpy_wavelet(scan: Scan) -> Contender:
    """What ``sigpy.mri.app.L1WaveletRecon`` builds, with the level said: FISTA on A, W as unitary."""
    y, maps, weights = sigpy_arrays(scan)

    def run(n: int) -> Run:
        linop = sp.mri.linop.Sense(maps, weights=weights)
        w = sp.linop.Wavelet((SIZE, SIZE), wave_name="haar", level=LEVELS)
        prox = sp.prox.UnitaryTransform(sp.prox.L1Reg(w.oshape, FRACTION), w)
        app = sp.app.LinearLeastSquares(linop, y, proxg=prox, max_iter=n, show_pbar=False)
        return Run(torch.from_numpy(app.run()))

    return run


def sigpy_tv(scan: Scan) -> Contender:
    """``sigpy.mri.app.TotalVariationRecon``, a primal-dual method."""
    y, maps, weights = sigpy_arrays(scan)
    return lambda n: Run(
        torch.from_numpy(
            sp.mri.app.TotalVariationRecon(y, maps, FRACTION, weights=weights, max_iter=n, show_pbar=False).run()
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
def wavelet_contest(scan: Scan) -> dict[str, tuple[Contender, int]]:
    """Contenders and the iterations of their longest runs."""

    def solver(n: int) -> FISTA:
        return FISTA(InWavelets(L1(FRACTION), "haar", LEVELS), max_iter=n, stop=NEVER)

    found = {"resolvent FISTA": (ours(scan, solver), 320), "SigPy L1WaveletRecon": (sigpy_wavelet(scan), 320)}
    options = ("-e", "-n", "--wavelet", "haar", "-R", f"W:3:0:{FRACTION}")
    return found | ({"BART pics": (bart(scan, *options), 320)} if shutil.which("bart") else {})
