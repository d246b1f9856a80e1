r"""Many reconstructions under one theta, dealt out to processes.

.. math:: f(\theta) = \tfrac1B \sum_i g_i(\hat x_i(\theta)), \qquad u_i = x_i / c_i, \quad h_i \to h_i / c_i^2 ,

of any shapes and operators: an image is a row of real numbers, in a unit c of its own, in which accuracies are
relative. Hessians, and so mu and L, do not depend on the unit. Each process computes the rows that are its share; all
hold all rows, and take the same decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from ...operators.krylov import Map
from ...operators.real_parts import from_real_parts, real_parts
from .lower_level import LowerLevel, LowerSolution
from .upper_level import Loss


@dataclass(frozen=True)
class Part:
    """A lower level, the loss of its variable, and that variable's unit."""

    lower: LowerLevel
    loss: Loss
    unit: float
    like: Tensor

    @property
    def width(self) -> int:
        """Real numbers of an image."""
        return self.like[0].numel() * (2 if self.like.is_complex() else 1)

    def rows(self, x: Tensor, width: int) -> Tensor:
        """``(B, width)``, real, in the unit, zeros at the end."""
        flat = real_parts(x).flatten(1) / self.unit
        return torch.nn.functional.pad(flat, (0, width - flat.shape[1]))

    def images(self, rows: Tensor) -> Tensor:
        """The lower level's variable."""
        return from_real_parts(rows[:, : self.width] * self.unit, self.like)


class Share(NamedTuple):
    """Which rows are whose: those of each process begin and end at ``bounds``."""

    bounds: tuple[int, ...]
    rank: int

    @property
    def mine(self) -> slice:
        """This process's rows."""
        return slice(self.bounds[self.rank], self.bounds[self.rank + 1])


