r"""Blur of photographs and volumes: convolution with a known kernel.

.. math:: y_i = \sum_j k_j\, x_{i + c - j} .

With periodic indices (:class:`CircularBlur`, c = n // 2 on each axis of n kernel samples) the Fourier transform
F diagonalises the sum: ``A = F^H diag(F k) F``. A camera does not wrap its scene: each pixel near the border of a
photograph holds light from outside the frame. :class:`Blur` makes the scene that much larger than the
photograph and keeps what the camera saw, the valid part of the convolution.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor

from .noise import of_finest_details
from .norm import as_factor
from .operator import Operator


class Convolution(Operator):
    """A circular convolution on a periodic grid, of which image and data are the leading corners.

    :param kernel: real, ``(*spatial)`` for all channels or ``(C, *spatial)``.
    :param image_shape: ``(C, *spatial)``.
    :param data_shape: ``(C, *spatial)``.
    :raises ValueError: for a kernel that is not real and finite, or does not fit.
    """

    kernel: Tensor

    def __init__(self, kernel: Tensor, image_shape: Sequence[int], data_shape: Sequence[int], **kwargs: Any):
        super().__init__(tuple(image_shape), tuple(data_shape), **kwargs)
        self.register_buffer("kernel", torch.as_tensor(kernel).to(torch.float64))
        self._axes = tuple(range(1 - len(self.image_shape), 0))

    @property
    @abstractmethod
    def grid(self) -> tuple[int, ...]:
        """Lengths of the periodic grid, no shorter than the image."""

    @property
    @abstractmethod
    def origin(self) -> tuple[int, ...]:
        """Index c of the kernel sample that leaves an image where it is on the grid."""

    def _forward_map(self, x: Tensor) -> Tensor:
        return self._filter(x, self._tables_for(x.dtype).transfer, self.data_shape)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        return self._filter(y, self._tables_for(y.dtype).conjugate, self.image_shape)

    def _filter(self, x: Tensor, response: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Multiply the spectrum of ``x`` on the grid; the corner of ``shape`` of what comes out."""
        spectrum = self._fourier(x).mul_(response)
        return self._inverse(spectrum, x.is_complex())[(..., *map(slice, shape))].contiguous()

    def _fourier(self, x: Tensor) -> Tensor:
        """Spectrum on the grid; of a real image the half that determines it."""
        transform = torch.fft.fftn if x.is_complex() else torch.fft.rfftn
        return transform(x.to(_working(x.dtype)), s=self.grid, dim=self._axes)

    def _inverse(self, spectrum: Tensor, is_complex: bool) -> Tensor:
        transform = torch.fft.ifftn if is_complex else torch.fft.irfftn
        return transform(spectrum, s=self.grid, dim=self._axes)

    def _tables_for(self, dtype: torch.dtype) -> _Tables:
        """The kernel's spectrum, computed in float64, for images of ``dtype``."""
        return self._derived("tables", _working(dtype), lambda: self._build(_working(dtype)))

    def _build(self, dtype: torch.dtype) -> _Tables:
        padding = [n for axis in reversed(self._axes) for n in (0, self.grid[axis] - self.kernel.shape[axis])]
        centred = F.pad(self.kernel, padding).roll([-c for c in self.origin], self._axes)
        spectrum = self._fourier(centred.to(torch.complex128) if dtype.is_complex else centred)
        transfer, power = spectrum.to(torch.promote_types(dtype, torch.complex64)), spectrum.abs().square()
        return _Tables(transfer, transfer.conj().resolve_conj(), power.to(dtype.to_real()))

    def estimate_noise(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in data that state none, per image ``(B,)``: a blur leaves details to it."""
        return of_finest_details(y, self._axes)


class _Tables(NamedTuple):
    """Transfer function of the kernel, its conjugate (stored: products with a lazy one are slow) and its power."""

    transfer: Tensor
    conjugate: Tensor
    power: Tensor


class CircularBlur(Convolution):
    r"""Periodic convolution; kernel sample ``n // 2`` of each axis leaves the image where it is.

    That is ``scipy.ndimage.convolve(..., mode="wrap")`` and :class:`deepinv.physics.BlurFFT`. Real images stay real.

    :param kernel: real, ``(*spatial)`` for all channels or ``(C, *spatial)``, no longer than the image on any axis.
    :param image_shape: ``(C, *spatial)``, in two or three dimensions.
    :raises ValueError: for a kernel that is not real and finite, or does not fit.
    """

    def __init__(self, kernel: Tensor, image_shape: Sequence[int], **kwargs: Any):
        kernel, shape = checked(kernel, "image_shape", image_shape)
        if any(k > n for k, n in zip(kernel.shape[1:], shape[1:], strict=True)):
            raise ValueError(f"kernel: found shape {tuple(kernel.shape[1:])}, expected no more than {shape[1:]}")
        super().__init__(kernel, shape, shape, **kwargs)

    def geometry(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "image_shape": self.image_shape}

    @property
    def grid(self) -> tuple[int, ...]:
        return self.image_shape[1:]

    @property
    def origin(self) -> tuple[int, ...]:
        return tuple(n // 2 for n in self.kernel.shape[1:])

    def squared_norm(self) -> float:
        """``||A||^2``, the largest squared magnitude of the transfer function."""
        return float(self._tables_for(torch.float64).power.max())

    def _normal_map(self, x: Tensor) -> Tensor:
        return self._filter(x, self._tables_for(x.dtype).power, self.image_shape)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **_: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``, one division per frequency.

        :param gamma: one number, or one per image ``(B,)``.
        """
        self._check("image", z, self.image_shape)
        self._check("data", y, self.data_shape)
        dtype = torch.promote_types(z.dtype, y.dtype)
        t = self._tables_for(dtype)
        gamma = as_factor(gamma, z.to(dtype))
        seen = self._fourier(z.to(dtype)) + gamma * t.conjugate * self._fourier(y.to(dtype))
        return self._inverse(seen / (1 + gamma * t.power), dtype.is_complex)


class Blur(Convolution):
    r"""What a camera's frame shows of a blurred scene: the valid part of the convolution.

    Images are larger than the photograph by the kernel's length minus one on each axis, since the light of
    that many pixels outside the frame falls into it. :meth:`frame` cuts a reconstruction back to the photograph, where
    kernel sample ``n // 2`` leaves it in place. Real images stay real.

    :param kernel: real, ``(*spatial)`` for all channels or ``(C, *spatial)``.
    :param frame_shape: ``(C, *spatial)`` of the photograph, in two or three dimensions.
    :raises ValueError: for a kernel that is not real and finite, or does not fit.
    """

    def __init__(self, kernel: Tensor, frame_shape: Sequence[int], **kwargs: Any):
        kernel, frame = checked(kernel, "frame_shape", frame_shape)
        scene = (n + k - 1 for n, k in zip(frame[1:], kernel.shape[1:], strict=True))
        super().__init__(kernel, (frame[0], *scene), frame, **kwargs)

    def geometry(self) -> dict[str, Any]:
        return {"kernel": self.kernel, "frame_shape": self.data_shape}

    @property
    def grid(self) -> tuple[int, ...]:
        """Whatever a longer grid wraps around falls outside the valid part."""
        return tuple(int(next_fast_len(n, real=True)) for n in self.image_shape[1:])  # pyright: ignore[reportArgumentType]

    @property
    def origin(self) -> tuple[int, ...]:
        return tuple(n - 1 for n in self.kernel.shape[1:])

    def precondition(self, x: Tensor, gamma: float | Tensor) -> Tensor:
        """The inverse as it would be if the camera saw the whole periodic grid; wrong only near the frame's border."""
        return self._filter(x, 1 / (1 + gamma * self._tables_for(x.dtype).power), self.image_shape)

    @property
    def window(self) -> tuple[slice, ...]:
        """The photograph's frame, as long on each axis as the data."""
        starts = [(k - 1) - k // 2 for k in self.kernel.shape[1:]]
        return tuple(slice(a, a + n) for a, n in zip(starts, self.data_shape[1:], strict=True))


def checked(kernel: Tensor, name: str, shape: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """The kernel as ``(1 or C, *spatial)`` and the shape as integers, or why they do not go together."""
    if isinstance(kernel, str):
        raise ValueError(f"kernel: found {kernel!r}, expected its values, an array")
    kernel, shape = torch.as_tensor(kernel), tuple(int(n) for n in shape)
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise ValueError(f"{name}: found {shape}, expected a channel and two or three spatial lengths")
    if kernel.is_complex() or not torch.isfinite(kernel).all():
        found = kernel.dtype if kernel.is_complex() else "NaN or infinite values"
        raise ValueError(f"kernel: found {found}, expected finite real numbers")
    found = tuple(kernel.shape)
    kernel = kernel[None] if kernel.ndim == len(shape) - 1 else kernel
    if kernel.ndim != len(shape) or len(kernel) not in (1, shape[0]) or 0 in kernel.shape:
        raise ValueError(
            f"kernel: found shape {found}, expected {len(shape) - 1} axes, or {shape[0]} channels and these"
        )
    return kernel, shape


def _working(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
