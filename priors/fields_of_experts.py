r"""Fields of experts: learned filters, each with a weight and a smoothed magnitude of its own.

.. math:: R(x) = \sum_k w_k \sum_p \big((f_k * x)_p^2 + \nu_k^2\big)^{1/2}, \qquad
          \|\nabla^2 R\| \le \Big\| \sum_k \tfrac{w_k}{\nu_k} F_k^T F_k \Big\| .

Convex, and learned as a whole by bilevel search. Roth and Black, Int. J. Comput. Vis. 82:205 (2009); Chen, Ranftl and
Pock, IEEE TIP 23:1060 (2014), whose first filters are those of a discrete cosine transform without the constant one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .filter_bank import image, norm_bound, planes, respond, respond_back, total
from .prior import Prior
from .smoothed import positive, smoothed_length


class FieldsOfExperts(Prior):
    """Value and gradient on images ``(B, C, H, W)``, a plane at a time, real and imaginary part apart; no prox.

    Learned are ``filters`` ``(n^2 - 1, 1, n, n)``, ``log_weights`` and ``log_smoothing`` ``(n^2 - 1, 1, 1)``: with the
    weight 2449 numbers at n = 7.

    :param kernel: n, side of the filters, odd.
    :param nu: the smoothing of every filter at first, in the unit of the image.
    """

    convex = True
    weight_over_image = False

    def __init__(self, kernel: int = 7, nu: float = 0.01, weight: float | Tensor = 1.0):
        super().__init__(weight)
        if kernel % 2 == 0 or kernel < 3:
            raise ValueError(f"kernel: found {kernel}, expected an odd number of pixels, 3 at least")
        filters = cosines(kernel)
        each = torch.ones(len(filters), 1, 1)
        self.filters = nn.Parameter(filters)
        self.log_weights = nn.Parameter(-math.log(len(filters)) * each)
        self.log_smoothing = nn.Parameter(math.log(positive(nu)) * each)

    @property
    def lipschitz(self) -> Tensor:
        steepness = (self.log_weights - self.log_smoothing).exp().unsqueeze(-1)
        return norm_bound(steepness.sqrt() * self.filters).square()

    def _value(self, x: Tensor) -> Tensor:
        responses = respond(planes(x, self.filters.dtype), self.filters)
        return total(self.log_weights.exp() * smoothed_length(responses, self.log_smoothing.exp(), ()), x)

    def _grad(self, x: Tensor) -> Tensor:
        responses = respond(planes(x, self.filters.dtype), self.filters)
        slopes = self.log_weights.exp() * responses / smoothed_length(responses, self.log_smoothing.exp(), ())
        return image(respond_back(slopes, self.filters), x)


def cosines(n: int) -> Tensor:
    """The orthonormal two-dimensional cosine transform of n x n pixels without its constant, ``(n^2 - 1, 1, n, n)``."""
    angle = math.pi / n * torch.arange(n, dtype=torch.float64)[:, None] * (torch.arange(n, dtype=torch.float64) + 0.5)
    basis = angle.cos() * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    products = torch.einsum("ai,bj->abij", basis, basis).reshape(n * n, 1, n, n)
    return products[1:].to(torch.get_default_dtype())
