"""A module with another value in one place, the module itself unchanged."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


def substitute(module: M, path: str, value: Any) -> M:
    """A copy of ``module`` with ``value`` at ``path``; all else is shared, and ``module`` stays as it is.

    Unlike :func:`torch.func.functional_call` it takes numbers and tensors that are not registered, and swaps
    nothing in the module, not even for the time of a call.
    """
    part, _, rest = path.partition(".")
    twin = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        twin.__dict__[name] = dict(module.__dict__[name])
    if rest and isinstance(listed := twin.__dict__.get(part), list):
        twin.__dict__[part] = [value if i == int(rest) else old for i, old in enumerate(listed)]
    elif rest:
        twin._modules[part] = substitute(getattr(module, part), rest, value)
    elif part in twin._parameters:
        twin._parameters[part] = value
    elif part in twin._buffers:
        twin._buffers[part] = value
    elif part in twin._modules:
        twin._modules[part] = value
    else:
        twin.__dict__[part] = value
    return twin
