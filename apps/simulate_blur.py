"""Blurred, noisy photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from skimage import data
from torch import Tensor

from ..datasets import Arrays, read_arrays, save_measurement
from ..datasets.images import as_kernel, as_photograph
from ..operators import Blur, CircularBlur, Downsampling, Operator
from .cli import UsageError
from .simulate import add_white_noise, at_least_one


def main(
    out: str,
    image: str | None = None,
    kernel: str = "motion",
    noise_std: float = 0.01,
    border: Literal["unseen", "circular"] = "unseen",
    factor: int = 1,
    seed: int = 0,
) -> None:
    """Simulate a blurred, noisy photograph.

    :param out: measurement file to write.
    :param image: picture of the sharp scene, grey or colour, or a .npy array of values (H, W) or (H, W, C);
        scikit-image's camera man at 256 x 256 if none.
    :param kernel: motion, gaussian (standard deviation 1.6 pixels), uniform (9 x 9), bicubic (against aliasing by the
        factor), or a picture or .npy array of one, which is made to sum to 1.
    :param noise_std: standard deviation of the noise, pictures being in [0, 1].
    :param border: unseen crops the photograph to the pixels whose light all comes from the scene; circular
        wraps the scene around.
    :param factor: keep every such pixel of each axis, for super-resolution; of a circular blur.
    :param seed: of noise and motion.
    """
    scene = _camera() if image is None else _read(Path(image), as_photograph)
    at_least_one(factor=factor)
    blur = (
        KERNELS[kernel](seed, factor)
        if kernel in KERNELS
        else as_kernel(Path(kernel), _read(Path(kernel), as_photograph))
    )
    if any(k > n for k, n in zip(blur.shape, scene.shape[1:], strict=True)):
        found, picture = (" x ".join(map(str, shape)) for shape in (blur.shape, scene.shape[1:]))
        raise UsageError(f"--kernel: found {found}, expected no more than the picture's {picture}")
    physics = _operator(border, blur, tuple(scene.shape), factor)
    y, noise_std = add_white_noise(physics.A(scene[None]), noise_std, seed)
    meta = {
        "scene": image or "scikit-image camera, mean of 2 x 2 pixels",
        "kernel": kernel,
        "border": border,
        "factor": factor,
        "seed": seed,
    }
    save_measurement(Path(out), y, physics, scene[None], noise_std, meta)
    size = " x ".join(map(str, physics.data_shape))
    print(f"{out}: a photograph of {size}, kernel {' x '.join(map(str, blur.shape))}, noise {noise_std:g}")


def _operator(border: str, kernel: Tensor, scene: tuple[int, ...], factor: int) -> Operator:
    """Wrapped around, every pixel or some, or as a camera sees the middle of the scene."""
    if factor > 1 and border != "circular":
        raise UsageError(f"--factor: found {factor} with --border {border}, expected --border circular")
    try:
        if factor > 1:
            return Downsampling(kernel, scene, factor)
        if border == "circular":
            return CircularBlur(kernel, scene)
        return Blur(kernel, (scene[0], *(n - k + 1 for n, k in zip(scene[1:], kernel.shape, strict=True))))
    except ValueError as error:
        option = "factor" if str(error).startswith("factor") else "kernel: " + str(error).partition(":")[0]
        raise UsageError(f"--{option}:{str(error).partition(':')[2]}") from error


def _camera() -> Tensor:
    picture = torch.as_tensor(data.camera(), dtype=torch.float32)[None] / 255
    return torch.nn.functional.avg_pool2d(picture, 2)


def _motion(seed: int, _: int) -> Tensor:
    from deepinv.physics.generator import MotionBlurGenerator

    return MotionBlurGenerator((21, 21)).step(batch_size=1, seed=seed)["filter"][0, 0]


def _gaussian(*_: int) -> Tensor:
    from deepinv.physics.functional import gaussian_blur

    return gaussian_blur(sigma=(1.6, 1.6))[0, 0]


def _uniform(*_: int) -> Tensor:
    return torch.full((9, 9), 1 / 81)


def _bicubic(_: int, factor: int) -> Tensor:
    from deepinv.physics.functional import bicubic_filter

    return bicubic_filter(factor)[0, 0]


#: From a seed and a factor.
KERNELS: dict[str, Callable[[int, int], Tensor]] = {
    "motion": _motion,
    "gaussian": _gaussian,
    "uniform": _uniform,
    "bicubic": _bicubic,
}


def _read(path: Path, convert: Callable[[Path, Arrays, Tensor], Tensor]) -> Tensor:
    """The picture in a file, or its first array."""
    found = read_arrays(path)
    return convert(path, found, found.arrays.get("image", next(iter(found.arrays.values()))))
