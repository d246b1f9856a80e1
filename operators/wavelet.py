r"""The orthonormal discrete wavelet transform, periodised, in any number of dimensions.

.. math:: a_k = \sum_j h_j\, x_{2k + L/2 - j}, \quad d_k = \sum_j g_j\, x_{2k + L/2 - j}, \qquad W^H W = W W^H = I ,

with indices modulo the length, one axis after the other, then again on the approximation a (Mallat,
IEEE TPAMI 11:674, 1989). An odd last sample passes into the approximation as it is, so that W stays
orthonormal and keeps the image's shape for every size.

A level along an axis is a banded matrix. Blocks of it, all alike, act on overlapping windows of the
axis: one batched product of small matrices, some times faster than a strided convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, reduce
from typing import Any

import pywt
import torch
from torch import Tensor

from .operator import Operator
from .real_parts import real_parts

#: Approximation coefficients that one block of the banded matrix makes, or near: the length must divide.
BLOCK = 8


class Wavelet(Operator):
    """Wavelet coefficients of an image, in Mallat's layout: the approximation in the first corner.

    Coefficients have the image's shape; they are those of ``pywt.wavedecn(..., mode="periodization")``
    where no axis is odd. An axis is split while it is at least twice as long as the filter less one.

    :param image_shape: ``(C, *spatial)``; channels are transformed one by one.
    :param wavelet: an orthogonal wavelet by PyWavelets' name, such as ``haar``, ``db4``, ``sym8``, ``coif2``.
    :param levels: how many; as many as the longest axis allows if None.
    :raises ValueError: for another wavelet, or more levels than the longest axis allows.
    """

    def __init__(self, image_shape: Sequence[int], wavelet: str = "db4", levels: int | None = None, **kwargs: Any):
        super().__init__(tuple(image_shape), tuple(image_shape), **kwargs)
        taps = len(orthogonal_filters(wavelet)[0])
        most = max((_most_levels(n, taps) for n in self.image_shape[1:]), default=0)
        if not most:
            raise ValueError(f"image: found {self.image_shape[1:]}, expected an axis long enough for {wavelet}")
        levels = most if levels is None else levels
        if not 1 <= levels <= most:
            raise ValueError(f"levels: found {levels}, expected 1 to {most} for {wavelet} on {self.image_shape[1:]}")
        self.wavelet, self.levels = wavelet, levels
        self._corners = _corners(self.image_shape[1:], taps, levels)

    def geometry(self) -> dict[str, Any]:
        return {"image_shape": self.image_shape, "wavelet": self.wavelet, "levels": self.levels}

    def _forward_map(self, x: Tensor) -> Tensor:
        out = real_parts(x)
        for size, axes in self._corners:
            corner = _corner(out, size)
            out = _put(out, corner, reduce(self._analyse, axes, corner))
        return torch.view_as_complex(out) if x.is_complex() else out

    def _adjoint_map(self, y: Tensor) -> Tensor:
        out = real_parts(y).clone(memory_format=torch.contiguous_format)
        for size, axes in reversed(self._corners):
            corner = _corner(out, size)
            out = _put(out, corner, reduce(self._synthesise, axes, corner))
        return torch.view_as_complex(out) if y.is_complex() else out

    def _analyse(self, x: Tensor, axis: int) -> Tensor:
        """One level along ``axis``: the approximation, an odd last sample, the detail."""
        half, odd = divmod(x.shape[axis], 2)
        analysis, *_ = _blocks(self.wavelet, half, _inner(x, axis), x.dtype, x.device)
        bands = _banded(analysis, x.narrow(axis, 0, 2 * half), axis, 2).unflatten(2, (2, -1)).movedim(2, 1)
        if not odd:
            return bands.reshape(x.shape)
        a, d = (band.reshape(_resized(x, axis, half)) for band in bands.unbind(1))
        return torch.cat([a, x.narrow(axis, 2 * half, 1), d], axis)

    def _synthesise(self, y: Tensor, axis: int) -> Tensor:
        """The inverse of :meth:`_analyse`, which is its adjoint."""
        half, odd = divmod(y.shape[axis], 2)
        _, from_a, from_d = _blocks(self.wavelet, half, _inner(y, axis), y.dtype, y.device)
        a, last, d = y.split((half, odd, half), axis)
        even = _banded(from_a, a, axis, 1).add_(_banded(from_d, d, axis, 1)).reshape(_resized(y, axis, 2 * half))
        return torch.cat([even, last], axis) if odd else even


def orthogonal_filters(name: str) -> tuple[list[float], list[float]]:
    """Low-pass and high-pass analysis filter of an orthogonal wavelet.

    :raises ValueError: for any other wavelet.
    """
    if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal:
        raise ValueError(f"wavelet: found {name!r}, expected an orthogonal one such as haar, db4, sym8 or coif2")
    return pywt.Wavelet(name).dec_lo, pywt.Wavelet(name).dec_hi


def _most_levels(n: int, taps: int) -> int:
    """How often an axis of ``n`` samples is split."""
    return 1 + _most_levels((n + 1) // 2, taps) if n >= 2 * (taps - 1) else 0


def _corners(spatial: tuple[int, ...], taps: int, levels: int) -> list[tuple[tuple[int, ...], list[int]]]:
    """Per level the size of the approximation that it splits, and the axes along which it does."""
    corners = []
    for _ in range(levels):
        split = [_most_levels(n, taps) > 0 for n in spatial]
        corners.append((spatial, [axis for axis, halved in enumerate(split, start=2) if halved]))
        spatial = tuple((n + 1) // 2 if halved else n for n, halved in zip(spatial, split, strict=True))
    return corners


def _corner(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x[(slice(None), slice(None), *map(slice, size))]


def _put(x: Tensor, corner: Tensor, new: Tensor) -> Tensor:
    """``x`` with ``new`` in its ``corner``, which may be all of it."""
    return new if corner.shape == x.shape else (corner.copy_(new), x)[1]


def _resized(x: Tensor, axis: int, n: int) -> list[int]:
    """The shape of ``x`` with ``n`` samples along ``axis``."""
    return [*x.shape[:axis], n, *x.shape[axis + 1 :]]


def _inner(x: Tensor, axis: int) -> int:
    """Entries of ``x`` at one sample of ``axis`` that a block takes along: both parts of the last axis's numbers."""
    after = math.prod(x.shape[axis + 1 :])
    return after if after <= 2 else 1


