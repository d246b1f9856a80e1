r"""Hyperparameters that are learned: unconstrained numbers h, what they stand for, and how far they are spread.

.. math:: \lambda_j = r_j(h_j), \qquad \tilde h = h + \operatorname{softplus}(s) \odot n, \quad
          n \sim \mathcal{N}(0, I), \qquad H[s] = \sum_j \log\big(\operatorname{softplus}(s_j) \sqrt{2 \pi e}\big) .

MacKay, Vicol, Lorraine, Duvenaud and Grosse, "Self-tuning networks" (ICLR 2019).
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

#: Values of hyperparameters by name, one per image, ``(B,)``.
Values = Mapping[str, Tensor]


class Range(abc.ABC):
    """A map of all real numbers onto the values that a hyperparameter may have."""

    @abc.abstractmethod
    def __call__(self, h: Tensor) -> Tensor:
        """The values at ``h``, of its shape."""

    @abc.abstractmethod
    def inverse(self, value: float) -> float:
        """An h of this value.

        :raises ValueError: if it is out of range.
        """


class Interval(Range):
    """Between two numbers, ``low + (high - low) sigmoid(h)``."""

    def __init__(self, low: float, high: float):
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"low, high: found {low}, {high}, expected low < high")
        self.low, self.high = low, high

    def __call__(self, h: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(h)

    def inverse(self, value: float) -> float:
        if not self.low < value < self.high:
            raise ValueError(f"value: found {value:g}, expected one between {self.low:g} and {self.high:g}")
        return math.log((value - self.low) / (self.high - value))


class Decades(Range):
    """Between two positive numbers, all decades alike: ``low (high / low)^sigmoid(h)``."""

    def __init__(self, low: float, high: float):
        if not 0 < low < high < math.inf:
            raise ValueError(f"low, high: found {low}, {high}, expected 0 < low < high")
        self.exponent = Interval(math.log(low), math.log(high))

    def __call__(self, h: Tensor) -> Tensor:
        return self.exponent(h).exp()

    def inverse(self, value: float) -> float:
        low, high = math.exp(self.exponent.low), math.exp(self.exponent.high)
        if not low < value < high:
            raise ValueError(f"value: found {value:g}, expected one between {low:g} and {high:g}")
        return self.exponent.inverse(math.log(value))


class Positive(Range):
    """All positive numbers, ``softplus(h)``."""

    def __call__(self, h: Tensor) -> Tensor:
        return softplus(h)

    def inverse(self, value: float) -> float:
        if not 0 < value < math.inf:
            raise ValueError(f"value: found {value:g}, expected a number above 0")
        return value + math.log(-math.expm1(-value))


class Whole(Range):
    """Whole numbers from ``low`` to ``high``, both among them; no gradient passes."""

    def __init__(self, low: int, high: int):
        self.interval = Interval(low, high + 1)

    def __call__(self, h: Tensor) -> Tensor:
        return self.interval(h).floor().clamp_max(self.interval.high - 1)

    def inverse(self, value: float) -> float:
        return self.interval.inverse(value + 0.5)


class Hyperparameters(nn.Module):
    """The hyperparameters of one training, each with the width of its perturbation.

    :param ranges: by name.
    :param start: their first values.
    :param scale: first standard deviation of the perturbations, of h.
    """

    def __init__(self, ranges: Mapping[str, Range], start: Mapping[str, float], scale: float = 0.5):
        super().__init__()
        if ranges.keys() != start.keys() or not ranges:
            raise ValueError(f"start: found {', '.join(start)}, expected a value for each of {', '.join(ranges)}")
        self.ranges = dict(ranges)
        self.h = nn.Parameter(torch.tensor([ranges[name].inverse(start[name]) for name in ranges]))
        self.spread = nn.Parameter(torch.full((len(ranges),), Positive().inverse(scale)))

    def __len__(self) -> int:
        return len(self.ranges)

    @property
    def scale(self) -> Tensor:
        """Standard deviations of the perturbations, ``(H,)``."""
        return softplus(self.spread)

    def entropy(self) -> Tensor:
        """Of the perturbations' distribution, a number."""
        return (self.scale.log() + 0.5 * math.log(2 * math.pi * math.e)).sum()

    def perturbed(self, count: int, generator: Generator) -> Tensor:
        """``count`` perturbed rows, ``(B, H)``; the gradient passes to h and to the scales."""
        noise = torch.randn(count, len(self), generator=generator, dtype=self.h.dtype)
        return self.h + self.scale * noise.to(self.h.device)

    def values(self, h: Tensor) -> dict[str, Tensor]:
        """What rows ``(B, H)`` stand for."""
        return {name: of(column) for (name, of), column in zip(self.ranges.items(), h.unbind(1), strict=True)}

    def current(self) -> dict[str, float]:
        """The values without perturbation."""
        return {name: float(value) for name, value in self.values(self.h.detach()[None]).items()}
