r"""Smoothed total variation denoising of four images, its weight and its smoothing to be learned.

.. math:: h = \tfrac12\|x - y\|^2 + e^{\theta_0} \sum (d^2 + \nu^2)^{1/2}, \quad d = Dx, \; \nu = e^{\theta_1}, \qquad
          g = \tfrac1{2N} \|x - t\|^2,

.. math:: Hv = v + e^{\theta_0} D^T\big(\nu^2 (d^2 + \nu^2)^{-3/2} Dv\big), \qquad \mu = 1, \quad
          L = 1 + 8 e^{\theta_0 - \theta_1}, \quad L_g = 1/N,

.. math:: J^T q = e^{\theta_0}\Big(\sum d\,(d^2 + \nu^2)^{-1/2} Dq,\; -\sum d\,\nu^2 (d^2 + \nu^2)^{-3/2} Dq\Big) .

Forward differences along either axis, 0 at the last row and column; N images are stacked as the channels of one x, so
that accuracies are those of all together. Each image is resized whole to 48 x 48; noise of 0.1 from seed 0.
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from resolvent.recon.bilevel import LowerLevel, Measure, UpperLevel, hypergradient

F64 = torch.float64
SIZE, SIGMA = 48, 0.1
START = torch.tensor([-5.0, -5.0], dtype=F64)


class SmoothedTVDenoising(LowerLevel):
    """The lower level by its formulas, nothing of the library's priors or operators."""

    def __init__(self, y):
        self.y = y

    def gradient(self, x, theta):
        d, nu = differences(x), theta[1].exp()
        return x - self.y + theta[0].exp() * adjoint(d / (d.square() + nu**2).sqrt())

    def start(self):
        return self.y

    def strong_convexity(self, theta):
        return torch.ones_like(theta[0])

    def smoothness(self, theta):
        return 1 + 8 * (theta[0] - theta[1]).exp()


class Denoising:
    """Noisy images, the truth, and the two levels."""

    def __init__(self, truth, noise_seed=0):
        generator = torch.Generator().manual_seed(noise_seed)
        count = len(truth)
        noise = torch.randn(count, *truth.shape[1:], dtype=F64, generator=generator)
        self.truth, self.y = truth[None], (truth + SIGMA * noise)[None]
        self.lower = SmoothedTVDenoising(self.y)
        square = lambda x: (x - self.truth).square().flatten(1).sum(1) / (2 * count)  # noqa: E731
        self.upper = UpperLevel(self.lower, Measure(square, 1 / count, True))

    def value(self, theta, eps=1e-9):
        """f by an accurate solve."""
        return float(self.upper.value(self.lower.solve(theta, eps).x, theta))

    def psnr(self, value):
        """In dB, of a peak of 1."""
        return -10 * math.log10(2 * value / self.truth[0, 0].numel())

    def optimum(self, start=(-2.7, -4.5)):
        """The minimiser and its f, by L-BFGS-B on accurate hypergradients."""
        from scipy.optimize import minimize

        def fun(v):
            theta = torch.tensor(v, dtype=F64)
            x = self.lower.solve(theta, 1e-8).x
            return float(self.upper.value(x, theta)), hypergradient(self.upper, theta, x, 1e-8).value.numpy()

        found = minimize(fun, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-7})
        return torch.tensor(found.x, dtype=F64), float(found.fun)


def differences(x):
    """``D x``, ``(2, *x.shape)``."""
    d = torch.zeros(2, *x.shape, dtype=x.dtype)
    d[0, ..., :-1, :] = x[..., 1:, :] - x[..., :-1, :]
    d[1, ..., :, :-1] = x[..., :, 1:] - x[..., :, :-1]
    return d


def adjoint(d):
    """``D^T d``."""
    x = torch.zeros_like(d[0])
    down, right = d[0][..., :-1, :], d[1][..., :, :-1]
    x = x + torch.nn.functional.pad(down, (0, 0, 1, 0)) - torch.nn.functional.pad(down, (0, 0, 0, 1))
    return x + torch.nn.functional.pad(right, (1, 0)) - torch.nn.functional.pad(right, (0, 1))


def hessian(x, theta, v):
    """``H v``."""
    d, nu = differences(x), theta[1].exp()
    return v + theta[0].exp() * adjoint(nu**2 * (d.square() + nu**2) ** -1.5 * differences(v))


def jacobian_adjoint(x, theta, q):
    """``J^T q``."""
    d, nu, dq = differences(x), theta[1].exp(), differences(q)
    rate = d.square() + nu**2
    return theta[0].exp() * torch.stack([(d / rate.sqrt() * dq).sum(), -(d * nu**2 * rate**-1.5 * dq).sum()])


def photographs(folder: Path, first=0, count=4):
    """Of a folder's images, ``count`` from ``first``, ``(count, 48, 48)``."""
    files = sorted(folder.iterdir())[first : first + count]
    images = [np.asarray(Image.open(f).convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for f in files]
    return torch.from_numpy(np.stack(images).astype(np.float64)) / 255
