r"""What a denoiser does at an image, read off its Jacobian :math:`J = \partial D / \partial y`.

.. math:: J = J^T \succeq 0 \iff D \text{ is a proximal operator (locally)}, \qquad
          \|J\| \le 1 \iff D \text{ is non-expansive}, \qquad D(a y) = a D(y) \Rightarrow D(y) = J y .

With J symmetric, :math:`D(y) \approx \sum_k \lambda_k \langle y, e_k \rangle e_k`: shrinkage in a basis adapted to the
image. Kadkhodaie, Guth, Simoncelli and Mallat, "Generalization in diffusion models arises from geometry-adaptive
harmonic representations" (ICLR 2024). A denoiser here is any differentiable map of one image ``(1, C, *spatial)``.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.autograd import functional

from ..operators.norm import TINY

Map = Callable[[Tensor], Tensor]


def jvp(denoiser: Map, y: Tensor, d: Tensor) -> Tensor:
    """``J d`` at ``y``."""
    products: Any = functional.jvp(denoiser, y, d)
    return products[1]


def vjp(denoiser: Map, y: Tensor, d: Tensor) -> Tensor:
    """``J^T d`` at ``y``."""
    products: Any = functional.vjp(denoiser, y, d)
    return products[1]


def asymmetry(denoiser: Map, y: Tensor, probes: int = 8, seed: int = 0) -> float:
    """``||J - J^T|| / ||J||`` in the Frobenius norm, both estimated from the same random signs."""
    difference, size = 0.0, 0.0
    for d in random_signs(y, probes, seed):
        forward = jvp(denoiser, y, d)
        difference += float((forward - vjp(denoiser, y, d)).square().sum())
        size += float(forward.square().sum())
    return (difference / size) ** 0.5 if size else 0.0


def random_signs(like: Tensor, count: int, seed: int) -> list[Tensor]:
    """Images of plus and minus one, with the identity for covariance."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, 2, (count, *like.shape), generator=generator)
    return list((2 * drawn - 1).to(like))


def spectral_norm(denoiser: Map, y: Tensor, iterations: int = 50, seed: int = 0) -> float:
    """``||J||``, the local Lipschitz constant, from below, by the power method on ``J^T J``."""
    d, norm = random_signs(y, 1, seed)[0], 0.0
    for _ in range(iterations):
        image = jvp(denoiser, y, d / d.norm())
        norm = float(image.norm())
        d = vjp(denoiser, y, image)
        if not d.norm() > 0:
            break
    return norm


def extreme_eigenvalues(denoiser: Map, y: Tensor, tolerance: float = 1e-3) -> tuple[float, float]:
    """The least and the greatest eigenvalue of ``(J + J^T) / 2``, by Lanczos' method."""

    def product(d: np.ndarray) -> np.ndarray:
        image = torch.as_tensor(d).reshape(y.shape).to(y)
        return ((jvp(denoiser, y, image) + vjp(denoiser, y, image)) / 2).flatten().double().cpu().numpy()

    operator = LinearOperator((y.numel(),) * 2, matvec=product, dtype=np.float64)
    start = random_signs(y, 1, 0)[0].flatten().double().cpu().numpy()
    low, high = (
        eigsh(operator, 1, which=end, tol=tolerance, v0=start, return_eigenvectors=False)[0] for end in ("SA", "LA")
    )
    return float(low), float(high)


def expansion(denoiser: Map, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """The greatest ``|D(a) - D(b)| / |a - b|``: above 1 the denoiser is not non-expansive."""
    return max(float((denoiser(a) - denoiser(b)).norm() / (a - b).norm()) for a, b in pairs)


def inhomogeneity(denoiser: Map, y: Tensor, factors: Sequence[float] = (0.25, 0.5, 2.0, 4.0)) -> float:
    """The greatest ``|D(a y) - a D(y)| / |a D(y)|``; 0 of a network without additive constants."""
    image = denoiser(y)
    return max(float((denoiser(a * y) - a * image).norm() / (a * image).norm()) for a in factors)


def dense_jacobian(denoiser: Map, y: Tensor) -> Tensor:
    """J as a matrix, a row for each output pixel; for small crops."""
    n = y.numel()
    return functional.jacobian(denoiser, y).reshape(n, n)


class Eigenbasis(NamedTuple):
    """Shrinkage factors, greatest first; the basis as images ``(n, C, *spatial)``; the image's coefficients."""

    factors: Tensor
    images: Tensor
    coefficients: Tensor

    @property
    def dimension(self) -> float:
        """The trace of J: how many dimensions of the noise are kept."""
        return float(self.factors.sum())


def eigenbasis(jacobian: Tensor, y: Tensor) -> Eigenbasis:
    """Of the symmetric part of a dense Jacobian at the image ``(1, C, *spatial)``."""
    factors, vectors = torch.linalg.eigh((jacobian + jacobian.T) / 2)
    basis = vectors.T.flip(0)
    return Eigenbasis(factors.flip(0), basis.reshape(-1, *y.shape[1:]), basis @ y.flatten())


class Agreement(NamedTuple):
    """How far two denoisers' images are from each other and each from the truth, over the truth's norm."""

    between: float
    first: float
    second: float

    @property
    def disagreement(self) -> float:
        """0 of denoisers that are one function, 1 of errors that have nothing in common."""
        return self.between / max(math.hypot(self.first, self.second), sys.float_info.min)


def agreement(first: Map, second: Map, noisy: Tensor, clean: Tensor) -> Agreement:
    """Of two denoisers at one noisy image.

    Trained on different images of a kind they agree where they have learned what such images are like, and differ
    where they have learned their images by heart.
    """
    a, b, size = first(noisy), second(noisy), clean.norm().clamp_min(TINY)
    return Agreement(*(float((p - q).norm() / size) for p, q in ((a, b), (a, clean), (b, clean))))


# -- paths along which a prior should rise ----------------------------------------------------------
def noise_path(x: Tensor, sigmas: Sequence[float], seed: int = 0) -> Tensor:
    """``x + sigma n`` with one n for all, within 0 to 1; ``(len(sigmas), C, *spatial)``."""
    n = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    return torch.cat([(x + sigma * n).clamp(0, 1) for sigma in sigmas])


def blur_path(x: Tensor, sigmas: Sequence[float]) -> Tensor:
    """``x`` under Gaussian blurs of ``sigmas`` pixels."""
    axes = tuple(range(2, x.ndim))
    blurred = [gaussian_filter(x.cpu().numpy(), sigma, axes=axes) if sigma else x.cpu().numpy() for sigma in sigmas]
    return torch.as_tensor(np.concatenate(blurred)).to(x)


def mixing_path(a: Tensor, b: Tensor, shares: Sequence[float]) -> Tensor:
    """``(1 - t) a + t b``: two images on top of each other are none, so a prior is highest between."""
    return torch.cat([torch.lerp(a, b, t) for t in shares])