class Joint(LowerLevel):
    """All parts' images as rows ``(B, n)``.

    :param parts: the same in every process, dealt out in order.
    """

    def __init__(self, parts: Sequence[Part]):
        self.parts = tuple(parts)
        several = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
        if len(self.parts) < world:
            raise ValueError(f"parts: found {len(self.parts)}, expected at least one for each of {world} processes")
        self._width = max(part.width for part in self.parts)
        counts = [len(part.like) for part in self.parts]
        ends = [len(self.parts) * p // world for p in range(world + 1)]
        self._share = Share(tuple(sum(counts[:end]) for end in ends), rank)
        self._mine = self.parts[ends[rank] : ends[rank + 1]]
        self.jacobian_lipschitz = _largest([part.lower.jacobian_lipschitz for part in self.parts])
        self.inverse_lipschitz = _largest([_in_unit(part.lower.inverse_lipschitz, part.unit) for part in self.parts])

    def loss(self) -> Loss:
        """Of the rows; evaluated by shares, too."""
        return JointLoss(self)

    def split(self, rows: Tensor) -> list[Tensor]:
        """The variables of all parts."""
        pieces = rows.split([len(part.like) for part in self.parts])
        return [part.images(piece) for part, piece in zip(self.parts, pieces, strict=True)]

    def shared(self, each: Callable[[Part, Tensor], Tensor], rows: Tensor) -> Tensor:
        """``each`` of every part's rows, one after the other, differentiably; a process computes its own."""
        own = _Mine.apply(rows, self._share)
        pieces = own.split([len(part.like) for part in self._mine])
        found = [each(part, piece) for part, piece in zip(self._mine, pieces, strict=True)]
        return _Gathered.apply(torch.cat(found), self._share)

    def gradient(self, x: Tensor, theta: Tensor) -> Tensor:
        own = _Used.apply(theta)
        return self.shared(lambda p, rows: p.rows(p.lower.gradient(p.images(rows), own), self._width), x)

    def start(self) -> Tensor:
        return torch.cat([part.rows(part.like, self._width) for part in self.parts])

    def strong_convexity(self, theta: Tensor) -> Tensor:
        return torch.stack([part.lower.strong_convexity(theta) for part in self.parts]).amin()

    def smoothness(self, theta: Tensor) -> Tensor:
        return torch.stack([part.lower.smoothness(theta) for part in self.parts]).amax()

    def certificate(self, gradient: Tensor, theta: Tensor) -> Tensor:
        pieces = zip(self.parts, self.split(gradient), strict=True)
        return torch.cat([part.lower.certificate(piece, theta) / part.unit for part, piece in pieces])

    @torch.no_grad()
    def solve(self, theta: Tensor, eps: float, x0: Tensor | None = None, max_iter: int = 10_000) -> LowerSolution:
        """Each part by its own lower level; the cost is that of the slowest image."""
        rows = (self.start() if x0 is None else x0)[self._share.mine].split([len(part.like) for part in self._mine])
        found = [
            p.lower.solve(theta, eps * p.unit, p.images(r), max_iter) for p, r in zip(self._mine, rows, strict=True)
        ]
        x = torch.cat([p.rows(s.x, self._width) for p, s in zip(self._mine, found, strict=True)])
        bound = torch.cat([s.certificate / p.unit for p, s in zip(self._mine, found, strict=True)])
        resting = torch.cat([s.resting for s in found])
        worst = [float(max(s.gradients for s in found)), float(any(not s.solved for s in found))]
        gradients, missed = _most(theta.new_tensor(worst))
        x, bound, resting = (_gather(rows, self._share) for rows in (x, bound, resting))
        return LowerSolution(x, bound, int(gradients), not bool(missed), resting)

    def solve_adjoint(
        self, product: Map, right: Tensor, tol: Tensor, max_products: int, start: Tensor | None
    ) -> tuple[Tensor, int]:
        return self.parts[0].lower.solve_adjoint(product, right, tol, max_products, start)


class JointLoss:
    """The losses of all parts, per row."""

    def __init__(self, joint: Joint):
        self._joint = joint
        self.smoothness = max(part.loss.smoothness * part.unit**2 for part in joint.parts)
        self.convex = all(part.loss.convex for part in joint.parts)
        rows = sum(len(part.like) for part in joint.parts)
        self.floor = sum(part.loss.floor * len(part.like) for part in joint.parts) / rows

    def __call__(self, x: Tensor) -> Tensor:
        return self._joint.shared(lambda part, rows: part.loss(part.images(rows)), x)


def _in_unit(constant: float | None, unit: float) -> float | None:
    """A Lipschitz constant of images in one of images in ``unit``."""
    return None if constant is None else unit * constant


def _largest(constants: Sequence[float | None]) -> float | None:
    known = [c for c in constants if c is not None]
    return max(known) if len(known) == len(constants) else None


def _gather(own: Tensor, share: Share) -> Tensor:
    """The rows of all processes."""
    if len(share.bounds) == 2:
        return own
    counts = [end - begin for begin, end in zip(share.bounds, share.bounds[1:], strict=False)]
    padded = own.new_zeros(max(counts), *own.shape[1:])
    padded[: len(own)] = own
    found = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(found, padded)
    return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])


def _most(values: Tensor) -> Tensor:
    """The largest over the processes."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values, dist.ReduceOp.MAX)
    return values


class _Mine(torch.autograd.Function):
    """This process's rows of what all hold."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return rows[share.mine].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Gathered.apply(grads[0], ctx.share), None


class _Gathered(torch.autograd.Function):
    """What all hold, of each process's rows."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, share: Share) -> Tensor:
        ctx.share = share
        return _gather(own, share).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Mine.apply(grads[0], ctx.share), None


class _Used(torch.autograd.Function):
    """What all hold, used by each for its own rows: derivatives add up."""

    @staticmethod
    def forward(ctx: Any, theta: Tensor) -> Tensor:
        return theta.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Summed.apply(grads[0])


class _Summed(torch.autograd.Function):
    """The sum over the processes, which all hold."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Used.apply(grads[0])
