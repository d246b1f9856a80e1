"""Orders of measurement that are fixed beforehand."""

import pytest
import torch

from resolvent.recon import centre_first, equispaced, random_order, variable_density

ORDERS = [random_order, equispaced, centre_first, variable_density]
EACH = pytest.mark.parametrize("order", ORDERS, ids=lambda o: o.__name__)


@EACH
@pytest.mark.parametrize("count, budget", [(12, 3), (13, 13), (7, 1), (108, 27), (5, 0)])
def test_different_groups_as_many_as_asked_for(order, count, budget):
    found = order(count, budget, torch.Generator().manual_seed(0))
    assert len(found) == len(set(found)) == budget and set(found) <= set(range(count))
    assert found == order(count, budget, torch.Generator().manual_seed(0))


@EACH
def test_more_than_there_are_is_refused(order):
    with pytest.raises(ValueError, match="budget: found 9, expected from 0 to 8"):
        order(8, 9, None)


def test_equispaced_is_a_comb_through_the_middle():
    assert equispaced(12, 3) == [6, 10, 2]
    gaps = torch.tensor(sorted(equispaced(108, 27))).diff()
    assert (gaps == 4).all()
    assert set(torch.tensor(sorted(equispaced(10, 4))).diff().tolist()) <= {2, 3}


def test_centre_first_goes_outwards():
    assert centre_first(8, 5) == [4, 3, 5, 2, 6]
    assert centre_first(5, 5) == [2, 1, 3, 0, 4]


def test_all_are_drawn_alike_and_the_middle_more_often():
    generator = torch.Generator().manual_seed(0)

    def share(order):
        """How often each of 9 groups is among 3."""
        drawn = torch.tensor([order(9, 3, generator) for _ in range(1500)])
        return torch.bincount(drawn.flatten(), minlength=9) / 1500

    assert (share(random_order) - 1 / 3).abs().max() < 0.05
    dense = share(variable_density)
    weights = (1 - (torch.arange(9) - 4).abs() / 5) ** 4
    assert dense[4] == 1 and (dense[:4] - dense[5:].flip(0)).abs().max() < 0.05
    first = weights.clone()
    first[4] = 0
    one = first / first.sum()
    pairs = one[:, None] * one / (1 - one[:, None]) * (1 - torch.eye(9))
    assert (dense - (one + pairs.sum(0) + torch.eye(9)[4])).abs().max() < 0.05
