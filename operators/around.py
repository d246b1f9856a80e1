"""Operators around another one, whose grid, frame and default method they share."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from torch import Tensor

from .operator import Operator
from .substitute import substitute


class Around(Operator):
    """Base class: images and data are those of the operator inside.

    :param physics: the :class:`Operator` inside.
    """

    def __init__(self, physics: Operator, **kwargs: Any):
        super().__init__(physics.image_shape, physics.data_shape, **kwargs)
        self.physics = physics
        self.relative_scale, self.complex_data = physics.relative_scale, physics.complex_data

    @abstractmethod
    def geometry(self) -> dict[str, Any]:
        return {"physics": self.physics}

    def update_parameters(self, **parameters: Any) -> None:
        """Of this operator and of the one inside."""
        super().update_parameters(**parameters)
        self.physics.update_parameters(**parameters)

    def of_images(self, which: Tensor, batch: int) -> Self:
        """Likewise."""
        twin, inner = super().of_images(which, batch), self.physics.of_images(which, batch)
        return twin if inner is self.physics else substitute(twin, "physics", inner)

    @property
    def innermost(self) -> Operator:
        return self.physics.innermost

    @property
    def window(self) -> tuple[slice, ...]:
        return self.physics.window

    def groups(self) -> dict[str, Tensor]:
        return self.physics.groups()
