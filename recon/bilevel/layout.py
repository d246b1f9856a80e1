"""A solver's state as one real vector an image, and back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ...operators.real_parts import from_real_parts, real_parts


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
            leaves[i] = from_real_parts(piece, like)
        return pytree.tree_unflatten(leaves, self._tree)


def _moves(leaf: Tensor) -> bool:
    """Whether a state's tensor belongs to the fixed point: neither a counter nor one number an image."""
    return leaf.ndim > 1 and (leaf.is_floating_point() or leaf.is_complex())


def _row(leaf: Tensor) -> Tensor:
    """``(B, n)``, real."""
    return real_parts(leaf).flatten(1)
