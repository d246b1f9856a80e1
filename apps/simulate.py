"""``resolvent simulate MODALITY … --out FILE``: measurement files from synthetic scenes."""

from __future__ import annotations

import math

import torch

from ..datasets import InputError
from ..datasets.arrays import require_memory
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


#: Bytes that a sample takes at least on its way: the clean one, its noise and their sum, complex64.
PER_SAMPLE = 24


def within_memory(*lengths: int) -> None:
    """Refuse data of such a shape that this machine's memory does not hold, before any are made."""
    try:
        require_memory(f"data of {' x '.join(map(str, lengths))} samples", PER_SAMPLE * math.prod(lengths))
    except InputError as error:
        raise UsageError(str(error)) from error


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
