r"""A linear operator times a scalar.

.. math:: (cA)\,x = c\,(A x), \qquad (cA)^H y = \bar c\, A^H y .
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .around import Around
from .operator import Operator, has_exact_prox


class Scaled(Around):
    """``scale * physics``; keeps the operator's exact proximal step.

    :param physics: an :class:`Operator`.
    :param scale: real or complex number other than 0, or a tensor of one.
    """

    def __init__(self, physics: Operator, scale: complex | Tensor, **kwargs: Any):
        if scale == 0:
            raise ValueError("scale: found 0, expected another number")
        super().__init__(physics, **kwargs)
        self.scale = scale

    def geometry(self) -> dict[str, Any]:
        return super().geometry() | {"scale": self.scale}

    def _forward_map(self, x: Tensor) -> Tensor:
        return self.scale * self.physics.A(x)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return self._conjugate * self.physics.A_adjoint(y)

    @property
    def _conjugate(self) -> complex | Tensor:
        return self.scale.conj() if isinstance(self.scale, Tensor) else self.scale.conjugate()

    def squared_norm(self) -> float | None:
        known = self.physics.squared_norm()
        return None if known is None else float(abs(self.scale)) ** 2 * known

    def column_norms(self, weights: Tensor | None = None) -> Tensor | None:
        known = self.physics.column_norms(weights)
        return None if known is None else abs(self.scale) * known

    def estimate_noise(self, y: Tensor) -> Tensor | None:
        return self.physics.estimate_noise(y)

    def back_project(self, y: Tensor) -> Tensor:
        return self._conjugate * self.physics.back_project(y)

    def precondition(self, x: Tensor, gamma: float | Tensor) -> Tensor:
        return self.physics.precondition(x, gamma * abs(self.scale) ** 2)

    @property
    def has_exact_prox(self) -> bool:
        """Whether :meth:`prox_l2` is in closed form."""
        return has_exact_prox(self.physics)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||c A x - y||^2 + 1/2 ||x - z||^2``: the inner one at ``y/c``, ``gamma |c|^2``."""
        return self.physics.prox_l2(z, y / self.scale, gamma * abs(self.scale) ** 2, **kwargs)

    def prox_l2_with_data(self, z: Tensor, y: Tensor, gamma: float | Tensor) -> tuple[Tensor, Tensor]:
        """The inner one, its data times the scale."""
        x, data = self.physics.prox_l2_with_data(z, y / self.scale, gamma * abs(self.scale) ** 2)
        return x, self.scale * data
