r"""A Gaussian prior: the one of which everything is known in closed form.

.. math:: R(x) = \tfrac12 (x - m)^H C^{-1} (x - m), \qquad C = W^H \operatorname{diag}(\lambda)\, W, \qquad
          E[x_0 | a x_0 + s n = x] = m + W^H \frac{a \lambda}{a^2 \lambda + s^2}\, W (x - a m) ,

W unitary. R is minus the logarithm of the density of real images, and half of that of complex ones; its proximal
step of length gamma is the mean given noise of variance gamma (Wiener's filter).
"""

from __future__ import annotations

from typing import Self

import torch
from deepinv.physics import LinearPhysics
from torch import Generator, Tensor

from ..operators import Dense
from .diffusion import Diffusion
from .prior import squared_length
from .schedule import Schedule, noise_like


class GaussianPrior(Diffusion):
    r"""The normal distribution of mean m and covariance C.

    :param mean: ``(C, *spatial)``, real or complex.
    :param variances: lambda, above 0, of the shape of one image's coefficients; for real images and a complex basis
        the same at conjugate coefficients.
    :param basis: W, a unitary operator: ``CartesianMRI(torch.ones(spatial))`` is Fourier's, ``Wavelet`` another.
    """

    convex = True
    weight_over_image = False

    def __init__(
        self,
        mean: Tensor,
        variances: Tensor,
        basis: LinearPhysics,
        schedule: Schedule | None = None,
        weight: float | Tensor = 1.0,
    ):
        super().__init__(schedule, weight)
        if not bool((variances > 0).all()):
            raise ValueError(f"variances: found {float(variances.min())}, expected all above 0")
        self.register_buffer("centre", mean)
        self.register_buffer("variances", variances)
        self.basis = basis

    @property
    def lipschitz(self) -> Tensor:
        return 1 / torch.as_tensor(self.variances).amin()

    @classmethod
    def dense(
        cls, mean: Tensor, covariance: Tensor, schedule: Schedule | None = None, weight: float | Tensor = 1.0
    ) -> Self:
        """From the covariance ``(n, n)`` of flattened images."""
        variances, vectors = torch.linalg.eigh(covariance)
        basis = Dense(vectors.mH.contiguous(), tuple(mean.shape), tuple(mean.shape))
        return cls(mean, variances.reshape(mean.shape), basis, schedule, weight)

    def _value(self, x: Tensor) -> Tensor:
        centre, variances = self._as(x)
        return (squared_length(self.basis.A(x - centre), ()) / variances).flatten(1).sum(1) / 2

    def _grad(self, x: Tensor) -> Tensor:
        centre, variances = self._as(x)
        return self._image(self.basis.A(x - centre) / variances, x)

    def _prox(self, v: Tensor, gamma: float | Tensor) -> Tensor:
        centre, variances = self._as(v)
        return v - self._image(gamma / (variances + gamma) * self.basis.A(v - centre), v)

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        centre, variances = self._as(x)
        gain = signal * variances / (signal.square() * variances + noise.square())
        return centre + self._image(gain * self.basis.A(x - signal * centre), x)

    def sample(self, count: int, generator: Generator | None = None) -> Tensor:
        """Independent images ``(count, C, *spatial)``."""
        centre, variances = torch.as_tensor(self.centre), torch.as_tensor(self.variances)
        z = noise_like(centre.expand(count, *centre.shape), generator)
        return centre + self._image(variances.sqrt() * self.basis.A(z), z)

    def _as(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variances in the precision of ``x``."""
        centre, variances = torch.as_tensor(self.centre), torch.as_tensor(self.variances)
        return centre.to(x.dtype if centre.is_complex() else x.real.dtype), variances.to(x.real.dtype)

    def _image(self, coefficients: Tensor, like: Tensor) -> Tensor:
        image = self.basis.A_adjoint(coefficients)
        return image if like.is_complex() else image.real
