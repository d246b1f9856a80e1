"""Operators whose geometry stays exact: phases need positions in float64 whatever the image's dtype."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from .operator import Operator


class ExactGeometry(Operator):
    """An operator whose buffers keep their dtype when it is cast.

    What it computed from them is forgotten when it moves or loads a state, and does not travel in a copy.
    """

    @abstractmethod
    def _without_tables(self) -> dict[str, Any]:
        """The attributes computed from the geometry, as they are before the first use."""

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        before = {name: b for name, b in self._buffers.items() if b is not None}
        super()._apply(fn, recurse)
        for name, old in before.items():
            self._buffers[name] = old.to(self._buffers[name].device)
        self.__dict__.update(self._without_tables())
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.__dict__.update(self._without_tables())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | self._without_tables()
