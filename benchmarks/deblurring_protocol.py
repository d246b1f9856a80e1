"""The standard deblurring protocol: PSNR of total variation, plug-and-play, learned proximal and ridge regularisers.

8 motion kernels of Levin et al. 2009, a 9 x 9 uniform and a 25 x 25 Gaussian one of standard deviation 1.6;
circular convolution, as scipy.ndimage.convolve(mode="wrap") places it; Gaussian noise of numpy seed 0 for each
image; Set3C and CBSD10. Since the denoisers are gray ones, colour pictures are taken as luminance (scikit-image's
rgb2gray) and PSNR is that of the luminance, peak 1. Nothing is resized. By default six pictures, the middle 128 x 128
of each, and four kernels (motion 1 and 4, uniform, Gaussian): a quarter of an hour on a core, and twice that for WCRR,
whose every step is a gradient of the network; --only chooses some methods by their first letters, --full is the whole
protocol and wants an accelerator.

TV is ADMM to a relative change of 1e-4. Plug-and-play ADMM has a denoiser at one level, half-quadratic splitting (HQS)
has it along DPIR's schedule of 8 levels: KAIR's DnCNN, which knows noise of 25/255 only (stronger noise reaches it
scaled down to that, for weaker noise its step is taken in part: resolvent.priors.SingleLevel), and our denoiser, which
is told the level. LPN is our learned proximal network in ADMM, whose fixed point minimises the data term plus R over
the step: with the steps below 1 for which its convergence is proven, and with longer ones, as noise below the
network's 0.1 asks for (LearnedProximal of weight 1/step has that minimiser at any step, for more calls of the
network). WCRR is our weakly convex ridge regulariser under nonlinear conjugate gradients. Of ours, those are measured
whose weights are there: a file or a name for each, "" for none. What each method leaves open is chosen per noise level
on crops of two training pictures of BSD400; test pictures choose nothing. The last table follows one cell, iteration
by iteration.

    python benchmarks/deblurring_protocol.py [--full] [--size 128] [--only TV …] [--denoiser NAME] [--lpn NAME]
        [--ridge NAME] [--data ../shared/data] [--out FILE.md]
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch
from _photographs import DATA, middle, picture
from _timing import main, table

from resolvent.operators import CircularBlur
from resolvent.priors import TV, Denoiser, SingleLevel, load_denoiser, load_dncnn
from resolvent.priors.weights_file import shipped
from resolvent.recon import ADMM, ConjugateGradient, HalfQuadratic, RelativeChange, Solver, psnr

NOISES, LEVEL = (0.01, 0.03), 25 / 255
FEW = {"kernels": ("motion 1", "motion 4", "uniform", "Gaussian"), "training": ("motion 1", "Gaussian")}
TRAINING = ("test_010", "test_210")
#: The cell whose iterations are followed, and after which of them.
FOLLOWED, SHOWN = ("set3c/butterfly", "motion 1"), (1, 2, 4, 8, 16, 32, 64)
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Method(NamedTuple):
    """A solver by noise level and parameters, the values to choose these from, and whether it starts at the data."""

    make: Callable[..., Solver]
    grid: dict[str, tuple[float, ...]]
    from_data: bool = True

    def trials(self) -> list[dict[str, float]]:
        """Every choice of parameters."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


def total_variation(sigma, weight):
    """Weight in units of the noise level."""
    return ADMM(TV(weight * sigma))


def plug_and_play(net, levels) -> Method:
    """The denoiser at ``level``, the step such that it is the prox of weight ``weight sigma^2``."""

    def make(sigma, level, weight):
        return ADMM(Denoiser(net, level), level**2 / (weight * sigma**2), 16, RelativeChange(0))

    return Method(make, {"level": levels, "weight": (0.3, 1.0, 3.0)})


