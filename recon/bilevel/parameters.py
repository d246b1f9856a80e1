r"""Tensors of a solver, a prior or an operator, by name, as one vector.

.. math:: \theta = (\theta_1, \dots, \theta_m) \in \mathbb R^p, \qquad
          \text{module} \mapsto \text{module with } \theta_i \text{ (or } e^{\theta_i} \text{ or } u_i \theta_i)
          \text{ in place of its own}

with u_i the root mean square of what the module has: then steps of theta are shares, whatever the units. A complex
tensor is two real numbers an entry. The modules themselves never change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...operators.real_parts import from_real_parts, real_parts
from ...operators.substitute import substitute


class Parameters:
    """Named tensors, and where they stand.

    :param modules: what the names begin with.
    :param names: such as ``prior.weight`` or ``prior.layers.0``: parameters, buffers or plain attributes, each a
        tensor of floating point or complex numbers, or one number.
    :param logarithmic: those of the names whose logarithm is learned, so that they stay above 0.
    :param relative: those learned in units of their root mean square, where that is not 0.
    :raises ValueError: for a name that is not there, or of something that has no derivative.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        names: Sequence[str],
        logarithmic: Sequence[str] = (),
        relative: Sequence[str] = (),
    ):
        if not names:
            raise ValueError("names: found none, expected at least one parameter to learn")
        if strange := set(logarithmic) - set(names):
            raise ValueError(f"logarithmic: found {sorted(strange)[0]}, expected some of {', '.join(names)}")
        if strange := set(relative) - (set(names) - set(logarithmic)):
            raise ValueError(f"relative: found {sorted(strange)[0]}, expected some of {', '.join(names)}, no logarithm")
        self.modules, self.names, self.logarithmic = dict(modules), tuple(names), frozenset(logarithmic)
        for name in names:
            value = self._found(name)
            if name in self.logarithmic and (value.is_complex() or not bool((value > 0).all())):
                raise ValueError(f"{name}: found {value.tolist()!s:.40}, expected above 0 for its logarithm")
        self._units = {name: float(self._found(name).abs().square().mean().sqrt()) or 1.0 for name in relative}

    def values(self) -> dict[str, Tensor]:
        """The named tensors as the modules have them."""
        return {name: self._found(name) for name in self.names}

    def gather(self) -> Tensor:
        """theta as the modules have it, ``(p,)``, real; differentiable to their own tensors."""
        pieces = []
        for name in self.names:
            value = self._found(name)
            value = value.log() if name in self.logarithmic else value / self._units.get(name, 1.0)
            pieces.append(real_parts(value).flatten())
        dtype = max((p.dtype for p in pieces), key=lambda d: torch.finfo(d).bits)
        return torch.cat([p.to(dtype) for p in pieces])

    def scatter(self, theta: Tensor) -> dict[str, Tensor]:
        """The named tensors that ``theta`` stands for, differentiably."""
        found = {name: self._found(name).detach() for name in self.names}
        sizes = [value.numel() * (2 if value.is_complex() else 1) for value in found.values()]
        if theta.shape != (sum(sizes),):
            raise ValueError(f"theta: found shape {tuple(theta.shape)}, expected ({sum(sizes)},)")
        pieces = zip(found.items(), theta.split(sizes), strict=True)
        return {name: self._shaped(name, like, piece) for (name, like), piece in pieces}

    def substituted(self, theta: Tensor) -> dict[str, nn.Module]:
        """Copies of the modules that share everything but the named tensors, which are those of ``theta``."""
        modules = dict(self.modules)
        for name, value in self.scatter(theta).items():
            root, path = name.split(".", 1)
            modules[root] = substitute(modules[root], path, value)
        return modules

    def _shaped(self, name: str, like: Tensor, piece: Tensor) -> Tensor:
        piece = self._units[name] * piece if name in self._units else piece
        piece = from_real_parts(piece, like).to(like.dtype)
        return piece.exp() if name in self.logarithmic else piece

    def _found(self, name: str) -> Tensor:
        """The tensor of a name; a number is a tensor in double precision."""
        root, _, path = name.partition(".")
        owner: Any = self.modules.get(root)
        if owner is None or not path:
            raise ValueError(f"{name}: found no such parameter, expected a name in {', '.join(self.modules)}")
        for part in path.split("."):
            listed = isinstance(owner, list) and part.isdigit() and int(part) < len(owner)
            if not listed and not hasattr(owner, part):
                raise ValueError(f"{name}: found no {part} in {type(owner).__name__}, expected a tensor or a number")
            if part == "weight" and getattr(owner, "weight_inside", False):
                raise ValueError(f"{name}: found none of {type(owner).__name__}, expected that of a prior inside")
            owner = owner[int(part)] if listed else getattr(owner, part)
        if owner is None:
            raise ValueError(f"{name}: found no value, expected a number to begin with")
        if isinstance(owner, float | int) and not isinstance(owner, bool):
            owner = torch.tensor(float(owner), dtype=torch.float64)
        if not isinstance(owner, Tensor) or not (owner.is_floating_point() or owner.is_complex()):
            kind = f"a tensor of {owner.dtype}" if isinstance(owner, Tensor) else type(owner).__name__
            raise ValueError(f"{name}: found {kind}, expected floating point or complex numbers, which can be learned")
        return owner
