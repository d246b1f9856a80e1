r"""Metrics of magnitude images, as the radar literature takes them.

.. math:: \mathrm{PSNR} = 10 \log_{10} \frac{\max |s|^2}{\operatorname{mean}(|s| - |\hat s| / \max|\hat s|)^2} .

The estimate is normalised by its own maximum, so that a single hot voxel costs PSNR.
"""

from __future__ import annotations

import numpy as np
import torch
from deepinv.loss.metric import NMSE
from skimage.metrics import structural_similarity
from torch import Tensor


def magnitude_psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    """PSNR per image in dB, shape ``(B,)``; ``estimate`` and ``truth`` are ``(B, C, *spatial)``."""
    s, s_hat = truth.abs().flatten(1), _normalised(estimate).flatten(1)
    return 10 * torch.log10(s.amax(1).square() / (s - s_hat).square().mean(1))


def magnitude_ssim(estimate: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity per image of the magnitudes at peak 1, shape ``(B,)``."""
    pairs = zip(_normalised(estimate), _normalised(truth), strict=True)
    return torch.tensor([_ssim(a.cpu().numpy(), b.cpu().numpy()) for a, b in pairs])


def nmse(estimate: Tensor, truth: Tensor) -> Tensor:
    """``||estimate - truth||^2 / ||truth||^2`` per image, phase included, shape ``(B,)``."""
    return NMSE(complex_abs=False)(estimate, truth)


def _ssim(a: np.ndarray, b: np.ndarray) -> float:
    smallest = min(a.shape[1:])
    window = min(7, smallest - 1 + smallest % 2)
    return float(
        np.mean([structural_similarity(p, q, data_range=1.0, win_size=window) for p, q in zip(a, b, strict=True)])
    )


def _normalised(x: Tensor) -> Tensor:
    magnitude = x.abs()
    peak = magnitude.flatten(1).amax(1).clamp_min(1e-30)
    return magnitude / peak.reshape(-1, *[1] * (x.ndim - 1))
