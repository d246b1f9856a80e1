"""A photograph and the kernel that blurred it as a measurement of :class:`resolvent.operators.Blur`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import InputError, recognise, save_measurement
from ..datasets.images import as_photograph, as_volume
from ..operators import Restricted
from .camera import Border, Convert, kernel_of, operator_of, read_photograph
from .cli import UsageError
from .simulate import at_least_one

#: Values of a photograph above which its white is hardly 1.
FAR_ABOVE_WHITE = 4.0
#: Formats whose compression takes noise away.
LOSSY = ("JPEG", "WebP")


def main(
    source: str,
    out: str,
    kernel: str,
    array: str | None = None,
    kernel_array: str | None = None,
    turn_kernel: bool = False,
    border: Border = "unseen",
    factor: int = 1,
    mask: str | None = None,
    mask_array: str | None = None,
    saturated: float | None = None,
    volume: bool = False,
    noise_std: float | None = None,
) -> None:
    """Make a measurement file from a blurred, small or incomplete photograph, or volume, and its kernel.

    :param source: photograph, gray or in colour, of any known format; integers of pictures become [0, 1].
    :param out: measurement file to write.
    :param kernel: file with the kernel, a picture or an array, colours are averaged, the sum is made 1; or none,
        gaussian (standard deviation 1.6 pixels), uniform (9 x 9), bicubic (against aliasing by the factor).
    :param array: which array of the source, if it holds several.
    :param kernel_array: which array of the kernel's file, if it holds several.
    :param turn_kernel: turn the kernel by 180 degrees, for one that was meant for correlation.
    :param border: unseen for scenes that go on outside the frame; circular for pictures blurred by a computer that
        wrapped them around.
    :param factor: every such pixel of a larger image was kept, which is looked for; with circular borders.
    :param mask: file with the pixels that are known, white or above half of its largest number; all if none.
    :param mask_array: which array of the mask's file, if it holds several, such as alpha.
    :param saturated: pixels of at least this value are not known either.
    :param volume: source, kernel and mask have depth, rows and columns, as stacks of a microscope.
    :param noise_std: standard deviation of the noise, in units of the photograph; estimated in reconstruction if
        not given.
    """
    at_least_one(factor=factor)
    if noise_std is not None and not noise_std >= 0:
        raise UsageError(f"--noise_std: found {noise_std:g}, expected a number not below 0")
    convert = as_volume if volume else as_photograph
    photograph = read_photograph(source, convert, array)
    weights = kernel_of(kernel, convert, photograph.ndim - 1, factor, kernel_array)
    weights = weights.flip(tuple(range(weights.ndim))) if turn_kernel else weights
    if any(k > factor * n for k, n in zip(weights.shape, photograph.shape[1:], strict=True)):
        found, most = " x ".join(map(str, weights.shape)), " x ".join(str(factor * n) for n in photograph.shape[1:])
        raise InputError(f"{kernel}: a kernel of {found}, expected no larger than the photograph, {most}")
    physics = operator_of(border, weights, photograph.shape, factor)
    known = known_pixels(photograph, convert, mask, mask_array, saturated)
    if not known.all():
        physics, photograph = Restricted(physics, known), known * photograph
    meta = {
        "source": Path(source).name, "kernel": Path(kernel).name, "kernel turned": turn_kernel, "border": border,
        "factor": factor, "mask": None if mask is None else Path(mask).name, "saturated": saturated,
    }  # fmt: skip
    save_measurement(out, photograph[None], physics, noise_std=noise_std, meta={k: v for k, v in meta.items() if v})
    size, window = (" x ".join(map(str, shape)) for shape in (photograph.shape, weights.shape))
    left_out = f", {100 * (1 - float(known.double().mean())):.2g} % unknown" if not known.all() else ""
    print(f"{out}: a {'volume' if volume else 'photograph'} of {size}, kernel {window}{left_out}")
    for note in cautions(source, photograph, noise_std, sharp=weights.numel() == 1):
        print(f"  note: {note}")


def known_pixels(
    photograph: Tensor, convert: Convert, mask: str | None, array: str | None, saturated: float | None
) -> Tensor:
    """Where a photograph says something: inside the mask of a file, if any, and below saturation.

    :raises InputError: for a mask that does not fit.
    :raises UsageError: if nothing is left.
    """
    known = torch.ones_like(photograph, dtype=torch.bool)
    if mask is not None:
        white = read_photograph(mask, convert, array, "--mask_array")
        if white.shape[1:] != photograph.shape[1:] or len(white) not in (1, len(photograph)):
            found, expected = (" x ".join(map(str, shape)) for shape in (white.shape, photograph.shape))
            raise InputError(f"{mask}: a mask of {found}, expected the photograph's {expected}, or one for all colours")
        known &= white > white.max() / 2
    if saturated is not None:
        known &= photograph < saturated
    if not known.any():
        option = f"--mask: found {mask}" if saturated is None else f"--saturated: found {saturated:g}"
        raise UsageError(f"{option}, expected some pixels to be known")
    return known


def cautions(source: str, photograph: Tensor, noise_std: float | None, sharp: bool) -> Iterator[str]:
    """What keeps an estimate of the noise, or a trained denoiser, from what they would do."""
    if noise_std is None and (name := recognise(source).name) in LOSSY:
        yield f"{name} takes fine noise away, what is estimated will be too low; --noise_std states it"
    elif noise_std is None and sharp:
        yield "the finest details of a sharp photograph will count as noise; --noise_std states how much there is"
    if float(photograph.max()) > FAR_ABOVE_WHITE:
        peak = float(photograph.max())
        yield f"values up to {peak:g}; trained denoisers expect white at 1, integers of pictures would become that"
