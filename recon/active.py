r"""Active sampling: while images form out of noise, measure next what they disagree on most.

.. math:: l^* = \arg\max_l\, H\big(p(y_l | y_{\text{so far}})\big), \qquad
          p(y_l | y_{\text{so far}}) \approx \tfrac1N \sum_i \mathcal{N}(y_l; (A \hat x_i)_l, s^2), \qquad
          H \approx - \tfrac1N \sum_i \log \tfrac1N \sum_j e^{-D_{ij} / 4 s^2} + \text{const},

with :math:`D_{ij}` the squared distance of what two particles predict of measurement l, a group of data: a pixel, a
column of k-space, an antenna pair. Nolan, Stevens, van Nierop and van Sloun (TMLR 2025). Their released rule has the
other sign in the exponent, and with it rewards the two particles that are farthest apart.
"""

from __future__ import annotations

import abc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import Generator, Tensor

from ..operators import Operator, Restricted
from .loop import Checkpoint, Progress, repeat
from .problem import Problem
from .sampler import Sampler, new_seed
from .solver import Diverged


class Score(abc.ABC):
    """What a measurement is worth.

    :param std: s, of the measurement's noise or wider, for either part of complex data.
    """

    def __init__(self, std: float):
        if not 0 < std < float("inf"):
            raise ValueError(f"std: found {std}, expected a finite standard deviation above 0")
        self.std = std

    @abc.abstractmethod
    def __call__(self, distances: Tensor) -> Tensor:
        """From squared distances of predictions ``(L, N, N)`` to a score of each group, ``(L,)``; the best is next."""


class PairwiseEntropy(Score):
    """The entropy of a mixture of one Gaussian per particle, by its pairs (Kolchinsky and Tracey, 2017)."""

    def __call__(self, distances: Tensor) -> Tensor:
        return -_log_mean_exp(-distances / (4 * self.std**2)).mean(1)


class ReleasedScore(Score):
    r""":math:`\sum_i \log \sum_j e^{+D_{ij} / 2 s^2}`, as the paper's programs have it; for comparison.

    For s far above the distances the variance of the particles, else about the largest distance of a pair.
    """

    def __call__(self, distances: Tensor) -> Tensor:
        return torch.logsumexp(distances / (2 * self.std**2), 2).sum(1)


class Choice(NamedTuple):
    """One measurement: what was chosen, when and why.

    :param group: measured.
    :param step: of the sampler, before which it was.
    :param score: of the group; nan where it was given beforehand.
    :param ties: groups of that same score, itself among them; likewise 0.
    :param spread: root mean square over the pixels of the standard deviation of the particles' estimates; likewise.
    """

    group: int
    step: int = 0
    score: float = math.nan
    ties: int = 0
    spread: float = math.nan


class Acquisition(NamedTuple):
    """What :meth:`ActiveSampling.acquire` returns.

    :param choices: the measurements in their order.
    :param mask: which data there are, ``data_shape``.
    :param y: the data, ``(1, *data_shape)``, 0 where there are none.
    :param samples: the particles, ``(N, C, *spatial)``.
    :param mean: of the particles, ``(C, *spatial)``.
    :param std: of the particles, real.
    :param seconds: that all of it took.
    """

    choices: tuple[Choice, ...]
    mask: Tensor
    y: Tensor
    samples: Tensor
    mean: Tensor
    std: Tensor
    seconds: float

    @property
    def order(self) -> tuple[int, ...]:
        """The groups in the order in which they were measured."""
        return tuple(choice.group for choice in self.choices)


class Scan(NamedTuple):
    """Where an acquisition stands.

    :param particles: the sampler's state.
    :param y: the data so far, ``(1, *data_shape)``.
    :param choices: a row of numbers for each :class:`Choice` so far, ``(n, 5)``, float64.
    """

    particles: Any
    y: Tensor
    choices: Tensor

    def so_far(self) -> tuple[Choice, ...]:
        """The choices."""
        rows = self.choices.tolist()
        return tuple(Choice(int(g), int(step), score, int(ties), spread) for g, step, score, ties, spread in rows)

    def chosen(self, choice: Choice, y: Tensor) -> Self:
        """With one more, and its data."""
        row = torch.tensor([choice], dtype=torch.float64)
        return self._replace(y=y, choices=torch.cat([self.choices, row]))


class Taken(Restricted):
    """The data taken so far, too few to tell how strong their noise is."""

    def estimate_noise(self, y: Tensor) -> None:
        return None


