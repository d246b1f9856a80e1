r"""Regularise the magnitude of a complex image and leave its phase free.

.. math:: R(x) = R_0(|x|), \qquad \operatorname{prox}_{\gamma R}(v) =
          \max\big(\operatorname{prox}_{\gamma R_0}(|v|),\, 0\big)\; e^{\,j \arg v} .

The best phase is that of v whatever R_0 is, so only magnitudes are left to choose: exact where R_0 is
separable and convex or its prox keeps nonnegative images nonnegative (total variation). The clamp
makes sure that no inner prox, unconverged or learned, can turn a phase by pi.
Oral and Oktem, IEEE Trans. Comput. Imaging 10:762 (2024).
"""

from __future__ import annotations

from typing import Self

import deepinv.optim
from torch import Tensor

from .prior import Aux, Prior, with_phase


class Magnitude(Prior):
    """``prior`` on nonnegative real images, lifted to complex images.

    :param prior: any prior on real images; its weight is the weight.
    """

    weight_inside = True

    def __init__(self, prior: deepinv.optim.Prior):
        super().__init__()
        self.prior = prior
        self.explicit_prior = self.has_value
        self.weight_over_image = getattr(prior, "weight_over_image", False)

    @property
    def has_value(self) -> bool:
        inner = getattr(self, "prior", None)
        return getattr(inner, "has_value", getattr(inner, "explicit_prior", False))

    @property
    def has_grad(self) -> bool:
        return bool(getattr(self.prior, "has_grad", False))

    def fn(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.prior.fn(x.abs(), *args, **kwargs)

    def grad(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return with_phase(self.prior.grad(x.abs(), *args, **kwargs), x)

    @property
    def has_prox(self) -> bool:
        return bool(getattr(self.prior, "has_prox", True))

    def start(self, x: Tensor) -> Aux:
        return self.prior.start(x.abs()) if isinstance(self.prior, Prior) else ()

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        if isinstance(self.prior, Prior):
            magnitude, aux = self.prior.prox_from(v.abs(), gamma, aux)
        else:
            magnitude = self.prior.prox(v.abs(), gamma=gamma)
        return with_phase(magnitude.clamp_min(0), v), aux

    def scaled(self, factor: float | Tensor) -> Self:
        return type(self)(self.prior.scaled(factor))
