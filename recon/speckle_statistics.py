r"""What a filter did to speckle: the distance of its grey values from those before, and its grain.

.. math:: \mathrm{KS} = \sup_v |F_1(v) - F_2(v)|, \qquad
          \rho(l) = \frac{E[u(v + l)\, \overline{u(v)}]}{E |u(v)|^2}, \quad
          \mathrm{FWHM} = \text{the width of the lags with } \operatorname{Re} \rho > \tfrac12 .

Of speckle with k times the power KS is :math:`k^{-1/(k-1)} - k^{-k/(k-1)}`, 1/4 at 3 dB. The grain of a Gaussian
pulse of standard deviation s has :math:`\mathrm{FWHM} = 4 \sqrt{\ln 2}\, s`.
"""

from __future__ import annotations

import torch
from scipy.stats import ks_2samp
from torch import Tensor


def ks_distance(before: Tensor, after: Tensor) -> float:
    """The largest difference of two distributions, from 0 to 1, of real samples of any shape.

    Small samples differ by chance: by about ``1.4 / sqrt(n)`` where both have n independent ones.

    :raises ValueError: for complex or no samples.
    """
    for name, samples in (("before", before), ("after", after)):
        if samples.is_complex() or samples.numel() == 0:
            raise ValueError(f"{name}: found {samples.numel()} samples of {samples.dtype}, expected real samples")
    first, second = (samples.detach().flatten().cpu().numpy() for samples in (before, after))
    return float(ks_2samp(first, second).statistic)


def autocorrelation_widths(region: Tensor) -> tuple[float, ...]:
    """FWHM along each axis, in pixels, of the autocorrelation of a region ``(*spatial)`` less its mean.

    Real or complex; nan along an axis where it does not fall to one half.
    """
    away = region - region.mean()
    return tuple(_width(away, axis) for axis in range(region.ndim))


def _width(away: Tensor, axis: int) -> float:
    """Twice the lag at which the correlation along one axis is one half, between lags by linear interpolation."""
    n = away.shape[axis]
    power = torch.fft.fft(away, 2 * n, dim=axis).abs().square()
    sums = torch.fft.ifft(power, dim=axis).real.movedim(axis, 0)[:n].reshape(n, -1).sum(1)
    correlation = sums / torch.arange(n, 0, -1, device=sums.device)
    below = torch.nonzero(correlation < correlation[0] / 2)
    if len(below) == 0:
        return float("nan")
    i = int(below[0])
    high, low = (float(correlation[j] / correlation[0]) for j in (i - 1, i))
    return 2 * (i - 1 + (high - 0.5) / (high - low))
