r"""Orders of measurement that are fixed beforehand, of n groups along an axis, as columns of k-space are.

.. math:: p_l \propto \Big(1 - \frac{|l - c|}{c + 1}\Big)^4, \qquad c = \lfloor n/2 \rfloor,

is the variable density of one of them (Lustig, Donoho and Pauly, Magn. Reson. Med. 58:1182, 2007), whose middle c says
most. Each takes the number of groups, how many to measure, and a generator, and gives different groups, in order.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator

#: From the number of groups, how many to measure, and a generator, to the groups.
Order = Callable[[int, int, Generator | None], list[int]]
#: How steeply :func:`variable_density` falls off.
POWER = 4
#: The share of the budget that it spends in the middle first, as a scan that calibrates itself does.
MIDDLE = 1 / 3


def random_order(count: int, budget: int, generator: Generator | None = None) -> list[int]:
    """Any, all alike."""
    _check(count, budget)
    return torch.randperm(count, generator=generator)[:budget].tolist()


def equispaced(count: int, budget: int, generator: Generator | None = None) -> list[int]:
    """As evenly as can be, the middle among them; nothing is random."""
    _check(count, budget)
    return [(count // 2 + count * i // budget) % count for i in range(budget)]


def centre_first(count: int, budget: int, generator: Generator | None = None) -> list[int]:
    """From the middle outwards; nothing is random."""
    _check(count, budget)
    return sorted(range(count), key=lambda group: abs(group - count // 2))[:budget]


def variable_density(count: int, budget: int, generator: Generator | None = None) -> list[int]:
    """A third in the middle, then drawn one after the other, those near the middle more often."""
    _check(count, budget)
    first, middle = centre_first(count, round(MIDDLE * budget)), count // 2
    weights = (1 - (torch.arange(count) - middle).abs() / (middle + 1)) ** POWER
    weights[first] = 0
    rest = budget - len(first)
    return first + (torch.multinomial(weights, rest, generator=generator).tolist() if rest else [])


def _check(count: int, budget: int) -> None:
    if not 0 <= budget <= count:
        raise ValueError(f"budget: found {budget}, expected from 0 to {count}, the number of groups")
