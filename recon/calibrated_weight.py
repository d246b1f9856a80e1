r"""How much a flow is to be trusted at each time: the inverse of its error there.

.. math:: e(t) = \tfrac1N E\, \|v(x_t, t) - (n - x_0)\|^2, \qquad
          w = \frac{1 / e}{\operatorname{mean}(1 / e)}, \qquad
          \lambda(t) = \tfrac12 \max\big(w(t) - \text{shift}, 0\big) .

For any prior whose density is above 0 everywhere e tends to 1 at t = 0, and is the mean variance of a pixel at
t = 1; for a Gaussian it is :math:`\operatorname{tr}(C S_t^{-1}) / N,\; S_t = (1 - t)^2 C + t^2 I`. A measured curve
can be checked with that before it is used. As in FLAIR (Erbach et al., NeurIPS 2025).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ..priors import Diffusion
from ..priors.schedule import noise_like


class CalibratedWeight:
    """lambda of a time, that of the nearest one in a table.

    :param times: of the table, ``(T,)``, from 0 to 1.
    :param errors: e at these times, above 0.
    :param shift: what is taken off the weights, whose mean is 1; that of the lowest time if None.
    """

    def __init__(self, times: Tensor | Sequence[float], errors: Tensor | Sequence[float], shift: float | None = None):
        t, e = (torch.as_tensor(v, dtype=torch.float64) for v in (times, errors))
        if t.ndim != 1 or t.shape != e.shape or not bool((e > 0).all()):
            raise ValueError(f"errors: found shape {tuple(e.shape)}, expected one above 0 for each of {len(t)} times")
        weights = 1 / e
        weights = weights / weights.mean()
        self.times, self.shift = t, float(weights[t.argmin()]) if shift is None else shift
        self.values = 0.5 * (weights - self.shift).clamp_min(0)

    def __call__(self, t: float) -> float:
        return float(self.values[(self.times - t).abs().argmin()])


@torch.no_grad()
def velocity_errors(prior: Diffusion, images: Tensor, times: Tensor, generator: Generator | None = None) -> Tensor:
    """e at each of ``times``, shape ``(T,)``, from images ``(B, C, *spatial)`` that were not learnt from.

    :raises ValueError: for a time at which the prior has no finite velocity, such as that of noise alone for one made
        of a denoiser.
    """
    errors = []
    for t in times.tolist():
        at = torch.tensor(t, dtype=torch.float64)
        a, s, a_rate, s_rate = map(
            float, (prior.schedule.signal(at), prior.schedule.noise(at), *prior.schedule.rates(at))
        )
        n = noise_like(images, generator)
        target = a_rate * images + s_rate * n
        errors.append((prior.velocity(a * images + s * n, t) - target).abs().square().mean())
        if not bool(torch.isfinite(errors[-1])):
            raise ValueError(f"times: found {t:g}, where the prior has no finite velocity, expected others")
    return torch.stack(errors)
