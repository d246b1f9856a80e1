r"""A linear map kept as a sparse matrix, the entries of one row after those of the other (CSR).

.. math:: (A x)_r = \sum_{k = p_r}^{p_{r+1} - 1} a_k\, x_{c_k} .

A product reads every entry once, in order; so A and its adjoint are kept both, each by its own rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from torch import Tensor


class Entries(NamedTuple):
    """Some entries of a matrix, each ``(n,)``: int32 rows and columns, values. No place comes twice."""

    rows: Tensor
    columns: Tensor
    values: Tensor


class SparseMap(NamedTuple):
    """A matrix ``(m, n)`` and its adjoint ``(n, m)``."""

    matrix: Tensor
    adjoint: Tensor


def bytes_per_entry(dtype: torch.dtype) -> int:
    """The most that an entry takes at any time: a coordinate pair and its value, and the same by rows."""
    return (2 * 4 + dtype.itemsize) + (4 + dtype.itemsize)


def sparse_map(parts: Iterable[Entries], count: int, shape: tuple[int, int], dtype: torch.dtype) -> SparseMap:
    """The map with ``count`` entries, given in parts, on the device of these."""
    rows, columns = torch.empty(count, dtype=torch.int32), torch.empty(count, dtype=torch.int32)
    values, at, device = torch.empty(count, dtype=dtype), 0, torch.device("cpu")
    for part in parts:
        some, device = slice(at, at := at + len(part.values)), part.values.device
        rows[some], columns[some], values[some] = part
    coordinates = coo_array((values.numpy(), (rows.numpy(), columns.numpy())), shape=shape)
    coordinates.has_canonical_format = True  # so that scipy looks for no duplicates
    by_rows = coordinates.tocsr()
    del rows, columns, values, coordinates
    adjoint = by_rows.T.tocsr()
    np.conjugate(adjoint.data, out=adjoint.data)
    return SparseMap(_tensor(by_rows).to(device), _tensor(adjoint).to(device))


def product(matrix: Tensor, x: Tensor) -> Tensor:
    """``matrix`` times each of ``x`` ``(B, n)``: ``(B, m)``, one by one, which is faster than as columns together."""
    return torch.stack([matrix @ one for one in x]) if len(x) else x.new_zeros(0, matrix.shape[0])


def _tensor(matrix: csr_array) -> Tensor:
    """Sharing memory; torch's remark that its sparse matrices are in beta state is not for our users."""
    parts = (torch.from_numpy(array) for array in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(*parts, size=matrix.shape, check_invariants=False)
