"""The standard deblurring protocol: PSNR of total variation and of plug-and-play with a published denoiser.

8 motion kernels of Levin et al. 2009, a 9 x 9 uniform and a 25 x 25 Gaussian one of standard deviation 1.6;
circular convolution, as scipy.ndimage.convolve(mode="wrap") places it; Gaussian noise of numpy seed 0 for each
image; Set3C and CBSD10. Since the denoiser is a grey one, colour pictures are taken as luminance (scikit-image's
rgb2gray) and PSNR is that of the luminance, peak 1. Nothing is resized. By default six pictures, the middle 256 x 256
of each, and four kernels (motion 1 and 4, uniform, Gaussian): minutes on two cores; --full is the whole protocol and
wants an accelerator.

TV is ADMM to a relative change of 1e-4. Both plug-and-play methods use KAIR's DnCNN, which knows noise of 25/255
only: stronger noise reaches it scaled down to that (denoiser scaling), for weaker noise its step is taken in part
(resolvent.priors.SingleLevel). ADMM has the denoiser at one level, half-quadratic splitting has DPIR's schedule of 8
levels. What each method leaves open (CHOSEN) was chosen per noise level on crops of training pictures of BSD400, by
--choose; test pictures chose nothing.

    python benchmarks/deblurring_protocol.py [--full | --choose] [--data ../shared/data] [--out FILE.md]
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from _timing import machine, table
from skimage.color import rgb2gray
from skimage.io import imread

from resolvent.operators import CircularBlur
from resolvent.priors import TV, Denoiser, SingleLevel, load_dncnn
from resolvent.recon import ADMM, HalfQuadratic, RelativeChange, psnr

NOISES, LEVEL = (0.01, 0.03), 25 / 255
FEW = {"kernels": ("motion 1", "motion 4", "uniform", "Gaussian"), "training": ("motion 1", "Gaussian")}
TRAINING = ("test_010", "test_210")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

#: Per method the values tried on the training pictures, and what they chose for each noise level.
GRIDS = {
    "TV": {"weight": (0.05, 0.1, 0.2, 0.4)},
    "PnP-ADMM": {"level": (0.05, LEVEL), "weight": (0.3, 1.0, 3.0)},
    "HQS, DPIR schedule": {"weight": (0.23, 0.7, 2.0), "last": (1.0, 3.0)},
}
CHOSEN = {
    "TV": {0.01: {"weight": 0.1}, 0.03: {"weight": 0.2}},
    "PnP-ADMM": {0.01: {"level": LEVEL, "weight": 1.0}, 0.03: {"level": LEVEL, "weight": 1.0}},
    "HQS, DPIR schedule": {0.01: {"weight": 0.7, "last": 1.0}, 0.03: {"weight": 0.23, "last": 3.0}},
}


def total_variation(y, physics, sigma, net, weight):
    """Weight in units of the noise level."""
    return ADMM(TV(weight * sigma)).solve(y, physics).image


def plug_and_play(y, physics, sigma, net, level, weight, iterations=16):
    """The denoiser at ``level``, the step such that it is the prox of weight ``weight sigma^2``."""
    solver = ADMM(Denoiser(net, level), level**2 / (weight * sigma**2), iterations, RelativeChange(0))
    return solver.solve(y, physics, x0=y).image


def half_quadratic(y, physics, sigma, net, weight, last):
    """The schedule down to ``last sigma``; the data are trusted as noise of sigma deserves."""
    solver = HalfQuadratic(Denoiser(net, None), last * sigma, weight / last**2)
    return solver.solve(y, physics, x0=y).image


METHODS = {"TV": total_variation, "PnP-ADMM": plug_and_play, "HQS, DPIR schedule": half_quadratic}


def kernels(data: Path) -> dict[str, np.ndarray]:
    """All ten by name; MATLAB's arrays are transposed in HDF5."""
    with h5py.File(data / "blur" / "Levin09.mat") as file:
        found = {f"motion {i + 1}": file[r][()].T for i, r in enumerate(file["kernels"][()].flatten())}
    bell = np.exp(-(np.arange(-12, 13) ** 2) / (2 * 1.6**2))
    gaussian = np.outer(bell, bell)
    return found | {"uniform": np.full((9, 9), 1 / 81), "Gaussian": gaussian / gaussian.sum()}


def picture(path: Path) -> np.ndarray:
    """Luminance in [0, 1]."""
    values = imread(path) / 255
    return rgb2gray(values) if values.ndim == 3 else values


