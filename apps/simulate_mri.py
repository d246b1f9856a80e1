"""Accelerated Cartesian MRI of the Shepp-Logan phantom."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from ..datasets import ring_coils, save_measurement
from ..operators import CartesianMRI, cartesian_lines, poisson_disc
from .cli import UsageError
from .simulate import add_noise, at_least_one, within_memory

MASKS = {
    "lines": cartesian_lines,
    "poisson": lambda shape, acceleration, seed: poisson_disc(shape, acceleration, seed, min(24, shape[-1] // 4)),
}


def main(
    out: str,
    size: int = 192,
    coils: int = 8,
    acceleration: int = 4,
    mask: Literal["lines", "poisson"] = "lines",
    snr: float = 30.0,
    seed: int = 0,
) -> None:
    """Simulate accelerated Cartesian MRI of the Shepp-Logan phantom with a smooth phase.

    :param out: measurement file to write.
    :param size: voxels along each of two axes.
    :param coils: receivers on a ring around the phantom; 1 for a single uniform one.
    :param acceleration: k-space samples over samples taken.
    :param mask: random lines, or a variable-density Poisson disc.
    :param snr: signal-to-noise ratio of the samples taken, in dB; noise is complex, total variance as stated.
    :param seed: of mask and noise.
    """
    at_least_one(coils=coils, acceleration=acceleration)
    if size < 32:
        raise UsageError(f"--size: found {size}, expected at least 32")
    within_memory(coils, size, size)
    truth = phantom(size)
    try:
        sampled = torch.ones(size, size) if acceleration == 1 else MASKS[mask]((size, size), acceleration, seed)
    except ValueError as error:
        raise UsageError(f"--{error}") from error
    physics = CartesianMRI(sampled, ring_coils(coils, (size, size)) if coils > 1 else None)
    clean = physics.A(truth)
    taken = sampled.expand_as(clean.real) > 0
    y = torch.zeros_like(clean)
    y[taken], noise_std = add_noise(clean[taken], snr, seed)
    meta = {"scene": "Shepp-Logan phantom, smooth phase", "mask": mask, "acceleration": acceleration, "snr_db": snr,
            "seed": seed}  # fmt: skip
    save_measurement(out, y, physics, truth, noise_std, meta)
    print(f"{out}: {coils} x {size} x {size} k-space, {float(sampled.mean()):.0%} sampled, SNR {snr:g} dB")


def phantom(size: int) -> torch.Tensor:
    """The phantom, ``(1, 1, size, size)`` complex64 of magnitude at most 1, with a slowly varying phase."""
    magnitude = resize(shepp_logan_phantom(), (size, size), anti_aliasing=True)
    t = np.linspace(-1, 1, size)
    phase = math.pi / 3 * (t[:, None] ** 2 - t[None] + t[:, None] * t[None])
    return torch.from_numpy((magnitude * np.exp(1j * phase)).astype(np.complex64))[None, None]
