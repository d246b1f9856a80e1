r"""Losses of images whose truth is known.

.. math:: \tfrac1n \|\hat x - x\|^2, \qquad 1 - \mathrm{SSIM}(\hat x, x) .
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..problem import norms
from ..similarity import magnitude_of, structural_similarity, window_of
from .losses import Known, Measure, Posed, UpperLoss, probes, square


class MeanSquare(UpperLoss):
    """Mean square distance to the truth over all entries of the image, phases included."""

    def pose(self, known: Known) -> Posed:
        truth = _truth(self, known)
        size = truth[0].numel()
        return Posed(known.y, known.physics, Measure(lambda x: square(x - truth) / size, 2 / size, True))


class StructuralDissimilarity(UpperLoss):
    """One minus the structural similarity to the truth, as :func:`resolvent.recon.ssim` measures it.

    Not convex; its smoothness is that at the truth, where flat parts of it make it large, and no proven bound.

    :param data_range: the peak; that of each image's truth if None.
    """

    def __init__(self, data_range: float | None = None):
        self.data_range = data_range

    def pose(self, known: Known) -> Posed:
        truth = magnitude_of(_truth(self, known))
        peak = truth.flatten(1).amax(1) if self.data_range is None else truth.new_full((len(truth),), self.data_range)
        if not window_of(truth):
            raise ValueError(f"truth: found images of {tuple(truth.shape[2:])}, expected room for a window of 3")

        def loss(x: Tensor) -> Tensor:
            return 1 - structural_similarity(magnitude_of(x), truth, peak)

        return Posed(known.y, known.physics, Measure(loss, _curvature(loss, truth), False))


def _truth(loss: UpperLoss, known: Known) -> Tensor:
    if known.truth is None:
        raise ValueError(
            f"{type(loss).__name__}: found no truth, expected it in the file, or a loss that needs none: "
            "SURE, ProjectedSURE, DiscrepancyPrinciple or HeldOut"
        )
    return known.truth


def _curvature(loss: Callable[[Tensor], Tensor], at: Tensor, iterations: int = 20) -> float:
    """The largest of the curvatures of ``loss`` at images ``at``, by the power method."""
    v, size = probes(at, 1, 0)[0], torch.zeros(())
    point = at.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss(point).sum(), point, create_graph=True)
    for _ in range(iterations):
        (v,) = torch.autograd.grad(slope, point, v / norms(v).max(), retain_graph=True)
        size = norms(v).max()
    return float(size)
