"""Blurred, noisy photographs."""

from __future__ import annotations

from pathlib import Path

import torch
from skimage import data
from torch import Tensor

from ..datasets import save_measurement
from ..datasets.images import as_photograph
from ..operators import Restricted
from .camera import Border, kernel_of, operator_of, read_photograph
from .cli import UsageError
from .simulate import add_white_noise, at_least_one


def main(
    out: str,
    image: str | None = None,
    kernel: str = "motion",
    array: str | None = None,
    kernel_array: str | None = None,
    noise_std: float = 0.01,
    border: Border = "unseen",
    factor: int = 1,
    missing: float = 0.0,
    seed: int = 0,
) -> None:
    """Simulate a blurred, noisy photograph.

    :param out: measurement file to write.
    :param image: picture of the sharp scene, grey or colour, or a .npy array of values (H, W) or (H, W, C);
        scikit-image's camera man at 256 x 256 if none.
    :param kernel: motion, gaussian (standard deviation 1.6 pixels), uniform (9 x 9), bicubic (against aliasing by the
        factor), none, or a picture or .npy array of one, which is made to sum to 1.
    :param array: which array of the image's file, if it holds several.
    :param kernel_array: which array of the kernel's file, if it holds several.
    :param noise_std: standard deviation of the noise, pictures being in [0, 1].
    :param border: unseen crops the photograph to the pixels whose light all comes from the scene; circular
        wraps the scene around.
    :param factor: keep every such pixel of each axis, for super-resolution; of a circular blur.
    :param missing: share of the pixels that nothing is known of, drawn at random, for inpainting.
    :param seed: of noise, motion and missing pixels.
    """
    at_least_one(factor=factor)
    if not 0 <= missing < 1:
        raise UsageError(f"--missing: found {missing:g}, expected a share from 0 to below 1")
    scene = _camera() if image is None else read_photograph(image, as_photograph, array)
    blur = _motion(seed) if kernel == "motion" else kernel_of(kernel, as_photograph, 2, factor, kernel_array)
    physics = operator_of(border, blur, _frame(scene, blur, border, factor), factor)
    if missing:
        physics = Restricted(physics, _kept(physics.data_shape[1:], missing, seed))
    y, noise_std = add_white_noise(physics.A(scene[None]), noise_std, seed)
    y = physics.keep * y if isinstance(physics, Restricted) else y
    meta = {
        "scene": image or "scikit-image camera, mean of 2 x 2 pixels",
        "kernel": kernel,
        "border": border,
        "factor": factor,
        "missing": missing,
        "seed": seed,
    }
    save_measurement(Path(out), y, physics, scene[None], noise_std, meta)
    size = " x ".join(map(str, physics.data_shape))
    print(f"{out}: a photograph of {size}, kernel {' x '.join(map(str, blur.shape))}, noise {noise_std:g}")


def _frame(scene: Tensor, kernel: Tensor, border: Border, factor: int) -> tuple[int, ...]:
    """The shape of a photograph of the scene: the pixels whose light all comes from it, or all, or one of some.

    :raises UsageError: for a factor or a kernel that does not fit.
    """
    channels, *lengths = scene.shape
    if any(n % factor for n in lengths):
        raise UsageError(f"--factor: found {factor}, expected a divisor of the lengths {tuple(lengths)}")
    if any(k > n for k, n in zip(kernel.shape, lengths, strict=True)):
        found, picture = (" x ".join(map(str, shape)) for shape in (kernel.shape, lengths))
        raise UsageError(f"--kernel: found {found}, expected no larger than the picture, {picture}")
    if border == "circular":
        return channels, *(n // factor for n in lengths)
    return channels, *(n - k + 1 for k, n in zip(kernel.shape, lengths, strict=True))


def _kept(shape: tuple[int, ...], missing: float, seed: int) -> Tensor:
    """Which pixels are known, the same of all colours; one at least."""
    order = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return order >= order.flatten().sort().values[min(round(missing * order.numel()), order.numel() - 1)]


def _camera() -> Tensor:
    picture = torch.as_tensor(data.camera(), dtype=torch.float32)[None] / 255
    return torch.nn.functional.avg_pool2d(picture, 2)


def _motion(seed: int) -> Tensor:
    from deepinv.physics.generator import MotionBlurGenerator

    return MotionBlurGenerator((21, 21)).step(batch_size=1, seed=seed)["filter"][0, 0]
