r"""Trained networks in files: safetensors, whose header describes the network in JSON. Nothing in a file is run.

.. math:: \|\tilde w - w\| \le 2^{-11} \|w\|

for every kernel w of single precision and what the file holds of it, in half: signs stay, and so does what depends on
them, such as convexity. Vectors and numbers (biases, statistics of a normalisation) are as they were, and so is a
kernel that half precision does not hold so well. A network that is loaded calculates in single precision.

The description holds ``format``, ``architecture`` (a :class:`~resolvent.priors.Network`'s name), ``arguments``
of its constructor, ``numbers`` (how many are stored in each precision), and what its maker added: data and their
hashes, metrics, configuration, version.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..operators.files import first_line
from ..operators.tensor_file import write_safetensors
from .network import Described, Network

D = TypeVar("D", bound=Described)

#: Grows when a description changes so that older programs cannot read it.
FORMAT = 1
SUFFIX = ".safetensors"
#: What most networks give; others say so in their description.
DENOISED = "clean images"
#: Unit of rounding of half precision.
ROUNDING = 2.0**-11


class WeightsError(ValueError):
    """A file that holds no whole weights of a network known here; the message is one line."""


def save_weights(path: str | os.PathLike[str], network: Network, **about: Any) -> None:
    """Write a network; the file appears whole or not at all.

    :param about: what else the description says, plain values.
    """
    write_safetensors(path, _tensors(network), {"resolvent": json.dumps(description_of(network, **about))})


def description_of(network: Network, **about: Any) -> dict[str, Any]:
    """What :func:`save_weights` says of a network."""
    numbers = _numbers(_tensors(network).values())
    return {"format": FORMAT, **network.description, "numbers": numbers} | about


def _tensors(network: Network) -> dict[str, Tensor]:
    return {name: _stored(t.detach().cpu().contiguous()) for name, t in network.state_dict().items()}


def _stored(t: Tensor) -> Tensor:
    """A kernel of single precision in half of it, if that moves it by no more than a rounding; else ``t``."""
    if t.ndim < 2 or t.dtype != torch.float32:
        return t
    half = t.to(torch.float16)
    kept = torch.linalg.vector_norm(half.to(t.dtype) - t) <= ROUNDING * torch.linalg.vector_norm(t)
    return half if kept else t


def _numbers(tensors: Iterable[Tensor]) -> dict[str, int]:
    """How many numbers there are of each precision, by its name."""
    count: Counter[str] = Counter()
    for t in tensors:
        count[str(t.dtype).removeprefix("torch.")] += t.numel()
    return dict(count)


def load_denoiser(path_or_name: str | os.PathLike[str], gives: str = DENOISED) -> Network:
    """The network of a file, or one of :func:`shipped` by name; frozen, in evaluation mode.

    :param gives: what it is to give, as its training's loss says.
    :raises ValueError: if there is no such file.
    :raises WeightsError: if it is damaged, newer than this version, of no known network, or gives something else.
    """
    path = resolve(path_or_name)
    description, tensors = _read(path)
    if description.get("gives", gives) != gives:
        found = str(description["gives"])[:80]
        raise WeightsError(f"{path}: found a network that gives {found}, expected one that gives {gives}")
    network = _empty(path, description)
    _check_shapes(path, network, tensors)
    network.load_state_dict(tensors)
    return network.eval().requires_grad_(False)


def read_description(path_or_name: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of weights says of itself.

    :raises ValueError: or :class:`WeightsError`, as :func:`load_denoiser`.
    """
    return _read(resolve(path_or_name))[0]


def shipped() -> dict[str, Path]:
    """The weights that come with this package, by name."""
    folder = Path(str(files(__package__))) / "weights"
    return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}


def resolve(path_or_name: str | os.PathLike[str]) -> Path:
    """The file that a path or a name means.

    :raises ValueError: if there is none.
    """
    path, named = Path(path_or_name), shipped()
    if str(path_or_name) in named:
        return named[str(path_or_name)]
    if not path.is_file():
        raise ValueError(f"{path}: found no file of weights, expected one, or a name: {', '.join(named) or 'none yet'}")
    return path


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get("resolvent", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        reason = first_line(error)
        raise WeightsError(f"{path}: found damaged or no weights ({reason}), expected {SUFFIX} whole") from error
    if not isinstance(description, dict) or not isinstance(description.get("format"), int):
        raise WeightsError(f"{path}: found no description of a network, expected weights saved by resolvent")
    if description["format"] > FORMAT:
        raise WeightsError(
            f"{path}: found format {description['format']}, expected at most {FORMAT}: a newer version's"
        )
    return description, tensors


def _empty(path: Path, description: dict[str, Any], kind: type[Described] = Network) -> Any:
    """The ``kind`` of module that a description is of, with new weights."""
    known = architectures(kind)
    name, arguments = description.get("architecture"), description.get("arguments")
    if name not in known or not isinstance(arguments, dict):
        raise WeightsError(f"{path}: found weights of {str(name)[:80]!r}, expected one of {', '.join(sorted(known))}")
    inner = {k: _empty(path, v, Described) if isinstance(v, dict) else v for k, v in arguments.items()}
    try:
        return known[name](**inner)
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        reason = first_line(error)
        raise WeightsError(
            f"{path}: found other arguments than those of {name} ({reason}), expected its own"
        ) from error


def architectures(base: type[D]) -> dict[str, type[D]]:
    """The classes below ``base``, by the names that descriptions have."""
    return {name: kind for child in base.__subclasses__()
            for name, kind in {child.__name__: child, **architectures(child)}.items()}  # fmt: skip


def _check_shapes(path: Path, network: Network, tensors: dict[str, Tensor]) -> None:
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    found = {name: tuple(t.shape) for name, t in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            a, b = (f"shape {s[name]}" if name in s else "none" for s in (found, expected))
            raise WeightsError(f"{path}: {name}: found {a}, expected {b} in this {type(network).__name__}")
