r"""Active sampling: while images form out of noise, measure next what they disagree on most.

.. math:: l^* = \arg\max_l\, H\big(p(y_l | y_{\text{so far}})\big), \qquad
          p(y_l | y_{\text{so far}}) \approx \tfrac1N \sum_i \mathcal{N}(y_l; (A \hat x_i)_l, s^2), \qquad
          H \approx - \tfrac1N \sum_i \log \tfrac1N \sum_j e^{-D_{ij} / 4 s^2} + \text{const},

with :math:`D_{ij}` the squared distance of what two particles predict of measurement l, a group of data: a pixel, a
column of k-space, an antenna pair. Nolan, Stevens, van Nierop and van Sloun (TMLR 2025). Their released rule has the
other sign in the exponent, and with it rewards the two particles that are farthest apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from ..operators import Operator, Restricted
from .problem import Problem
from .sampler import Sampler, new_seed
from .solver import Diverged

#: Squared distances ``(L, N, N)`` of predictions to a score of each group, ``(L,)``; the highest is measured next.
Score = Callable[[Tensor], Tensor]


class PairwiseEntropy:
    r"""The entropy of a mixture of one Gaussian per particle, by its pairs (Kolchinsky and Tracey, 2017).

    :param std: s, of the measurement's noise or wider, for either part of complex data.
    """

    def __init__(self, std: float):
        if not std > 0:
            raise ValueError(f"std: found {std}, expected a standard deviation above 0")
        self.std = std

    def __call__(self, distances: Tensor) -> Tensor:
        return -_log_mean_exp(-distances / (4 * self.std**2)).mean(1)


class ReleasedScore:
    r""":math:`\sum_i \log \sum_j e^{+D_{ij} / 2 s^2}`, as the paper's programs have it; for comparison.

    For s far above the distances the variance of the particles, else about the largest distance of a pair.

    :param std: s.
    """

    def __init__(self, std: float):
        if not std > 0:
            raise ValueError(f"std: found {std}, expected a standard deviation above 0")
        self.std = std

    def __call__(self, distances: Tensor) -> Tensor:
        return torch.logsumexp(distances / (2 * self.std**2), 2).sum(1)


class Acquisition(NamedTuple):
    """What :meth:`ActiveSampling.acquire` returns.

    :param order: the groups in the order in which they were measured.
    :param mask: which data there are, ``data_shape``.
    :param y: the data, ``(1, *data_shape)``, 0 where there are none.
    :param samples: the particles, ``(N, C, *spatial)``.
    :param mean: of the particles, ``(C, *spatial)``.
    :param std: of the particles, real.
    """

    order: tuple[int, ...]
    mask: Tensor
    y: Tensor
    samples: Tensor
    mean: Tensor
    std: Tensor


class ActiveSampling:
    """Diffusion that asks for its data.

    :param sampler: draws the particles; :class:`~resolvent.recon.DPS` in the paper, any other will do.
    :param groups: which group each datum belongs to, integers ``data_shape``; one below 0 is never measured.
    :param budget: groups to measure.
    :param score: the highest group is next; :class:`PairwiseEntropy`, say.
    :param particles: N.
    :param window: shares of the sampler's steps between which measurements are taken, evenly.
    """

    def __init__(
        self,
        sampler: Sampler,
        groups: Tensor,
        budget: int,
        score: Score,
        particles: int = 16,
        window: tuple[float, float] = (0.0, 0.8),
    ):
        count = int(groups.max()) + 1
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
    ) -> Acquisition:
        """Measure and sample.

        :param measure: from the mask of what is wanted, ``data_shape``, to data ``(1, *data_shape)``; called once for
            each new group.
        :param physics: the operator with all measurements.
        :param like: an image ``(1, C, *spatial)``; its shape, dtype and device are used, its values are not.
        :param first: groups to begin with; they count.
        :raises Diverged: if a particle did not stay finite.
        """
        order, mask = list(first), torch.zeros(physics.data_shape, dtype=torch.bool, device=self.groups.device)
        y = torch.zeros_like(physics.A(like))
        for group in order:
            mask, y = self._measured(measure, mask, y, group)
        state, times = None, self.times()[len(order) :]
        for k in range(self.sampler.max_iter):
            problem = self._problem(physics, mask, y)
            if state is None:
                like = problem.back_projection
                state = self.sampler.begin(problem, None, new_seed(like, generator))
            while len(order) < self.budget and times and times[0] <= k:
                times.pop(0)
                order.append(self._next(physics, state.x, k, order))
                mask, y = self._measured(measure, mask, y, order[-1])
                problem = self._problem(physics, mask, y)
            state = self.sampler.step(problem, state)
            if not bool(state.x.isfinite().all()):
                raise Diverged(f"a particle diverged in step {k}")
        return Acquisition(tuple(order), mask, y, state.x, state.x.mean(0), state.x.std(0))

    def _problem(self, physics: Operator, mask: Tensor, y: Tensor) -> Problem:
        repeated = y.expand(self.particles, *y.shape[1:])
        return Problem(repeated, Restricted(physics, mask), self.sampler.priors)

    def _next(self, physics: Operator, x: Tensor, k: int, taken: Sequence[int]) -> int:
        predicted = physics.A(self.sampler.prior.estimate(x, self.sampler.level(k).t))
        return most_uncertain(self.score, predicted, self.groups, taken)

    def _measured(
        self, measure: Callable[[Tensor], Tensor], mask: Tensor, y: Tensor, group: int
    ) -> tuple[Tensor, Tensor]:
        new = self.groups == group
        return mask | new, torch.where(new, measure(new).to(y.dtype), y)


def most_uncertain(score: Score, predicted: Tensor, groups: Tensor, taken: Sequence[int] = ()) -> int:
    """The group of highest score that is not taken.

    :param predicted: data of each particle, ``(N, *data_shape)``.
    """
    scores = score(group_distances(predicted, groups)).clone()
    scores[list(taken)] = -torch.inf
    return int(scores.argmax())


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
    r"""The groups that tell most of a Gaussian one after the other, by :math:`\log\det(A_l C A_l^H + \sigma^2 I)`.

    Of a Gaussian nothing depends on what is measured, so the order is known beforehand.

    :param covariance: of flattened images, ``(n, n)``.
    :param matrix: of all measurements, ``(m, n)``; :attr:`groups` has m entries.
    """
    order, labels = [], groups.flatten()
    for _ in range(budget):
        gains = []
        for group in range(int(labels.max()) + 1):
            rows = matrix[labels == group]
            inner = rows @ covariance @ rows.mH + noise_std**2 * torch.eye(len(rows), dtype=covariance.dtype)
            gains.append(-torch.inf if group in order else float(torch.logdet(inner).real))
        order.append(max(range(len(gains)), key=gains.__getitem__))
        rows = matrix[labels == order[-1]]
        cross = covariance @ rows.mH
        inner = rows @ cross + noise_std**2 * torch.eye(len(rows), dtype=covariance.dtype)
        covariance = covariance - cross @ torch.linalg.solve(inner, cross.mH)
    return tuple(order)


def _log_mean_exp(x: Tensor) -> Tensor:
    """Over the last axis."""
    return torch.logsumexp(x, -1) - torch.log(torch.tensor(x.shape[-1], dtype=x.dtype))
