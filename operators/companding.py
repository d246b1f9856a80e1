r"""mu-law companding of radio-frequency echoes, and what is added before it.

.. math:: C(u) = \operatorname{sign}(u)\, \frac{\ln(1 + \mu |u|)}{\ln(1 + \mu)}, \qquad
          C^{-1}(v) = \operatorname{sign}(v)\, \frac{(1 + \mu)^{|v|} - 1}{\mu}, \qquad
          y = C\big(A\, C^{-1}(x)\big),

for echoes in [-1, 1] (ITU-T G.711 has mu = 255). Networks see the faint ones so, but echoes add up before they are
companded: with A a :class:`~resolvent.operators.Superposition` of companded tissue and haze, y is the model of Stevens
et al., IEEE TMI 43:3546 (2024).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor


def compand(u: Tensor, mu: float = 255.0) -> Tensor:
    """C of any real tensor, differentiable at 0 too; of a complex one its magnitude, the phase stays."""
    magnitude = u.abs()
    safe = torch.where(magnitude > 0, magnitude, 1)
    return u * torch.where(magnitude > 0, torch.log1p(mu * safe) / safe, mu) / math.log1p(mu)


def expand(v: Tensor, mu: float = 255.0) -> Tensor:
    """The inverse of :func:`compand`."""
    magnitude, rate = v.abs(), math.log1p(mu)
    safe = torch.where(magnitude > 0, magnitude, 1)
    return v * torch.where(magnitude > 0, torch.expm1(rate * safe) / safe, rate) / mu


class Companded(Physics):
    """``C(A C^{-1}(x))``: ``physics`` between expanded images and data, its images and data companded ones.

    Not linear; the samplers here take it, by its tangent.

    :param physics: A.
    :param mu: above 0; towards 0 nothing is companded.
    :param noise_model: of the companded data.
    """

    def __init__(self, physics: LinearPhysics, mu: float = 255.0, noise_model: Any = None):
        super().__init__(noise_model=noise_model)
        if not 0 < mu < math.inf:
            raise ValueError(f"mu: found {mu}, expected a finite number above 0")
        self.physics, self.mu = physics, mu

    def A(self, x: Tensor, **_: Any) -> Tensor:
        """Companded data ``(B, ...)`` of companded images ``(B, C, *spatial)``."""
        return compand(self.physics.A(expand(x, self.mu)), self.mu)

    def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
        """The adjoint of the derivative at 0, which is that of ``physics``."""
        return self.physics.A_adjoint(y)
