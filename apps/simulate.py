"""``resolvent simulate near-field … --out FILE``: measurement files from synthetic scenes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch

from ..datasets import blobs, save_measurement
from ..operators import NearFieldMIMO
from .arguments import new_parser, parse
from .cli import UsageError

GEOMETRIES = {"paper": NearFieldMIMO.paper, "experiment": NearFieldMIMO.experiment}


def main(argv: list[str]) -> int:
    """Run the verb."""
    modalities = {"near-field": near_field}
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: resolvent simulate MODALITY … --out FILE\n\nmodalities: {', '.join(modalities)}")
        return 0
    if not argv or argv[0] not in modalities:
        found = repr(argv[0]) if argv else "none"
        raise UsageError(f"modality: found {found}, expected one of {', '.join(modalities)}")
    function = modalities[argv[0]]
    parser = new_parser(f"simulate {argv[0]}", (function.__doc__ or "").splitlines()[0])
    parser.add_argument("--config", action="config", help="YAML with any of these options")
    parser.add_function_arguments(function)
    config = parse(parser, argv[1:])
    config.pop("config", None)
    function(**vars(config))
    return 0


def near_field(
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
    :param n_scenes: scenes in the file.
    :param seed: of scenes and noise.
    """
    for name, value in (("n_frequencies", n_frequencies), ("n_scenes", n_scenes)):
        if value < 1:
            raise UsageError(f"--{name}: found {value}, expected at least 1")
    if not math.isfinite(snr):
        raise UsageError(f"--snr: found {snr}, expected a finite number of dB")
    physics = GEOMETRIES[geometry](n_frequencies)
    grid = physics.image_shape[1:]
    truth = torch.cat([blobs((grid[0], grid[1], grid[2]), 1000 * seed + i, phase) for i in range(n_scenes)])
    y, noise_std = add_noise(physics.A(truth), snr, seed)
    meta = {
        "scene": "resolvent blobs (own synthesis)",
        "geometry": geometry,
        "snr_db": snr,
        "phase": phase,
        "seed": seed,
    }
    save_measurement(Path(out), y, physics, truth, noise_std, meta)
    print(f"{out}: {n_scenes} x {' x '.join(map(str, physics.data_shape[1:]))} complex samples, SNR {snr:g} dB")


def add_noise(y: torch.Tensor, snr: float, seed: int) -> tuple[torch.Tensor, float]:
    """Circular complex noise at ``snr`` dB over the mean power of the batch; data and noise level."""
    std = float(y.abs().square().mean().sqrt()) * 10 ** (-snr / 20)
    generator = torch.Generator().manual_seed(seed)
    return y + std * torch.randn(y.shape, dtype=y.dtype, generator=generator), std
