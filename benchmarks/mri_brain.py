"""A real brain, retrospectively accelerated: PSNR, SSIM and NRMSE of the magnitude against the fully sampled one.

The moco slice (7 coils, 256 x 216, combined magnitude of peak 1), R = 4 and 8, Poisson disc and Cartesian lines, two
noise levels in k-space (total standard deviation; the image itself carries the scan's own noise). Maps by ESPIRiT from
each scan's own calibration block. Every weight is chosen for highest PSNR on a scan with another mask and other
noise (seeds 1), from a fixed list, and scored on seeds 0. The k-support row reconstructs all coils without any
maps: few wavelet coefficients, at the same places in every coil. All stop at a change of 1e-4: at 1e-3, where the
maps are zero, total variation is far from its minimum still.

    python benchmarks/mri_brain.py [--only "Poisson disc" lines] [--out FILE.md]
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from _brains import SHAPE, Scan, accelerated
from _timing import main, table
from torch import Tensor

from resolvent.operators import CartesianMRI, cartesian_lines, poisson_disc
from resolvent.priors import L1, TV, InWavelets, KSupport, Tikhonov
from resolvent.recon import FISTA, PrimalDual, RelativeChange, psnr, ssim

MASKS = {"Poisson disc": poisson_disc, "lines": cartesian_lines}
RATES, NOISES, STOP = (4, 8), (0.005, 0.02), RelativeChange(1e-4)
WEIGHTS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
JOINT = tuple(itertools.product((1e-4, 3e-4, 1e-3, 3e-3, 1e-2), (0.01, 0.02, 0.05, 0.1)))


def zero_filled(scan: Scan) -> Tensor:
    """Root sum of squares of the coils' back-projections."""
    coils = scan.y.shape[1]
    images = CartesianMRI(scan.physics.mask, channels=coils).A_adjoint(scan.y)
    return torch.linalg.vector_norm(images, dim=1, keepdim=True)


def regularised(make: Callable[[float], torch.nn.Module]) -> Callable[..., Tensor]:
    """FISTA with the maps, by weight."""
    return lambda scan, weight: FISTA(make(weight), max_iter=500, stop=STOP)(scan.y, scan.physics).abs()


def smooth(scan: Scan, weight: float) -> Tensor:
    """Total variation with the maps, whose own primal-dual steps need no inner iterations."""
    return PrimalDual(TV(weight), max_iter=500, stop=STOP)(scan.y, scan.physics).abs()


def joint(scan: Scan, weight: float, share: float) -> Tensor:
    """k-support across the coils, no maps; root sum of squares."""
    physics = CartesianMRI(scan.physics.mask, channels=scan.y.shape[1])
    prior = InWavelets(KSupport(weight, k=share * scan.physics.mask.numel(), axes=(1,)))
    images = FISTA(prior, max_iter=500, stop=STOP)(scan.y, physics)
    return torch.linalg.vector_norm(images, dim=1, keepdim=True)


#: Method, the list of its arguments to choose from, each a tuple.
METHODS: dict[str, tuple[Callable[..., Tensor], list[tuple[float, ...]]]] = {
    "zero-filled": (zero_filled, [()]),
    "SENSE": (regularised(Tikhonov), [(w,) for w in WEIGHTS]),
    "wavelet": (regularised(lambda w: InWavelets(L1(w))), [(w,) for w in WEIGHTS]),
    "TV": (smooth, [(w,) for w in WEIGHTS]),
    "k-support, no maps": (joint, list(JOINT)),
}


def scores(image: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """PSNR, SSIM and NRMSE."""
    error = torch.linalg.vector_norm(image - truth) / torch.linalg.vector_norm(truth)
    return float(psnr(image, truth)), float(ssim(image, truth)), float(error)


def rows(masks: Sequence[str]) -> Iterator[list[str]]:
    """One line per mask, rate, noise level and method."""
    for name, rate, noise in itertools.product(masks, RATES, NOISES):
        tuning, scored = (accelerated(MASKS[name](SHAPE, rate, seed), noise, seed) for seed in (1, 0))
        for method, (run, choices) in METHODS.items():
            chosen = max(choices, key=lambda c, run=run: scores(run(tuning, *c), tuning.truth)[0])
            db, likeness, error = scores(run(scored, *chosen), scored.truth)
            shown = ", ".join(f"{c:g}" for c in chosen)
            yield [name, str(rate), f"{noise:g}", method, shown, f"{db:.2f}", f"{likeness:.3f}", f"{error:.3f}"]


@torch.no_grad()
def report(masks: Sequence[str]) -> str:
    """The table."""
    header = ("mask", "R", "noise", "method", "chosen", "PSNR (dB)", "SSIM", "NRMSE")
    return table(header, list(rows(masks)))


if __name__ == "__main__":
    main(report, threads=1, parts=tuple(MASKS))
