"""Where a run computes."""

from __future__ import annotations

import torch

from .cli import UsageError


def choose_device(name: str) -> str:
    """``auto`` is the first accelerator, else the processor.

    :raises UsageError: if this machine has no such device.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device: found {name!r}, expected a device of this machine") from error
    return name
