r"""A prior on a linear transform of the image, :math:`R(x) = R_0(K x)`.

Such as total variation, K the finite differences. In general its prox has no closed form:
:class:`~resolvent.recon.PrimalDual` takes that of R_0, and K, instead.
"""

from __future__ import annotations

import deepinv.optim
import torch
from deepinv.physics import LinearPhysics
from torch import Tensor

from ..operators import squared_norm
from .around import OfCoefficients


class Analysis(OfCoefficients):
    """``prior`` on ``transform.A(x)``; has no prox.

    :param prior: any prior; its weight is the weight.
    :param transform: K, any linear operator.
    """

    def __init__(self, prior: deepinv.optim.Prior, transform: LinearPhysics):
        super().__init__(prior)
        self.transform = transform

    def transform_of(self, x: Tensor) -> LinearPhysics:
        return self.transform

    @property
    def squared_norm(self) -> float:
        """``||K||^2``, from above."""
        device = next((b.device for b in self.transform.buffers()), None)
        image = torch.zeros(1, *(self.transform.img_size or ()), device=device)
        return squared_norm(self.transform, self.transform.A_adjoint(self.transform.A(image)))
