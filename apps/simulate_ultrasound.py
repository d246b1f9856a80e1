"""Plane-wave ultrasound data of synthetic tissue."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ..datasets import save_measurement, speckle_phantom
from ..operators import PlaneWaveIQ
from .cli import UsageError
from .simulate import add_noise, at_least_one, within_memory

#: A linear array in soft tissue: metres, hertz, metres per second.
PITCH, CARRIER, SAMPLING, SOUND = 0.3e-3, 5e6, 10e6, 1540.0
#: Depth of the image's first row in metres.
TOP = 5e-3


def main(
    out: str,
    n_angles: int = 5,
    max_angle: float = 10.0,
    n_elements: int = 64,
    depth: float = 0.03,
    snr: float = 20.0,
    f_number: float = 1.5,
    n_scenes: int = 1,
    seed: int = 0,
) -> None:
    """Simulate plane-wave IQ data of speckle, cysts and points (our own synthesis).

    :param out: measurement file to write.
    :param n_angles: steered plane waves.
    :param max_angle: largest steering angle in degrees.
    :param n_elements: elements of the array, 0.3 mm apart.
    :param depth: of the image in metres, which begins 5 mm below the array.
    :param snr: signal-to-noise ratio in dB; total noise variance is mean |A x|^2 / 10^(snr/10).
    :param f_number: depth over the width of the receive aperture; 0 for the whole array.
    :param n_scenes: scenes in the file.
    :param seed: of scenes and noise.
    """
    at_least_one(n_angles=n_angles, n_elements=n_elements, n_scenes=n_scenes)
    for name, value, limit in (("max_angle", max_angle, 90), ("depth", depth, 1), ("f_number", f_number, math.inf)):
        if not 0 <= value < limit:
            raise UsageError(f"--{name}: found {value}, expected at least 0 and less than {limit}")
    within_memory(n_scenes, n_angles, n_elements, math.ceil((2 * depth + PITCH * n_elements) / SOUND * SAMPLING))
    physics = linear_array(n_angles, math.radians(max_angle), n_elements, depth, f_number)
    scenes = [speckle_phantom(physics.x, physics.z, 1000 * seed + i) for i in range(n_scenes)]
    truth = torch.cat([scene.image for scene in scenes])
    y, noise_std = add_noise(physics.A(truth), snr, seed)
    cysts = [[cyst._asdict() for cyst in scene.cysts] for scene in scenes]
    meta = {"scene": "resolvent speckle phantom (own synthesis)", "cysts": cysts, "snr_db": snr, "seed": seed}
    save_measurement(Path(out), y, physics, truth, noise_std, meta)
    print(f"{out}: {n_scenes} x {' x '.join(map(str, physics.data_shape[1:]))} complex samples, SNR {snr:g} dB")


def linear_array(n_angles: int, max_angle: float, n_elements: int, depth: float, f_number: float) -> PlaneWaveIQ:
    """A linear array and the pixels below it, a third of a wavelength apart in depth and half a pitch across."""
    elements = PITCH * (torch.arange(n_elements, dtype=torch.float64) - (n_elements - 1) / 2)
    across = PITCH / 2 * (torch.arange(2 * n_elements - 1, dtype=torch.float64) - (n_elements - 1))
    z = TOP + SOUND / CARRIER / 3 * torch.arange(1 + int(3 * depth * CARRIER / SOUND), dtype=torch.float64)
    angles = torch.linspace(-max_angle, max_angle, n_angles, dtype=torch.float64) if n_angles > 1 else torch.zeros(1)
    width = float(elements[-1] - elements[0])
    start, end = TOP / SOUND, (float(z[-1]) + width / 2 + math.hypot(float(z[-1]), width)) / SOUND
    n_samples = math.ceil((end - start) * SAMPLING)
    return PlaneWaveIQ(
        angles, elements, across, z, n_samples, SAMPLING, CARRIER, start, SOUND, f_number
    )  # fmt: skip
