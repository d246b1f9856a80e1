r"""One gradient step of a ridge regulariser as a denoiser, by which the regulariser is trained.

.. math:: D(x, \sigma) = x - \nabla R_\sigma(x), \qquad R_\sigma(x) = \sigma^2 R_1(x / \sigma) .

A mean square error of D at all noise levels makes :math:`-\nabla R_\sigma / \sigma^2` the score of noisy images, and R
what a smooth solver can minimise at any noise level. Goujon, Neumayer, Bohra, Ducotterd, Unser and others, "A
neural-network-based convex regularizer for inverse problems", IEEE Trans. Comput. Imaging 9:781 (2023).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .network import Network
from .prior import broadcast
from .weakly_convex_ridge import WeaklyConvexRidge

#: Noise level below which an image is taken as if it had this one: R at 0 is that limit, divided by nothing.
SMALLEST = 1e-6


class RidgeDenoiser(Network):
    """``(x, sigma) -> x - grad R_sigma(x)`` on images ``(B, 1, H, W)``; :attr:`prior` is R for sigma 1.

    For a solver take ``prior.at(sigma)``.

    :param widths: channels of the three layers of filters.
    :param sharpness: as :class:`~resolvent.priors.WeaklyConvexRidge` has it; up to 0.7 a step does not overshoot.
    """

    channels, dim = 1, 2

    def __init__(
        self,
        widths: Sequence[int] = (4, 8, 64),
        kernel: int = 5,
        sharpness: float = 0.7,
        weak_convexity: float = 1.0,
    ):
        super().__init__()
        self.widths, self.kernel, self.sharpness, self.weak_convexity = list(widths), kernel, sharpness, weak_convexity
        first, second, last = widths
        self.prior = WeaklyConvexRidge(1.0, (first, second, last), kernel, sharpness, weak_convexity)

    def forward(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        level = torch.as_tensor(broadcast(sigma, self.checked(x)), dtype=x.dtype, device=x.device).clamp_min(SMALLEST)
        return x - level * self.prior.grad(x / level)
