"""``resolvent export FILE --out IMAGE``: the image of a result, or a measurement's truth, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..datasets import InputError, export, load_measurement, load_result
from ..datasets.export import VoxelGrid, white
from ..datasets.hdf5 import to_numpy
from ..datasets.result import ascending, descending, in_order
from ..recon import log_compress
from .arguments import keep_apart, new_parser, parse
from .cli import UsageError
from .info import own_format
from .record import axes_of


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = new_parser("export", "Write the image of a result, or the truth of a measurement, for other programs.")
    parser.add_argument("file", type=str, help="result or measurement file")
    parser.add_argument("--out", type=str, required=True, help=".h5, .nii, .nii.gz, .npy, .cfl, .tif or .png")
    parser.add_argument("--image", type=int, default=0, help="which image of the batch")
    parser.add_argument("--truth", type=bool, default=False, help="of a result the truth, where it has one")
    parser.add_argument("--window", type=list[float] | None, help="values drawn black and white in PNG")
    parser.add_argument(
        "--decibels", type=float | None, help="draw PNG in decibels: so many below the peak are black, as in a B-mode"
    )
    config = parse(parser, argv)
    keep_apart(config.out, [config.file])
    if config.out.endswith(".h5") and Path(config.out).is_file() and own_format(Path(config.out)):
        raise InputError(f"{config.out}: found a measurement or a result, expected another --out")
    images, axes = _images(Path(config.file), config.truth)
    if not 0 <= config.image < len(images):
        raise UsageError(f"--image: found {config.image}, expected 0 to {len(images) - 1} in {config.file}")
    if config.window is not None and not (len(config.window) == 2 and config.window[0] < config.window[1]):
        raise UsageError(f"--window: found {config.window}, expected two numbers, the lower first")
    image, window = images[config.image], config.window
    if config.decibels is not None:
        image, window = _in_decibels(image, config.decibels, config.out, window), (0.0, 1.0)
    export(config.out, image, grid_of(axes), window)
    which = f"image {config.image} of {len(images)}, " if len(images) > 1 else ""
    print(f"{config.out}: {which}{' x '.join(map(str, images.shape[1:]))} {str(images.dtype).removeprefix('torch.')}")
    for name, values in axes.items():
        if uneven(values):
            print(f"  note: the voxels along {name} are not evenly spaced; their mean distance is written")
    if config.out.endswith(".png") and window is None:
        print(f"  0 is black and {white(to_numpy(image)):.4g} white; --window names others")
    return 0


def _in_decibels(image: Tensor, decibels: float, out: str, window: list[float] | None) -> Tensor:
    """1 at the peak, 0 so many decibels below."""
    if not out.endswith(".png") or window is not None or not decibels > 0:
        found = f"{decibels:g}{' beside --window' if window is not None else ''}"
        raise UsageError(f"--decibels: found {found} for {out}, expected a number above 0, for PNG, without --window")
    return log_compress(image.abs()[None], decibels)[0]


def _images(path: Path, truth: bool) -> tuple[Tensor, dict[str, Any]]:
    """Images ``(B, C, *spatial)`` and their axes, which ascend."""
    if own_format(path) == "resolvent-measurement":
        m = load_measurement(path)
        images, axes = None if m.truth is None else m.physics.frame(m.truth), axes_of(m.physics)
    else:
        result = load_result(path).framed()
        images, axes = result.truth if truth else result.image, result.axes
    if images is None:
        raise InputError(f"{path}: has no truth, expected one to export")
    return images.flip(descending(axes)), ascending(axes)


def uneven(values: Tensor) -> bool:
    """Whether neighbours differ by more than a hundredth in their distance."""
    steps = values.diff()
    return len(steps) > 1 and bool((steps - steps.mean()).abs().max() > 0.01 * steps.mean().abs())


def grid_of(axes: dict[str, Tensor]) -> VoxelGrid | None:
    """Where the axes lie, None where an operator has none; an axis of one voxel has it 1 mm long."""
    ordered = in_order(axes).values()
    spacings = [float((v[-1] - v[0]) / (len(v) - 1)) if len(v) > 1 else 1e-3 for v in ordered]
    return VoxelGrid(spacings, [float(v[0]) for v in ordered]) if spacings else None
