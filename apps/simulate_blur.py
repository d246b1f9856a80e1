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
from ..operators import Blur, CircularBlur, Operator
from .cli import UsageError
from .simulate import add_white_noise


def main(
    out: str,
    image: str | None = None,
    kernel: str = "motion",
    noise_std: float = 0.01,
    border: Literal["unseen", "circular"] = "unseen",
    seed: int = 0,
) -> None:
    """Simulate a blurred, noisy photograph.

    :param out: measurement file to write.
    :param image: picture of the sharp scene, grey or colour, or a .npy array of values (H, W) or (H, W, C);
        scikit-image's camera man at 256 x 256 if none.
    :param kernel: motion, gaussian (standard deviation 1.6 pixels), uniform (9 x 9), or a picture or .npy array of
        one, which is made to sum to 1.
    :param noise_std: standard deviation of the noise, pictures being in [0, 1].
    :param border: unseen crops the photograph to the pixels whose light all comes from the scene; circular
        wraps the scene around.
    :param seed: of noise and motion.
    """
    scene = _camera() if image is None else _read(Path(image), as_photograph)
    blur = KERNELS[kernel](seed) if kernel in KERNELS else _read(Path(kernel), as_kernel)
    physics = _operator(border, blur, tuple(scene.shape))
    y, noise_std = add_white_noise(physics.A(scene[None]), noise_std, seed)
    meta = {
        "scene": image or "scikit-image camera, mean of 2 x 2 pixels",
        "kernel": kernel,
        "border": border,
        "seed": seed,
    }
    save_measurement(Path(out), y, physics, scene[None], noise_std, meta)
    size = " x ".join(map(str, physics.data_shape))
    print(f"{out}: a photograph of {size}, kernel {' x '.join(map(str, blur.shape))}, noise {noise_std:g}")


def _operator(border: str, kernel: Tensor, scene: tuple[int, ...]) -> Operator:
    """Wrapped around, or as a camera sees the middle of the scene."""
    try:
        if border == "circular":
            return CircularBlur(kernel, scene)
        return Blur(kernel, (scene[0], *(n - k + 1 for n, k in zip(scene[1:], kernel.shape, strict=True))))
    except ValueError as error:
        raise UsageError(f"--kernel: {error}") from error


def _camera() -> Tensor:
    picture = torch.as_tensor(data.camera(), dtype=torch.float32)[None] / 255
    return torch.nn.functional.avg_pool2d(picture, 2)


def _motion(seed: int) -> Tensor:
    from deepinv.physics.generator import MotionBlurGenerator

    return MotionBlurGenerator((21, 21)).step(batch_size=1, seed=seed)["filter"][0, 0]


def _gaussian(_: int) -> Tensor:
    from deepinv.physics.functional import gaussian_blur

    return gaussian_blur(sigma=(1.6, 1.6))[0, 0]


def _uniform(_: int) -> Tensor:
    return torch.full((9, 9), 1 / 81)


KERNELS: dict[str, Callable[[int], Tensor]] = {"motion": _motion, "gaussian": _gaussian, "uniform": _uniform}


def _read(path: Path, convert: Callable[[Path, Arrays, Tensor], Tensor]) -> Tensor:
    """The picture in a file, or its first array."""
    found = read_arrays(path)
    return convert(path, found, found.arrays.get("image", next(iter(found.arrays.values()))))