def half_quadratic(net) -> Method:
    """The schedule down to ``last sigma``; the data are trusted as noise of sigma deserves."""

    def make(sigma, weight, last):
        return HalfQuadratic(Denoiser(net, None), last * sigma, weight / last**2)

    return Method(make, {"weight": (0.23, 0.7, 2.0), "last": (1.0, 3.0)})


def learned_proximal(net, steps) -> Method:
    """The network as the proximal operator it is; the step says how much the data count."""
    return Method(lambda sigma, step: ADMM(Denoiser(net), step, 32, RelativeChange(0)), {"step": steps})


def ridge(net) -> Method:
    """The regulariser of a ridge denoiser, made for ``level sigma``."""

    def make(sigma, level, weight):
        return ConjugateGradient(net.prior.at(level * sigma).scaled(weight), 64, RelativeChange(1e-4))

    return Method(make, {"level": (0.5, 1.0, 2.0), "weight": (0.1, 0.3, 1.0)})


def all_methods(data: Path, denoiser: str, lpn: str, regulariser: str) -> dict[str, Method]:
    """Those whose weights are there."""
    dncnn = SingleLevel(load_dncnn(data / "weights" / "kair_dncnn_25.pth").to(DEVICE), LEVEL)
    found = {
        "TV": Method(total_variation, {"weight": (0.05, 0.1, 0.2, 0.4)}, from_data=False),
        "PnP-ADMM, DnCNN": plug_and_play(dncnn, (0.05, LEVEL)),
        "HQS, DnCNN": half_quadratic(dncnn),
    }
    if denoiser:
        net = load_denoiser(denoiser).to(DEVICE)
        found |= {"PnP-ADMM, ours": plug_and_play(net, (0.03, 0.06, 0.1)), "HQS, ours": half_quadratic(net)}
    if lpn:
        net = load_denoiser(lpn).to(DEVICE)
        found["LPN, proven steps"] = learned_proximal(net, (0.1, 0.3, 0.9))
        found["LPN, longer steps"] = learned_proximal(net, (3.0, 10.0, 30.0, 100.0))
    if regulariser:
        found["WCRR"] = ridge(load_denoiser(regulariser).to(DEVICE))
    return found


def kernels(data: Path) -> dict[str, np.ndarray]:
    """All ten by name; MATLAB's arrays are transposed in HDF5."""
    with h5py.File(data / "blur" / "Levin09.mat") as file:
        found = {f"motion {i + 1}": file[r][()].T for i, r in enumerate(file["kernels"][()].flatten())}
    bell = np.exp(-(np.arange(-12, 13) ** 2) / (2 * 1.6**2))
    gaussian = np.outer(bell, bell)
    return found | {"uniform": np.full((9, 9), 1 / 81), "Gaussian": gaussian / gaussian.sum()}


