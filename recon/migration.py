r"""One-step reconstructions: the data, focused.

.. math:: \hat s = \sum_m e^{+j\varphi_m}\, y_m \quad\text{(back-projection)}, \qquad
          \hat s = K y \quad\text{(Kirchhoff migration)} .
"""

from __future__ import annotations

from typing import Any

import deepinv.models
from deepinv.physics import LinearPhysics
from torch import Tensor


class BackProjection(deepinv.models.Reconstructor):
    """Matched phase: the operator's own back-projection where it has one, ``A^H y`` elsewhere."""

    def forward(self, y: Tensor, physics: LinearPhysics, **_: Any) -> Tensor:
        return getattr(physics, "back_project", physics.A_adjoint)(y)


class Kirchhoff(deepinv.models.Reconstructor):
    """Kirchhoff migration, for operators that define it.

    :raises TypeError: for an operator without a Kirchhoff kernel.
    """

    def forward(self, y: Tensor, physics: LinearPhysics, **_: Any) -> Tensor:
        kernel = getattr(physics, "kirchhoff", None)
        if kernel is None:
            raise TypeError(f"Kirchhoff: found {type(physics).__name__}, expected an operator with a Kirchhoff kernel")
        return kernel(y)
