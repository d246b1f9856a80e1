r"""Cross-validation: data y_h that were kept back, predicted from the others, :math:`|A_h \hat x - y_h|^2`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...operators import Operator, Restricted, squared_norm
from .losses import Known, Measure, Posed, UpperLoss, square, taken_of


class HeldOut(UpperLoss):
    r"""Data kept back, predicted from the others: the mean of :math:`|A \hat x - y|^2` over them.

    Its mean is the prediction error plus sigma^2, whatever sigma is.

    :param fraction: of the data kept back.
    :param axes: axes of the data ``(B, *data_shape)`` that count what is kept back as a whole: lines of k-space along
        the last, or antenna pairs along the last two.
    """

    def __init__(self, fraction: float = 0.2, axes: Sequence[int] = (-1,), seed: int = 0):
        if not 0 < fraction < 1:
            raise ValueError(f"fraction: found {fraction}, expected a number between 0 and 1")
        self.fraction, self.axes, self.seed = fraction, tuple(axes), seed

    def pose(self, known: Known) -> Posed:
        if not isinstance(known.physics, Operator):
            raise ValueError(f"physics: found {type(known.physics).__name__}, expected an operator of resolvent's")
        taken = taken_of(known)
        back = torch.stack([self.kept_back(own) for own in taken]) * taken
        rest, held = (Restricted(known.physics, part.squeeze(0)) for part in (taken - back, back))
        count, target = back.expand(known.y.shape).flatten(1).sum(1), back * known.y

        def loss(x: Tensor) -> Tensor:
            return square(held.A(x) - target) / count

        bend = 2 * squared_norm(held, known.physics.A_adjoint(known.y)) / float(count.min())
        return Posed((taken - back) * known.y, rest, Measure(loss, bend, True), partial=True)

    def kept_back(self, taken: Tensor) -> Tensor:
        """1 for what is kept back of an image's data ``taken``, alike along the other axes."""
        if not all(-taken.ndim <= axis <= taken.ndim and axis for axis in self.axes):
            found, last = list(self.axes), taken.ndim
            raise ValueError(f"axes: found {found}, expected 1 to {last}, or -{last} to -1 from the end, of the data")
        axes = {axis % (taken.ndim + 1) - 1 for axis in self.axes}
        others = [axis for axis in range(taken.ndim) if axis not in axes]
        units = taken.amax(others, keepdim=True) if others else taken
        candidates = units.flatten().nonzero()[:, 0]
        count = round(self.fraction * len(candidates))
        if not 0 < count < len(candidates):
            raise ValueError(f"fraction: found {self.fraction} of {len(candidates)} units, expected some and not all")
        order = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(self.seed))
        back = torch.zeros_like(units).flatten()
        back[candidates[order[:count].to(candidates.device)]] = 1
        return back.reshape(units.shape)
