r"""Weakly convex ridge regulariser: learned filters, and one learned potential behind each.

.. math:: R(x) = \sum_c \sum_p \psi_c\big((W_c x)_p\big), \qquad
          \psi_c(t) = \tau_c^2 \big[ e^{-b} h(e^b t / \tau_c) - \rho\, h(t / \tau_c) \big], \qquad \|W\| \le 1,

h the Huber function. :math:`\psi_c''` lies between :math:`-\rho` and :math:`e^b - \rho`, hence so do the eigenvalues
of R's Hessian (and 0): at rho = 1 denoising, R plus half a squared distance, is convex though R is not; at rho = 0 R
is. Goujon, Neumayer and Unser, SIAM J. Imaging Sci. 17:91 (2024); potentials as in Hertrich et al., "Learning
regularization functionals for inverse problems" (2025).
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from .filter_bank import image, norm_bound, planes, respond, respond_back, total
from .prior import Prior


class WeaklyConvexRidge(Prior):
    r"""Value and gradient on images ``(B, C, H, W)``, a plane at a time, real and imaginary part apart.

    For another noise level :meth:`at` scales the images: :math:`R_\sigma(x) = \sigma^2 R_1(x / \sigma)`.

    :param sigma: noise level, in the unit of the image.
    :param channels: outputs of the three layers of filters; as many potentials as the last.
    :param kernel: side of one layer's filters, odd.
    :param sharpness: b at first; the logarithm of the curvature at 0.
    :param weak_convexity: rho, from 0 to 1.
    """

    weight_over_image = False

    def __init__(
        self,
        sigma: float = 0.1,
        channels: tuple[int, int, int] = (4, 8, 64),
        kernel: int = 5,
        sharpness: float = 4.0,
        weak_convexity: float = 1.0,
        weight: float | Tensor = 1.0,
    ):
        super().__init__(weight)
        if not sigma > 0:
            raise ValueError(f"sigma: found {sigma}, expected a standard deviation above 0")
        if not 0 <= weak_convexity <= 1:
            raise ValueError(f"weak_convexity: found {weak_convexity}, expected a number from 0 to 1")
        if kernel % 2 == 0:
            raise ValueError(f"kernel: found {kernel}, expected an odd number of pixels")
        self.sigma, self.rho = sigma, weak_convexity
        self.convex = weak_convexity == 0
        widths = (1, *channels)
        self.layers = nn.ParameterList(
            nn.init.kaiming_uniform_(torch.empty(after, before, kernel, kernel), math.sqrt(5))
            for before, after in itertools.pairwise(widths)
        )
        self.log_scales = nn.Parameter(torch.full((channels[-1], 1, 1), math.log(0.5)))
        self.sharpness = nn.Parameter(torch.tensor(float(sharpness)))

    def at(self, sigma: float) -> Self:
        """The same regulariser for another noise level, with shared weights."""
        other = copy.copy(self)
        other.sigma = sigma
        return other

    @property
    def lipschitz(self) -> Tensor:
        return (self.sharpness.exp() - self.rho).clamp_min(self.rho)

    @property
    def weak_convexity(self) -> float:
        return self.rho

    def filters(self) -> Tensor:
        """W as one layer of filters ``(channels, 1, H, W)``, of norm 1 at most."""
        first, *rest = self.layers
        kernels = (first - first.mean((2, 3), keepdim=True)).movedim(1, 0)
        for layer in rest:
            kernels = conv2d(kernels, layer.flip(2, 3), padding=layer.shape[-1] - 1)
        kernels = kernels.movedim(1, 0)
        return kernels / norm_bound(kernels)

    def _value(self, x: Tensor) -> Tensor:
        scales, steep = self._scales(), self.sharpness.exp()
        t = respond(planes(x, self.sharpness.dtype), self.filters()) / scales
        potential = huber(steep * t) / steep - self.rho * huber(t)
        return total(scales.square() * potential, x)

    def _grad(self, x: Tensor) -> Tensor:
        scales, filters = self._scales(), self.filters()
        t = respond(planes(x, self.sharpness.dtype), filters) / scales
        slope = (self.sharpness.exp() * t).clamp(-1, 1) - self.rho * t.clamp(-1, 1)
        return image(respond_back(scales * slope, filters), x)

    def _scales(self) -> Tensor:
        """tau of each channel, in the unit of the image."""
        return self.sigma * self.log_scales.exp()


def huber(t: Tensor) -> Tensor:
    """``t^2 / 2`` up to 1, ``|t| - 1/2`` beyond."""
    size = t.abs()
    return torch.where(size <= 1, t.square() / 2, size - 0.5)