def middle(image: np.ndarray, size: int = 256) -> np.ndarray:
    """At most ``size`` pixels of each axis."""
    a, b = (max(0, (n - size) // 2) for n in image.shape)
    return image[a : a + size, b : b + size]


def pictures(data: Path, full: bool) -> dict[str, np.ndarray]:
    """Set3C and CBSD10, or the middle of three of each."""
    paths = {name: sorted((data / "natural" / name).glob("*.png")) for name in ("set3c", "cbsd10")}
    return {
        f"{name}/{p.stem}": picture(p) if full else middle(picture(p))
        for name, found in paths.items()
        for p in (found if full else found[:3])
    }


def cells(images, blurs, sigma: float) -> Iterator[tuple[str, str, torch.Tensor, torch.Tensor, CircularBlur]]:
    """Every picture under every kernel: names, truth, data, operator."""
    for (name, image), (kind, kernel) in itertools.product(images.items(), blurs.items()):
        noise = np.random.default_rng(0).normal(0, sigma, image.shape)
        truth = torch.as_tensor(image, dtype=torch.float32, device=DEVICE)[None, None]
        physics = CircularBlur(torch.as_tensor(kernel), truth.shape[1:]).to(DEVICE)
        yield name, kind, truth, physics.A(truth) + torch.as_tensor(noise, dtype=torch.float32, device=DEVICE), physics


def score(method: str, parameters: dict, images, blurs, sigma: float, net) -> dict[tuple[str, str], float]:
    """PSNR of one method by picture and kernel."""
    return {
        (name, kind): float(psnr(METHODS[method](y, physics, sigma, net, **parameters), truth, 1.0))
        for name, kind, truth, y, physics in cells(images, blurs, sigma)
    }


def choose(data: Path, net) -> str:
    """What does best on the training pictures, with every value tried."""
    folder = data / "natural" / "bsd400_train_gray180"
    images = {stem: middle(picture(folder / f"{stem}.png"), 96) for stem in TRAINING}
    blurs = {k: v for k, v in kernels(data).items() if k in FEW["training"]}
    rows = []
    for (method, grid), sigma in itertools.product(GRIDS.items(), NOISES):
        trials = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        scores = [statistics.mean(score(method, p, images, blurs, sigma, net).values()) for p in trials]
        best = max(range(len(trials)), key=scores.__getitem__)
        print(f"{method}, noise {sigma}: {trials[best]}", flush=True)
        for i, (parameters, mean) in enumerate(zip(trials, scores, strict=True)):
            rows.append([method, sigma, parameters, f"{mean:.2f}", "chosen" if i == best else ""])
    return table(("method", "noise", "parameters", "PSNR, dB", ""), rows)


def report(data: Path, net, full: bool) -> str:
    """PSNR by set, kernel and noise, averaged over the pictures of a set."""
    images = pictures(data, full)
    blurs = {k: v for k, v in kernels(data).items() if full or k in FEW["kernels"]}
    rows = []
    for sigma in NOISES:
        found = {"blurred": {(n, k): float(psnr(y, x, 1.0)) for n, k, x, y, _ in cells(images, blurs, sigma)}}
        for method in METHODS:
            found[method] = score(method, CHOSEN[method][sigma], images, blurs, sigma, net)
        for group, kind in itertools.product(("set3c", "cbsd10"), (*blurs, "all")):
            means = [
                statistics.mean(v for (n, k), v in scores.items() if n.startswith(group) and kind in (k, "all"))
                for scores in found.values()
            ]
            rows.append([sigma, group, kind, *(f"{m:.2f}" for m in means)])
    return table(("noise", "set", "kernel", "blurred", *METHODS), rows)


@torch.no_grad()
def main() -> None:
    """Choose, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--out", type=Path, help="Markdown file to write the table to")
    parser.add_argument("--full", action="store_true", help="all pictures, uncropped, and all ten kernels")
    parser.add_argument("--choose", action="store_true", help="try GRIDS on training pictures")
    options = parser.parse_args()
    net = SingleLevel(load_dncnn(options.data / "weights" / "kair_dncnn_25.pth").to(DEVICE), LEVEL)
    began = time.perf_counter()
    text = choose(options.data, net) if options.choose else report(options.data, net, options.full)
    text += f"\n\nPSNR in dB; {time.perf_counter() - began:.0f} s on {DEVICE}, {machine()}.\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
