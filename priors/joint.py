r"""Several images at once that know nothing of each other, such as tissue and the haze over it.

.. math:: p(x_1, \dots, x_n) = \prod_i p_i(x_i), \qquad
          E[x_i | x_{1,t}, \dots, x_{n,t}] = E[x_i | x_{i,t}] .

The images are the channels of one. Under data of their sum they depend on each other, and a sampler separates them:
Stevens et al., IEEE TMI 43:3546 (2024).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .diffusion import Diffusion
from .schedule import Schedule


class Joint(Diffusion):
    """The product of ``priors``, each of some channels; their own schedules and weights do not count.

    :param priors: one for each part, each a :class:`Diffusion`.
    :param channels: how many channels each part has, in order; 1 each if None.
    """

    def __init__(
        self,
        priors: Sequence[Diffusion],
        channels: Sequence[int] | None = None,
        schedule: Schedule | None = None,
        weight: float | Tensor = 1.0,
    ):
        super().__init__(schedule, weight)
        channels = [1] * len(priors) if channels is None else list(channels)
        if not priors or len(channels) != len(priors) or min(channels) < 1:
            found = f"{len(priors)} priors of {channels} channels"
            raise ValueError(f"priors, channels: found {found}, expected at least one, each of at least one channel")
        self.priors, self.channels = torch.nn.ModuleList(priors), channels

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        parts = zip(self.priors, self.parts(x), strict=True)
        return torch.cat([prior.mean(part, signal, noise) for prior, part in parts], 1)

    def parts(self, x: Tensor) -> tuple[Tensor, ...]:
        """The images ``(B, C_i, *spatial)`` in ``x``.

        :raises ValueError: if it has another number of channels.
        """
        if x.shape[1] != sum(self.channels):
            raise ValueError(f"x: found {x.shape[1]} channels, expected {' + '.join(map(str, self.channels))}")
        return x.split(self.channels, 1)
