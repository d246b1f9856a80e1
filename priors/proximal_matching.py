r"""Proximal matching: the loss whose minimiser is the proximal operator of the negative log-density of images.

.. math:: \ell_\gamma(\hat x, x) = 1 - \exp\!\big(-\|\hat x - x\|^2 / \gamma^2\big), \qquad
          \arg\min_f E\,\ell_\gamma(f(x + \sigma n), x) \;\xrightarrow{\;\gamma \to 0\;}\;
          \operatorname{prox}_{-\sigma^2 \log p} ,

the mode of the posterior where the square loss has its mean. A small gamma has no gradient far from the truth,
so gamma falls in stages, after one of absolute differences. Fang, Buchanan and Sulam (ICLR 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from deepinv.loss import Loss
from torch import Tensor

from .learned_proximal import LearnedProximalNetwork

#: gamma of the last stage per root of the number of voxels; and the factors of the stages before it.
ROOT_MEAN_SQUARE, FACTORS = 0.08, (8, 4, 2, 1)


class ProximalMatching(Loss):
    """``1 - exp(-|x_net - x|^2 / gamma^2)`` per image, shape ``(B,)``; a deepinv loss.

    :param gamma: in the unit of the Euclidean norm of a whole image.
    """

    def __init__(self, gamma: float):
        super().__init__()
        if not gamma > 0:
            raise ValueError(f"gamma: found {gamma}, expected a number above 0")
        self.gamma = gamma

    def forward(self, x_net: Tensor, x: Tensor, **_: Any) -> Tensor:
        return -torch.expm1(-(x_net - x).square().flatten(1).sum(1) / self.gamma**2)


def staged_gammas(shape: Sequence[int]) -> tuple[float, ...]:
    """The falling gammas of images of ``shape`` (C, *spatial), with a range of about 1."""
    last = ROOT_MEAN_SQUARE * math.sqrt(math.prod(shape))
    return tuple(factor * last for factor in FACTORS)


class Stage(NamedTuple):
    """``steps`` of Adam at one rate under one loss ``(x_net, x)``."""

    loss: Callable[..., Tensor]
    steps: int
    rate: float


def match(
    network: LearnedProximalNetwork,
    images: Callable[[], Tensor],
    sigma: float,
    stages: Sequence[Stage],
) -> Iterator[tuple[Stage, float]]:
    """Train in place on ``x + sigma n``, stage after stage; yields each stage and its mean loss when it is done.

    :param images: draws a batch ``(B, C, *spatial)``.
    """
    for stage in stages:
        optimiser = torch.optim.Adam(network.parameters(), stage.rate)
        total = 0.0
        for _ in range(stage.steps):
            x = images()
            loss = stage.loss(network(x + sigma * torch.randn_like(x)), x).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            network.network.project_()
            total += float(loss.detach())
        yield stage, total / max(stage.steps, 1)
