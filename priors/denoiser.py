r"""Plug-and-play: a denoiser stands for the proximal step, :math:`\operatorname{prox}(v) \approx D_\sigma(v)`.

How a real denoiser meets a complex image is a wrapper: :class:`~resolvent.priors.Magnitude` around the
prior, or :class:`RealImaginary` around the denoiser; an unscaled image, :class:`~resolvent.priors.Normalised`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from .network import on_channels, on_parts
from .prior import Aux, Prior, broadcast
from .weights_file import load_denoiser

Denoise = Callable[[Tensor, float | Tensor], Tensor]


class Denoiser(Prior):
    r"""Plug-and-play prior of any ``(x, sigma) -> x``, such as a deepinv denoiser.

    The noise level is the prior's own, whatever step the solver takes. A sequence is a schedule: one
    level per call, the last one kept. Without a level the step is one: for R the negative logarithm of the
    density of images, ``prox`` of step gamma is the most probable image under noise of variance gamma.

    :param denoiser: called as ``denoiser(x, sigma)`` on real images ``(B, C, *spatial)``; or the file or name
        of trained weights, as :func:`~resolvent.priors.load_denoiser` takes them. A network of one channel takes the
        channels of an image one by one.
    :param sigma: standard deviation in the units of the image, or a schedule of them; None for the square root
        of the solver's step times the prior's weight.
    """

    def __init__(self, denoiser: nn.Module | Denoise | str, sigma: float | Sequence[float | Tensor] | None = 0.05):
        super().__init__()
        one = isinstance(sigma, int | float) or (isinstance(sigma, Tensor) and sigma.ndim == 0)
        levels = cast(Sequence[float | Tensor], () if sigma is None else (sigma,) if one else sigma)
        schedule = [s if isinstance(s, Tensor) else float(s) for s in levels]
        if (not schedule and sigma is not None) or not all(s >= 0 for s in schedule):
            raise ValueError(f"sigma: found {sigma}, expected standard deviations not below 0")
        self.denoiser = load_denoiser(denoiser) if isinstance(denoiser, str) else denoiser
        self.sigma = schedule

    def start(self, x: Tensor) -> Aux:
        return (torch.zeros(len(x), dtype=torch.int64),)

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        calls = int(aux[0].max())
        sigma = self.sigma[min(calls, len(self.sigma) - 1)] if self.sigma else self._threshold(gamma, v) ** 0.5
        return on_channels(self.denoiser, v, sigma), (aux[0] + 1,)

    @property
    def weighted(self) -> bool:
        """Whether no noise level is given: that is the denoiser's strength."""
        return not self.sigma


class SingleLevel(nn.Module):
    r"""A denoiser made for one noise level tau, at every level.

    .. math:: D_\sigma(x) = x + t\,\big(D(s x)/s - x\big), \qquad s = \min(1, \tau/\sigma), \quad
              t = \min(1, \sigma^2/\tau^2) .

    Stronger noise is scaled down to tau, and the image's contrast with it. Scaled up, weaker noise would bring
    contrasts that no image has, so there the step is a part of the denoiser's own: by Tweedie's formula
    ``(D(x) - x)/tau^2`` is the gradient of the log density of images under noise of level tau. Scaling: Xu,
    Liu, Sun, Wohlberg and Kamilov, IEEE Signal Processing Letters (2020).

    :param denoiser: called as ``denoiser(x, level)``.
    :param level: tau, the standard deviation that it was trained for, such as 25 / 255.
    """

    def __init__(self, denoiser: nn.Module | Denoise, level: float):
        super().__init__()
        if not level > 0:
            raise ValueError(f"level: found {level}, expected a standard deviation above 0")
        self.denoiser, self.level = denoiser, level

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        ratio = broadcast(torch.as_tensor(sigma, dtype=x.dtype, device=x.device), x) / self.level
        scale, part = 1 / ratio.clamp_min(1), ratio.clamp_max(1).square()
        return x + part * (self.denoiser(scale * x, self.level) / scale - x)


class RealImaginary(nn.Module):
    """Denoise the real and the imaginary part of a complex image: together where the network has twice the channels."""

    def __init__(self, denoiser: nn.Module | Denoise):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, sigma: float) -> Tensor:
        return on_parts(self.denoiser, x, sigma)
