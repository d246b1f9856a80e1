r"""Plug-and-play: a denoiser stands for the proximal step, :math:`\operatorname{prox}(v) \approx D_\sigma(v)`.

How a real denoiser meets a complex image is a wrapper: :class:`~resolvent.priors.Magnitude` around the
prior, or :class:`RealImaginary` around the denoiser; an unscaled image, :class:`~resolvent.priors.Normalised`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .prior import Aux, Prior

Denoise = Callable[[Tensor, float], Tensor]


class Denoiser(Prior):
    r"""Plug-and-play prior of any ``(x, sigma) -> x``, such as a deepinv denoiser.

    The noise level is the prior's own, whatever step the solver takes. A sequence is a schedule: one
    level per call, the last one kept.

    :param denoiser: called as ``denoiser(x, sigma)`` on real images ``(B, C, *spatial)``.
    :param sigma: standard deviation in the units of the image, or a schedule of them.
    """

    def __init__(self, denoiser: nn.Module | Denoise, sigma: float | Sequence[float] = 0.05):
        super().__init__()
        schedule = [sigma] if isinstance(sigma, int | float) else [float(s) for s in sigma]
        if not schedule or not all(s >= 0 for s in schedule):
            raise ValueError(f"sigma: found {sigma}, expected standard deviations not below 0")
        self.denoiser, self.sigma = denoiser, schedule

    def start(self, x: Tensor) -> Aux:
        return (torch.zeros(len(x), dtype=torch.int64),)

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        calls = int(aux[0].max())
        sigma = self.sigma[min(calls, len(self.sigma) - 1)]
        return self.denoiser(v, sigma), (aux[0] + 1,)

    def scaled(self, factor: float | Tensor) -> Denoiser:
        """Unchanged: a denoiser's strength is its noise level."""
        return self


class RealImaginary(nn.Module):
    """Denoise the real and the imaginary part of a complex image separately."""

    def __init__(self, denoiser: nn.Module | Denoise):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        parts = self.denoiser(torch.cat([x.real, x.imag]), sigma)
        return torch.complex(*parts.chunk(2))
