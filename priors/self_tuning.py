r"""Self-tuning: the hyperparameters of a training are learned while it trains, with how the weights follow them.

.. math:: \min_{\theta,\,\text{response}} E\, L_T\big(\phi(\tilde h), \tilde h\big)
          \quad\text{in turn with}\quad
          \min_{h, s} E\, L_V\big(\phi(\tilde h)\big) - \tau H[s], \quad
          \tilde h = h + \operatorname{softplus}(s)\, n .

phi(h) are a network's weights as a function of the hyperparameters; no derivative of the training loss by a
hyperparameter is needed. :class:`STN`: MacKay et al., "Self-tuning networks: bilevel optimization of hyperparameters
using structured best-response functions" (ICLR 2019). :class:`DeltaSTN`: Bae and Grosse, "Delta-STN: efficient bilevel
optimization for neural networks using structured response Jacobians" (NeurIPS 2020).
"""

from __future__ import annotations

import abc
import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self

import torch
from torch import Generator, Tensor, nn
from torch.nn import Parameter

from .hyper_layers import HyperLayers
from .hyperparameters import Hyperparameters, Values
from .losses import Batch, LogMeanSquare, TrainingLoss
from .network import Network
from .training import State, evaluate, processes, update


class Pass(NamedTuple):
    """A part of one step of training.

    :param parameters: what it changes.
    :param perturbed: whether each image has perturbed hyperparameters of its own.
    """

    parameters: list[Parameter]
    perturbed: bool


class Alignment(NamedTuple):
    """A cosine estimated from batches.

    :param error: its standard error.
    """

    cosine: float
    error: float

    @property
    def astray(self) -> bool:
        """Whether it is below 0, and that by no accident."""
        return self.cosine + 2 * self.error < 0


class SelfTuning(nn.Module, abc.ABC):
    """A network whose weights follow hyperparameters.

    :param network: trained in place; its layers get hooks, which :meth:`release` removes.
    :param layers: regular expression for the names of the layers that respond; all that can if it is empty. They
        have twice the weights, and the perturbed passes several times the arithmetic.
    """

    def __init__(self, network: Network, hyperparameters: Hyperparameters, layers: str = ""):
        super().__init__()
        self.network, self.hyperparameters = network, hyperparameters.to(next(network.parameters()).device)
        self.layers = HyperLayers(network, len(hyperparameters), layers)

    @property
    @abc.abstractmethod
    def origin(self) -> Tensor:
        """The h at which the network's own weights are those of the hyperparameters, ``(H,)``."""

    @abc.abstractmethod
    def passes(self) -> list[Pass]:
        """The parts of one step; the loss of the first is reported."""

    @abc.abstractmethod
    def respond(self, x: Tensor, sigma: Tensor, offset: Tensor | None, dropout: Tensor | None) -> Tensor:
        """As :meth:`gated`, in the form in which the responses learn and are learnt from."""

    def gated(self, x: Tensor, sigma: Tensor, offset: Tensor | None, dropout: Tensor | None) -> Tensor:
        """The image that each row's weights make.

        :param offset: h less :attr:`origin`, ``(B, H)``; None for the network's own weights.
        :param dropout: share of the responding layers' inputs that is dropped, ``(B,)``.
        """
        with self.layers.at(offset, dropout):
            return self.network(x, sigma)

    def plain(self) -> Network:
        """A copy of the network with the weights of the current hyperparameters; of responses it has no trace."""
        self.layers.release()
        other = copy.deepcopy(self.network)
        self.layers.attach(self.network)
        with torch.no_grad():
            for _, layer, response in self.layers.pairs(other):
                weight, bias = response.increments(self.hyperparameters.h - self.origin)
                layer.weight += weight
                if bias is not None:
                    layer.bias += bias
        return other

    def release(self) -> None:
        """Leave the network as it was found, but for its weights."""
        self.layers.release()

    def squared_length(self, offset: Tensor | None) -> Tensor:
        """The squares of all weights but biases, summed; of each row's, ``(B,)``, where there are rows."""
        weights = {name: p for name, p in self.network.named_parameters() if p.ndim > 1}
        follow = torch.zeros((), device=self.hyperparameters.h.device)
        if offset is not None:
            for name, layer, response in self.layers.pairs(self.network):
                del weights[f"{name}.weight"]
                follow = follow + response.squared_length(layer, offset)
        return follow + sum(p.square().sum() for p in weights.values())


