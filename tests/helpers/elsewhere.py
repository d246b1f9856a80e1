"""A device that every machine has: its tensors lie in ordinary memory, but mix with the CPU's no more than a GPU's do.

    with Elsewhere() as device:
        physics.to(device).A(x.to(device)).cpu()

An operation on a tensor from elsewhere and one of the CPU (that is more than a number) is refused, and so is what needs
a copy first, such as ``numpy()``. The device goes by the name of ``meta``, which needs no driver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
#: Operations between devices, and those that take indices of the CPU.
ACROSS = ("aten.copy_.", "aten.index.", "aten.index_put_.", "aten._index_put_impl_.")
#: Lazy forms would be lost below: each by one that computes.
EAGER = {
    "aten._conj.default": torch.ops.aten.conj_physical.default,
    "aten._neg_view.default": torch.ops.aten.neg.default,
}


class Remote(Tensor):
    """A tensor from elsewhere; ``here`` is what it holds."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> Remote:
        about = {"dtype": here.dtype, "layout": here.layout, "device": DEVICE}
        if here.layout == torch.strided:
            about |= {"strides": here.stride(), "storage_offset": here.storage_offset()}
        remote = Tensor._make_wrapper_subclass(cls, here.shape, **about)
        remote.here = here
        return remote

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError("numpy: found a tensor from elsewhere, expected one of the CPU")

    __array__ = numpy

    def tolist(self) -> Any:
        return self.here.tolist()

    def __repr__(self) -> str:
        return f"Remote({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(func, args, kwargs or {})


def carried_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """``func`` of what tensors from elsewhere hold; its tensors go where they would from one device."""
    remote = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Remote)]
    refuse_mixture(func, args, kwargs, bool(remote))
    asked, there = kwargs.get("device"), bool(remote)
    if asked is not None:
        there, kwargs = torch.device(asked) == DEVICE, kwargs | {"device": torch.device("cpu")}
    args, kwargs = tree_map(held, (args, kwargs))
    found = EAGER.get(str(func), func)(*args, **kwargs)
    own = {id(t.here): t for t in remote}

    def placed(t: Any) -> Any:
        return own[id(t)] if id(t) in own else Remote(t) if there and isinstance(t, Tensor) else t

    return tree_map(placed, found)


def refuse_mixture(func: Any, args: Any, kwargs: dict[str, Any], remote: bool) -> None:
    """Refuse tensors of two devices.

    :raises RuntimeError: naming the operation.
    """
    local = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and not isinstance(t, Remote) and t.ndim]
    if remote and local and not str(func).startswith(ACROSS):
        raise RuntimeError(f"{func}: found tensors of two devices, expected one")


def held(t: Any) -> Any:
    """What a tensor from elsewhere holds; anything else as it is."""
    return t.here if isinstance(t, Remote) else t


def made_here(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``make``, its tensor moved afterwards: torch makes those of ``meta`` without their values."""

    def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:
        found = make(*args, **kwargs)
        return found if device is None else found.to(device)

    return made


class Elsewhere(TorchDispatchMode):
    """The device, while entered."""

    def __enter__(self) -> torch.device:
        super().__enter__()
        self._make = torch.tensor, torch.as_tensor
        torch.tensor, torch.as_tensor = map(made_here, self._make)
        return DEVICE

    def __exit__(self, *error: Any) -> None:
        torch.tensor, torch.as_tensor = self._make
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(func, args, kwargs or {})
