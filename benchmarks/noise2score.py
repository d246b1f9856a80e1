"""Denoisers learned from noisy pictures alone: Noise2Score for white noise, the blind-spot network for correlated one.

BSD400's training crops, each with one noise that stays (sigma 25 of 255), and no clean picture. First table:
Noise2Score (ResidualDenoising) on BSD68 and Set12, its level known or found by total variation on the published grid,
beside the same network trained as long on the clean pictures; estimates are clipped to [0, 1], as in the paper, whose
figures (Kim and Ye, NeurIPS 2021; a larger network, 100 epochs) stand in brackets. Second table, Set12: white noise,
and noise of the same deviation correlated over about three pixels, for which no published figure exists. C-BSN's blind
spot sees every fifth pixel only, the plain one all but the pixel, and Noise2Score takes all noise for white.

    python benchmarks/noise2score.py [--steps 1500] [--blind_steps 500] [--images N] [--data ../shared/data]
        [--out FILE.md]
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from _photographs import DATA, picture
from _timing import main, table
from scipy.ndimage import gaussian_filter

from resolvent.datasets.sources import Pieces, draw
from resolvent.priors import (
    Batch,
    BiasFreeUNet,
    BlindSpot,
    BlindSpotNetwork,
    GaussianTweedie,
    MeanSquare,
    Network,
    Noise2Score,
    ResidualDenoising,
    TrainingLoss,
    cosine,
    train,
)
from resolvent.recon import psnr

SIGMA, SIZE, BATCH = 25 / 255, 60, 8
SETS = {"BSD68": "bsd68_gray", "Set12": "set12"}
PUBLISHED = {
    "Noise2Score, level known": (29.12, 30.13), "Noise2Score, level found": (28.95, 30.08),
    "supervised": (29.20, 30.36),
}  # fmt: skip
Noise = Callable[[np.random.Generator, Sequence[int]], np.ndarray]
Denoise = Callable[[torch.Tensor], torch.Tensor]


def white(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Independent pixels."""
    return rng.normal(0, SIGMA, shape)


