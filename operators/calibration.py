r"""Coil sensitivities from the fully sampled middle of k-space (ESPIRiT).

.. math:: W s(r) = s(r), \qquad W = \text{projection on the span of the calibration block's patches},

the sensitivities at each voxel are the eigenvector to eigenvalue 1 of a small matrix made from the
dominant k-space patches. Uecker et al., Magn. Reson. Med. 71:990 (2014); the implementation is SigPy's.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .extras import require

#: Side of the smallest calibration block that is taken, and of the largest that is looked for.
SMALLEST, LARGEST = 8, 24


def sensitivity_maps(kspace: Tensor, width: int | None = None, crop: float = 0.95) -> Tensor:
    """Maps ``(coils, *spatial)`` complex64 of one image; sum of squares 1, and 0 outside the object.

    :param kspace: ``(coils, *spatial)``, zero frequency in the middle; unsampled values are 0.
    :param width: side of the fully sampled block; the largest up to 24 if None.
    :param crop: eigenvalue below which a voxel is outside.
    :raises ValueError: if the block is not fully sampled, smaller than 8 or larger than k-space.
    :raises MissingExtra: without the extra ``mri``.
    """
    kspace = torch.as_tensor(kspace)
    sampled = (kspace != 0).any(0)
    width = calibration_width(sampled) if width is None else width
    if min(sampled.shape) < SMALLEST:
        raise ValueError(f"kspace: found axes of {tuple(sampled.shape)} samples, expected at least {SMALLEST} on each")
    if not SMALLEST <= width <= min(sampled.shape):
        raise ValueError(f"width: found {width} samples, expected {SMALLEST} to {min(sampled.shape)}")
    holes = 1 - float(_middle(sampled, width).float().mean())
    if holes > 0:
        raise ValueError(f"kspace: found {holes:.0%} of the middle {width} samples a side empty, expected all sampled")
    app = require("sigpy.mri.app", "mri")
    calibration = app.EspiritCalib(
        kspace.to(torch.complex64).cpu().numpy(), calib_width=width, crop=crop, show_pbar=False
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        maps = calibration.run()  # 0 / 0 where there is nothing at all
    return torch.from_numpy(maps).to(kspace.device).nan_to_num(0, 0, 0)


def calibration_width(sampled: Tensor) -> int:
    """Side of the largest fully sampled block up to 24 in the middle of ``(*spatial)``; 0 if there is none."""
    widths = range(min(LARGEST, *sampled.shape), 0, -1)
    return next((w for w in widths if bool(_middle(sampled, w).all())), 0)


def _middle(x: Tensor, width: int) -> Tensor:
    for axis, n in enumerate(x.shape):
        x = x.narrow(axis, n // 2 - width // 2, width)
    return x
