r"""The moving average of a network's weights, which a diffusion model is better judged by than by its last ones.

.. math:: \bar\theta_k = \beta_k \bar\theta_{k-1} + (1 - \beta_k)\, \theta_k, \qquad
          \beta_k = \min\Big(\beta, \frac{1 + k}{10 + k}\Big) :

the first weights, which are random, are forgotten soon. Polyak and Juditsky (1992); as here, Ho, Jain and Abbeel
(NeurIPS 2020).
"""

from __future__ import annotations

import copy

import torch

from .network import Network


class MovingAverage:
    """The average, as a :attr:`network` of its own in evaluation mode.

    Weights are averaged; running statistics, which are averages already, are those of the last step.

    :param network: whose weights are averaged; not changed.
    :param decay: beta, below 1; 1 / (1 - beta) steps are remembered.
    """

    def __init__(self, network: Network, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"decay: found {decay}, expected a number from 0 to below 1")
        self.network, self.decay = copy.deepcopy(network).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, network: Network, done: int) -> None:
        """Take in the weights after ``done`` steps."""
        decay = min(self.decay, (1 + done) / (10 + done))
        for mean, weight in zip(self.network.parameters(), network.parameters(), strict=True):
            mean.lerp_(weight, 1 - decay)
        for mine, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(buffer)
