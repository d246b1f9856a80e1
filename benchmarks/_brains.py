"""The two real brains beside the repository, as k-space with maps from their own calibration blocks."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from resolvent.operators import CartesianMRI, sensitivity_maps

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mri"
SHAPE = (256, 216)


class Scan(NamedTuple):
    """Data ``(1, coils, *spatial)``, the operator, and the true magnitude ``(1, 1, *spatial)`` where it is known."""

    y: torch.Tensor
    physics: CartesianMRI
    truth: torch.Tensor | None


def coil_kspace() -> torch.Tensor:
    """Fully sampled k-space ``(7, 256, 216)`` of the moco slice; its combined magnitude peaks at 1."""
    images = torch.from_numpy(np.load(DATA / "moco_brain_slice_256x216x7.npz")["arr_0"]).permute(2, 0, 1)
    images = (images / torch.linalg.vector_norm(images, dim=0).max()).to(torch.complex64)
    return CartesianMRI(torch.ones(SHAPE)).A(images[:, None])[:, 0]


def accelerated(mask: torch.Tensor, noise_std: float, seed: int, shape: Sequence[int] = SHAPE) -> Scan:
    """The moco slice as a scan with ``mask`` and added noise would have measured it; maps are from that scan.

    :param mask: ``(256, 216)``.
    :param shape: of the images; larger than the scan's, k-space is empty around it.
    """
    full = coil_kspace()
    generator = torch.Generator().manual_seed(seed)
    y = mask * (full + noise_std * torch.randn(full.shape, dtype=full.dtype, generator=generator))
    full, y, mask = (padded(t, shape) for t in (full, y, mask))
    coil_images = CartesianMRI(torch.ones(*shape)).A_adjoint(full[:, None])[:, 0]
    truth = torch.linalg.vector_norm(coil_images, dim=0)[None, None]
    return Scan(y[None], CartesianMRI(mask, sensitivity_maps(y)), truth)


def prospective(shape: Sequence[int] = (230, 180)) -> Scan:
    """The scan of SigPy's tutorial, eight times accelerated as it was measured; no truth. Back-projected peak 1."""
    y = padded(torch.from_numpy(np.load(DATA / "sigpy_cartesian_ksp.npy")), shape)
    physics = CartesianMRI((y.abs().sum(0) > 0).float(), sensitivity_maps(y))
    return Scan(y[None] / physics.A_adjoint(y[None]).abs().max(), physics, None)


def padded(kspace: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """k-space with its middle in the middle of ``shape``, zeros around."""
    pad = []
    for n, m in zip(reversed(kspace.shape[-2:]), reversed(shape), strict=True):
        pad += [m // 2 - n // 2, m - n - (m // 2 - n // 2)]
    return torch.nn.functional.pad(kspace, pad)