class STN(SelfTuning):
    """All weights and responses learn together at perturbed hyperparameters, which the gates see as they are."""

    @property
    def origin(self) -> Tensor:
        return torch.zeros_like(self.hyperparameters.h)

    def passes(self) -> list[Pass]:
        return [Pass([*self.network.parameters(), *self.layers.parameters()], perturbed=True)]

    def respond(self, x: Tensor, sigma: Tensor, offset: Tensor | None, dropout: Tensor | None) -> Tensor:
        return self.gated(x, sigma, offset, dropout)


class DeltaSTN(SelfTuning):
    """The gates see what a perturbation adds, so that the network's own weights are the current ones.

    These learn at the current hyperparameters, without the perturbations' noise; the responses learn beside them, in
    the network linearised in the hyperparameters.
    """

    @property
    def origin(self) -> Tensor:
        return self.hyperparameters.h.detach()

    def passes(self) -> list[Pass]:
        return [
            Pass([*self.network.parameters()], perturbed=False),
            Pass([*self.layers.parameters()], perturbed=True),
        ]

    def respond(self, x: Tensor, sigma: Tensor, offset: Tensor | None, dropout: Tensor | None) -> Tensor:
        if offset is None:
            return self.gated(x, sigma, None, dropout)

        def image(o: Tensor) -> Tensor:
            return self.gated(x, sigma, o, dropout)

        with settled(self.network):
            found = torch.func.jvp(image, (torch.zeros_like(offset),), (offset,))
        return found[0] + found[1]


def forgetful_adam(parameters: Iterable[Parameter]) -> torch.optim.Adam:
    """Adam that remembers the size of gradients for a hundred steps, for it changes with the hyperparameters.

    The usual thousand keep steps short long after a noise level that began too high has fallen.
    """
    return torch.optim.Adam(parameters, betas=(0.9, 0.99))


#: Image, noise levels, offset and dropout to image.
Respond = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


class _At(nn.Module):
    """The network at given hyperparameters, as losses call it; its mode is the network's own affair."""

    def __init__(self, respond: Respond, offset: Tensor | None, dropout: Tensor | None):
        super().__init__()
        self.respond, self.offset, self.dropout = respond, offset, dropout

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.respond(x, sigma, self.offset, self.dropout)

    def train(self, mode: bool = True) -> Self:
        self.training = mode
        return self


@contextlib.contextmanager
def settled(network: nn.Module) -> Iterator[None]:
    """Inside, layers that keep statistics use those that they have."""
    followed = [m for m in network.modules() if m.training and any(True for _ in m.buffers(recurse=False))]
    for module in followed:
        module.training = False
    try:
        yield
    finally:
        for module in followed:
            module.training = True


