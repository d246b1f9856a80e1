r"""Coil sensitivities from the fully sampled middle of k-space (ESPIRiT).

.. math:: W s(r) = s(r), \qquad W = \text{projection on the span of the calibration block's patches},

the sensitivities at each voxel are the eigenvector to eigenvalue 1 of a small matrix made from the
dominant k-space patches. Uecker et al., Magn. Reson. Med. 71:990 (2014); the implementation is SigPy's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .extras import require


def sensitivity_maps(kspace: Tensor, width: int = 24, crop: float = 0.95) -> Tensor:
    """Maps ``(coils, *spatial)`` complex64 of one image; sum of squares 1, and 0 outside the object.

    :param kspace: ``(coils, *spatial)``, zero frequency in the middle; unsampled values are 0.
    :param width: side of the fully sampled block.
    :param crop: eigenvalue below which a voxel is outside.
    :raises ValueError: if the block is not sampled or larger than k-space.
    :raises ModuleNotFoundError: without the extra ``mri``.
    """
    spatial = tuple(kspace.shape[1:])
    if width < 8 or width > min(spatial):
        raise ValueError(f"width: found {width}, expected 8 to {min(spatial)}")
    block = kspace
    for axis, n in enumerate(spatial, start=1):
        block = block.narrow(axis, n // 2 - width // 2, width)
    holes = float((block == 0).all(0).float().mean())
    if holes > 0:
        raise ValueError(f"kspace: found {holes:.0%} of the middle {width} samples a side empty, expected all sampled")
    app = require("sigpy.mri.app", "mri")
    calibration = app.EspiritCalib(
        kspace.to(torch.complex64).cpu().numpy(), calib_width=width, crop=crop, show_pbar=False
    )
    return torch.from_numpy(calibration.run()).to(kspace.device)