class ActiveSampling:
    """Diffusion that asks for its data.

    :param sampler: draws the particles; :class:`~resolvent.recon.DPS` in the paper, any other will do.
    :param groups: which group each datum belongs to, integers ``data_shape``; one below 0 is never measured. An
        operator's own are :meth:`~resolvent.operators.Operator.groups`.
    :param budget: groups to measure.
    :param score: as a :class:`Score`; the highest group is next.
    :param particles: N.
    :param window: shares of the sampler's steps between which measurements are taken, evenly.
    """

    def __init__(
        self,
        sampler: Sampler,
        groups: Tensor,
        budget: int,
        score: Callable[[Tensor], Tensor],
        particles: int = 16,
        window: tuple[float, float] = (0.0, 0.8),
    ):
        count = len(groups[groups >= 0].unique())
        if not 1 <= budget <= count:
            raise ValueError(f"budget: found {budget}, expected from 1 to {count}, the number of groups")
        if particles < 2 or not 0 <= window[0] < window[1] <= 1:
            raise ValueError(
                f"particles, window: found {particles}, {window}, expected 2 or more, 0 <= begin < end <= 1"
            )
        self.sampler, self.groups, self.budget, self.score = sampler, groups, budget, score
        self.particles, self.window = particles, window

    def times(self) -> list[int]:
        """The steps before which a measurement is taken."""
        begin, end = (share * self.sampler.max_iter for share in self.window)
        return [int(begin + (end - begin) * i / self.budget) for i in range(self.budget)]

    @torch.no_grad()
    def acquire(
        self,
        measure: Callable[[Tensor], Tensor],
        physics: Operator,
        like: Tensor,
        first: Sequence[int] = (),
        generator: Generator | None = None,
        callback: Callable[[int, Sequence[Choice]], None] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Acquisition:
        """Measure and sample.

        :param measure: from the mask of what is wanted, ``data_shape``, to data ``(1, *data_shape)``; called once for
            each new group. A scanner waits here until its data are there.
        :param physics: the operator with all measurements.
        :param like: an image ``(1, C, *spatial)``; its shape, dtype and device are used, its values are not.
        :param first: groups to begin with, such as a fixed order of :mod:`resolvent.recon.orders`; they count.
        :param callback: called after every step with how many are done and what was measured so far.
        :param checkpoint: where progress is kept and taken up again; what was kept is not measured again.
        :raises ValueError: if ``first`` is no list of different groups within the budget.
        :raises TypeError: for an operator that is not linear, or not of this library.
        :raises Diverged: if a particle did not stay finite.
        """
        self._check(first)
        if not isinstance(physics, Operator):
            raise TypeError(f"physics: found {type(physics).__name__}, expected a linear Operator of this library")
        y, nothing = torch.zeros_like(physics.A(like)), torch.empty(0, len(Choice._fields), dtype=torch.float64)
        problem = self._problem(physics, y, ())
        blank = problem.back_projection
        particles = self.sampler.begin(problem, blank, new_seed(blank, generator))
        begin = Progress(0, Scan(particles, y, nothing), ["running"])
        told = None if callback is None else lambda p: callback(p.iteration, p.state.so_far())
        done = repeat(
            partial(self._advance, measure, physics, first), begin, self.sampler.max_iter, told, checkpoint
        )  # fmt: skip
        x, choices = done.state.particles.x, done.state.so_far()
        return Acquisition(choices, self._mask(choices), done.state.y, x, x.mean(0), x.std(0), done.seconds)

    def _advance(
        self, measure: Callable[[Tensor], Tensor], physics: Operator, first: Sequence[int], progress: Progress
    ) -> Progress:
        """One step of the sampler, after the measurements that are due before it."""
        began, scan, k = time.perf_counter(), progress.state, progress.iteration
        if k == 0:
            scan = self._begun(measure, physics, first, scan)
        for _ in range(sum(at <= k for at in self.times()) - len(scan.choices)):
            choice = self._next(physics, scan.particles.x, k, scan.so_far())
            scan = scan.chosen(choice, self._measured(measure, scan.y, choice.group))
        particles = self.sampler.step(self._problem(physics, scan.y, scan.so_far()), scan.particles)
        if not bool(particles.x.isfinite().all()):
            raise Diverged(f"a particle diverged in step {k}")
        seconds = progress.seconds + time.perf_counter() - began
        return replace(progress, iteration=k + 1, state=scan._replace(particles=particles), seconds=seconds)

    def _begun(self, measure: Callable[[Tensor], Tensor], physics: Operator, first: Sequence[int], scan: Scan) -> Scan:
        """With what is measured beforehand, and particles that begin from it."""
        for group in first:
            scan = scan.chosen(Choice(group), self._measured(measure, scan.y, group))
        problem = self._problem(physics, scan.y, scan.so_far())
        return scan._replace(particles=self.sampler.begin(problem, None, scan.particles.seed))

    def _mask(self, choices: Sequence[Choice]) -> Tensor:
        taken = torch.tensor([choice.group for choice in choices], device=self.groups.device, dtype=self.groups.dtype)
        return torch.isin(self.groups, taken)

    def _problem(self, physics: Operator, y: Tensor, choices: Sequence[Choice]) -> Problem:
        repeated = y.expand(self.particles, *y.shape[1:])
        seen = Taken(physics, self._mask(choices), noise_model=physics.noise_model)
        return Problem(repeated, seen, self.sampler.priors)

    def _check(self, first: Sequence[int]) -> None:
        known = set(self.groups[self.groups >= 0].unique().tolist())
        if len(first) > self.budget or len(set(first)) < len(first) or not known.issuperset(first):
            expected = f"at most {self.budget} different groups from {min(known)} to {max(known)}"
            raise ValueError(f"first: found {list(first)}, expected {expected}")

    def _next(self, physics: Operator, x: Tensor, k: int, so_far: Sequence[Choice]) -> Choice:
        estimates = self.sampler.prior.estimate(x, self.sampler.level(k).t)
        scores = group_scores(self.score, physics.A(estimates), self.groups, [choice.group for choice in so_far])
        best, spread = int(scores.argmax()), float(estimates.std(0).square().mean().sqrt())
        return Choice(best, k, float(scores[best]), int((scores == scores[best]).sum()), spread)

    def _measured(self, measure: Callable[[Tensor], Tensor], y: Tensor, group: int) -> Tensor:
        new = self.groups == group
        return torch.where(new, measure(new).to(y.dtype), y)


def most_uncertain(
    score: Callable[[Tensor], Tensor], predicted: Tensor, groups: Tensor, taken: Sequence[int] = ()
) -> int:
    """The group of highest score that is not taken; parameters as of :func:`group_scores`."""
    return int(group_scores(score, predicted, groups, taken).argmax())


def group_scores(
    score: Callable[[Tensor], Tensor], predicted: Tensor, groups: Tensor, taken: Sequence[int] = ()
) -> Tensor:
    """The score of each group ``(L,)``; of those that are taken or without data minus infinity.

    :param predicted: data of each particle, ``(N, *data_shape)``.
    :raises Diverged: if a score is not finite.
    """
    scores = score(group_distances(predicted, groups)).clone()
    bad = (~scores.isfinite()).nonzero().flatten().tolist()
    if bad:
        raise Diverged(f"score: found {float(scores[bad[0]])} for group {bad[0]}, expected finite numbers")
    scores[list(taken)] = -torch.inf
    return scores.where(torch.bincount(groups[groups >= 0], minlength=len(scores)) > 0, -torch.inf)


def group_distances(predicted: Tensor, groups: Tensor) -> Tensor:
    """Squared distances of any two particles in each group of their data, ``(L, N, N)``.

    :param predicted: ``(N, *data_shape)``, real or complex.
    """
    data, labels = predicted.flatten(1), groups.flatten()
    data, labels = data[:, labels >= 0], labels[labels >= 0]
    rows = []
    for one in data:
        square = (data - one).abs().square()
        total = square.new_zeros((len(data), int(groups.max()) + 1))
        rows.append(total.index_add_(1, labels, square))
    return torch.stack(rows).permute(2, 0, 1)


def greedy_design(covariance: Tensor, matrix: Tensor, groups: Tensor, noise_std: float, budget: int) -> tuple[int, ...]:
    r"""The groups that tell most of a Gaussian one after the other, by :math:`\log\det(I + A_l C A_l^H / \sigma^2)`.

    That is twice the information of data of the group. Of a Gaussian nothing depends on what is measured, so the order
    is known beforehand.

    :param covariance: of flattened images, ``(n, n)``.
    :param matrix: of all measurements, ``(m, n)``; :attr:`groups` has m entries.
    """
    order, labels, variance = [], groups.flatten(), noise_std**2
    for _ in range(budget):
        gains = []
        for group in range(int(labels.max()) + 1):
            rows = matrix[labels == group]
            gain = torch.logdet(_covariance_of_data(rows, covariance, variance) / variance).real
            gains.append(-torch.inf if group in order or not len(rows) else float(gain))
        order.append(max(range(len(gains)), key=gains.__getitem__))
        rows = matrix[labels == order[-1]]
        cross = covariance @ rows.mH
        inner = _covariance_of_data(rows, covariance, variance)
        covariance = covariance - cross @ torch.linalg.solve(inner, cross.mH)
    return tuple(order)


def _covariance_of_data(rows: Tensor, covariance: Tensor, variance: float) -> Tensor:
    noise = variance * torch.eye(len(rows), dtype=covariance.dtype, device=covariance.device)
    return rows @ covariance @ rows.mH + noise


def _log_mean_exp(x: Tensor) -> Tensor:
    """Over the last axis."""
    return torch.logsumexp(x, -1) - torch.log(torch.tensor(x.shape[-1], dtype=x.dtype))
