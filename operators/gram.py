r"""Exact proximal step of least squares through the data space.

.. math:: (\kappa I + A^H A)^{-1} (\kappa u + A^H r) = u + A^H q, \qquad (\kappa I + A A^H)\, q = r - A u .

With M measurements below N voxels the M x M Cholesky factor is small, is made once per kappa, and
every solve then costs one A and one A^H (Woodbury's identity).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .files import atomic

if TYPE_CHECKING:
    from .near_field_mimo import NearFieldMIMO


class GramFactor:
    """``A A^H`` and the Cholesky factor of ``kappa I + A A^H`` for the last kappa asked for."""

    def __init__(self, gram: Tensor):
        self.gram, self.dtype = gram, gram.dtype
        self._kappa: float | None = None
        self._factor: Tensor | None = None

    @classmethod
    def of(cls, physics: NearFieldMIMO, dtype: torch.dtype, cache_dir: str | os.PathLike[str] | None) -> GramFactor:
        """Build the Gram matrix, or read it from ``cache_dir`` where the same geometry left it."""
        if cache_dir is None:
            return cls(physics.gram(dtype))
        path = Path(cache_dir) / f"gram-{geometry_key(physics)}-{str(dtype).removeprefix('torch.')}.safetensors"
        if path.exists():
            stored = load_file(path)["gram"]
            return cls(torch.view_as_complex(stored).to(physics.transmitters.device))
        gram = physics.gram(dtype)
        with atomic(path) as partial:
            save_file({"gram": torch.view_as_real(gram).cpu().contiguous()}, partial)
        return cls(gram)

    def solve(self, r: Tensor, kappa: float | Tensor) -> Tensor:
        """``(kappa I + A A^H)^-1 r`` for data ``r`` of shape ``(B, ...)``."""
        q = torch.cholesky_solve(r.flatten(1).mT, self._factored(kappa))
        return q.mT.reshape(r.shape)

    def _factored(self, kappa: float | Tensor) -> Tensor:
        if isinstance(kappa, Tensor) and kappa.requires_grad:
            return self._cholesky(kappa)
        if self._factor is None or self._kappa != float(kappa):
            self._kappa, self._factor = float(kappa), self._cholesky(kappa)
        return self._factor

    def _cholesky(self, kappa: float | Tensor) -> Tensor:
        shifted = self.gram.clone()
        shifted.diagonal().add_(kappa)
        return torch.linalg.cholesky(shifted)


def geometry_key(physics: NearFieldMIMO) -> str:
    """A hash of everything that determines ``A``."""
    digest = hashlib.sha256()
    for name, value in sorted(physics.geometry().items()):
        if name != "memory_budget" and value is not None:
            digest.update(name.encode())
            digest.update(torch.as_tensor(value).cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
