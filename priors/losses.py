r"""What training minimises, and one batch of what it sees.

.. math:: L(\theta) = \tfrac1{BN}\sum_b \|D_\theta(y_b, \sigma_b) - x_b\|^2

unless another one says otherwise.
"""

from __future__ import annotations

import abc
import inspect
from typing import ClassVar, NamedTuple, Self

import deepinv
import torch
from torch import Tensor, nn

from .corruption import Corruption, OnPath
from .diffusion import VelocityDiffusion
from .network import Network
from .prior import broadcast
from .schedule import FlowMatching, Schedule
from .weights_file import DENOISED


class Batch(NamedTuple):
    """A batch of one step.

    :param clean: ``(B, C, *spatial)``; the noisy ones again where there are no clean ones.
    :param noisy: the same images with noise.
    :param sigma: the noise's strength per image, ``(B,)``.
    :param progress: how much of the training is over, from 0 to 1; for losses that change with it.
    """

    clean: Tensor
    noisy: Tensor
    sigma: Tensor
    progress: float = 0.0

    def to(self, device: str) -> Self:
        """The batch on another device."""
        return type(self)(*(t.to(device) for t in self[:3]), self.progress)


class TrainingLoss(abc.ABC):
    """A loss that is the mean over the images of its batch."""

    #: Whether it looks at the clean images.
    needs_clean: ClassVar[bool] = True
    #: What its networks give.
    gives: ClassVar[str] = DENOISED
    #: What its networks are told of each image, :attr:`Corruption.strength`.
    hears: ClassVar[str] = Corruption.strength

    @abc.abstractmethod
    def __call__(self, network: Network, batch: Batch) -> Tensor:
        """The loss, a number that can be differentiated."""

    def check(self, noise: Corruption) -> None:
        """Refuse noise that this loss is not for.

        :raises ValueError: saying why.
        """
        name, kind = type(self).__name__, type(noise).__name__
        if self.needs_clean and not noise.from_clean:
            raise ValueError(f"found {name}, which needs the clean images that {kind} has not, expected another")
        if noise.strength != self.hears:
            raise ValueError(f"found {name}, which hears {self.hears}, for {kind}, whose strength is {noise.strength}")

    def estimate(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The clean images, as a network of this loss has them."""
        return network(noisy, sigma)


class MeanSquare(TrainingLoss):
    """Mean square distance to the clean image: the network becomes the conditional mean."""

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        return (network(batch.noisy, batch.sigma) - batch.clean).square().mean()


class LogMeanSquare(TrainingLoss):
    """Mean over the images of the logarithm of the mean square error: minus the PSNR, in units of 10 / ln 10 dB."""

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        error = (network(batch.noisy, batch.sigma) - batch.clean).square().flatten(1).mean(1)
        return error.clamp_min(torch.finfo(error.dtype).tiny).log().mean()


class ScoreMatching(TrainingLoss):
    r"""Denoising score matching, :math:`E\, \sigma^2 \|\nabla \log p_\sigma(y) + n / \sigma\|^2`.

    With Tweedie's formula the mean of :math:`\|D(y, \sigma) - x\|^2 / \sigma^2`: the network is a denoiser, and every
    noise level counts alike. Vincent (2011); weight of Song and Ermon (NeurIPS 2019).
    """

    def check(self, noise: Corruption) -> None:
        super().check(noise)
        if getattr(noise, "low", 1) <= 0:
            name = type(noise).__name__
            raise ValueError(
                f"found ScoreMatching, which divides by the level, for {name} from 0, expected low above 0"
            )

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        error = network(batch.noisy, batch.sigma) - batch.clean
        return (error / broadcast(batch.sigma, error)).square().mean()


class VelocityMatching(TrainingLoss):
    r"""Flow matching, :math:`E \|v(x_t, t) - (\dot a\, x_0 + \dot s\, n)\|^2`: the network gives the velocity.

    For batches of :class:`~resolvent.priors.OnPath` of the same schedule, whose strength is the time. Lipman et al.
    (ICLR 2023).

    :param schedule: the path; :class:`~resolvent.priors.FlowMatching` if None.
    """

    gives = VelocityDiffusion.gives
    hears = OnPath.strength

    def __init__(self, schedule: Schedule | None = None):
        self.schedule = schedule or FlowMatching()

    def check(self, noise: Corruption) -> None:
        super().check(noise)
        path = getattr(noise, "schedule", None)
        if path != self.schedule:
            found, expected = f"{type(noise).__name__} of {type(path).__name__}", type(self.schedule).__name__
            raise ValueError(f"found VelocityMatching for {found}, expected the same schedule, {expected}")

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        t = broadcast(batch.sigma, batch.noisy)
        noise = (batch.noisy - self.schedule.signal(t) * batch.clean) / self.schedule.noise(t)
        a_rate, s_rate = self.schedule.rates(t)
        return (network(batch.noisy, batch.sigma) - a_rate * batch.clean - s_rate * noise).square().mean()

    def estimate(self, network: Network, noisy: Tensor, sigma: Tensor) -> Tensor:
        return VelocityDiffusion(network, self.schedule).estimate(noisy, sigma)


class SelfSupervised(TrainingLoss):
    """A loss of deepinv that sees noisy images alone, such as ``SureGaussianLoss`` or ``R2RLoss``.

    The clean image of a batch is not looked at. deepinv's loss is told its noise level itself, so that the
    training's range should be that one level. ``R2RLoss`` adds noise to its inputs: the network is told the level of
    both, sigma / sqrt(1 - alpha), and is best trained at a range of levels around those that it will meet.

    :param loss: called as ``loss(x_net=, y=, physics=, model=)``; one without a state of its own, whose network
        denoises what it is given.
    :raises ValueError: for another one, such as ``ScoreLoss`` or ``SplittingLoss``.
    """

    needs_clean = False

    def __init__(self, loss: deepinv.loss.Loss):
        name, asked = type(loss).__name__, inspect.signature(loss.forward).parameters
        adapts = type(loss).adapt_model is not deepinv.loss.Loss.adapt_model
        if "x" in asked or getattr(loss, "unsure", False) or (adapts and not isinstance(loss, deepinv.loss.R2RLoss)):
            why = "needs clean images" if "x" in asked else "has a state" if not adapts else "changes the network"
            raise ValueError(f"loss: found {name}, which {why}, expected SureGaussianLoss, R2RLoss or the like")
        self.loss = loss

    def __call__(self, network: Network, batch: Batch) -> Tensor:
        sigma = batch.sigma.reshape(-1, *[1] * (batch.noisy.ndim - 1))
        physics = deepinv.physics.Denoising(deepinv.physics.GaussianNoise(sigma))
        alpha = self.loss.alpha if isinstance(self.loss, deepinv.loss.R2RLoss) else 0.0
        model = self.loss.adapt_model(_Reconstructor(network, (1 - alpha) ** -0.5).train(network.training))
        x_net = model(batch.noisy, physics, update_parameters=True)
        return self.loss(x_net=x_net, y=batch.noisy, physics=physics, model=model).mean()


class _Reconstructor(nn.Module):
    """A denoiser as deepinv's losses call it, on inputs ``more`` times as noisy as the data."""

    def __init__(self, network: Network, more: float):
        super().__init__()
        self.network, self.more = network, more

    def forward(self, y: Tensor, physics: deepinv.physics.Physics, **_: object) -> Tensor:
        return self.network(y, self.more * physics.noise_model.sigma)
