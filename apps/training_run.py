"""One training run: which images its steps see, under which noise, and how good its network is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..datasets import Source
from ..datasets.sources import counted, draw
from ..priors import Batch, Corruption, MovingAverage, Network, TrainingLoss
from ..priors.hyperparameters import Values
from ..priors.training import processes
from .fingerprint import fingerprint_of
from .training_hyperparameters import augmented, rows, with_arguments

#: The second counter of the generators of validation images, which no step has.
VALIDATION = -1


@dataclass(frozen=True)
class Run:
    """One training run: its objects, made from the settings, and where its files go."""

    network: Network
    source: Source
    learnt: list[int]
    held_out: tuple[Source, list[int]]
    noise: Corruption
    loss: TrainingLoss
    average: MovingAverage | None
    settings: dict[str, Any]
    out: Path
    device: str
    tuned_on: list[int]

    @property
    def mixed(self) -> bool:
        """Whether products are computed in bfloat16."""
        chosen = self.settings.get("mixed_precision")  # an option that is null is not kept
        return self.device.startswith("cuda") if chosen is None else chosen

    @property
    def data(self) -> dict[str, Any]:
        """What was learnt from and validated on."""
        return {"training": self.source.origin(), "validation": self.held_out[0].origin()}

    @property
    def fingerprint(self) -> str:
        """What the weights depend on: settings, data and version."""
        return fingerprint_of(self.settings, self.data)

    @property
    def result(self) -> Network:
        """The network that is judged and written."""
        return self.average.network if self.average else self.network

    def batch(self, step: int, values: Values | None = None) -> Batch:
        """This process's share of the batch of one step; ``values`` are each image's tuned hyperparameters."""
        seed, rank = self.settings["seed"], processes()[0]
        torch.manual_seed(counted(seed, step, "share", rank).initial_seed())
        drawn = [draw(self.source, self.learnt, seed, step, place) for place in self._places()]
        return self._corrupted(drawn, step / self.settings["steps"], values)

    def tuning_batch(self, step: int) -> Batch:
        """This process's share of what the hyperparameters learn from in one step, at the noise aimed at."""
        seed = self.settings["seed"]
        drawn = [draw(self.source, self.tuned_on, seed, f"tuning {step}", place) for place in self._places()]
        return self._corrupted(drawn, step / self.settings["steps"])

    def _places(self) -> range:
        rank, world = processes()
        return range(rank, self.settings["batch_size"], world)

    def validation(self, count: int) -> Batch:
        """The first ``count`` of the images held out, with the same noise whenever it is asked for."""
        source, indices = self.held_out
        generators = [counted(self.settings["seed"], VALIDATION, i) for i in indices[:count]]
        drawn = [(source.sample(i, g), g) for i, g in zip(indices[:count], generators, strict=True)]
        return self._corrupted(drawn, 1.0)

    def _corrupted(
        self, drawn: list[tuple[Tensor, torch.Generator]], progress: float, values: Values | None = None
    ) -> Batch:
        each, arguments = rows(values or {}, len(drawn)), self.settings["noise"].get("init_args", {})
        drawn = [(augmented(image, one, g), g) for (image, g), one in zip(drawn, each, strict=True)]
        noises = [with_arguments(self.noise, arguments, one) for one in each]
        noisy, sigma = zip(*(noise(image, g) for noise, (image, g) in zip(noises, drawn, strict=True)), strict=True)
        clean = torch.stack([image for image, _ in drawn])
        return Batch(clean, torch.stack(noisy), torch.stack(sigma), progress).to(self.device)


def denoised(run: Run, batch: Batch) -> Tensor:
    """The images of a batch as the network sees them, one at a time."""
    network = run.result.eval()
    with torch.no_grad():
        pairs = zip(batch.noisy, batch.sigma, strict=True)
        return torch.cat([run.loss.estimate(network, noisy[None], sigma[None]) for noisy, sigma in pairs])


@torch.no_grad()
def quality(run: Run, estimate: Tensor, batch: Batch, psnr: str = "psnr") -> dict[str, float]:
    """PSNR of estimates under the name ``psnr``; where no image is clean, the loss, all that is random in it fixed."""
    if run.noise.from_clean:
        return {psnr: mean_psnr(estimate, batch.clean)}
    torch.manual_seed(counted(run.settings["seed"], VALIDATION).initial_seed())
    return {"validation_loss": float(run.loss(run.result, batch))}


def mean_psnr(estimate: Tensor, truth: Tensor) -> float:
    """PSNR at peak 1 in dB, the mean over images."""
    error = (estimate - truth).square().flatten(1).mean(1)
    return float((-10 * torch.log10(error.clamp_min(torch.finfo(error.dtype).tiny))).mean())
