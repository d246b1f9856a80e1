r"""Blind unmixing that outlier bands do not disturb: spectra X into endmembers M and abundances A, neither below 0.

.. math:: \min_{M, A \ge 0}\; \tfrac12 \sum_l \sqrt{\|(X - MA)_l\|^2 + \epsilon^2}
          + \lambda \sum_n \|a_n\|_{p_n}^{p_n} + \tfrac{\delta^2}{2} \sum_n (1 - 1^T a_n)^2, \qquad p_n = 1 - h_n,

.. math:: M \leftarrow M \odot \frac{X A^T}{M A A^T}, \qquad
          A \leftarrow A \odot \frac{M^T U X + \delta^2 1 1^T}
                                    {M^T U M A + \delta^2 1 1^T A + \lambda\, p \odot A^{p - 1}},

with U the diagonal of :math:`u_l = 1 / (2 \sqrt{\|(X - MA)_l\|^2 + \epsilon^2})`. Roots and powers are concave: the
quadratics of these weights lie above them, so that no sweep raises the objective. The guidance h is how sparse (Hoyer)
the abundances are around a pixel, 1 where a material is alone. Zhu, Wang, Fan, Meng and Pan, arXiv 1409.0685, whose own
rule for h is not followed; multiplicative rules are Lee and Seung's (NIPS 2000).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Mixing
from ..priors import Simplex
from .endmembers import as_pixels
from .proximal_gradient import FISTA

#: Abundances count as this at least where a negative power is taken of them.
LEAST = 1e-6
#: Of the residual of a band, relative to the data, below which it counts squared.
SOFTNESS = 1e-6
TINY = 1e-300
#: Of the first shares; the rest is equal ones, for what is 0 stays so.
START = 0.999
#: Reweighted least squares before the first sweep.
REWEIGHTED = 10


class Unmixed(NamedTuple):
    """Materials and their shares.

    :param abundances: A, ``(B, K, *spatial)``, not below 0, of sum 1 to about a percent.
    :param endmembers: M, ``(L, K)``, not below 0, in the units of the spectra.
    :param guidance: h, ``(B, *spatial)``, from 0 to below 1.
    :param objective: after each sweep; while the guidance is the same it does not rise.
    """

    abundances: Tensor
    endmembers: Tensor
    guidance: Tensor
    objective: list[float]


@dataclass(frozen=True)
class RobustUnmixing:
    r"""Sweeps over endmembers and abundances; units are such that sizes of an image do not matter.

    :param sparsity: :math:`\lambda \sqrt N / L`, of spectra of largest value 1 with L bands and N pixels.
    :param total: :math:`\delta N^{1/4} L^{-1/2}`, how much it counts that shares sum to 1.
    :param exponent: p of every pixel, above 0 and at most 1; from the guidance if None.
    :param sweeps: how many.
    :param every: sweeps of one guidance.
    :param purest: the largest h.
    :param softness: epsilon over the root mean square norm of a band; far above 1 residuals simply count squared.
    """

    sparsity: float = 0.005
    total: float = 10.0
    exponent: float | None = None
    sweeps: int = 500
    every: int = 20
    purest: float = 0.9
    softness: float = SOFTNESS

    def __post_init__(self) -> None:
        if self.exponent is not None and not 0 < self.exponent <= 1:
            raise ValueError(f"exponent: found {self.exponent}, expected a number above 0 and at most 1, or None")
        for name in ("sparsity", "total", "softness"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name}: found {value}, expected a finite number not below 0")
        if self.sweeps < 1 or self.every < 1 or not 0 <= self.purest < 1:
            found = f"{self.sweeps}, {self.every}, {self.purest}"
            raise ValueError(f"sweeps, every, purest: found {found}, expected 1 or more, 1 or more, 0 to below 1")

    def __call__(self, spectra: Tensor, endmembers: Tensor) -> Unmixed:
        """Unmix from first endmembers ``(L, K)``, such as :func:`~resolvent.recon.vertices` finds, and the
        shares that belong to them.

        :param spectra: real ``(B, L, *spatial)``; what is below 0 counts as 0.
        :raises ValueError: for spectra that are all 0, or endmembers of other bands.
        """
        x, m = as_pixels(spectra).clamp_min(0), endmembers.to(spectra.device, torch.float64).clamp_min(0)
        scale, bands = x.max(), len(x)
        if m.ndim != 2 or len(m) != bands or m.shape[1] < 2 or not scale > 0:
            found = f"endmembers of shape {tuple(endmembers.shape)} and spectra up to {float(scale):g}"
            raise ValueError(f"found {found}, expected ({bands}, K), 2 or more, and some above 0")
        x, m = x / scale, (m / scale).clamp_min(LEAST)
        a = START * self.shares_of(x, m) + (1 - START) / m.shape[1]
        shape, objective = (spectra.shape[0], *spectra.shape[2:]), []
        h = self.guidance(a, shape)
        for sweep in range(self.sweeps):
            h = h if sweep % self.every else self.guidance(a, shape)
            p = (1 - h) if self.exponent is None else torch.full_like(h, self.exponent)
            m = m * (x @ a.T) / (m @ (a @ a.T)).clamp_min(TINY)
            a = self.shares(x, m, a, p)
            objective.append(self.objective(x, m, a, p))
        return Unmixed(a.unflatten(1, shape).movedim(1, 0), scale * m, h.reshape(shape), objective)

    def shares_of(self, x: Tensor, m: Tensor) -> Tensor:
        """A that belongs to known endmembers: squares weighted anew until the weights are those of the bands' norms."""
        weight = torch.ones(len(x), 1, dtype=x.dtype, device=x.device)
        for _ in range(REWEIGHTED):
            a = fully_constrained(weight * x, weight * m)
            weight = self.weights(x, m, a).sqrt()[:, None]
            weight = weight / weight.amax()
        return a

    def shares(self, x: Tensor, m: Tensor, a: Tensor, p: Tensor) -> Tensor:
        """The next A."""
        weight, (penalty, total) = self.weights(x, m, a), self.factors(x)
        weighted = m.T * weight
        sparse = penalty * p * a.clamp_min(LEAST) ** (p - 1)
        return a * (weighted @ x + total) / (weighted @ m @ a + total * a.sum(0) + sparse).clamp_min(TINY)

    def weights(self, x: Tensor, m: Tensor, a: Tensor) -> Tensor:
        """u, one for each band ``(L,)``."""
        return 0.5 / self.lengths(x, m, a)

    def lengths(self, x: Tensor, m: Tensor, a: Tensor) -> Tensor:
        """Norm of the residual in each band ``(L,)``, rounded off by epsilon."""
        epsilon = self.softness * x.square().sum(1).mean().sqrt()
        return ((x - m @ a).square().sum(1) + epsilon.square()).sqrt()

    def factors(self, x: Tensor) -> tuple[float, float]:
        """lambda and delta squared, of spectra ``(L, N)``."""
        bands, pixels = x.shape
        return self.sparsity * bands / math.sqrt(pixels), self.total**2 * bands / math.sqrt(pixels)

    def objective(self, x: Tensor, m: Tensor, a: Tensor, p: Tensor) -> float:
        """What is minimised."""
        penalty, total = self.factors(x)
        misfit = self.lengths(x, m, a).sum() / 2
        return float(misfit + penalty * powers(a, p).sum() + total / 2 * (1 - a.sum(0)).square().sum())

    def guidance(self, a: Tensor, shape: tuple[int, ...]) -> Tensor:
        """h of each pixel ``(N,)``: sparseness, its mean over 3 pixels along each axis."""
        return smoothed(sparseness(a).reshape(shape)).clamp(0, self.purest).flatten()