class SelfTuner:
    """The steps of a self-tuning training, for :func:`~resolvent.priors.training.repeat`.

    Hyperparameters called ``dropout`` (of the responding layers' inputs) and ``weight_decay`` (times half the squared
    weights, added to the loss) act here; ``batch`` sees to all others.

    :param batch: this process's share of the batch of a step, given each image's hyperparameters.
    :param validation: the like of images held out, which are not learnt from, at the noise aimed at.
    :param rate: the learning rate of a step, of weights and responses.
    :param generator: of the perturbations of a step; a function of the step alone.
    :param size: images in a batch of all processes, which take turns.
    :param validation_loss: what the hyperparameters minimise.
    :param every: steps of training to one of the hyperparameters.
    :param warm_up: steps before the first of these.
    :param tuning_rate: learning rate of h and of the perturbations' scales.
    :param entropy: tau, in units of the validation loss.
    :param optimiser: of weights and responses.
    :param mixed: products in bfloat16.
    """

    def __init__(
        self,
        model: SelfTuning,
        batch: Callable[[int, Values], Batch],
        validation: Callable[[int], Batch],
        loss: TrainingLoss,
        rate: Callable[[int], float],
        generator: Callable[[int], Generator],
        size: int,
        *,
        validation_loss: TrainingLoss | None = None,
        every: int = 5,
        warm_up: int = 0,
        tuning_rate: float = 0.01,
        entropy: float = 1e-3,
        optimiser: Callable[[Iterable[Parameter]], torch.optim.Optimizer] = forgetful_adam,
        mixed: bool = False,
    ):
        self.model, self.batch, self.validation, self.loss = model, batch, validation, loss
        self.rate, self.generator, self.size = rate, generator, size
        self.validation_loss = validation_loss or LogMeanSquare()
        self.every, self.warm_up, self.tuning_rate, self.entropy = every, warm_up, tuning_rate, entropy
        self.mixed = mixed
        self.passes = [(part, optimiser(part.parameters)) for part in model.passes()]
        self.tuning = torch.optim.RMSprop(model.hyperparameters.parameters())

    @property
    def state(self) -> State:
        """What a checkpoint keeps."""
        return self.model, *(optimiser for _, optimiser in self.passes), self.tuning

    def step(self, k: int) -> float:
        """Train, and every so often tune; returns the training loss before."""
        generator = self.generator(k)
        losses = [self._learn(part, optimiser, generator, k) for part, optimiser in self.passes]
        if k >= self.warm_up and (k + 1) % self.every == 0:
            self._tune(generator, k)
        return losses[0]

    def check(self) -> None:
        """Evaluate what responses learn from, and change nothing: raises what the network or the loss cannot bear."""
        h = _share(self.model.hyperparameters.h.detach().expand(self.size, -1))
        self._training_loss(0, self.model.respond, h - self.model.origin, self.model.hyperparameters.values(h))

    def alignment(self, steps: Sequence[int]) -> dict[str, Alignment]:
        r"""Whether the responses learnt cancel what each hyperparameter does to the training loss's gradient.

        .. math:: \cos\angle\big(\partial^2_\theta L\, r_j,\; -\partial_{h_j} \nabla_\theta L\big), \qquad
                  r_j = \partial \phi / \partial h_j ,

        by differences over the perturbations' scales. It is 1 for the exact response where the loss is smooth; below
        0 the hyperparameter is led the wrong way. The two sides come from different batches, so that the noise of
        one is not taken for agreement.

        :param steps: whose batches are averaged over, at least two.
        """
        scales = torch.diag(self.model.hyperparameters.scale.detach())
        found = {}
        for name, shift in zip(self.model.hyperparameters.ranges, scales, strict=True):
            followed = self._gradient_changes(steps, response=shift, value=0 * shift)
            forced = self._gradient_changes(steps, response=0 * shift, value=shift).roll(1, 0)
            agreement = -(followed * forced).sum(1) / (followed.mean(0).norm() * forced.mean(0).norm())
            found[name] = Alignment(float(agreement.mean()), float(agreement.std()) / len(steps) ** 0.5)
        return found

    def _learn(self, part: Pass, optimiser: torch.optim.Optimizer, generator: Generator, k: int) -> float:
        self.model.network.train()
        hyper = self.model.hyperparameters
        h = hyper.perturbed(self.size, generator) if part.perturbed else hyper.h.expand(self.size, -1)
        h = _share(h).detach()
        offset = h - self.model.origin if part.perturbed else None
        value = self._training_loss(k, self.model.respond, offset, hyper.values(h))
        value = update(optimiser, value, self.rate(k), k)
        self.model.network.project_()
        return value

    def _tune(self, generator: Generator, k: int) -> None:
        self.model.network.eval()
        hyper, batch = self.model.hyperparameters, self.validation(k)
        offset = _share(hyper.perturbed(len(batch.clean) * processes()[1], generator)) - self.model.origin
        value = evaluate(self.validation_loss, _At(self.model.respond, offset, None), batch, self.mixed)
        update(self.tuning, value - self.entropy * hyper.entropy(), self.tuning_rate, k)

    def _training_loss(self, k: int, respond: Respond, offset: Tensor | None, values: Values) -> Tensor:
        batch = self.batch(k, values)
        value = evaluate(self.loss, _At(respond, offset, values.get("dropout")), batch, self.mixed)
        if "weight_decay" in values:
            value = value + (values["weight_decay"] / 2 * self.model.squared_length(offset)).mean()
        return value

    def _gradient_changes(self, steps: Sequence[int], response: Tensor, value: Tensor) -> Tensor:
        """How the responding weights' gradient changes across the current hyperparameters; a row for each step."""
        return torch.stack([self._gradient(k, response, value) - self._gradient(k, -response, -value) for k in steps])

    def _gradient(self, k: int, response: Tensor, value: Tensor) -> Tensor:
        """Of the training loss by the responding weights, with weights and values of hyperparameters shifted apart."""
        model, hyper = self.model, self.model.hyperparameters
        h = _share(hyper.h.detach().expand(self.size, -1))
        weights = [p for _, layer, _ in model.layers.pairs(model.network) for p in layer.parameters()]
        model.network.train()
        with settled(model.network):
            loss = self._training_loss(k, model.gated, h + response - model.origin, hyper.values(h + value))
        found = torch.autograd.grad(loss, weights)
        return torch.cat([g.flatten() for g in found])


def _share(rows: Tensor) -> Tensor:
    """This process's rows of all processes'."""
    rank, world = processes()
    return rows[rank::world]
