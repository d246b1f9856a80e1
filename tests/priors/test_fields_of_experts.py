"""Fields of experts: their size, their first filters, and what they become with a single one."""

import torch
from torch.testing import assert_close

from resolvent.priors import FieldsOfExperts, SmoothedL1
from resolvent.priors.fields_of_experts import cosines

F64 = torch.float64


def test_as_many_parameters_as_published():
    """2449 with the weight."""
    assert sum(p.numel() for p in FieldsOfExperts().parameters()) == 2448


def test_first_filters_are_orthonormal_and_see_no_constant():
    filters = cosines(7).double().reshape(48, 49)
    assert_close(filters @ filters.T, torch.eye(48, dtype=F64), rtol=0, atol=1e-6)
    assert filters.sum(1).abs().max() < 1e-5


def test_filters_that_are_one_pixel_are_smoothed_sparsity():
    prior, x = FieldsOfExperts(3, 0.2).double(), torch.randn(2, 2, 6, 5, dtype=torch.complex128)
    with torch.no_grad():
        prior.filters.zero_()[:, 0, 1, 1] = 1
        prior.log_weights.zero_()
    parts = torch.view_as_real(x).movedim(-1, 1).flatten(1, 2)
    assert_close(prior.fn(x), 8 * SmoothedL1(nu=0.2).fn(parts))
    assert_close(prior.grad(x).imag, 8 * SmoothedL1(nu=0.2).grad(x.imag))
    assert_close(prior.lipschitz, torch.tensor(8 / 0.2, dtype=F64), rtol=2e-2, atol=0)


def test_bound_is_close_on_a_large_image():
    """The largest curvature, at an image without structure, by the power method: near 0 the gradient is linear."""
    prior, v = FieldsOfExperts(7, 0.2), torch.randn(1, 1, 32, 32)
    for _ in range(40):
        v = prior.grad(1e-4 * v / v.norm()) / 1e-4
    assert 0.9 * prior.lipschitz < v.norm() <= prior.lipschitz
