r"""Linear mixing: the spectrum of a pixel is that of its materials, each as strong as its share.

.. math:: y_p = M x_p, \qquad
          \operatorname{prox}(z)_p = (I + \gamma\, M^H M)^{-1} (z_p + \gamma\, M^H y_p),

with a column of M for each material, its endmember, and x_p the abundances. Keshava and Mustard, IEEE Signal Process.
Mag. 19:44 (2002).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .norm import as_factor
from .operator import Operator, along


class Mixing(Operator):
    """Abundances ``(B, K, *spatial)`` to spectra ``(B, L, *spatial)``.

    :param endmembers: M ``(L, K)``, real or complex: the spectra of K materials in L bands.
    :param lengths: the spatial lengths of an image.
    :raises ValueError: for endmembers that are no matrix of finite numbers.
    """

    def __init__(self, endmembers: Tensor, lengths: Sequence[int], **kwargs: Any):
        endmembers = torch.as_tensor(endmembers)
        if endmembers.ndim != 2 or not bool(torch.isfinite(endmembers).all()):
            raise ValueError(f"endmembers: found shape {tuple(endmembers.shape)}, expected finite numbers (L, K)")
        bands, materials = endmembers.shape
        super().__init__((materials, *lengths), (bands, *lengths), **kwargs)
        self.register_buffer("endmembers", endmembers)

    def geometry(self) -> dict[str, Any]:
        return {"endmembers": self.endmembers, "lengths": self.image_shape[1:]}

    def groups(self) -> dict[str, Tensor]:
        """``bands``."""
        return {"bands": along(self.data_shape, 0)}

    def squared_norm(self) -> float:
        """``||M||^2``."""
        return float(self._eigenbasis(torch.float64)[0].amax())

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        squares = self.endmembers.abs().double().square()
        return torch.einsum("lk,l...->k...", squares, self._squares(weights)).sqrt()

    def _forward_map(self, x: Tensor) -> Tensor:
        return self._mixed(self._in_precision_of(x), x)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return self._mixed(self._in_precision_of(y).mH, y)

    def _normal_map(self, x: Tensor) -> Tensor:
        endmembers = self._in_precision_of(x)
        return self._mixed(endmembers.mH @ endmembers, x)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``, in the eigenbasis of ``M^H M``.

        :param gamma: one number, or one per image ``(B,)``.
        """
        values, basis = self._eigenbasis(torch.promote_types(z.dtype, y.dtype))
        gamma = as_factor(gamma, z)
        turned = self._mixed(basis.mH, z + gamma * self.A_adjoint(y))
        return self._mixed(basis, turned / (1 + gamma * values.reshape(-1, *[1] * (z.ndim - 2))))

    @staticmethod
    def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
        """``matrix`` times the vector at every pixel."""
        return (matrix @ x.flatten(2).to(matrix.dtype)).unflatten(2, x.shape[2:])

    def _in_precision_of(self, x: Tensor) -> Tensor:
        kind = x.dtype.to_complex() if self.endmembers.is_complex() or x.is_complex() else x.dtype
        return self._derived("endmembers", kind, lambda: self.endmembers.to(kind))

    def _eigenbasis(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Eigenvalues ``(K,)`` and vectors ``(K, K)`` of ``M^H M``, computed in float64, in a precision."""
        return self._derived("eigenbasis", dtype, lambda: self._decomposed(dtype))

    def _decomposed(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        kind = torch.complex128 if dtype.is_complex or self.endmembers.is_complex() else torch.float64
        endmembers = self.endmembers.to(kind)
        values, basis = torch.linalg.eigh(endmembers.mH @ endmembers)
        precise = dtype.to_complex() if kind.is_complex else dtype
        return values.clamp_min(0).to(dtype.to_real()), basis.to(precise)
