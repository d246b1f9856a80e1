"""A sparse map is its dense matrix."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators.sparse import Entries, bytes_per_entry, product, sparse_map


@pytest.fixture(params=[torch.complex64, torch.complex128], ids=str)
def dense(request):
    """Some of 6 x 5 places, with an empty row and an empty column."""
    matrix = torch.randn(6, 5, dtype=request.param) * (torch.rand(6, 5) < 0.5)
    matrix[2], matrix[:, 1] = 0, 0
    return matrix


def kept(dense):
    """Its entries in any order, in two parts."""
    rows, columns = dense.nonzero(as_tuple=True)
    entries = torch.randperm(len(rows)).split(len(rows) // 2 + 1)
    parts = [Entries(rows[i].int(), columns[i].int(), dense[rows[i], columns[i]]) for i in entries]
    return sparse_map(parts, len(rows), tuple(dense.shape), dense.dtype)


def test_is_the_matrix_and_its_adjoint(dense):
    found = kept(dense)
    assert torch.equal(found.matrix.to_dense(), dense)
    assert torch.equal(found.adjoint.to_dense(), dense.mH.resolve_conj())


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_products(dense, batch):
    found = kept(dense)
    x, y = torch.randn(batch, 5, dtype=dense.dtype), torch.randn(batch, 6, dtype=dense.dtype)
    assert_close(product(found.matrix, x), x @ dense.mT)
    assert_close(product(found.adjoint, y), y @ dense.conj())


def test_no_more_is_kept_than_was_counted(dense):
    found = kept(dense)
    values = 2 * found.matrix.values().nbytes
    indices = found.matrix.col_indices().nbytes + found.adjoint.col_indices().nbytes
    assert values + indices <= bytes_per_entry(dense.dtype) * found.matrix.values().numel()
