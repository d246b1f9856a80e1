r"""Training: Adam on one batch after another, by one process or many.

.. math:: g_k = \tfrac1P \sum_{p=1}^P \nabla_\theta L(\theta_k; \text{share } p \text{ of batch } k), \qquad
          \eta_k = \eta_K + \tfrac12 (\eta_0 - \eta_K)(1 + \cos \pi k / K) .

Everything random about step k comes from k, so that the weights, Adam's moments and k are all there is to keep:
a run that was killed ends with the weights of one that was not, bit for bit on a processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from .losses import Batch, TrainingLoss
from .moving_average import MovingAverage
from .network import Network
from .training_checkpoint import TrainingCheckpoint


class NotFinite(ArithmeticError):
    """The loss or its gradient is no longer finite; the message is one line."""


#: What is trained, and the optimisers that train it.
State = tuple[nn.Module, *tuple[torch.optim.Optimizer, ...]]


class Step(NamedTuple):
    """What one step did.

    :param number: how many steps are done.
    :param loss: of the whole batch, before the step.
    """

    number: int
    loss: float
    learning_rate: float


def train(
    network: Network,
    batch: Callable[[int], Batch],
    loss: TrainingLoss,
    steps: int,
    rate: Callable[[int], float],
    checkpoint: TrainingCheckpoint | None = None,
    after: Callable[[Step], bool] = lambda step: False,
    mixed: bool = False,
    average: MovingAverage | None = None,
) -> int:
    """Train ``network`` in place and return how many steps are done.

    :param batch: this process's share of the batch of a step, on the network's device; a function of the step alone.
    :param rate: the learning rate of a step.
    :param checkpoint: goes on from it, and keeps it up to date.
    :param after: called after each step; true ends the training early, checkpoint saved.
    :param mixed: products in bfloat16, weights and sums in float32.
    :param average: kept up to date with the network, and in the checkpoint.
    :raises NotFinite: if the loss or its gradient is; the checkpoint stays as it was last saved.
    """
    optimiser = torch.optim.Adam(network.parameters())

    def step(k: int) -> float:
        value = descend(network, optimiser, loss, batch(k), rate(k), k, mixed)
        if average:
            average.update(network, k + 1)
        return value

    trained = nn.ModuleList([network, average.network]) if average else network
    return repeat(step, (trained, optimiser), steps, rate, checkpoint, after)


def repeat(
    step: Callable[[int], float],
    state: State,
    steps: int,
    rate: Callable[[int], float],
    checkpoint: TrainingCheckpoint | None = None,
    after: Callable[[Step], bool] = lambda step: False,
) -> int:
    """Take one step after the other and return how many are done; as :func:`train`.

    :param step: takes the step of a number, and returns the loss before it.
    :param state: all that steps change and depend on, besides their number.
    """
    done = checkpoint.load(*state) if checkpoint else 0
    for k in range(done, steps):
        value = step(k)
        done = k + 1
        stop = anywhere(after(Step(done, value, rate(k))))
        if checkpoint and (stop or done == steps or checkpoint.due()):
            checkpoint.save(done, *state)
        if stop:
            break
    return done


def descend(
    network: Network,
    optimiser: torch.optim.Optimizer,
    loss: TrainingLoss,
    batch: Batch,
    rate: float,
    k: int,
    mixed: bool = False,
) -> float:
    """One step of ``optimiser``; returns the loss of the batch of all processes."""
    network.train()
    value = update(optimiser, evaluate(loss, network, batch, mixed), rate, k)
    network.project_()
    return value


def evaluate(loss: TrainingLoss, network: nn.Module, batch: Batch, mixed: bool) -> Tensor:
    """The loss, its products in bfloat16 if ``mixed``."""
    with torch.autocast(batch.noisy.device.type, torch.bfloat16, enabled=mixed):
        return loss(network, batch)


def update(optimiser: torch.optim.Optimizer, value: Tensor, rate: float, k: int) -> float:
    """One step of ``optimiser`` on its own parameters down the mean of all processes' ``value``, which is returned."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.zero_grad()
    value.backward(inputs=parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    _average(gradients)
    mean = _averaged(value.detach())
    if not math.isfinite(mean + float(get_total_norm(gradients))):
        raise NotFinite(f"loss: found {mean:.3g} or a gradient that is not finite in step {k + 1}, expected finite")
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.step()
    return mean


def cosine(first: float, last: float, steps: int) -> Callable[[int], float]:
    """The learning rate of each of ``steps`` steps, from ``first`` to ``last``; constant if they are equal."""
    return lambda k: last + 0.5 * (first - last) * (1 + math.cos(math.pi * k / steps))


def processes() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    several = dist.is_available() and dist.is_initialized()
    return (dist.get_rank(), dist.get_world_size()) if several else (0, 1)


def _average(gradients: list[Tensor]) -> None:
    """The mean of all processes' gradients, in place."""
    count = processes()[1]
    if count > 1:
        together = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(together)
        pieces = (together / count).split([g.numel() for g in gradients])
        for g, piece in zip(gradients, pieces, strict=True):
            g.copy_(piece.view_as(g))


def _averaged(value: Tensor) -> float:
    count = processes()[1]
    if count > 1:
        dist.all_reduce(value := value.clone())
    return float(value) / count


def anywhere(flag: bool) -> bool:
    """Whether any process raises ``flag``, so that all of them stop at the same step."""
    if processes()[1] == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    dist.all_reduce(count := torch.tensor(float(flag), device=device))
    return float(count) > 0
