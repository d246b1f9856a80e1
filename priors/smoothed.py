r"""Sparsity and total variation without the kink, for what differentiates through the image.

.. math:: R(x) = \sum_v \big(|x_v|^2 + \nu^2\big)^{1/2}, \qquad
          \nabla R(x)_v = x_v\, \big(|x_v|^2 + \nu^2\big)^{-1/2}, \qquad \|\nabla^2 R\| \le 1/\nu .

With x in place of its differences :math:`D x` total variation, where :math:`\|D\|^2 \le 4` per axis. R lies between the
norm and the norm plus nu for each term; ``|x_v|`` is the length along chosen axes, as in
:class:`~resolvent.priors.GroupL1`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..operators.finite_differences import divergence, gradient
from .prior import Prior, group_axes, largest, squared_length


class SmoothedL1(Prior):
    """Smoothed sum of magnitudes of a real or complex image; value and gradient, no prox.

    On differences the smoothed total variation of each axis by itself:
    ``Analysis(SmoothedL1(weight, nu), FiniteDifferences(shape))``; on coefficients ``InWavelets(SmoothedL1(weight))``.

    :param nu: what is small, in the unit of the image; a number or a tensor that broadcasts against the magnitudes.
    :param axes: axes of ``(B, C, *spatial)`` whose entries count as one length; none by default.
    """

    convex = True

    def __init__(self, weight: float | Tensor = 1.0, nu: float | Tensor = 0.01, axes: Sequence[int] = ()):
        super().__init__(weight)
        self.nu, self.axes = positive(nu), group_axes(axes)

    @property
    def lipschitz(self) -> Tensor:
        return largest(1 / self.nu)

    def _value(self, x: Tensor) -> Tensor:
        return smoothed_length(x, self.nu, self.axes)

    def _grad(self, x: Tensor) -> Tensor:
        return x / smoothed_length(x, self.nu, self.axes)


class SmoothedTV(Prior):
    """Smoothed isotropic total variation over the spatial axes of ``(B, C, *spatial)``; value and gradient, no prox.

    Real and imaginary part count together, channels by themselves; the image goes on as a copy of its border.

    :param nu: what is small of a difference of neighbours; a number or a tensor that broadcasts against the image.
    :param dim: spatial axes of an image, 2 or 3; its Lipschitz constant follows from it.
    """

    convex = True

    def __init__(self, weight: float | Tensor = 1.0, nu: float | Tensor = 0.01, dim: int = 2):
        super().__init__(weight)
        if dim not in (1, 2, 3):
            raise ValueError(f"dim: found {dim}, expected 1, 2 or 3 spatial axes")
        self.nu, self.dim = positive(nu), dim

    @property
    def lipschitz(self) -> Tensor:
        return largest(4 * self.dim / self.nu)

    def _value(self, x: Tensor) -> Tensor:
        return self._length(gradient(self._checked(x)), x).squeeze(1)

    def grad(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """A map of weights weighs the differences, before their divergence."""
        return self._weighted(x, _over_axes(self._weight_for(x), x))

    def _grad(self, x: Tensor) -> Tensor:
        return self._weighted(x, 1.0)

    def _weighted(self, x: Tensor, weight: float | Tensor) -> Tensor:
        differences = gradient(self._checked(x))
        return divergence(weight * differences / self._length(differences, x))

    def _length(self, differences: Tensor, x: Tensor) -> Tensor:
        return smoothed_length(differences, _over_axes(self.nu, x), (1,))

    def _checked(self, x: Tensor) -> Tensor:
        if x.ndim != self.dim + 2:
            raise ValueError(f"dim: found {self.dim} and an image with {x.ndim - 2} spatial axes, expected the same")
        return x


def _over_axes(value: float | Tensor, x: Tensor) -> float | Tensor:
    """What broadcasts against ``x``, to broadcast against its differences ``(B, dim, C, *spatial)``."""
    return value.unsqueeze(1) if isinstance(value, Tensor) and value.ndim == x.ndim else value


def smoothed_length(x: Tensor, nu: float | Tensor, axes: Sequence[int]) -> Tensor:
    """``(|x|^2 + nu^2)^(1/2)``, the length along ``axes``, which stay with length 1."""
    nu = nu.to(x.real.dtype) if isinstance(nu, Tensor) else nu
    return (squared_length(x, axes) + nu**2).sqrt()


def positive(nu: float | Tensor) -> float | Tensor:
    """``nu``, if it is above 0 as a number must be."""
    if not isinstance(nu, Tensor) and not 0 < nu < float("inf"):
        raise ValueError(f"nu: found {nu}, expected a finite number above 0")
    return nu
