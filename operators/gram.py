r"""Exact proximal step of least squares through the data space.

.. math:: (\kappa I + A^H A)^{-1} (\kappa u + A^H r) = u + A^H q, \qquad (\kappa I + A A^H)\, q = r - A u .

With M measurements below N voxels the M x M Cholesky factor is small, is made once per kappa, and
every solve then costs one A and one A^H (Woodbury's identity). An array with mirror symmetry has two or four factors,
each of its part of the data.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .tensor_file import load_tensors, save_tensors

if TYPE_CHECKING:
    from .near_field_mimo import NearFieldMIMO


#: kappa over the Frobenius norm of ``A A^H`` below which single precision would lose digits of the solution.
DELICATE = 1e-5


class GramFactor:
    """The parts of ``A A^H`` and Cholesky factors of ``kappa I + A A^H`` for the last kappa asked for."""

    def __init__(self, parts: list[Tensor]):
        self.parts = parts
        self._size = math.hypot(*(float(torch.linalg.matrix_norm(part)) for part in parts))
        self._kappa: float | None = None
        self._factors: list[Tensor] = []

    @classmethod
    def of(cls, physics: NearFieldMIMO, dtype: torch.dtype, cache_dir: str | os.PathLike[str] | None) -> GramFactor:
        """Build the Gram matrix, or read it from ``cache_dir`` where the same geometry left it."""
        if cache_dir is None:
            return cls(physics.gram(dtype))
        path = Path(cache_dir) / f"gram-{geometry_key(physics)}-{str(dtype).removeprefix('torch.')}.safetensors"
        if path.exists():
            stored, _ = load_tensors(path, physics.transmitters.device)
            return cls([stored[str(i)] for i in range(len(stored))])
        parts = physics.gram(dtype)
        save_tensors(path, {str(i): part for i, part in enumerate(parts)})
        return cls(parts)

    def loses(self, kappa: float | Tensor) -> bool:
        """Whether kappa is so small that the factor is to be made in double precision."""
        return self.parts[0].dtype == torch.complex64 and float(kappa) < DELICATE * self._size

    def solve(self, r: list[Tensor], kappa: float | Tensor) -> list[Tensor]:
        """``(kappa I + A A^H)^-1 r`` for the parts ``(B, M_i)`` of data."""
        return [torch.cholesky_solve(p.mT, factor).mT for p, factor in zip(r, self._factored(kappa), strict=True)]

    def _factored(self, kappa: float | Tensor) -> list[Tensor]:
        if isinstance(kappa, Tensor) and kappa.requires_grad:
            return [_cholesky(part, kappa) for part in self.parts]
        if not self._factors or self._kappa != float(kappa):
            with torch.inference_mode(False), torch.no_grad():  # kept, and perhaps for a derivative later
                self._kappa, self._factors = float(kappa), [_cholesky(part, float(kappa)) for part in self.parts]
        return self._factors


def _cholesky(gram: Tensor, kappa: float | Tensor) -> Tensor:
    shifted = gram.clone()
    shifted.diagonal().add_(kappa)
    return torch.linalg.cholesky(shifted)


def add_upper_outer(out: Tensor, columns: Tensor, pieces: int = 8) -> None:
    """``out += columns columns^H`` on and right of the diagonal blocks only: half the products."""
    step = math.ceil(len(columns) / pieces)
    for i in range(0, len(columns), step):
        out[i : i + step, i:] += columns[i : i + step] @ columns[i:].mH


def geometry_key(physics: NearFieldMIMO) -> str:
    """A hash of everything that determines ``A``."""
    digest = hashlib.sha256()
    for name, value in sorted(physics.geometry().items()):
        if name != "memory_budget" and value is not None:
            digest.update(name.encode())
            digest.update(torch.as_tensor(value).cpu().numpy().tobytes())
    return digest.hexdigest()[:32]
