r"""Where to begin with the next right-hand side of one system: nearest to its solution among those found before.

.. math:: \min_{x \in \operatorname{span}\{e_1, \dots, e_m\}} \|x - S^{-1} b\|_S: \qquad
          x = \sum_i \langle e_i, b \rangle\, e_i, \quad \langle e_i, S e_j \rangle = \delta_{ij} ,

S Hermitian positive definite. With the products S e_i kept beside the e_i, neither the guess nor its own product
asks for one. P. F. Fischer, Comput. Methods Appl. Mech. Eng. 163:193 (1998).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .problem import inner, per_image


class Span(NamedTuple):
    """S-orthonormal images, the newest first, and their products with S; zeros in the places not yet filled."""

    images: tuple[Tensor, ...]
    products: tuple[Tensor, ...]


def empty_span(like: Tensor, size: int) -> Span:
    """Places for ``size`` images."""
    zeros = (torch.zeros_like(like),) * size
    return Span(zeros, zeros)


def nearest(span: Span, rhs: Tensor) -> tuple[Tensor, Tensor]:
    """The image of the span nearest to the solution for ``rhs`` in the norm of S, and its product."""
    x = product = torch.zeros_like(rhs)
    for image, its_product in zip(*span, strict=True):
        share = per_image(inner(image, rhs - product), rhs)
        x, product = torch.addcmul(x, share, image), torch.addcmul(product, share, its_product)
    return x, product


def with_newest(span: Span, x: Tensor, product: Tensor) -> Span:
    """The span with ``x`` in and the oldest out, each image made orthogonal to those that are newer.

    What rounding leaves of an image that the newer ones contain becomes zero.

    :param product: ``S x``.
    """
    basis = Span((), ())
    for image, its_product in zip((x, *span.images[:-1]), (product, *span.products[:-1]), strict=True):
        whole = inner(image, its_product)
        for e, se in zip(*basis, strict=True):
            share = per_image(-inner(e, its_product), e)
            image, its_product = torch.addcmul(image, share, e), torch.addcmul(its_product, share, se)
        left = inner(image, its_product)
        rounding = (100 * torch.finfo(left.dtype).eps) ** 2 * whole
        scale = per_image(torch.where(left > rounding, left, torch.inf).rsqrt(), image)
        basis = Span((*basis.images, scale * image), (*basis.products, scale * its_product))
    return basis
