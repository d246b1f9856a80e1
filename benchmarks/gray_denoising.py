"""Gray denoising on BSD68 and Set12: PSNR of the shipped denoiser beside a published one and published figures.

Gaussian noise of sigma 15, 25 and 50 of 255, seeded by the picture's index, nothing clipped or rounded; PSNR at peak 1
of each whole picture, averaged over the set. DnCNN is KAIR's, made for sigma 25, run here on the same noisy pictures.
Figures in brackets were not measured here: DRUNet's are those of its authors (Zhang et al., IEEE TPAMI 2022; 32.6
million parameters), WCRR's those of its repository (Goujon, Neumayer and Unser 2024; 13 763 parameters).

    python benchmarks/gray_denoising.py [--weights image-denoiser …] [--images N] [--data ../shared/data]
        [--out FILE.md]
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _photographs import DATA, noisy
from _timing import main, table

from resolvent.priors import load_denoiser, load_dncnn
from resolvent.recon import psnr

LEVELS = (15, 25, 50)
SETS = {"BSD68": "bsd68_gray", "Set12": "set12"}
#: By network and set: dB at each level, as published.
PUBLISHED = {
    ("DRUNet", "BSD68"): (31.91, 29.48, 26.59), ("DRUNet", "Set12"): (33.25, 30.94, 27.90),
    ("WCRR", "BSD68"): (31.21, 28.68, None),
}  # fmt: skip
Denoise = Callable[[torch.Tensor, float], torch.Tensor]


def mean_psnr(denoise: Denoise, folder: Path, level: int, count: int | None) -> float:
    """dB, averaged over the pictures."""
    sigma = level / 255
    return statistics.mean(float(psnr(denoise(y, sigma), x, 1.0)) for y, x in noisy(folder, sigma, count))


def parameters(network: torch.nn.Module) -> int:
    """How many numbers were trained."""
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def report(weights: Sequence[str], images: int | None, data: Path) -> str:
    """A row per set and network."""
    yardstick = load_dncnn(data / "weights" / "kair_dncnn_25.pth")
    measured: dict[str, tuple[Denoise, tuple[int, ...]]] = {"noisy": (lambda y, sigma: y, LEVELS)}
    for name, ours in zip(weights, map(load_denoiser, weights), strict=True):
        measured[f"{Path(name).stem}, {parameters(ours):,} parameters"] = ours, LEVELS
    measured[f"DnCNN, {parameters(yardstick):,} parameters"] = yardstick, (25,)
    rows = []
    for name, folder in SETS.items():
        for network, (denoise, levels) in measured.items():
            found = {n: f"{mean_psnr(denoise, data / 'natural' / folder, n, images):.2f}" for n in levels}
            rows.append([name, network, *(found.get(n, "") for n in LEVELS)])
        for (network, of), figures in PUBLISHED.items():
            if of == name:
                rows.append([name, f"[{network}, published]", *(f"[{f:.2f}]" if f else "" for f in figures)])
    return table(("set", "denoiser", *(f"sigma {n}" for n in LEVELS)), rows)


if __name__ == "__main__":
    main(report, threads=1, weights=["image-denoiser"], images=int, data=DATA)