def correlated(rng: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """White noise blurred by one pixel, of the same deviation: correlation 0.78 and 0.37 one and two pixels away."""
    blurred = gaussian_filter(rng.standard_normal(shape), 1.0, mode="wrap")
    impulse = np.zeros((9, 9))
    impulse[4, 4] = 1
    return SIGMA * blurred / np.linalg.norm(gaussian_filter(impulse, 1.0, mode="constant"))


class PlainBlindSpot(TrainingLoss):
    """Absolute differences of the blind network at stride 1: for noise that is independent from pixel to pixel."""

    needs_clean = False

    def __call__(self, network: Network, batch: Batch) -> torch.Tensor:
        return (network.estimate(batch.noisy, blind=True) - batch.noisy).abs().mean()


def pairs(folder: Path, noise: Noise, count: int | None = None) -> list[torch.Tensor]:
    """Noisy and clean as the two channels of ``(2, H, W)``; noise seeded by the picture's index."""
    found = []
    for i, path in enumerate(sorted(folder.glob("*.png"))[:count]):
        clean = picture(path)
        found.append(torch.as_tensor(np.stack([clean + noise(np.random.default_rng(i), clean.shape), clean])).float())
    return found


def trained(network: Network, loss: TrainingLoss, images: list[torch.Tensor], steps: int) -> Network:
    """``network`` after so many steps on random crops."""
    source = Pieces(SIZE)
    for i, image in enumerate(images):
        source.add(str(i), image, "")

    def batch(step: int) -> Batch:
        drawn = torch.stack([draw(source, range(len(source)), 0, step, place)[0] for place in range(BATCH)])
        noisy, clean = drawn.split(1, 1)
        return Batch(clean if loss.needs_clean else noisy, noisy, torch.full((BATCH,), SIGMA), step / steps)

    torch.manual_seed(0)
    train(network, batch, loss, steps, cosine(1e-3, 1e-5, steps))
    return network.eval()


@torch.no_grad()
def mean_psnr(denoise: Denoise, images: list[torch.Tensor]) -> float:
    """dB of clipped estimates, averaged over the pictures."""
    return statistics.mean(float(psnr(denoise(i[None, :1]).clamp(0, 1), i[None, 1:], 1.0)) for i in images)


def network() -> Network:
    """A small network, the same first weights each time."""
    torch.manual_seed(0)
    return BiasFreeUNet(width=16, halvings=2)


def blind_network() -> BlindSpotNetwork:
    """A small blind-spot network."""
    torch.manual_seed(0)
    return BlindSpotNetwork(width=16, depth=3)


def white_noise(data: Path, steps: int, count: int | None) -> str:
    """Noise2Score and the same network with clean pictures."""
    learnt = pairs(data / "natural" / "bsd400_train_gray180", white)
    own, taught = (trained(network(), loss, learnt, steps) for loss in (ResidualDenoising(), MeanSquare()))
    score = Noise2Score(lambda y: (own(y, SIGMA) - y) / SIGMA**2, GaussianTweedie())
    methods: dict[str, Denoise] = {
        "noisy": lambda y: y,
        "Noise2Score, level known": lambda y: own(y, SIGMA),
        "Noise2Score, level found": lambda y: score.blind(y)[0],
        "supervised": lambda y: taught(y, SIGMA),
    }
    sets = [pairs(data / "natural" / folder, white, count) for folder in SETS.values()]
    rows = []
    for name, denoise in methods.items():
        published = PUBLISHED.get(name, (None,) * len(SETS))
        cells = [
            f"{mean_psnr(denoise, s):.2f}" + (f" [{p:.2f}]" if p else "") for s, p in zip(sets, published, strict=True)
        ]
        rows.append([name, *cells])
        print(*rows[-1], sep=" | ", flush=True)
    return table(("method", *SETS), rows)


def two_noises(data: Path, steps: int, count: int | None) -> str:
    """Three ways of learning from noisy pictures alone, under white and correlated noise."""
    makers: dict[str, Callable[[list[torch.Tensor]], Denoise]] = {
        "noisy": lambda images: lambda y: y,
        "Noise2Score": lambda images: told(trained(network(), ResidualDenoising(), images, steps)),
        "blind spot, stride 1": lambda images: unseen(trained(blind_network(), PlainBlindSpot(), images, steps)),
        "C-BSN": lambda images: trained(blind_network(), BlindSpot(), images, steps),
    }
    kinds = {"white": white, "correlated": correlated}
    learnt = {kind: pairs(data / "natural" / "bsd400_train_gray180", noise) for kind, noise in kinds.items()}
    scored = {kind: pairs(data / "natural" / "set12", noise, count) for kind, noise in kinds.items()}
    rows = []
    for name, make in makers.items():
        rows.append([name, *(f"{mean_psnr(make(learnt[kind]), scored[kind]):.2f}" for kind in kinds)])
        print(*rows[-1], sep=" | ", flush=True)
    return table(("method", *(f"{kind} noise" for kind in kinds)), rows)


def told(net: Network) -> Denoise:
    """A denoiser at the level of all noise here."""
    return lambda y: net(y, SIGMA)


def unseen(net: BlindSpotNetwork) -> Denoise:
    """The blind estimate, from all pixels but each one's own."""
    return lambda y: net.estimate(y, blind=True)


def report(steps: int, blind_steps: int, images: int | None, data: Path) -> str:
    """Train and measure."""
    parts = [
        white_noise(data, steps, images),
        two_noises(data, blind_steps, images),
        f"PSNR in dB; {steps} and {blind_steps} steps of {BATCH} crops of {SIZE} x {SIZE} pixels.",
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main(report, threads=1, steps=1500, blind_steps=500, images=int, data=DATA)
