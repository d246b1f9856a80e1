"""A photograph and the kernel that blurred it as a measurement of :class:`resolvent.operators.Blur`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from ..datasets import Arrays, InputError, read_arrays, recognise, save_measurement
from ..datasets.images import as_kernel, as_photograph, as_volume
from .cli import UsageError
from .import_ import pick

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
    volume: bool = False,
    noise_std: float | None = None,
) -> None:
    """Make a measurement file from a blurred photograph, or volume, and its kernel.

    :param source: photograph, gray or in colour, of any known format; integers of pictures become [0, 1].
    :param out: measurement file to write.
    :param kernel: file with the kernel, a picture or an array; colours are averaged, the sum is made 1.
    :param array: which array of the source, if it holds several.
    :param kernel_array: which array of the kernel's file, if it holds several.
    :param turn_kernel: turn the kernel by 180 degrees, for one that was meant for correlation.
    :param volume: source and kernel have depth, rows and columns, as stacks of a microscope.
    :param noise_std: standard deviation of the noise, in units of the photograph; estimated in reconstruction if
        not given.
    """
    from ..operators import Blur

    convert = as_volume if volume else as_photograph
    photograph = _read(source, array, "--array", convert)
    weights = as_kernel(Path(kernel), _read(kernel, kernel_array, "--kernel_array", convert))
    weights = weights.flip(tuple(range(weights.ndim))) if turn_kernel else weights
    if any(k > n for k, n in zip(weights.shape, photograph.shape[1:], strict=True)):
        found, most = (" x ".join(map(str, shape)) for shape in (weights.shape, photograph.shape[1:]))
        raise InputError(f"{kernel}: a kernel of {found}, expected no larger than the photograph, {most}")
    if noise_std is not None and not noise_std >= 0:
        raise UsageError(f"--noise_std: found {noise_std:g}, expected a number not below 0")
    physics = Blur(weights, tuple(photograph.shape))
    meta = {"source": Path(source).name, "kernel": Path(kernel).name, "kernel turned": turn_kernel}
    save_measurement(out, photograph[None], physics, noise_std=noise_std, meta=meta)
    size, window = (" x ".join(map(str, shape)) for shape in (photograph.shape, weights.shape))
    print(f"{out}: a {'volume' if volume else 'photograph'} of {size}, kernel {window}")
    for note in cautions(source, photograph, noise_std):
        print(f"  note: {note}")


def cautions(source: str, photograph: Tensor, noise_std: float | None) -> Iterator[str]:
    """What keeps an estimate of the noise, or a trained denoiser, from what they would do."""
    if noise_std is None and (name := recognise(source).name) in LOSSY:
        yield f"{name} takes fine noise away, what is estimated will be too low; --noise_std states it"
    if float(photograph.max()) > FAR_ABOVE_WHITE:
        peak = float(photograph.max())
        yield f"values up to {peak:g}; trained denoisers expect white at 1, integers of pictures would become that"


def _read(path: str, name: str | None, option: str, convert: Callable[[Path, Arrays, Tensor], Tensor]) -> Tensor:
    found = read_arrays(path)
    candidates = ["image"] if "image" in found.arrays else list(found.arrays)
    return convert(Path(path), found, pick(Path(path), found, name, candidates, option))
