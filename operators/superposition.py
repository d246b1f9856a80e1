r"""Images on top of each other: :math:`y = \sum_i w_i x_i`, the x_i side by side as channels of one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .norm import as_factor
from .operator import Operator


class Superposition(Operator):
    """The weighted sum of ``n`` images, with an exact proximal step.

    :param weights: w, real or complex numbers ``(n,)``.
    :param data_shape: shape ``(C, *spatial)`` of the sum and of each image, which together are ``(n C, *spatial)``.
    """

    def __init__(self, weights: Sequence[complex] | Tensor, data_shape: Sequence[int], **kwargs: Any):
        weights = torch.as_tensor(weights)
        if weights.ndim != 1 or len(weights) == 0 or not bool((weights != 0).any()):
            raise ValueError(f"weights: found {weights.tolist()}, expected numbers, not all 0")
        channels, *spatial = data_shape
        super().__init__((len(weights) * channels, *spatial), tuple(data_shape), **kwargs)
        self.register_buffer("weights", weights)

    def geometry(self) -> dict[str, Any]:
        return {"weights": self.weights, "data_shape": self.data_shape}

    def _forward_map(self, x: Tensor) -> Tensor:
        return (self._shaped(x) * x.unflatten(1, (-1, self.data_shape[0]))).sum(1)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return (self._shaped(y).conj() * y.unsqueeze(1)).flatten(1, 2)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``: A A^H is |w|^2, so every pixel is a division."""
        gamma = as_factor(gamma, z)
        gain = gamma / (1 + gamma * self._shaped(z).abs().square().sum())
        return z + gain * self.A_adjoint(y - self.A(z))

    def _shaped(self, x: Tensor) -> Tensor:
        """The weights ``(n, 1, ...)``, as precise as ``x``."""
        weights = torch.as_tensor(self.weights)
        kind = x.dtype.to_complex() if weights.is_complex() else x.real.dtype
        return weights.to(kind).reshape(-1, *[1] * len(self.data_shape))
