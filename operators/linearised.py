r"""The tangent of an operator that is not linear: :math:`A(x + h) \approx A(x) + A'(x)\, h` ."""

from __future__ import annotations

from typing import Any

import torch
from deepinv.physics import LinearPhysics, Physics
from torch import Tensor


class Linearised(LinearPhysics):
    """The derivative of ``physics`` at images ``x``, and its adjoint by automatic differentiation.

    :param physics: any differentiable one; its noise is this one's.
    :param x: images ``(B, C, *spatial)``; the operator takes batches of as many.
    """

    def __init__(self, physics: Physics, x: Tensor):
        super().__init__(noise_model=physics.noise_model)
        self.physics, self.x = physics, x.detach()
        with torch.enable_grad():
            self._input = self.x.clone().requires_grad_()
            self._output = physics.A(self._input)

    @property
    def value(self) -> Tensor:
        """``A(x)``."""
        return self._output.detach()

    def A(self, h: Tensor, **_: Any) -> Tensor:
        """``A'(x) h`` for ``h`` of the shape of ``x``."""
        return torch.func.jvp(self.physics.A, (self.x,), (h,))[1]

    def A_adjoint(self, u: Tensor, **_: Any) -> Tensor:
        """``A'(x)^H u`` for ``u`` of the shape of the data."""
        return torch.autograd.grad(self._output, self._input, u, retain_graph=True)[0]
