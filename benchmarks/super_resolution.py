"""Super-resolution by the mean-reverting SDE: one mean image, or samples with all the detail that pictures have.

Gray photographs at a quarter of their resolution, bicubic with circular borders, without noise: the middle 96 x 96 of
every eighth picture of BSD68. The network, of 0.2 million parameters, learned from crops of BSD400 what their low
resolution lacks. Sharpness is the energy of the differences of neighbouring pixels over the truth's; "misses the data"
the root mean square of A x - y; error over spread the root mean square error of the mean of the samples over what it
would be were they of the posterior. Nothing was chosen on test pictures, and nothing is clipped.

    python benchmarks/super_resolution.py [--steps 1000] [--samples 4] [--images 8] [--data ../shared/data]
        [--out FILE.md]
"""

from collections.abc import Callable
from pathlib import Path

import torch
from _crops import crops, trained
from _photographs import DATA, middle, picture
from _timing import main, table
from torch import Tensor

from resolvent.operators import matched
from resolvent.priors import ConditionalVelocity, LowResolution, ResidualMatching, TimeUNet, downsampling
from resolvent.recon import MeanReverting, psnr, ssim

FACTOR, SIDE, SCALE = 4, 96, 0.1


def network(data: Path, steps: int) -> ConditionalVelocity:
    """The prior, after its training."""
    torch.manual_seed(0)
    unet, source = TimeUNet([16, 32, 64], 8, shown=1), crops(data / "natural" / "bsd400_train_gray180", 64)
    return ConditionalVelocity(
        trained(unet, source, LowResolution(FACTOR), ResidualMatching(SCALE), steps, 8), SCALE
    )  # fmt: skip


def pictures(data: Path, count: int) -> Tensor:
    """The test pictures ``(count, 1, SIDE, SIDE)``."""
    paths = sorted((data / "natural" / "bsd68_gray").glob("*.png"))[::8][:count]
    return torch.stack([torch.as_tensor(middle(picture(path), SIDE), dtype=torch.float32)[None] for path in paths])


def sharpness(x: Tensor) -> float:
    """Mean square of the differences of neighbours."""
    return sum(float(x.diff(dim=axis).square().mean()) for axis in (-2, -1))


def row(name: str, calls: int, x: Tensor, truth: Tensor, misfit: Callable[[Tensor], float], calibration: str) -> list:
    """Of one image for each picture."""
    quality = float(psnr(x, truth, 1.0).mean()), float(ssim(x, truth, 1.0).mean())
    return [
        name, calls, f"{quality[0]:.2f}", f"{quality[1]:.3f}", f"{sharpness(x) / sharpness(truth):.2f}",
        f"{misfit(x):.4f}", calibration,
    ]  # fmt: skip


@torch.no_grad()
def measured(prior: ConditionalVelocity, truth: Tensor, samples: int) -> str:
    """The table."""
    physics = downsampling((1, SIDE, SIDE), FACTOR)
    y = physics.A(truth)
    start = matched(physics, physics.A_adjoint(y), y)
    pseudo = physics.A_dagger(y)
    once = ResidualMatching(SCALE).estimate(prior.network, start, torch.ones(len(y)))

    def misfit(x: Tensor) -> float:
        return float((physics.A(x) - y).square().mean().sqrt())

    rows = [
        row("A^H y, where it starts", 0, start, truth, misfit, ""),
        row("pseudo-inverse", 0, pseudo, truth, misfit, ""),
        row("mean, by the first step alone", 1, once, truth, misfit, ""),
    ]
    for name, steps_, eta in (("SDE", 100, 1.0), ("SDE", 20, 1.0), ("ODE", 20, 0.0)):
        sampler = MeanReverting(prior, steps_, eta)
        found = sampler.sample(y, physics, samples, torch.Generator().manual_seed(0))
        spread = float(found.std.square().mean().sqrt()) * (1 + 1 / samples) ** 0.5
        ratio = f"{float((found.mean - truth).square().mean().sqrt()) / spread:.2f}"
        rows += [
            row(f"{name}, {steps_} steps: one sample", steps_, found.samples[:, 0], truth, misfit, ""),
            row(f"{name}, {steps_} steps: mean of {samples}", steps_ * samples, found.mean, truth, misfit, ratio),
        ]
    head = ["image", "network calls", "PSNR dB", "SSIM", "sharpness", "misses the data", "error over spread"]
    return table(head, rows)


def report(steps: int, samples: int, images: int, data: Path) -> str:
    """Train, then measure."""
    figures = measured(network(data, steps), pictures(data, images), samples)
    return f"{figures}\n\n{images} pictures; {steps} steps of training."


if __name__ == "__main__":
    main(report, threads=1, steps=1000, samples=4, images=8, data=DATA)
