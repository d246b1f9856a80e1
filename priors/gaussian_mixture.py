r"""A mixture of Gaussians: a prior with several kinds of images whose every posterior is known.

.. math:: p(x) = \sum_k w_k\, \mathcal{N}(x; m_k, C_k), \qquad S_k = a^2 C_k + s^2 I, \qquad
          r_k \propto w_k\, \mathcal{N}(x_t; a m_k, S_k),

.. math:: E[x_0 | x_t] = \sum_k r_k \big[ m_k + a C_k S_k^{-1} (x_t - a m_k) \big] .

Given :math:`y = A x + \sigma n` it is a mixture again: with the gain :math:`K_k = C_k A^H (A C_k A^H + \sigma^2)^{-1}`
of Kalman's filter, means :math:`m_k + K_k (y - A m_k)`, covariances :math:`(I - K_k A) C_k` and weights
:math:`\propto w_k\, \mathcal{N}(y; A m_k, A C_k A^H + \sigma^2)`.
"""

from __future__ import annotations

import math
from typing import Self

import torch
from deepinv.physics import LinearPhysics
from torch import Generator, Tensor

from .diffusion import Diffusion
from .schedule import Schedule, noise_like


class GaussianMixture(Diffusion):
    r"""``K`` Gaussians; R is ``-log p`` of real images, and half of that of complex ones.

    :param weights: ``(K,)``, not below 0, not all 0; their sum does not matter.
    :param means: ``(K, C, *spatial)``, real or complex.
    :param covariances: ``(K, n, n)`` of flattened images, Hermitian, positive definite.
    """

    weight_over_image = False

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
        schedule: Schedule | None = None,
        weight: float | Tensor = 1.0,
    ):
        super().__init__(schedule, weight)
        count, n = len(weights), math.prod(means.shape[1:])
        if len(means) != count or tuple(covariances.shape) != (count, n, n):
            found = f"{tuple(means.shape)} and {tuple(covariances.shape)}"
            raise ValueError(f"means, covariances: found shapes {found}, expected {count} of each, of {n} pixels")
        if not (bool((weights >= 0).all()) and float(weights.sum()) > 0):
            raise ValueError(f"weights: found {weights.tolist()}, expected numbers not below 0 and not all 0")
        variances, vectors = torch.linalg.eigh(covariances)
        rounding = torch.finfo(variances.dtype).eps * n * variances.max()
        if not float(variances.min()) >= -100 * float(rounding):
            raise ValueError(f"covariances: found the eigenvalue {float(variances.min()):.3g}, expected all above 0")
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("means", means)
        self.register_buffer("variances", variances.clamp_min(rounding))
        self.register_buffer("vectors", vectors)

    @property
    def covariances(self) -> Tensor:
        """``(K, n, n)``."""
        return (self.vectors * self.variances[:, None]) @ self.vectors.mH

    def log_prob(self, x: Tensor) -> Tensor:
        """``log p`` per image, shape ``(B,)``; of complex images by the area of either part."""
        one = x.real.new_ones(())
        return torch.logsumexp(self._split(x, one, 0 * one)[2], 1)

    def _value(self, x: Tensor) -> Tensor:
        return -self.log_prob(x) / (2 if x.is_complex() else 1)

    def _grad(self, x: Tensor) -> Tensor:
        one = x.real.new_ones(())
        c, variances, parts = self._split(x, one, 0 * one)
        return self._joined(parts.softmax(1), c / variances).reshape(x.shape)

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        c, variances, parts = self._split(x, signal, noise)
        weights, own = parts.softmax(1), self.variances.to(variances.dtype)
        shrunk = self._joined(weights, signal.reshape(-1, 1, 1) * own / variances * c)
        return (weights.to(x.dtype) @ self.means.flatten(1).to(x.dtype) + shrunk).reshape(x.shape)

    def _split(self, x: Tensor, signal: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``x - a m_k`` in the axes of each component, its variances there, and ``log w_k N(x; a m_k, S_k)``."""
        if self.means.is_complex() and not x.is_complex():
            raise TypeError(f"{type(self).__name__}: found a real image, expected a complex one")
        a, s = signal.reshape(-1, 1, 1), noise.reshape(-1, 1, 1)
        away = x.flatten(1)[:, None] - a * self.means.flatten(1).to(x.dtype)
        c = torch.einsum("kni,bkn->bki", self.vectors.conj().to(x.dtype), away)
        variances = a.square() * self.variances.to(x.real.dtype) + s.square()
        return c, variances, self.weights.to(x.real.dtype).log() + log_normal(c, variances)

    def _joined(self, weights: Tensor, c: Tensor) -> Tensor:
        """The weighted sum of what the components have along their axes, ``(B, n)``."""
        return torch.einsum("kni,bki->bn", self.vectors.to(c.dtype), weights.to(c.dtype)[..., None] * c)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean image and standard deviation of every pixel, both ``(C, *spatial)``."""
        shape, means = self.means.shape[1:], self.means.flatten(1)
        centre = self.weights.to(means.dtype) @ means
        own = torch.einsum("kni,ki->kn", self.vectors.abs().square(), self.variances)
        variance = self.weights @ (own + (means - centre).abs().square())
        return centre.reshape(shape), variance.sqrt().reshape(shape)

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Independent images ``(count, C, *spatial)``."""
        device = self.weights.device if generator is None else generator.device
        drawn = torch.multinomial(self.weights.to(device), count, replacement=True, generator=generator)
        k = drawn.to(self.weights.device)
        z = noise_like(self.means[k].flatten(1), generator)
        moved = torch.einsum("bni,bi->bn", self.vectors[k], self.variances[k].sqrt() * z)
        return self.means[k] + moved.reshape(-1, *self.means.shape[1:])

    def posterior(self, y: Tensor, physics: LinearPhysics, sigma: float) -> Self:
        """The mixture given the data ``(1, ...)`` of one image, with noise of standard deviation ``sigma``.

        Of complex data a real image has as many real equations, each with half of the variance.
        """
        matrix, data = real_system(matrix_of(physics, self.means[0]), y.flatten(), self.means)
        variance = sigma**2 * len(y.flatten()) / len(data)
        means, cross = self.means.flatten(1), self.covariances @ matrix.mH
        noise = variance * torch.eye(len(data), dtype=data.dtype, device=data.device)
        factor = torch.linalg.cholesky(matrix @ cross + noise)
        left = (data - means @ matrix.mT)[..., None]
        white, gain = torch.linalg.solve_triangular(factor, torch.cat([left, cross.mH], 2), upper=False).tensor_split(
            [1], 2
        )
        scales = torch.linalg.diagonal(factor).real.square()
        log_weights = self.weights.log() + log_normal(white[..., 0] * scales.sqrt(), scales)
        moved = self.means + (gain.mH @ white).reshape(self.means.shape)
        return type(self)(
            log_weights.softmax(0), moved, self.covariances - gain.mH @ gain, self.schedule, self.weight
        )  # fmt: skip


def log_normal(c: Tensor, variances: Tensor) -> Tensor:
    """The logarithm of a normal density at coefficients ``(..., n)`` with these variances."""
    square, count = c.abs().square() / variances, 1.0 if c.is_complex() else 0.5
    return -(count * (square + torch.log(variances * math.pi / count))).sum(-1)


def matrix_of(physics: LinearPhysics, like: Tensor) -> Tensor:
    """``A`` as a matrix ``(m, n)`` on flattened images; ``like`` is one image ``(C, *spatial)``."""
    n = math.prod(like.shape)
    unit = torch.eye(n, dtype=like.dtype, device=like.device).reshape(n, *like.shape)
    return torch.cat([physics.A(column[None]).flatten(1) for column in unit]).mT


def real_system(matrix: Tensor, data: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and data ``(m,)``; of complex data of a real image both parts, one under the other."""
    if image.is_complex() or not data.is_complex():
        return matrix, data
    return torch.cat([matrix.real, matrix.imag]), torch.cat([data.real, data.imag])
