r"""A prior that sees every image at peak 1, for data of unknown scale.

.. math:: v \mapsto p\, \operatorname{prox}_{\gamma R}(v / p), \qquad p = \max |v| .

For homogeneous R this is the proximal step with its weight relative to the image's peak; for a denoiser,
its noise level is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .around import Around
from .prior import Aux, broadcast, prox_prior


class Normalised(Around):
    """``prior`` at peak 1, per image; an image of zeros stays one.

    :param prior: any prior with a prox; its weight is the weight.
    """

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        peak = v.abs().flatten(1).amax(1)
        seen = peak > torch.finfo(peak.dtype).tiny
        unit, kept = broadcast(torch.where(seen, peak, 1), v), broadcast(seen, v)
        z, aux = prox_prior(self.prior, kept * v / unit, gamma, aux)
        return kept * unit * z, aux