def fully_constrained(x: Tensor, m: Tensor) -> Tensor:
    """Shares ``(K, N)``, not below 0 and of sum 1, with the least squared residual of spectra ``(L, N)``."""
    solution = FISTA(Simplex(), max_iter=1000).solve(x[None], Mixing(m, x.shape[1:]))
    return solution.image[0]


def powers(a: Tensor, p: Tensor) -> Tensor:
    """``a^p``, below :data:`LEAST` its tangent there, of the slope that :meth:`RobustUnmixing.shares` takes."""
    held = a.clamp_min(LEAST)
    return held**p - p * held ** (p - 1) * (held - a)


def sparseness(a: Tensor) -> Tensor:
    r"""Hoyer's, :math:`(\sqrt K - \|a\|_1 / \|a\|_2) / (\sqrt K - 1)`, of columns ``(K, N)``: 1 of one, 0 of equals."""
    root = math.sqrt(len(a))
    return (root - a.abs().sum(0) / a.norm(dim=0).clamp_min(TINY)) / (root - 1)


def smoothed(h: Tensor) -> Tensor:
    """Mean of each place of maps ``(B, *spatial)`` and its two neighbours, along one axis after the other."""
    for axis in range(1, h.ndim):
        n = h.shape[axis]
        h = torch.cat([h.narrow(axis, 0, 1), h, h.narrow(axis, n - 1, 1)], axis).unfold(axis, 3, 1).mean(-1)
    return h


def spectral_angles(endmembers: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Angles ``(K,)`` in radians to the true endmembers ``(L, K)``, and which of ``endmembers`` each belongs to.

    The assignment has the least sum of angles.
    """
    from scipy.optimize import linear_sum_assignment

    one, other = (v.double() / v.double().norm(dim=0).clamp_min(TINY) for v in (truth, endmembers))
    angles = (one.T @ other).clamp(-1, 1).arccos()
    rows, columns = linear_sum_assignment(angles.cpu().numpy())
    return angles[rows, columns], torch.as_tensor(columns)
