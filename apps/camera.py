"""How a photograph came from its scene, as the options of ``simulate blur`` and ``import blur`` say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ..datasets import Arrays, read_arrays
from ..datasets.images import as_kernel
from ..operators import Blur, CircularBlur, Downsampling, Identity, Operator
from .cli import UsageError
from .import_ import pick

Border = Literal["unseen", "circular"]
Convert = Callable[[Path, Arrays, Tensor], Tensor]


def _sharp(_: int) -> Tensor:
    return torch.ones(1, 1)


def _gaussian(_: int) -> Tensor:
    from deepinv.physics.functional import gaussian_blur

    return gaussian_blur(sigma=(1.6, 1.6))[0, 0]


def _uniform(_: int) -> Tensor:
    return torch.full((9, 9), 1 / 81)


def _bicubic(factor: int) -> Tensor:
    from deepinv.physics.functional import bicubic_filter

    return bicubic_filter(factor)[0, 0]


#: Kernels with a name, from the factor of a small picture.
KERNELS: dict[str, Callable[[int], Tensor]] = {
    "none": _sharp,
    "gaussian": _gaussian,
    "uniform": _uniform,
    "bicubic": _bicubic,
}


def read_photograph(path: str, convert: Convert, array: str | None = None, option: str = "--array") -> Tensor:
    """The picture in a file, or the array called ``array``, as ``convert`` makes it."""
    found = read_arrays(path)
    candidates = ["image"] if "image" in found.arrays else list(found.arrays)
    return convert(Path(path), found, pick(Path(path), found, array, candidates, option))


def kernel_of(kernel: str, convert: Convert, axes: int, factor: int, array: str | None = None) -> Tensor:
    """The kernel of that name, or in that file, on ``axes`` spatial axes.

    :raises UsageError: for a name of one with fewer axes.
    """
    if kernel not in KERNELS:
        return as_kernel(Path(kernel), read_photograph(kernel, convert, array, "--kernel_array"))
    found = KERNELS[kernel](factor)
    if found.numel() > 1 and found.ndim != axes:
        raise UsageError(f"--kernel: found {kernel}, expected none or a file: the kernel of a volume has three axes")
    return found.reshape(found.shape if found.ndim == axes else (1,) * axes)


def operator_of(border: Border, kernel: Tensor, frame: Sequence[int], factor: int) -> Operator:
    """What makes a photograph ``(C, *spatial)`` of its scene.

    :raises UsageError: for a factor without circular borders.
    """
    if factor > 1 and border != "circular":
        raise UsageError(f"--factor: found {factor} with --border {border}, expected --border circular")
    channels, *lengths = frame
    if factor > 1:
        return Downsampling(kernel, (channels, *(factor * n for n in lengths)), factor)
    if kernel.numel() == 1:
        return Identity((channels, *lengths))
    return (Blur if border == "unseen" else CircularBlur)(kernel, (channels, *lengths))
