r"""A photograph of short exposure: less light, counted in photons and read out once.

.. math:: y = \lambda x + n, \qquad
          y \sim g\, \mathrm{Poisson}\Big(\frac{\lambda x}{g}\Big) + \mathcal{N}(0, \sigma^2) ,

x the brightness at exposure 1, g the brightness of one photon there and sigma the noise of reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deepinv.physics import PoissonGaussianNoise
from torch import Tensor

from .norm import as_factor
from .operator import Operator, identity


class Exposure(Operator):
    """Raw images at a share of the exposure wanted, with shot and read noise as its noise model.

    :param exposure: lambda, from above 0 to 1.
    :param gain: g, above 0, in units of the image; of one photon.
    :param read_noise: sigma, standard deviation, likewise.
    :param image_shape: ``(C, *spatial)``.
    """

    def __init__(
        self, exposure: float, gain: float, read_noise: float, image_shape: Sequence[int], **kwargs: Any
    ):  # fmt: skip
        exposure, gain, read_noise = float(exposure), float(gain), float(read_noise)
        if not 0 < exposure <= 1 or not 0 < gain < float("inf") or not 0 <= read_noise < float("inf"):
            found = f"{exposure}, {gain}, {read_noise}"
            expected = "above 0 and at most 1, above 0, not below 0"
            raise ValueError(f"exposure, gain, read_noise: found {found}, expected {expected}")
        noise = PoissonGaussianNoise(gain, read_noise, clip_positive=True)
        noise.noise_model = identity  # deepinv's own cannot be pickled, and is not called
        super().__init__(tuple(image_shape), tuple(image_shape), **({"noise_model": noise} | kwargs))
        self.exposure, self.gain, self.read_noise = exposure, gain, read_noise

    def geometry(self) -> dict[str, Any]:
        names = ("exposure", "gain", "read_noise", "image_shape")
        return {name: getattr(self, name) for name in names}

    def _forward_map(self, x: Tensor) -> Tensor:
        return self.exposure * x

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return self.exposure * y

    def squared_norm(self) -> float:
        """``||A||^2``."""
        return self.exposure**2

    def estimate_noise(self, y: Tensor) -> Tensor:
        """Standard deviation of shot and read noise together, per image ``(B,)``: that of the mean brightness."""
        mean = y.real.flatten(1).nanmean(1).clamp_min(0)
        return (self.gain * mean + self.read_noise**2).sqrt()

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        """The exposure, times the weights, ``(C, *spatial)``."""
        return self.exposure * self._squares(weights).sqrt()

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``.

        :param gamma: one number, or one per image ``(B,)``.
        """
        gamma = as_factor(gamma, z)
        return (z + gamma * self.exposure * y) / (1 + gamma * self.exposure**2)
