r"""The discrepancy principle as a loss, :math:`(\|A \hat x - y\|^2 / (m \sigma^2) - 1)^2`."""

from __future__ import annotations

from torch import Tensor

from ...operators import squared_norm
from .losses import Known, Measure, Posed, UpperLoss, noise_of, samples_of, square


class DiscrepancyPrinciple(UpperLoss):
    r"""Morozov's principle, :math:`(\|A \hat x - y\|^2 / (m \sigma^2) - 1)^2`: the data are met within the noise.

    Not convex; its smoothness is that where it is met. One number can be found by it, more cannot. Of the true image it
    is the variance of the noise's energy, :math:`1/m`, or :math:`2/m` of real data.

    :param noise_std: sigma; what the data's file states if None.
    """

    def __init__(self, noise_std: float | None = None):
        self.noise_std = noise_std

    def pose(self, known: Known) -> Posed:
        samples = samples_of(known)
        energy = samples * noise_of(self, self.noise_std, known) ** 2

        def loss(x: Tensor) -> Tensor:
            return (square(known.physics.A(x) - known.y) / energy - 1).square()

        bend = 8 * squared_norm(known.physics, known.physics.A_adjoint(known.y)) / float(energy.min())
        floor = (1 if known.y.is_complex() else 2) * float((1 / samples).mean())
        return Posed(known.y, known.physics, Measure(loss, bend, False, floor))
