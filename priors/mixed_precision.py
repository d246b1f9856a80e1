r"""Products of a network in bfloat16, its sums in float32: several times faster where the hardware multiplies so.

.. math:: |\tilde x * \tilde w - x * w| \le 2^{-6} \, |x| * |w|

for every convolution, either factor and the result being rounded to eight binary digits; a denoiser of levels above
0.01 does not notice. Without such hardware it is slower than float32.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .weights_file import load_denoiser


class MixedPrecision(nn.Module):
    """``denoiser`` under autocast, on any device; takes and gives the image's own precision; float64 stays as it is.

    :param denoiser: called as ``denoiser(x, sigma)``; or the file or name of trained weights.
    """

    def __init__(self, denoiser: nn.Module | str):
        super().__init__()
        self.denoiser = load_denoiser(denoiser) if isinstance(denoiser, str) else denoiser

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.denoiser(x, sigma).to(x.dtype)
