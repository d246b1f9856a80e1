"""Tensors in one file with a note of plain values beside them: bit for bit, whole or not at all, no pickle.

Complex tensors are stored as pairs of reals under names that end in ``.complex``. The format aligns data to eight bytes
only, a complex128 number must lie at sixteen: what is read is copied to where tensors usually lie.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .files import atomic, first_line
from .real_parts import real_parts

_COMPLEX = ".complex"


def save_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], note: Mapping[str, Any] | None = None
) -> None:
    """Replace the file; whatever interrupts this leaves the one before.

    :param note: what JSON can say.
    :raises OSError: if it cannot be written.
    """
    stored = {name + _COMPLEX * t.is_complex(): _storable(t) for name, t in tensors.items()}
    write_safetensors(path, stored, {"note": json.dumps(dict(note or {}))})


def write_safetensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """A file of contiguous tensors on the CPU, whole or not at all.

    The library's own writer goes by way of a file that stays if it is killed.
    """
    with atomic(path) as partial:
        partial.write_bytes(save(dict(tensors), metadata))


def load_note(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What the file says beside its tensors.

    :raises OSError: if it cannot be read.
    :raises ValueError: if it is damaged.
    """
    return _read(path, "cpu", tensors=False)[1]


def load_tensors(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the note; raises as :func:`load_note`."""
    return _read(path, device, tensors=True)


def _read(
    path: str | os.PathLike[str], device: str | torch.device, tensors: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            note = json.loads((file.metadata() or {}).get("note", "{}"))
            names = file.keys() if tensors else ()
            return dict(_restored(name, file.get_tensor(name)) for name in names), note
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(first_line(error)) from error


def _storable(t: Tensor) -> Tensor:
    return real_parts(t.detach().cpu()).clone(memory_format=torch.contiguous_format)


def _restored(name: str, stored: Tensor) -> tuple[str, Tensor]:
    t = stored.clone()
    return (name.removesuffix(_COMPLEX), torch.view_as_complex(t)) if name.endswith(_COMPLEX) else (name, t)
