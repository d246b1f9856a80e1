r"""What is trained: a network :math:`D_\theta(x, \sigma)` that can say how it was built.

A file of weights holds the name of the class and its arguments, from which an empty network is made again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .prior import broadcast


class Described(nn.Module):
    """A module that can say how it was built.

    Every argument of a subclass's constructor is plain (numbers, strings, lists of them), or described itself, and
    is kept as the attribute of its name.
    """

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments: with them, the class makes a module of the same shape."""
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {name: v.description if isinstance(v, Described) else v for name, v in values.items()}

    @property
    def description(self) -> dict[str, Any]:
        """The class's name and the :attr:`arguments`."""
        return {"architecture": type(self).__name__, "arguments": self.arguments}


class Network(Described):
    """Base class of the networks; ``forward(x, sigma)`` on real images ``(B, C, *spatial)`` of any spatial size."""

    #: Channels of an image.
    channels: int
    #: Spatial axes of an image, 2 or 3.
    dim: int
    #: Whether it takes no notice of the noise level, and denoises at the mean of those of its training.
    one_level: ClassVar[bool] = False

    def project_(self) -> None:
        """Bring the weights back to the set that they belong to, after a step of training; here every weight does."""

    def checked(self, x: Tensor) -> Tensor:
        """``x``, if it is real and has this network's axes and channels."""
        if x.is_complex():
            name = type(self).__name__
            raise ValueError(f"{name}: found a complex image, expected a real one such as Magnitude makes of it")
        if x.ndim != self.dim + 2 or x.shape[1] != self.channels:
            expected = f"(B, {self.channels}, {', '.join(['n'] * self.dim)})"
            raise ValueError(f"{type(self).__name__}: found an image of shape {tuple(x.shape)}, expected {expected}")
        return x


def on_parts(denoise: Callable[[Tensor, Any], Tensor], x: Tensor, sigma: float | Tensor) -> Tensor:
    """A complex image ``(B, C, *spatial)`` through a real denoiser.

    Its parts are channels of a network of 2 C channels, the real ones first; elsewhere each is an image.

    :param sigma: standard deviation of either part, one or ``(B,)``.
    """
    if getattr(denoise, "channels", None) == 2 * x.shape[1]:
        return torch.complex(*denoise(torch.cat([x.real, x.imag], 1), sigma).chunk(2, 1))
    both = torch.cat([sigma, sigma]) if isinstance(sigma, Tensor) and sigma.ndim else sigma
    return torch.complex(*denoise(torch.cat([x.real, x.imag]), both).chunk(2))


def on_channels(denoise: Callable[[Tensor, Any], Tensor], x: Tensor, sigma: float | Tensor) -> Tensor:
    """An image ``(B, C, *spatial)`` through a denoiser; each channel is an image to a network of one.

    :param sigma: standard deviation, one or ``(B, 1, ...)``.
    """
    if getattr(denoise, "channels", None) != 1 or x.shape[1] == 1:
        return denoise(x, sigma)
    level = sigma.expand(x.shape[0], x.shape[1], *sigma.shape[2:]).flatten(0, 1).unsqueeze(1) if (
        isinstance(sigma, Tensor) and sigma.ndim > 1
    ) else sigma  # fmt: skip
    return denoise(x.flatten(0, 1).unsqueeze(1), level).reshape(x.shape)


def noise_map(sigma: float | Tensor, x: Tensor) -> Tensor:
    """Standard deviations ``(B, 1, *spatial)``; of one number, one per image, or a map."""
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
    return torch.as_tensor(broadcast(level, x)).expand(len(x), 1, *x.shape[2:])


def padded(network: Callable[[Tensor], Tensor], x: Tensor, multiple: int) -> Tensor:
    """``network(x)`` for sizes that are no ``multiple``: the border is repeated, and its image cut off."""
    extra = [-n % multiple for n in x.shape[2:]]
    sides = [side for n in reversed(extra) for side in (n // 2, n - n // 2)]
    window = tuple(slice(n // 2, n // 2 + size) for n, size in zip(extra, x.shape[2:], strict=True))
    return network(functional.pad(x, sides, mode="replicate"))[:, :, *window]
