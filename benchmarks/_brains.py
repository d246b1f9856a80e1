"""The two real brains beside the repository, as k-space with maps from their own calibration blocks."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from resolvent.operators import CartesianMRI, sensitivity_maps

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "mri"


class Scan(NamedTuple):
    """Data ``(1, coils, *spatial)``, the operator, and the true magnitude ``(1, 1, *spatial)`` where it is known."""

    y: torch.Tensor
    physics: CartesianMRI
    truth: torch.Tensor | None


def coil_kspace() -> torch.Tensor:
    """Fully sampled k-space ``(7, 256, 216)`` of the moco slice; its combined magnitude peaks at 1."""
    images = torch.from_numpy(np.load(DATA / "moco_brain_slice_256x216x7.npz")["arr_0"]).permute(2, 0, 1)
    images = (images / torch.linalg.vector_norm(images, dim=0).max()).to(torch.complex64)
    return CartesianMRI(torch.ones(images.shape[1:])).A(images[:, None])[:, 0]


def accelerated(mask: torch.Tensor, noise_std: float, seed: int) -> Scan:
    """The moco slice as a scan with ``mask`` and added noise would have measured it; maps are from that scan."""
    full = coil_kspace()
    truth = torch.linalg.vector_norm(CartesianMRI(torch.ones(mask.shape)).A_adjoint(full[:, None])[:, 0], dim=0)
    generator = torch.Generator().manual_seed(seed)
    y = mask * (full + noise_std * torch.randn(full.shape, dtype=full.dtype, generator=generator))
    return Scan(y[None], CartesianMRI(mask, sensitivity_maps(y)), truth[None, None])


def prospective() -> Scan:
    """The scan of SigPy's tutorial, eight times accelerated as it was measured; no truth."""
    y = torch.from_numpy(np.load(DATA / "sigpy_cartesian_ksp.npy"))
    mask = (y.abs().sum(0) > 0).float()
    y = y / float(CartesianMRI(mask, sensitivity_maps(y)).A_adjoint(y[None]).abs().max())
    return Scan(y[None], CartesianMRI(mask, sensitivity_maps(y)), None)
