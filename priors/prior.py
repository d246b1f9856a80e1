r"""What an image is like: the contract every prior keeps.

.. math:: \operatorname{prox}_{\gamma\lambda R}(v) = \arg\min_x\; \gamma\lambda R(x) + \tfrac12\|x - v\|^2 .

A prior states R (and what of its value, prox and gradient it has) once; the weight lambda, the
deepinv interface and the refusals are here.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, Self

import deepinv.optim
import torch
from torch import Tensor

from ..operators.real_parts import real_parts
from ..operators.substitute import substitute

#: The inner state of an iterative prox: tensors whose first axis is the batch, or tuples of them.
Aux = tuple[Any, ...]


class Prior(deepinv.optim.Prior, ABC):
    """Base class of resolvent's priors; a :class:`deepinv.optim.Prior`.

    A subclass implements any of :meth:`_value`, :meth:`_prox` and :meth:`_grad` for weight 1. One
    whose prox is an inner iteration overrides :meth:`start` and :meth:`prox_from` instead, so that
    the solver can hand the inner state back: a prior keeps nothing between calls.

    :param weight: lambda; a number, one per image ``(B,)``, or a map of two axes at least that broadcasts against the
        image's magnitude.
    """

    #: Whether R is convex: Moreau's identity and firm non-expansiveness then hold.
    convex: bool = False
    #: Whether a weight may be a map over the image; elsewhere it is one number per image.
    weight_over_image: bool = True
    #: Whether the weight is that of a prior inside, and an own one would do nothing: it stays 1.
    weight_inside: bool = False
    #: Axes of ``(B, C, *spatial)`` whose entries are one group, of which a weight is one number.
    axes: tuple[int, ...] = ()

    def __init__(self, weight: float | Tensor = 1.0):
        super().__init__()
        least, greatest = (weight, weight) if not isinstance(weight, Tensor) else weight.detach().aminmax()
        if not (least >= 0 and greatest < float("inf")):
            found = f"from {float(least)} to {float(greatest)}" if isinstance(weight, Tensor) else f"{weight}"
            raise ValueError(f"{type(self).__name__}: weight is {found}, expected a finite number not below 0")
        self.weight = weight
        self.explicit_prior = self.has_value

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight" and self.weight_inside and "weight" in self.__dict__:
            raise AttributeError(f"{type(self).__name__}.weight: found {value}, expected that of the prior inside")
        super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Numbers that are tensors go where the module's own tensors go."""
        super()._apply(fn, recurse)
        for name, value in list(vars(self).items()):
            if isinstance(value, Tensor):
                setattr(self, name, fn(value))
        return self

    @property
    def has_value(self) -> bool:
        """Whether R(x) can be computed."""
        return type(self)._value is not Prior._value

    @property
    def has_prox(self) -> bool:
        """Whether the proximal step can be computed."""
        return type(self)._prox is not Prior._prox or type(self).prox_from is not Prior.prox_from

    @property
    def has_grad(self) -> bool:
        """Whether the gradient can be computed."""
        return type(self)._grad is not Prior._grad

    @property
    def lipschitz(self) -> Tensor:
        """A bound on the Lipschitz constant of R's gradient, for weight 1.

        :raises NotImplementedError: where none is known.
        """
        raise NotImplementedError(f"{type(self).__name__} knows no Lipschitz constant of a gradient")

    @property
    def weak_convexity(self) -> float:
        """A rho for which ``R(x) + rho/2 |x|^2`` is convex, for weight 1; inf where none is known."""
        return 0.0 if self.convex else math.inf

    @property
    def weighted(self) -> bool:
        """Whether a weight makes it stronger; it does not where the prior has a level of its own."""
        return True

    def _value(self, x: Tensor) -> Tensor:
        """R as the map ``(B, ...)`` that it sums over, which a tensor weight multiplies; or the sums, ``(B,)``."""
        raise NotImplementedError(f"{type(self).__name__} has no value")

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no prox")

    def _grad(self, x: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no gradient")

    def fn(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """``lambda R(x)`` per image, shape ``(B,)``, real."""
        value = self._value(x)
        if isinstance(self.weight, Tensor):
            return summed(self._weight_for(value) * value) if value.ndim > 1 else self._weight_for(x).flatten() * value
        return self.weight * (summed(value) if value.ndim > 1 else value)

    def grad(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """``lambda`` times the gradient of R at ``x``."""
        return self._weight_for(x) * self._grad(x)

    def _weight_for(self, x: Tensor) -> float | Tensor:
        return self._shaped("weight", self.weight, x)

    def prox(self, x: Tensor, *_: Any, gamma: float | Tensor = 1.0, **__: Any) -> Tensor:
        """Proximal step of ``gamma lambda R`` at ``x``, of any shape ``(B, C, *spatial)``."""
        return self.prox_from(x, gamma, self.start(x))[0]

    def start(self, x: Tensor) -> Aux:
        """The inner state of an iterative prox before its first call; empty for a closed form."""
        return ()

    def prox_from(self, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
        """The proximal step from an inner state; returns the image and the next inner state."""
        return self._prox(v, self._threshold(gamma, v)), aux

    def _threshold(self, gamma: float | Tensor, v: Tensor) -> float | Tensor:
        """``gamma lambda``, shaped to multiply ``v``; either may be one number per image."""
        return self._shaped("gamma", gamma, v) * self._weight_for(v)

    def _shaped(self, name: str, value: float | Tensor, x: Tensor) -> float | Tensor:
        """``value``, shaped to multiply ``x``, in its precision.

        :raises ValueError: for one that differs within a group, or within an image where that has no meaning.
        """
        value = broadcast(value, x)
        if not isinstance(value, Tensor):
            return value
        one = self.axes if self.weight_over_image else range(1, x.ndim)
        if any(value.shape[axis % x.ndim - x.ndim] > 1 for axis in one if value.ndim >= x.ndim - axis % x.ndim):
            expected = f"length 1 along the axes {self.axes} that count as one length"
            expected = expected if self.weight_over_image else f"one number per image of {type(self).__name__}"
            raise ValueError(f"{name}: found shape {tuple(value.shape)}, expected {expected}")
        return value.to(x.real.dtype)

    def scaled(self, factor: float | Tensor) -> Self:
        """The same prior with its weight, if it has one, multiplied by ``factor``, a number or a tensor like it.

        :raises ValueError: for one number per image of a weight that is a map.
        """
        if not self.weighted:
            return self
        own = self.weight
        if isinstance(factor, Tensor) and isinstance(own, Tensor) and factor.ndim == 1 < own.ndim and len(factor) > 1:
            found = f"factor: found shape {tuple(factor.shape)} of a weight of shape {tuple(own.shape)}"
            raise ValueError(f"{found}, expected (B, 1, ...)")
        return substitute(self, "weight", self.weight * factor)


def start_prior(prior: deepinv.optim.Prior, x: Tensor) -> Aux:
    """The inner state of a prior's prox; deepinv's priors have none."""
    return prior.start(x) if isinstance(prior, Prior) else ()


def prox_prior(prior: deepinv.optim.Prior, v: Tensor, gamma: float | Tensor, aux: Aux) -> tuple[Tensor, Aux]:
    """The proximal step of a deepinv or resolvent prior."""
    return prior.prox_from(v, gamma, aux) if isinstance(prior, Prior) else (prior.prox(v, gamma=gamma), aux)


def largest(weight: float | Tensor) -> Tensor:
    """The largest of a prior's weights, a number; of a plain number in double precision."""
    return weight.max() if isinstance(weight, Tensor) else torch.tensor(weight, dtype=torch.float64)


def summed(x: Tensor) -> Tensor:
    """Sum over all axes but the batch."""
    return x.flatten(1).sum(1)


def squared_length(x: Tensor, axes: Sequence[int]) -> Tensor:
    """``|x|^2`` summed along ``axes``, which stay with length 1; none is the magnitude's square.

    A plain sum, since torch's norm over a short strided axis is many times slower, and so are strided real parts.
    """
    square, places = real_parts(x).square(), [axis % x.ndim for axis in axes]
    if 0 in places:
        raise ValueError(f"axes: found {tuple(axes)} of {x.ndim}, expected image axes other than the batch axis 0")
    total = square.sum(places, keepdim=True) if places else square
    return total[..., 0] + total[..., 1] if x.is_complex() else total


def length(x: Tensor, axes: Sequence[int]) -> Tensor:
    """The norm along ``axes``, which stay with length 1; its gradient at 0 is 0."""
    square = squared_length(x, axes)
    return torch.where(square > 0, square, 1).sqrt() * (square > 0)


def broadcast(value: float | Tensor, x: Tensor) -> float | Tensor:
    """A ``(B,)`` tensor shaped to multiply ``x``; anything else unchanged.

    :raises ValueError: for one of another length, which would otherwise lie along the last axis.
    """
    if not isinstance(value, Tensor) or value.ndim != 1:
        return value
    if len(value) not in (1, len(x)):
        raise ValueError(f"found {len(value)} numbers for {len(x)} images, expected one for each, or a map (1, ...)")
    return value.reshape(-1, *[1] * (x.ndim - 1))


def group_axes(axes: Sequence[int]) -> tuple[int, ...]:
    """``axes`` of ``(B, C, *spatial)``, none of them the batch's.

    :raises ValueError: for 0; :func:`squared_length` finds it counted from the end.
    """
    if 0 in axes:
        raise ValueError(f"axes: found {tuple(axes)}, expected image axes other than the batch axis 0")
    return tuple(axes)


def with_phase(magnitude: Tensor, v: Tensor) -> Tensor:
    """``magnitude * exp(j arg v)``, with ``arg v = 0`` where v is too small to divide by its magnitude."""
    empty = v.abs() < torch.finfo(v.dtype).tiny
    return magnitude * torch.sgn(torch.where(empty, torch.ones_like(v), v))
