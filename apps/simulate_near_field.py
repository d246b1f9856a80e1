"""Near-field MIMO radar data of synthetic blobs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from ..datasets import blobs, save_measurement
from ..operators import NearFieldMIMO
from ..operators.norm import per_image
from .simulate import add_noise, at_least_one, within_memory

GEOMETRIES = {"paper": NearFieldMIMO.paper, "experiment": NearFieldMIMO.experiment}


def main(
    out: str,
    geometry: Literal["paper", "experiment"] = "paper",
    n_frequencies: int = 20,
    snr: float = 30.0,
    phase: Literal["random", "smooth", "constant"] = "random",
    n_scenes: int = 1,
    seed: int = 0,
) -> None:
    """Simulate near-field MIMO radar data of synthetic blobs (our own synthesis).

    :param out: measurement file to write.
    :param geometry: the paper's simulated array, or one in the style of its experiment.
    :param n_frequencies: frequencies from 4 to 16 GHz.
    :param snr: signal-to-noise ratio in dB; total noise variance is mean |A s|^2 / 10^(snr/10).
    :param phase: of the reflectivity.
    :param n_scenes: scenes in the file, made equally strong in the data, so that all have the signal-to-noise ratio.
    :param seed: of scenes and noise.
    """
    at_least_one(n_frequencies=n_frequencies, n_scenes=n_scenes)
    within_memory(n_scenes, n_frequencies, *GEOMETRIES[geometry](1).data_shape[2:])
    physics = GEOMETRIES[geometry](n_frequencies)
    grid = physics.image_shape[1:]
    truth = torch.cat([blobs((grid[0], grid[1], grid[2]), 1000 * seed + i, phase) for i in range(n_scenes)])
    data = physics.A(truth)
    power = data.abs().square().flatten(1).mean(1)
    even = per_image((power.mean() / power).sqrt(), truth)
    truth = even * truth
    y, noise_std = add_noise(even * data, snr, seed)
    meta = {
        "scene": "resolvent blobs (own synthesis)",
        "geometry": geometry,
        "snr_db": snr,
        "phase": phase,
        "seed": seed,
    }
    save_measurement(Path(out), y, physics, truth, noise_std, meta)
    print(f"{out}: {n_scenes} x {' x '.join(map(str, physics.data_shape[1:]))} complex samples, SNR {snr:g} dB")
