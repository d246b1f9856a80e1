r"""Downsampling: a periodic blur of which every f-th sample is kept on each axis, starting with the first.

.. math:: y = S K x, \qquad
          \operatorname{prox}(z) = z + K^H S^H\, \gamma\, (I + \gamma\, S K K^H S^H)^{-1} (y - S K z) .

Decimation folds the spectrum: ``S K K^H S^H`` is again a convolution, on the coarse grid, whose transfer function is
the mean of ``|F k|^2`` over the f^d frequencies that become one. So the proximal step divides one small spectrum.
Zhao, Wei, Basarab, Dobigeon, Kouamé and Tourneret, IEEE TIP 25:3683 (2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .blur import CircularBlur
from .norm import as_factor
from .operator import Operator


class Downsampling(Operator):
    """A small picture of a large image, for super-resolution. Real images stay real.

    :param kernel: real, ``(*spatial)`` for all channels or ``(C, *spatial)``; sample ``n // 2`` of each axis leaves the
        image where it is, as in :class:`CircularBlur`.
    :param image_shape: ``(C, *spatial)``, in two or three dimensions.
    :param factor: f, by which the spatial lengths divide.
    :raises ValueError: for a kernel that is not real and finite, or for lengths that do not fit.
    """

    def __init__(self, kernel: Tensor, image_shape: Sequence[int], factor: int, **kwargs: Any):
        blur = CircularBlur(kernel, image_shape)
        channels, *lengths = blur.image_shape
        if not float(factor).is_integer() or factor < 1 or any(n % factor for n in lengths):
            raise ValueError(f"factor: found {float(factor):g}, expected a divisor of the lengths {tuple(lengths)}")
        factor = int(factor)
        super().__init__(blur.image_shape, (channels, *(n // factor for n in lengths)), **kwargs)
        self.blur, self.factor = blur, factor
        self._kept = (..., *[slice(None, None, factor)] * len(lengths))
        self._axes = tuple(range(-len(lengths), 0))

    def geometry(self) -> dict[str, Any]:
        return {**self.blur.geometry(), "factor": self.factor}

    def update_parameters(self, **parameters: Any) -> None:
        """Of the blur."""
        super().update_parameters(**parameters)
        self.blur.update_parameters(**parameters)

    def squared_norm(self) -> float:
        """``||A||^2``, the largest value of the transfer function of ``A A^H``."""
        return float(self._power(torch.float64).max())

    def _forward_map(self, x: Tensor) -> Tensor:
        return self.blur.A(x)[self._kept].contiguous()

    def _adjoint_map(self, y: Tensor) -> Tensor:
        spread = y.new_zeros(len(y), *self.image_shape)
        spread[self._kept] = y
        return self.blur.A_adjoint(spread)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``, one division per frequency of the data.

        :param gamma: one number, or one per image ``(B,)``.
        """
        dtype = torch.promote_types(torch.promote_types(z.dtype, y.dtype), torch.float32)
        gap = y.to(dtype) - self.A(z.to(dtype))
        gamma = as_factor(gamma, gap)
        spectrum = self._fourier(gap) * (gamma / (1 + gamma * self._power(dtype)))
        back = torch.fft.ifftn if dtype.is_complex else torch.fft.irfftn
        return z + self.A_adjoint(back(spectrum, s=self.data_shape[1:], dim=self._axes))

    def _fourier(self, y: Tensor) -> Tensor:
        """Spectrum of data; of real ones the half that determines it."""
        transform = torch.fft.fftn if y.is_complex() else torch.fft.rfftn
        return transform(y, dim=self._axes)

    def _power(self, dtype: torch.dtype) -> Tensor:
        """Transfer function of ``A A^H`` for data of ``dtype``, computed in float64."""
        return self._derived("power", dtype, lambda: self._folded(dtype))

    def _folded(self, dtype: torch.dtype) -> Tensor:
        """From its answer to an impulse."""
        precise = torch.complex128 if dtype.is_complex else torch.float64
        impulse = torch.zeros(1, *self.data_shape, dtype=precise, device=self.blur.kernel.device)
        impulse[(..., *[0] * len(self._axes))] = 1
        answer = self._forward_map(self._adjoint_map(impulse))
        return self._fourier(answer).real.clamp_min(0).to(dtype.to_real())

    def estimate_noise(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in data that state none, per image, shape ``(B,)``; as of a blur."""
        return self.blur.estimate_noise(y)