@lru_cache(maxsize=256)
def _blocks(wavelet: str, half: int, inner: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    """The repeated blocks of analysis (approximations, then details) and of synthesis from either."""
    length = _block_length(half)

    def band(taps: list[float], coefficients: range, samples: range) -> Tensor:
        rows = [[_tap(taps, 2 * k + len(taps) // 2 - m) for m in samples] for k in coefficients]
        return torch.kron(torch.tensor(rows, dtype=dtype), torch.eye(inner, dtype=dtype)).to(device)

    filters = orthogonal_filters(wavelet)
    ahead, behind = len(filters[0]) // 2 - 1, len(filters[0]) // 4
    analysis = torch.cat([band(f, range(length), range(-ahead, 2 * length + ahead)) for f in filters])
    synthesis = (band(f, range(-behind, length + behind), range(2 * length)).mT for f in filters)
    return analysis, *synthesis


def _tap(taps: list[float], j: int) -> float:
    return taps[j] if 0 <= j < len(taps) else 0.0


def _block_length(half: int) -> int:
    """The divisor of ``half`` nearest :data:`BLOCK` in ratio."""
    return min((b for b in range(1, half + 1) if half % b == 0), key=lambda b: abs(math.log(b / BLOCK)))


def _banded(block: Tensor, x: Tensor, axis: int, rate: int) -> Tensor:
    """``block`` times every window along ``axis``, modulo its length: ``(before, windows, rows, after)``.

    :param rate: samples of ``x`` to two rows: windows advance by ``rate / 2`` samples per row.
    """
    inner, n, after = _inner(x, axis), x.shape[axis], math.prod(x.shape[axis + 1 :])
    rows, width = block.shape[0] // inner, block.shape[1] // inner
    step = rows * rate // 2
    reach = (width - step) // 2
    wrapped = torch.cat([x.narrow(axis, n - reach, reach), x, x.narrow(axis, 0, reach)], axis)
    if after > inner:
        windows = wrapped.reshape(-1, n + 2 * reach, after).unfold(1, width, step)
        return torch.matmul(block, windows.mT)
    windows = wrapped.reshape(-1, (n + 2 * reach) * inner).unfold(1, width * inner, step * inner).transpose(0, 1)
    products = torch.bmm(windows, block.mT.expand(len(windows), -1, -1))
    return products.transpose(0, 1).unflatten(2, (rows, inner))
