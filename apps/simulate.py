"""``resolvent simulate MODALITY … --out FILE``: measurement files from synthetic scenes."""

from __future__ import annotations

import math

import torch

from .cli import UsageError
from .modality import run_modality

#: Modality to module, whose ``main`` has the modality's options as its arguments.
MODALITIES = {
    "blur": "simulate_blur",
    "mri": "simulate_mri",
    "near-field": "simulate_near_field",
    "ultrasound": "simulate_ultrasound",
}


def main(argv: list[str]) -> int:
    """Run the verb."""
    return run_modality("simulate", MODALITIES, argv, {})


def at_least_one(**counts: int) -> None:
    """Refuse counts below 1, by the name of their option."""
    for name, value in counts.items():
        if value < 1:
            raise UsageError(f"--{name}: found {value}, expected at least 1")


def add_noise(y: torch.Tensor, snr: float, seed: int) -> tuple[torch.Tensor, float]:
    """Noise (circular where ``y`` is complex) at ``snr`` dB over the mean power of the batch; data and noise level."""
    if not math.isfinite(snr):
        raise UsageError(f"--snr: found {snr}, expected a finite number of dB")
    return add_white_noise(y, float(y.abs().square().mean().sqrt()) * 10 ** (-snr / 20), seed)


def add_white_noise(y: torch.Tensor, std: float, seed: int) -> tuple[torch.Tensor, float]:
    """Noise (circular where ``y`` is complex) of standard deviation ``std``; data and noise level."""
    if not 0 <= std < math.inf:
        raise UsageError(f"--noise_std: found {std}, expected a finite number not below 0")
    generator = torch.Generator().manual_seed(seed)
    return y + std * torch.randn(y.shape, dtype=y.dtype, generator=generator), std