def pictures(data: Path, full: bool, size: int) -> dict[str, np.ndarray]:
    """Set3C and CBSD10, or the middle of three of each, ``size`` pixels a side."""
    paths = {name: sorted((data / "natural" / name).glob("*.png")) for name in ("set3c", "cbsd10")}
    return {
        f"{name}/{p.stem}": picture(p) if full else middle(picture(p), size)
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


def solve(method: Method, parameters, y, physics, sigma: float, **record):
    """One run."""
    return method.make(sigma, **parameters).solve(y, physics, x0=y if method.from_data else None, record=record)


def score(method: Method, parameters, images, blurs, sigma: float) -> dict[tuple[str, str], float]:
    """PSNR of one method by picture and kernel."""
    return {
        (name, kind): float(psnr(solve(method, parameters, y, physics, sigma).image, truth, 1.0))
        for name, kind, truth, y, physics in cells(images, blurs, sigma)
    }


def choose(contenders: dict[str, Method], data: Path) -> tuple[dict[tuple[str, float], dict], str]:
    """By method and noise what does best on the training pictures, and a table of it."""
    folder = data / "natural" / "bsd400_train_gray180"
    images = {stem: middle(picture(folder / f"{stem}.png"), 96) for stem in TRAINING}
    blurs = {k: v for k, v in kernels(data).items() if k in FEW["training"]}
    chosen, rows = {}, []
    for (name, method), sigma in itertools.product(contenders.items(), NOISES):
        means = [statistics.mean(score(method, p, images, blurs, sigma).values()) for p in method.trials()]
        best = max(range(len(means)), key=means.__getitem__)
        chosen[name, sigma] = method.trials()[best]
        shown = ", ".join(f"{k} {v:.3g}" for k, v in chosen[name, sigma].items())
        rows.append([name, sigma, shown, f"{means[best]:.2f}", f"{min(means):.2f}"])
        print(*rows[-1], sep=" | ", flush=True)
    return chosen, table(("method", "noise", "chosen", "PSNR on training crops, dB", "worst tried, dB"), rows)


def compare(contenders: dict[str, Method], chosen, images, blurs) -> str:
    """PSNR by set, kernel and noise, averaged over the pictures of a set."""
    rows = []
    for sigma in NOISES:
        found = {"blurred": {(n, k): float(psnr(y, x, 1.0)) for n, k, x, y, _ in cells(images, blurs, sigma)}}
        for name, method in contenders.items():
            found[name] = score(method, chosen[name, sigma], images, blurs, sigma)
        for group, kind in itertools.product(("set3c", "cbsd10"), (*blurs, "all")):
            means = [
                statistics.mean(v for (n, k), v in scores.items() if n.startswith(group) and kind in (k, "all"))
                for scores in found.values()
            ]
            rows.append([sigma, group, kind, *(f"{m:.2f}" for m in means)])
            print(*rows[-1], sep=" | ", flush=True)
    return table(("noise", "set", "kernel", "blurred", *contenders), rows)


def follow(contenders: dict[str, Method], chosen, images, blurs) -> str:
    """PSNR and relative change of one cell after some of the iterations."""
    picture_, kernel = FOLLOWED
    some = {picture_: images[picture_]}, {kernel: blurs[kernel]}
    rows = []
    for sigma, (name, method) in itertools.product(NOISES, contenders.items()):
        _, _, truth, y, physics = next(cells(*some, sigma))
        history = solve(
            method, chosen[name, sigma], y, physics, sigma, psnr=lambda _, state, truth=truth: psnr(state.x, truth, 1.0)
        ).history
        for measure, form in (("psnr", ".2f"), ("relative_change", ".0e")):
            values = history[measure][:, 0].tolist()
            shown = [format(values[n - 1], form) if n <= len(values) else "" for n in SHOWN]
            rows.append([sigma, name, "PSNR, dB" if measure == "psnr" else "change", *shown])
    return table(("noise", "method", "after iterations", *SHOWN), rows)


@torch.no_grad()
def report(
    full: bool, size: int, only: Sequence[str], denoiser: str, lpn: str, ridge: str, data: Path
) -> str:  # fmt: skip
    """Choose, compare, follow."""
    began = time.perf_counter()
    found = all_methods(data, denoiser, lpn, ridge)
    contenders = {k: v for k, v in found.items() if k.startswith(tuple(only))}
    chosen, choices = choose(contenders, data)
    images = pictures(data, full, size)
    blurs = {k: v for k, v in kernels(data).items() if full or k in FEW["kernels"]}
    parts = (compare(contenders, chosen, images, blurs), follow(contenders, chosen, images, blurs), choices)
    return "\n\n".join(parts) + f"\n\nPSNR in dB; {time.perf_counter() - began:.0f} s on {DEVICE}."


def there(name: str) -> str:
    """The name of weights that come with the package; none where they do not."""
    return name if name in shipped() else ""


if __name__ == "__main__":
    main(
        report, threads=1, full=False, size=128, only=[""], denoiser=there("image-denoiser"),
        lpn=there("learned-proximal"), ridge=there("ridge-regulariser"), data=DATA,
    )  # fmt: skip
