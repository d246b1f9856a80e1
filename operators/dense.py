r"""An operator given by its matrix: :math:`y = M x` on flattened images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .operator import Operator


class Dense(Operator):
    """A matrix acting on flattened images.

    :param matrix: ``(m, n)`` real or complex, ``n`` the product of ``image_shape``.
    :param image_shape: ``(C, *spatial)``.
    :param data_shape: shape of one image's data; ``(m,)`` if None.
    """

    def __init__(
        self, matrix: Tensor, image_shape: Sequence[int], data_shape: Sequence[int] | None = None, **kwargs: Any
    ):
        matrix = torch.as_tensor(matrix)
        data_shape = tuple(data_shape) if data_shape is not None else (matrix.shape[0],)
        expected = (math.prod(data_shape), math.prod(image_shape))
        if tuple(matrix.shape) != expected:
            raise ValueError(f"matrix: found shape {tuple(matrix.shape)}, expected {expected}")
        super().__init__(tuple(image_shape), data_shape, **kwargs)
        self.register_buffer("matrix", matrix)

    def geometry(self) -> dict[str, Any]:
        return {"matrix": self.matrix, "image_shape": self.image_shape, "data_shape": self.data_shape}

    def _forward_map(self, x: Tensor) -> Tensor:
        matrix = self._in_precision_of(x)
        return (x.flatten(1).to(matrix.dtype) @ matrix.mT).unflatten(1, self.data_shape)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        matrix = self._in_precision_of(y)
        return (y.flatten(1).to(matrix.dtype) @ matrix.conj()).unflatten(1, self.image_shape)

    def _in_precision_of(self, x: Tensor) -> Tensor:
        """The matrix with real and imaginary parts as precise as those of ``x``."""
        kind = x.dtype.to_complex() if self.matrix.is_complex() or x.is_complex() else x.dtype
        return self._derived("matrix", kind, lambda: self.matrix.to(kind))
