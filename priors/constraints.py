r"""Constraints: R is 0 on a convex set and infinite outside; its prox is the projection."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .prior import Prior


class Box(Prior):
    """Real images between ``low`` and ``high``; of a complex image the real part is kept.

    :param low: least value. :param high: greatest value.
    """

    convex = True

    def __init__(self, low: float = 0.0, high: float = 1.0):
        super().__init__()
        if not low <= high:
            raise ValueError(f"low, high: found {low}, {high}, expected low <= high")
        self.low, self.high = low, high

    @property
    def weighted(self) -> bool:
        """Never: a multiple of 0 and infinity is the same."""
        return False

    def _value(self, x: Tensor) -> Tensor:
        outside = (x.real < self.low) | (x.real > self.high)
        if x.is_complex():
            outside = outside | (x.imag != 0)
        return torch.where(outside.flatten(1).any(1), math.inf, 0.0)

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        return v.real.clamp(self.low, self.high).to(v.dtype)


class NonNegative(Box):
    """Real images not below zero."""

    def __init__(self) -> None:
        super().__init__(0.0, math.inf)
