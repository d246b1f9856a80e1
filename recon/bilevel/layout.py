"""A solver's state as one real vector an image, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


class Layout:
    """How what moves of a state lies in vectors ``(B, n)``.

    :param like: a state; counters, and momentum's one number an image, stay as they are in it.
    """

    def __init__(self, like: Any):
        self._leaves, self._tree = pytree.tree_flatten(like)
        self._moving = [i for i, leaf in enumerate(self._leaves) if _moves(leaf)]

    def flatten(self, state: Any) -> Tensor:
        """The vector of a state."""
        leaves = pytree.tree_leaves(state)
        return torch.cat([_row(leaves[i]) for i in self._moving], 1)

    def restore(self, vector: Tensor) -> Any:
        """The state of a vector."""
        leaves, sizes = list(self._leaves), [_row(self._leaves[i]).shape[1] for i in self._moving]
        for i, piece in zip(self._moving, vector.split(sizes, 1), strict=True):
            like = self._leaves[i]
            piece = piece.reshape(*like.shape, 2) if like.is_complex() else piece.reshape(like.shape)
            leaves[i] = torch.view_as_complex(piece.contiguous()) if like.is_complex() else piece
        return pytree.tree_unflatten(leaves, self._tree)


def _moves(leaf: Tensor) -> bool:
    """Whether a state's tensor belongs to the fixed point: neither a counter nor one number an image."""
    return leaf.ndim > 1 and (leaf.is_floating_point() or leaf.is_complex())


def _row(leaf: Tensor) -> Tensor:
    """``(B, n)``, real."""
    return (torch.view_as_real(leaf.resolve_conj()) if leaf.is_complex() else leaf).flatten(1)
