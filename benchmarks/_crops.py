"""Networks trained on random crops of the photographs beside the repository."""

from pathlib import Path

import torch
from _photographs import picture

from resolvent.datasets.sources import Pieces, counted, draw
from resolvent.priors import Batch, Corruption, MovingAverage, Network, TrainingLoss, cosine, train


def crops(folder: Path, size: int) -> Pieces:
    """The pictures of a folder, as a source of crops."""
    source = Pieces(size)
    for path in sorted(folder.glob("*.png")):
        source.add(path.name, torch.as_tensor(picture(path)[None], dtype=torch.float32), "")
    return source


def trained(network: Network, source: Pieces, noise: Corruption, loss: TrainingLoss, steps: int, size: int) -> Network:
    """``network`` after so many steps on batches of ``size`` crops; its moving average, for evaluation."""
    average, everything = MovingAverage(network, 0.999), range(len(source))

    def batch(step: int) -> Batch:
        torch.manual_seed(counted(0, step).initial_seed())
        drawn = [draw(source, everything, 0, step, place) for place in range(size)]
        noisy, strength = zip(*(noise(image, generator) for image, generator in drawn), strict=True)
        return Batch(
            torch.stack([image for image, _ in drawn]), torch.stack(noisy), torch.stack(strength), step / steps
        )

    train(network, batch, loss, steps, cosine(1e-3, 1e-5, steps), average=average)
    return average.network.eval().requires_grad_(False)
