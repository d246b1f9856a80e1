r"""Layers whose weights follow hyperparameters, each image's own, in a network that knows nothing of it.

.. math:: W x + b + (V_w h) \odot (W' x) + (V_b h) \odot b' ,

the layer with weights :math:`W + \operatorname{diag}(V_w h) W'` and :math:`b + (V_b h) \odot b'`, one h per image:
gates per output channel keep the response to a second product. W and b are the plain layer's; the rest is a
:class:`Response` beside it, added to what the layer gives by a hook. MacKay et al., "Self-tuning networks" (ICLR 2019).
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

Layer = nn.Linear | nn.Conv2d | nn.Conv3d
#: Standard deviation of the first V.
GATES = 0.01


class Response(nn.Module):
    """What hyperparameters add to one layer: gates V, and weights W', b' of the layer's shapes.

    :param count: how many hyperparameters there are.
    """

    def __init__(self, layer: Layer, count: int):
        super().__init__()
        self.layer: Layer = copy.deepcopy(layer)
        self.layer.reset_parameters()
        self.outputs = len(layer.weight)
        self.bias, self.layer.bias = self.layer.bias, None
        self.gates = nn.Linear(count, self.outputs * (1 if self.bias is None else 2), bias=False)
        nn.init.normal_(self.gates.weight, std=GATES)
        self.to(layer.weight.device, layer.weight.dtype)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        """What is added at an input ``(B, ...)`` with hyperparameters ``(B, H)``."""
        weight, bias = self._gates(h)
        added = self._across(weight, x) * self.layer(x)
        return added if bias is None else added + self._across(bias * self.bias, x)

    def increments(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """What one h ``(H,)`` adds to the layer's weight and bias."""
        weight, bias = self._gates(h)
        added = weight.reshape(-1, *[1] * (self.layer.weight.ndim - 1)) * self.layer.weight
        return added, None if bias is None else bias * self.bias

    def squared_length(self, layer: Layer, h: Tensor) -> Tensor:
        """``|W + diag(V_w h) W'|^2`` of each row of ``h``, shape ``(B,)``."""
        plain, own, (gate, _) = layer.weight.flatten(1), self.layer.weight.flatten(1), self._gates(h)
        return plain.square().sum() + 2 * gate @ (plain * own).sum(1) + gate.square() @ own.square().sum(1)

    def _gates(self, h: Tensor) -> tuple[Tensor, Tensor | None]:
        gates = self.gates(h)
        return (gates, None) if self.bias is None else gates.chunk(2, -1)

    def _across(self, value: Tensor, x: Tensor) -> Tensor:
        """``(B, outputs)`` shaped to multiply an output."""
        ones = [1] * (x.ndim - 2)
        linear = isinstance(self.layer, nn.Linear)
        return value.reshape(-1, *ones, self.outputs) if linear else value.reshape(-1, self.outputs, *ones)


class HyperLayers(nn.Module):
    """The responses of a network's layers, and dropout at their inputs; the network itself stays as it is.

    Outside :meth:`at` the network computes what it always did.

    :param layers: regular expression, found in the names of the layers that respond: linear ones, and convolutions
        that keep the resolution or reduce it.
    :raises ValueError: if there is no such layer.
    """

    def __init__(self, network: nn.Module, count: int, layers: str = ""):
        super().__init__()
        found = {n: m for n, m in network.named_modules() if isinstance(m, Layer) and re.search(layers, n)}
        if not found:
            raise ValueError(
                f"layers: found no linear layer or convolution like {layers!r}, expected one that responds"
            )
        self.names = list(found)
        self.responses = nn.ModuleList(Response(layer, count) for layer in found.values())
        self._h: Tensor | None = None
        self._dropout: Tensor | None = None
        self._handles: list[RemovableHandle] = []
        self.attach(network)

    @contextlib.contextmanager
    def at(self, h: Tensor | None, dropout: Tensor | None = None) -> Iterator[None]:
        """Inside, the layers answer to ``h``, ``(B, H)``, and lose a share ``dropout``, ``(B,)``, of their inputs."""
        before = self._h, self._dropout
        self._h, self._dropout = h, dropout
        try:
            yield
        finally:
            self._h, self._dropout = before

    def pairs(self, network: nn.Module) -> Iterator[tuple[str, Layer, Response]]:
        """The name of each layer, it, and its response."""
        for name, response in zip(self.names, self.responses, strict=True):
            yield name, cast(Layer, network.get_submodule(name)), cast(Response, response)

    def attach(self, network: nn.Module) -> None:
        """Put the responses beside the network's layers."""
        self._handles = [handle for _, layer, response in self.pairs(network) for handle in self._hook(layer, response)]

    def release(self) -> None:
        """Let go of the network: nothing of this is left in it."""
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer: Layer, response: Response) -> tuple[RemovableHandle, RemovableHandle]:
        def thin(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
            return None if self._dropout is None else (dropped(inputs[0], self._dropout),)

        def respond(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
            return None if self._h is None else output + response(inputs[0], self._h)

        return layer.register_forward_pre_hook(thin), layer.register_forward_hook(respond)


def dropped(x: Tensor, rate: Tensor) -> Tensor:
    """``x`` with a share of each image's values, ``(B,)``, put to 0 and the rest scaled up: the mean stays."""
    rate = rate.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return x * (torch.rand_like(x) >= rate) / (1 - rate)
