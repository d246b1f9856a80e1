r"""Regularise the magnitude of a complex image and leave its phase free.

.. math:: R(x) = R_0(|x|), \qquad \operatorname{prox}_{\gamma R}(v) =
          \max\big(\operatorname{prox}_{\gamma R_0}(|v|),\, 0\big)\; e^{\,j \arg v} .

The best phase is that of v whatever R_0 is, so only magnitudes are left to choose: exact where R_0 is
separable and convex or its prox keeps nonnegative images nonnegative (total variation). The clamp
makes sure that no inner prox, unconverged or learned, can turn a phase by pi.
Oral and Oktem, IEEE Trans. Comput. Imaging 10:762 (2024).
"""

from __future__ import annotations

from torch import Tensor

from .around import Around
from .prior import Aux, prox_prior, start_prior, with_phase


class Magnitude(Around):
    """``prior`` on nonnegative real images, lifted to complex images.

    :param prior: any prior on real images; its weight is the weight.
    """

    def fn(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.prior.fn(x.abs(), *args, **kwargs)

    def grad(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return with_phase(self.prior.grad(x.abs(), *args, **kwargs), x)

    def start(self, x: Tensor) -> Aux:
        return start_prior(self.prior, x.abs())

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        magnitude, aux = prox_prior(self.prior, v.abs(), gamma, aux)
        return with_phase(magnitude.clamp_min(0), v), aux
