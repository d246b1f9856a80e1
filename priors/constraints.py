r"""Constraints: R is 0 on a convex set and infinite outside; its prox is the projection."""

from __future__ import annotations

import math
from abc import abstractmethod

import torch
from torch import Tensor

from .prior import Prior


class Constraint(Prior):
    """Base class: a subclass says which real numbers are allowed, and projects on them. Imaginary parts are not."""

    convex = True

    @property
    def weighted(self) -> bool:
        """Never: a multiple of 0 and infinity is the same."""
        return False

    @abstractmethod
    def _outside(self, x: Tensor) -> Tensor:
        """Where real images ``(B, C, *spatial)`` are not allowed, ``(B, ...)``."""

    @abstractmethod
    def _projected(self, x: Tensor) -> Tensor:
        """The nearest images that are."""

    def _value(self, x: Tensor) -> Tensor:
        outside = self._outside(x.real).flatten(1).any(1)
        if x.is_complex():
            outside = outside | (x.imag != 0).flatten(1).any(1)
        return torch.where(outside, math.inf, 0.0)

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        return self._projected(v.real).to(v.dtype)


class Box(Constraint):
    """Real images between ``low`` and ``high``; of a complex image the real part is kept.

    :param low: least value. :param high: greatest value.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0):
        super().__init__()
        if not low <= high:
            raise ValueError(f"low, high: found {low}, {high}, expected low <= high")
        self.low, self.high = low, high

    def _outside(self, x: Tensor) -> Tensor:
        return (x < self.low) | (x > self.high)

    def _projected(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class NonNegative(Box):
    """Real images not below zero."""

    def __init__(self) -> None:
        super().__init__(0.0, math.inf)
