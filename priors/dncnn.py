r"""DnCNN from published weights: :math:`D(x) = x + N(x)`, N a chain of 3 x 3 convolutions with ReLU between.

Zhang, Zuo, Chen, Meng and Zhang, IEEE TIP 26:3142 (2017). The network is deepinv's; what is here is how its
weights are called. KAIR numbers convolutions and ReLUs alike (``model.0``, ``model.2``, ...) and subtracts the
noise that its chain estimates; deepinv adds the chain's output.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from deepinv.models import DnCNN
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..operators.files import first_line

Weights = dict[str, Tensor]


def load_dncnn(path: str | os.PathLike[str]) -> DnCNN:
    """A DnCNN with the weights of a file, its width and depth theirs; frozen, in evaluation mode.

    :param path: ``.safetensors``, or a state dict saved by torch; in KAIR's layout (no batch
        normalisation) or deepinv's.
    :raises ValueError: if the file cannot be read or holds another network.
    """
    path = Path(path)
    weights = _deepinv_layout(_read(path))
    try:
        first, last = weights["in_conv.weight"], weights["out_conv.weight"]
        inner = sum(re.fullmatch(r"conv_list\.\d+\.weight", name) is not None for name in weights)
        network = DnCNN(
            first.shape[1], last.shape[0], inner + 2, "in_conv.bias" in weights, first.shape[0],
            pretrained=None, dim=first.ndim - 2,
        )  # fmt: skip
        network.load_state_dict(weights)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: found {_summary(weights)}, expected the weights of a DnCNN") from error
    return network.eval().requires_grad_(False)


def _read(path: Path) -> Weights:
    """The tensors of a file by name; nothing else in it is looked at."""
    expected = "expected .safetensors or a state dict saved by torch"
    if not path.is_file():
        raise ValueError(f"{path}: found no file, {expected}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({first_line(error)}), {expected}") from error
    except Exception as error:  # torch.load meets a damaged or foreign file with any of a dozen kinds
        raise ValueError(f"{path}: truncated, damaged or no weights alone ({first_line(error)}), {expected}") from error
    if not isinstance(found, dict) or not all(isinstance(v, Tensor) for v in found.values()):
        raise ValueError(f"{path}: found {type(found).__name__} of other things than tensors, {expected}")
    return found


def _deepinv_layout(weights: Weights) -> Weights:
    """KAIR's ``model.{2 i}`` as deepinv's ``in_conv``, ``conv_list.{i - 1}``, ``out_conv``; others as they are."""
    numbered = [m for name in weights if (m := re.fullmatch(r"model\.(\d+)\.(weight|bias)", name))]
    if not weights or len(numbered) < len(weights):
        return weights
    last = max(int(m[1]) for m in numbered)

    def name(layer: int) -> str:
        return "in_conv" if layer == 0 else "out_conv" if layer == last else f"conv_list.{layer // 2 - 1}"

    renamed = {f"{name(int(m[1]))}.{m[2]}": tensor for m, tensor in zip(numbered, weights.values(), strict=True)}
    return renamed | {k: -v for k, v in renamed.items() if k.startswith("out_conv.")}


def _summary(weights: Weights) -> str:
    names = list(weights)
    return f"{len(names)} tensors ({', '.join(names[:2])}, …)" if names else "no tensors"
