r"""Metrics of images, as photography and MRI take them, and of magnitude images, as the radar literature does.

.. math:: \mathrm{PSNR} = 10 \log_{10} \frac{\max |s|^2}{\operatorname{mean} |s - \hat s|^2}, \qquad
          \mathrm{PSNR_{magnitude}}
          = -10 \log_{10} \operatorname{mean}\Big(\frac{|s|}{\max |s|} - \frac{|\hat s|}{\max|\hat s|}\Big)^2 .

In the second each image is normalised by its own maximum, so that a single hot voxel costs PSNR.
"""

from __future__ import annotations

import torch
from deepinv.loss.metric import NMSE
from torch import Tensor

from ..operators.norm import TINY
from .similarity import magnitude_of, structural_similarity


def psnr(estimate: Tensor, truth: Tensor, data_range: float | None = None) -> Tensor:
    """PSNR per image in dB, shape ``(B,)``; both ``(B, C, *spatial)``, compared as they are, phases included.

    :param data_range: the peak; ``max |truth|`` of each image if None. 1 for photographs in [0, 1].
    """
    return 10 * torch.log10(_peak(truth, data_range).square() / (truth - estimate).abs().square().flatten(1).mean(1))


def ssim(estimate: Tensor, truth: Tensor, data_range: float | None = None) -> Tensor:
    """Structural similarity per image, shape ``(B,)``, the mean over channels; of complex images the magnitudes'.

    Axes of length 1 are left out; it is not defined, nan, for images with another axis shorter than 3.

    :param data_range: as in :func:`psnr`.
    """
    return _ssim(estimate, truth, _peak(truth, data_range))


def magnitude_psnr(estimate: Tensor, truth: Tensor) -> Tensor:
    """PSNR per image in dB of the magnitudes at peak 1, shape ``(B,)``; of images ``(B, C, *spatial)``."""
    s, s_hat = _normalised(truth).flatten(1), _normalised(estimate).flatten(1)
    return -10 * torch.log10((s - s_hat).square().mean(1))


def magnitude_ssim(estimate: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity per image of the magnitudes at peak 1, shape ``(B,)``."""
    return _ssim(_normalised(estimate), _normalised(truth), torch.ones(len(truth), device=truth.device))


def nmse(estimate: Tensor, truth: Tensor) -> Tensor:
    """``||estimate - truth||^2 / ||truth||^2`` per image, phase included, shape ``(B,)``."""
    return NMSE(complex_abs=False)(estimate, truth)


def _peak(truth: Tensor, data_range: float | None) -> Tensor:
    peak = truth.abs().flatten(1).amax(1)
    return peak if data_range is None else torch.full_like(peak, data_range)


def _ssim(estimate: Tensor, truth: Tensor, peak: Tensor) -> Tensor:
    """In double precision: variances are differences of squares."""
    a, b = (magnitude_of(x).double() for x in (estimate, truth))
    return structural_similarity(a, b, peak.double()).to(truth.real.dtype)


def _normalised(x: Tensor) -> Tensor:
    magnitude = x.abs()
    peak = magnitude.flatten(1).amax(1).clamp_min(TINY)
    return magnitude / peak.reshape(-1, *[1] * (x.ndim - 1))
