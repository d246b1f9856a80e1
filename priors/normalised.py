r"""A prior that sees every image at peak 1, for data of unknown scale.

.. math:: v \mapsto p\, \operatorname{prox}_{\gamma R}(v / p), \qquad p = \max |v| .

For homogeneous R this is the proximal step with its weight relative to the image's peak; for a denoiser,
its noise level is.
"""

from __future__ import annotations

from typing import Self

import torch
from deepinv.optim import Prior as AnyPrior
from torch import Tensor

from .prior import Aux, Prior, broadcast


class Normalised(Prior):
    """``prior`` at peak 1, per image.

    :param prior: any prior with a prox; its weight is the weight.
    """

    weight_inside = True

    def __init__(self, prior: AnyPrior):
        super().__init__()
        self.prior = prior
        self.weight_over_image = getattr(prior, "weight_over_image", False)

    @property
    def has_prox(self) -> bool:
        return bool(getattr(self.prior, "has_prox", True))

    def start(self, x: Tensor) -> Aux:
        return self.prior.start(x) if isinstance(self.prior, Prior) else ()

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        peak = v.abs().flatten(1).amax(1)
        unit = broadcast(peak.clamp_min(torch.finfo(peak.dtype).tiny), v)
        if isinstance(self.prior, Prior):
            z, aux = self.prior.prox_from(v / unit, gamma, aux)
        else:
            z = self.prior.prox(v / unit, gamma=gamma)
        return unit * z, aux

    def scaled(self, factor: float | Tensor) -> Self:
        return type(self)(self.prior.scaled(factor))
