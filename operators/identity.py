r"""No operator at all, for photographs that are only noisy or, behind :class:`Restricted`, incomplete.

.. math:: y = x + n, \qquad \operatorname{prox}(z) = \frac{z + \gamma y}{1 + \gamma} .
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .noise import of_finest_details
from .norm import as_factor
from .operator import Operator


class Identity(Operator):
    """Data that are the image, real or complex.

    :param image_shape: ``(C, *spatial)``.
    """

    def __init__(self, image_shape: Sequence[int], **kwargs: Any):
        super().__init__(tuple(image_shape), tuple(image_shape), **kwargs)

    def geometry(self) -> dict[str, Any]:
        return {"image_shape": self.image_shape}

    def _forward_map(self, x: Tensor) -> Tensor:
        return x.clone()

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return y.clone()

    def squared_norm(self) -> float:
        """``||A||^2``."""
        return 1.0

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        """The weights, without their signs."""
        return self._squares(weights).sqrt()

    def estimate_noise(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in data that state none, per image ``(B,)``; rather too large."""
        return of_finest_details(y, tuple(range(1 - len(self.image_shape), 0)))

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||x - y||^2 + 1/2 ||x - z||^2``.

        :param gamma: one number, or one per image ``(B,)``.
        """
        gamma = as_factor(gamma, z)
        return (z + gamma * y) / (1 + gamma)
