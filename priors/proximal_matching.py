r"""Proximal matching: the loss whose minimiser is the proximal operator of the negative log-density of images.

.. math:: \ell_\gamma(\hat x, x) = 1 - \exp\!\big(-\|\hat x - x\|^2 / \gamma^2\big), \qquad
          \arg\min_f E\,\ell_\gamma(f(x + \sigma n), x) \;\xrightarrow{\;\gamma \to 0\;}\;
          \operatorname{prox}_{-\sigma^2 \log p} ,

the mode of the posterior where the square loss has its mean. A small gamma has no gradient far from the truth,
so gamma falls in stages, after one of absolute differences. Fang, Buchanan and Sulam (ICLR 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from deepinv.loss import Loss
from torch import Tensor, expm1

from .losses import Batch, TrainingLoss
from .network import Network


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
        return -expm1(-(x_net - x).square().flatten(1).sum(1) / self.gamma**2)


class StagedMatching(TrainingLoss):
    """Absolute differences at first, then proximal matching in stages of equal length, gamma falling.

    :param gammas: of the stages, over the root of an image's number of voxels; its unit is that of the image.
    :param first: share of the training that absolute differences have.
    """

    def __init__(self, gammas: Sequence[float] = (0.64, 0.32, 0.16, 0.08), first: float = 0.5):
        if not gammas or not 0 <= first < 1:
            raise ValueError(f"gammas, first: found {list(gammas)}, {first}, expected at least one; 0 <= first < 1")
        self.gammas, self.first = list(gammas), first

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        estimate, clean = network(batch.noisy, batch.sigma), batch.clean
        if batch.progress < self.first:
            return (estimate - clean).abs().mean()
        return ProximalMatching(self.gamma(batch.progress) * math.sqrt(clean[0].numel()))(estimate, clean).mean()

    def gamma(self, progress: float) -> float:
        """That of the stage which a share of the training lies in."""
        stage = int((progress - self.first) / (1 - self.first) * len(self.gammas))
        return self.gammas[min(stage, len(self.gammas) - 1)]
