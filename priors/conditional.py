r"""Images given another, such as a sharp one given a degraded one: for every image c a prior of its own.

.. math:: E[x_0 | a x_0 + s n = x,\, c] = c + \lambda\,
          E\Big[r \,\Big|\, a r + \frac{s}{\lambda} n = \frac{x - a c}{\lambda},\, c\Big], \qquad
          r = \frac{x_0 - c}{\lambda} .

A network learns r, what c lacks, at unit scale, with c shown to it: the residual of the mean-reverting SDE of Luo et
al. (ICML 2023) and of EDiffSR (Xiao et al., IEEE TGRS 2024). Of a joint Gaussian of x and c all is in closed form.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from .diffusion import Diffusion, VelocityDiffusion
from .gaussian_mixture import GaussianMixture
from .network import Network
from .prior import Prior
from .schedule import Cosine, OrnsteinUhlenbeck, Schedule
from .trained_for import configured, described
from .weights_file import load_denoiser


class Conditional(Prior):
    """A prior that is chosen by an image.

    :param schedule: the path on which samplers walk; :class:`OrnsteinUhlenbeck` if None.
    """

    def __init__(self, schedule: Schedule | None = None):
        super().__init__()
        self.schedule = schedule or OrnsteinUhlenbeck()

    @abstractmethod
    def given(self, condition: Tensor) -> Diffusion:
        """The prior of the images that go with ``condition`` ``(B, C, *spatial)``, one each, on :attr:`schedule`."""


class ConditionalGaussian(Conditional):
    r"""A joint Gaussian of images and conditions.

    .. math:: x | c \sim \mathcal{N}(m_x + G (c - m_c),\; C_{xx} - G C_{cx}), \qquad G = C_{xc} C_{cc}^+ .

    :param mean: ``(2, C, *spatial)``, of image and condition.
    :param covariance: ``(2n, 2n)`` of both flattened, the image first; the condition's may be singular.
    """

    def __init__(self, mean: Tensor, covariance: Tensor, schedule: Schedule | None = None):
        super().__init__(schedule)
        n = mean[0].numel()
        if tuple(covariance.shape) != (2 * n, 2 * n):
            raise ValueError(f"covariance: found shape {tuple(covariance.shape)}, expected {(2 * n, 2 * n)}")
        gain = covariance[:n, n:] @ torch.linalg.pinv(covariance[n:, n:], hermitian=True)
        left = covariance[:n, :n] - gain @ covariance[n:, :n]
        self.register_buffer("means", mean)
        self.register_buffer("gain", gain)
        self.rest = GaussianMixture(
            torch.ones_like(mean[:1].flatten().real[:1]), torch.zeros_like(mean[:1]), left[None]
        )

    def given(self, condition: Tensor) -> Diffusion:
        means, gain = (torch.as_tensor(v).to(condition.dtype) for v in (self.means, self.gain))
        moved = (condition - means[1]).flatten(1) @ gain.mT
        return Shifted(self.rest, means[0] + moved.reshape(condition.shape), 1.0, self.schedule)


class ConditionalVelocity(Conditional):
    r"""Images from a network of the velocity of r, trained by :class:`~resolvent.priors.ResidualMatching`.

    :param network: called as ``network(x, t, condition)``, such as a ``TimeUNet`` with as many channels shown as an
        image has; or the file or name of trained weights.
    :param scale: lambda, about the standard deviation of what conditions lack; as the file says if None, else 50/255.
    :param trained: the schedule that it was trained for; as the file says if None, else :class:`Cosine`.
    """

    gives = "a velocity of residuals"

    def __init__(
        self,
        network: Network | str,
        scale: float | None = None,
        trained: Schedule | None = None,
        schedule: Schedule | None = None,
    ):
        super().__init__(schedule)
        stated = configured(network, "loss")[1]
        scale = float(stated.get("scale", 50 / 255) if scale is None else scale)
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale: found {scale}, expected a finite number above 0")
        self.network = load_denoiser(network, self.gives) if isinstance(network, str) else network
        self.scale, self.trained = scale, trained or described(network, stated.get("schedule")) or Cosine()

    def given(self, condition: Tensor) -> Diffusion:
        residual = VelocityDiffusion(lambda r, t: self.network(r, t, condition), self.trained)
        return Shifted(residual, condition, self.scale, self.schedule)


class Shifted(Diffusion):
    """The prior of ``centre + scale r``, r of ``prior``.

    :param centre: images ``(B, C, *spatial)``, one for each that is asked about.
    """

    def __init__(self, prior: Diffusion, centre: Tensor, scale: float = 1.0, schedule: Schedule | None = None):
        super().__init__(schedule)
        self.prior, self.centre, self.scale = prior, centre, scale

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        residual = (x - signal * self.centre) / self.scale
        return self.centre + self.scale * self.prior.mean(residual, signal, noise / self.scale)
