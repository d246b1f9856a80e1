r"""Complex numbers as pairs of real ones, and back.

.. math:: \mathbb C^n \cong \mathbb R^{2n}, \qquad \operatorname{Re}\langle a, b\rangle_{\mathbb C^n} =
          \langle a, b\rangle_{\mathbb R^{2n}} .
"""

from __future__ import annotations

import torch
from torch import Tensor


def real_parts(x: Tensor) -> Tensor:
    """Real and imaginary parts on a further axis of length 2; a real ``x`` as it is. No copy, where that can be."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def from_real_parts(parts: Tensor, like: Tensor) -> Tensor:
    """A tensor of the shape of ``like``, complex as it is, from as many real numbers as it has, in their precision."""
    if not like.is_complex():
        return parts.reshape(like.shape)
    return torch.complex(*parts.reshape(*like.shape, 2).unbind(-1))
