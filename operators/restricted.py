r"""Part of what an operator measures: :math:`B x = m \odot (A x)` with m zero where nothing is taken."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .around import Around
from .operator import Operator


class Restricted(Around):
    """``physics`` with the data where ``keep`` is 0 set to zero; shapes and, unless stated, the noise stay.

    :param physics: an :class:`Operator`.
    :param keep: 1 where data are kept and 0 elsewhere, or real weights; broadcasts against ``(*data_shape)``, or one
        set per image ``(B, *data_shape)``.
    """

    def __init__(self, physics: Operator, keep: Tensor, **kwargs: Any):
        keep = torch.as_tensor(keep)
        each = keep.ndim == len(physics.data_shape) + 1
        try:
            (keep[0] if each else keep).expand(physics.data_shape)
        except RuntimeError as error:
            found = f"keep: found shape {tuple(keep.shape)}, expected one that broadcasts to {physics.data_shape}"
            raise ValueError(found) from error
        super().__init__(physics, **({"noise_model": physics.noise_model} | kwargs))
        self.register_buffer("keep", keep)

    def geometry(self) -> dict[str, Any]:
        return super().geometry() | {"keep": self.keep}

    def one_per_image(self) -> tuple[str, ...]:
        return ("keep",) if self.keep.ndim > len(self.data_shape) and len(self.keep) > 1 else ()

    def groups(self) -> dict[str, Tensor]:
        """The operator's own, of the data that are kept; of the first image's, if each has its own."""
        kept = ((self.keep[0] if self.keep.ndim > len(self.data_shape) else self.keep) != 0).cpu()
        return {name: torch.where(kept, groups, -1) for name, groups in self.physics.groups().items()}

    def column_norms(self, weights: Tensor | None = None) -> Tensor | None:
        keep = self.keep.to(torch.float64)
        kept = keep if weights is None else keep * weights.to(keep.device)
        if kept.ndim <= len(self.data_shape):
            return self.physics.column_norms(kept)
        each = [self.physics.of_images(torch.tensor([i]), len(kept)).column_norms(own) for i, own in enumerate(kept)]
        known = [norms.reshape(self.image_shape) for norms in each if norms is not None]
        return torch.stack(known) if known else None

    def estimate_noise(self, y: Tensor) -> Tensor | None:
        """The operator's own, of the data that are kept."""
        return self.physics.estimate_noise(torch.where(self.keep != 0, y, torch.nan))

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:
        """Of the data that are kept; the others stay zero."""
        return torch.where(self.keep != 0, super().noise(x, **kwargs), x)

    def back_project(self, y: Tensor) -> Tensor:
        return self.physics.back_project(self.keep.to(y.real.dtype) * y)

    def _forward_map(self, x: Tensor) -> Tensor:
        data = self.physics.A(x)
        return self.keep.to(data.real.dtype) * data

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return self.physics.A_adjoint(self.keep.to(y.real.dtype) * y)
