r"""Batch normalisation whose batch is that of all processes, with a mean and without.

.. math:: x \mapsto \gamma\, \frac{x - \mu}{\sqrt{v + \epsilon}} + \beta
          \qquad\text{and}\qquad x \mapsto \gamma\, \frac{x}{\sqrt{v}} .

The second is homogeneous of degree one once v is fixed: Mohan, Kadkhodaie, Simoncelli and Fernandez-Granda,
"Robust and interpretable blind image denoising via bias-free convolutional neural networks" (2020).
torch synchronises the first on accelerators alone.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as differentiable
from torch import Tensor, nn


class BatchNorm(nn.SyncBatchNorm):
    """Batch normalisation in any number of dimensions, of the whole batch on any device."""

    def forward(self, input: Tensor) -> Tensor:
        if not (self.training and _several_processes()):
            return super().forward(input)
        mean, variance, count = _moments(input)
        _follow(self.running_mean, mean, self.momentum)
        _follow(self.running_var, variance * count / (count - 1), self.momentum)
        self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (input - _channels(mean, input)) * _channels(scale, input) + _channels(self.bias, input)


class BiasFreeBatchNorm(nn.Module):
    """Division by the standard deviation of each channel, times a gain: no mean is removed, no constant added."""

    running_std: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.gain = nn.Parameter((torch.randn(channels) * (2 / (9 * 64)) ** 0.5).clamp(-0.025, 0.025))
        self.register_buffer("running_std", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        std = self.running_std
        if self.training:
            std = (_moments(x)[1] + self.eps).sqrt()
            _follow(self.running_std, std, self.momentum)
        return x * _channels(self.gain / std, x)


def _several_processes() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of each channel over the batch of all processes, and the number of values behind them."""
    axes = [0, *range(2, x.ndim)]
    count = x.numel() // x.shape[1] * (dist.get_world_size() if _several_processes() else 1)
    mean = _sum(x.sum(axes)) / count
    variance = _sum((x - _channels(mean, x)).square().sum(axes)) / count
    return mean, variance, count


def _sum(x: Tensor) -> Tensor:
    return differentiable.all_reduce(x) if _several_processes() else x


def _follow(running: Tensor, value: Tensor, momentum: float) -> None:
    running.lerp_(value.detach().to(running.dtype), momentum)


def _channels(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(1, -1, *[1] * (x.ndim - 2))
