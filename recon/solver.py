"""What every solver is: three small functions over one state, run by one loop."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import deepinv.models
import torch
from deepinv.optim import Prior as AnyPrior
from deepinv.physics import LinearPhysics
from torch import Tensor

from .loop import Callback, Checkpoint, Record, run
from .problem import Problem
from .stopping import Criterion, RelativeChange, relative_change
from .threshold import universal_threshold


class State(Protocol):
    """A NamedTuple of tensors or tuples of tensors, batch axis first; the image is ``x``."""

    @property
    def x(self) -> Tensor:
        """The image ``(B, C, *spatial)``."""
        ...


class Diverged(ArithmeticError):
    """An iteration left the finite numbers; the message says which image, when and under which step."""


@dataclass(frozen=True)
class Solution:
    """What a solver returns.

    :param image: ``(B, C, *spatial)``; of a diverged image the last finite iterate.
    :param status: per image ``converged``, ``max_iter``, ``completed`` (a schedule, to its end), ``interrupted`` or
        ``diverged``.
    :param history: per name, numbers ``(iterations, B)``; always ``relative_change`` and ``seconds``.
    :param certificate: the solver's optimality measure at ``image``, per image.
    :param state: what a further :meth:`Solver.solve` can start from.
    """

    image: Tensor
    status: tuple[str, ...]
    history: dict[str, Tensor]
    certificate: Tensor
    state: Any
    seconds: float

    @property
    def iterations(self) -> int:
        """Iterations run, those of the slowest image."""
        return len(self.history.get("seconds", ()))


class Solver(deepinv.models.Reconstructor, ABC):
    """Base class of the solvers; a :class:`deepinv.models.Reconstructor`: ``x = solver(y, physics)``.

    :param prior: one prior, or several where the algorithm can take them.
    :param max_iter: iterations at most.
    :param stop: when to stop earlier; :class:`RelativeChange` at 1e-4 if None.
    :raises TypeError: if a prior lacks what the algorithm :attr:`needs` of it.
    :raises ValueError: if there are more or fewer than it :attr:`takes`.
    """

    #: What the algorithm asks of its priors: ``prox`` or ``grad``.
    needs: ClassVar[str] = "prox"
    #: How many priors it takes, at least and at most.
    takes: ClassVar[tuple[int, float]] = (0, 1)
    #: Whether weights are measured against the data; the unit is 1 where a noise level or a constraint does it.
    weighs_prior: ClassVar[bool] = True
    #: Status of the images still running after ``max_iter`` iterations.
    at_the_end: ClassVar[str] = "max_iter"

    def __init__(self, prior: AnyPrior | Sequence[AnyPrior] | None, max_iter: int, stop: Criterion | None):
        super().__init__()
        if max_iter < 1:
            raise ValueError(f"max_iter: found {max_iter}, expected at least 1")
        priors = () if prior is None else (prior,) if isinstance(prior, AnyPrior) else tuple(prior)
        least, most = self.takes
        if not least <= len(priors) <= most:
            expected = "at least one" if most > 1 else "one: Sum makes one of several, ADMM and PrimalDual take them"
            raise ValueError(f"prior: found {len(priors)} for {type(self).__name__}, expected {expected}")
        for p in priors:
            if not self.accepts(p):
                raise TypeError(
                    f"{type(self).__name__}: found {type(p).__name__}, expected a prior with a {self.needs}"
                )
        self.priors = torch.nn.ModuleList(priors)
        self.max_iter, self.stop = max_iter, stop or RelativeChange()

    def accepts(self, prior: AnyPrior) -> bool:
        """Whether ``prior`` has what the algorithm :attr:`needs`."""
        return getattr(prior, f"has_{self.needs}", True)

    @abstractmethod
    def init(self, problem: Problem, x0: Tensor | None) -> Any:
        """The state before the first step, from an image or from the data alone."""

    def restart(self, problem: Problem, state: Any) -> Any:
        """A state of another problem or of other parameters, made ready for these."""
        return state

    @abstractmethod
    def step(self, problem: Problem, state: Any) -> Any:
        """The next state; nothing given is changed."""

    def fixed_point_step(self, problem: Problem, state: Any) -> Any:
        """A step with this solver's fixed points, and a derivative there; :meth:`step`, unless overridden."""
        return self.step(problem, state)

    @abstractmethod
    def optimality(self, problem: Problem, state: Any) -> Tensor:
        """How far ``state`` is from a fixed point, per image, relative; 0 at a solution."""

    def change(self, before: State, now: State) -> Tensor:
        """How far one step moved, per image, relative; what :class:`RelativeChange` tests."""
        return relative_change(before.x, now.x)

    def weight_unit(self, problem: Problem) -> Tensor:
        """The weight at which a sparsity prior leaves nothing of an image: ``max |A^H y|``, one per image ``(B,)``."""
        if not self.weighs_prior:
            return torch.ones(())
        return problem.back_projection.abs().flatten(1).amax(1)

    def universal_weight(self, problem: Problem, noise_std: float | None) -> Tensor:
        """The weight at each voxel that keeps noise out; see :mod:`resolvent.recon.threshold`."""
        if not self.weighs_prior:
            return torch.ones(())
        return universal_threshold(problem.physics, problem.y, noise_std)

    def solve(
        self,
        y: Tensor,
        physics: LinearPhysics,
        *,
        x0: Tensor | None = None,
        state: Any = None,
        record: Mapping[str, Record] | None = None,
        callback: Callback | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Solution:
        """Reconstruct, and say how it went.

        :param y: data ``(B, ...)``.
        :param x0: an image to start from; :attr:`Solution.state` of an earlier run as ``state`` starts warmer.
        :param record: named measures for the history, such as ``{"objective": objective}``.
        :param callback: called after every iteration; returning False ends the run.
        :param checkpoint: where progress is kept and taken up again.
        :raises ValueError: for a start of another shape, or for ``x0`` and ``state`` together.
        """
        began, problem = time.perf_counter(), Problem(y, physics, self.priors)
        begin = self._first(problem, x0, state)
        progress = run(
            self, problem, begin, stop=self.stop, max_iter=self.max_iter, record=record or {},
            callback=callback, checkpoint=checkpoint, seconds=time.perf_counter() - began,
        )  # fmt: skip
        return Solution(
            image=progress.state.x,
            status=tuple(progress.status),
            history={name: torch.tensor(v, dtype=torch.float64) for name, v in progress.history.items()},
            certificate=self.optimality(problem, progress.state),
            state=progress.state,
            seconds=progress.seconds,
        )

    def _first(self, problem: Problem, x0: Tensor | None, state: Any) -> Any:
        """The state to begin with, of as many images as there are data; one image ``x0`` serves for all."""
        if x0 is not None and state is not None:
            raise ValueError("x0: found it beside a state, expected one of the two")
        if x0 is None and state is None:
            return self.init(problem, None)
        start = state.x if x0 is None else x0
        linear = isinstance(problem.physics, LinearPhysics)
        expected = (len(problem.y), *(problem.back_projection if linear else start).shape[1:])
        if x0 is None:
            if tuple(start.shape) != expected:
                raise ValueError(f"state: found images of shape {tuple(start.shape)}, expected {expected}")
            return self.restart(problem, state)
        if x0.shape[1:] != expected[1:] or len(x0) not in (1, expected[0]):
            raise ValueError(f"x0: found shape {tuple(x0.shape)}, expected {expected}, or one image for all")
        return self.init(problem, x0.expand(expected))

    def forward(self, y: Tensor, physics: LinearPhysics, **kwargs: Any) -> Tensor:
        """The image alone; ``x0`` is an image to start from.

        :raises Diverged: if an image did not stay finite.
        """
        x0 = kwargs.pop("x0", None)
        if kwargs:
            raise TypeError(f"{type(self).__name__}: found the argument {next(iter(kwargs))}, expected only x0")
        problem = Problem(y, physics, self.priors)
        progress = run(
            self, problem, self._first(problem, x0, None), stop=self.stop, max_iter=self.max_iter,
            record={}, callback=None, checkpoint=None,
        )  # fmt: skip
        if "diverged" in progress.status:
            raise Diverged(f"image {progress.status.index('diverged')} diverged in iteration {progress.iteration}")
        return progress.state.x


def objective(problem: Problem, state: State) -> Tensor:
    """F(x) per image, for ``record``."""
    return problem.objective(state.x)


def data_residual(problem: Problem, state: State) -> Tensor:
    """``||A x - y|| / ||y||`` per image, for ``record``."""
    return problem.relative_residual(state.x)
