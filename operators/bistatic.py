r"""Antenna phasors on a voxel set, and the two bistatic contractions built from them.

.. math:: y_{ktr} = \sum_v E_{ktv}\, F_{krv}\, s_v, \qquad
          s_v = \sum_{ktr} \overline{E_{ktv} F_{krv}}\, y_{ktr}, \qquad
          E_{ktv} = a_{tv}\, e^{-j k_k R_{tv}} .

The matrix (K T R) x V is never formed: each frequency is one matrix product over the voxels. On a
uniform frequency grid E advances by E_{k+1} = E_k exp(-j dk R), so only the first phasor and two
powers of the step are kept, whatever the number of frequencies.

Voxels are cut into ``(blocks, lanes, C)``: a block is what stays in cache at a time, a lane is what
one thread works on throughout a block, so that no phasor crosses between cores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .paths import Paths

#: Phases are advanced four frequencies at a time, by the fourth power of the step phasor.
STRIDE = 4


@dataclass(frozen=True)
class Layout:
    """How ``voxels`` are cut into ``blocks x lanes x width`` (the last ones padded with zeros)."""

    voxels: int
    lanes: int
    width: int

    @property
    def blocks(self) -> int:
        return max(1, math.ceil(self.voxels / (self.lanes * self.width)))

    @property
    def padded(self) -> int:
        return self.blocks * self.lanes * self.width

    def cut(self, x: Tensor) -> Tensor:
        """``(rows, voxels) -> (blocks, lanes, rows, width)``."""
        x = F.pad(x, (0, self.padded - self.voxels))
        return x.reshape(x.shape[0], self.lanes, self.blocks, self.width).permute(2, 1, 0, 3).contiguous()

    def join(self, x: Tensor) -> Tensor:
        """``(blocks, lanes, rows, width) -> (rows, voxels)``."""
        return x.permute(2, 1, 0, 3).reshape(x.shape[2], self.padded)[:, : self.voxels]

    def places(self, block: int, device: torch.device) -> Tensor:
        """Where the columns ``(lanes, width)`` of one block are among the voxels; padding lies beyond the last."""
        lane = torch.arange(self.lanes, device=device)[:, None] * self.blocks + block
        return lane * self.width + torch.arange(self.width, device=device)

    def indices(self, block: int, device: torch.device) -> Tensor:
        """Voxel indices ``(lanes, width)`` of one block; padding repeats the last voxel."""
        return self.places(block, device).clamp_(max=self.voxels - 1)


class Recurrence:
    """Phasors on a uniform frequency grid: first phasor and powers of the step, per block."""

    def __init__(self, paths: Paths, wavenumbers: Tensor, dtype: torch.dtype):
        self.paths, self.dtype, self.count = paths, dtype, len(wavenumbers)
        self.first = float(wavenumbers[0])
        self.step = float(wavenumbers[-1] - wavenumbers[0]) / max(1, self.count - 1)

    @staticmethod
    def tables_per_row(_: int) -> int:
        return 3

    def table(self, voxels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """First phasor, step and its fourth power, each ``(lanes, rows, width)``."""
        length = self.paths.length(voxels)
        one = torch.ones_like(length)
        start = torch.polar(self.paths.amplitude(voxels), -self.first * length).to(self.dtype)
        step, stride = (torch.polar(one, -self.step * m * length).to(self.dtype) for m in (1, STRIDE))
        return start, step, stride

    def expand(self, table: tuple[Tensor, ...], out: Tensor, weight: Tensor | None = None) -> Tensor:
        """All phasors, times ``weight (lanes, B, 1, width)``, into ``out (lanes, K, B, rows, width)``."""
        start, step, stride = (t[:, None] for t in table)
        if weight is None:
            out[:, 0] = start
        else:
            torch.mul(start, weight, out=out[:, 0])
        for k in range(1, min(STRIDE, self.count)):
            torch.mul(out[:, k - 1], step, out=out[:, k])
        for k in range(STRIDE, self.count, STRIDE):
            ahead = out[:, k : k + STRIDE]
            torch.mul(out[:, k - STRIDE :][:, : ahead.shape[1]], stride[:, None], out=ahead)
        return out

    def contract(self, table: tuple[Tensor, ...], g: Tensor) -> Tensor:
        """``sum_k,row phasor * g`` by Horner's rule within ``g (lanes, K, B, rows, width)``, which is used up.

        Returns ``(lanes, B, width)``.
        """
        start, step, stride = (t[:, None] for t in table)
        for k in range(STRIDE * ((self.count - 1) // STRIDE), 0, -STRIDE):
            ahead = g[:, k : k + STRIDE]
            g[:, k - STRIDE :][:, : ahead.shape[1]].addcmul_(ahead, stride[:, None])
        for k in range(min(STRIDE, self.count) - 1, 0, -1):
            g[:, k - 1].addcmul_(g[:, k], step)
        return (g[:, 0] * start).sum(2)


class Spectrum:
    """Phasors at arbitrary frequencies: one per frequency, antenna and voxel."""

    def __init__(self, paths: Paths, wavenumbers: Tensor, dtype: torch.dtype):
        self.paths, self.dtype, self.count, self.wavenumbers = paths, dtype, len(wavenumbers), wavenumbers

    @staticmethod
    def tables_per_row(count: int) -> int:
        return count

    def table(self, voxels: Tensor) -> Tensor:
        """Phasors ``(lanes, K, rows, width)``."""
        length, amplitude = self.paths.length(voxels), self.paths.amplitude(voxels)
        phasors = [torch.polar(amplitude, -float(k) * length).to(self.dtype) for k in self.wavenumbers]
        return torch.stack(phasors, 1)

    def expand(self, table: Tensor, out: Tensor, weight: Tensor | None = None) -> Tensor:
        if weight is None:
            return out.copy_(table[:, :, None])
        return torch.mul(table[:, :, None], weight[:, None], out=out)

    def contract(self, table: Tensor, g: Tensor) -> Tensor:
        return (table[:, :, None] * g).sum((1, 3))


Phasors = Recurrence | Spectrum


class Bistatic:
    """The two contractions over transmitters ``tx`` and receivers ``rx`` with one block layout.

    :param keep: keep every block's tables (True) or recompute them at each use (False).
    """

    def __init__(self, tx: Phasors, rx: Phasors, layout: Layout, device: torch.device, keep: bool):
        self.tx, self.rx, self.layout, self.device = tx, rx, layout, device
        self._kept = [self._tables(i) for i in range(layout.blocks)] if keep else None

    def _tables(self, block: int) -> tuple[Any, Any]:
        voxels = self.layout.indices(block, self.device)
        return self.tx.table(voxels), self.rx.table(voxels)

    def tables(self, block: int) -> tuple[Any, Any]:
        """Phasor tables of transmitters and receivers for one block."""
        return self._kept[block] if self._kept is not None else self._tables(block)

    def bytes_per_image(self) -> int:
        """What one image of a batch adds to the workspace, twice."""
        return 2 * self.tx.dtype.itemsize * self.layout.lanes * self.layout.width * self.tx.count * self.tx.paths.rows

    def workspace(self, phasors: Phasors, batch: int = 1) -> Tensor:
        """One block's phasors, allocated once per product: fresh pages cost as much as the arithmetic."""
        shape = (self.layout.lanes, phasors.count, batch, phasors.paths.rows, self.layout.width)
        return torch.empty(shape, dtype=phasors.dtype, device=self.device)

    def forward(self, s: Tensor) -> Tensor:
        """Reflectivity ``(B, V)`` to data ``(B, K, T, R)``."""
        scene, lanes, batch = self.layout.cut(s), self.layout.lanes, s.shape[0]
        e_space, f_space = self.workspace(self.tx, batch), self.workspace(self.rx)
        y = s.new_zeros(lanes * self.tx.count, self.rx.paths.rows, batch * self.tx.paths.rows)
        for i in range(self.layout.blocks):
            tx, rx = self.tables(i)
            e = self.tx.expand(tx, e_space, scene[i].unsqueeze(2)).flatten(2, 3).flatten(0, 1)
            f = self.rx.expand(rx, f_space).flatten(2, 3).flatten(0, 1)
            y.baddbmm_(f, e.transpose(1, 2))
        y = y.unflatten(0, (lanes, -1)).sum(0).transpose(1, 2)
        return y.unflatten(1, (batch, self.tx.paths.rows)).transpose(0, 1)

    def adjoint(self, y: Tensor) -> Tensor:
        """Data ``(B, K, T, R)`` to reflectivity ``(B, V)``."""
        lanes, (batch, freqs, transmitters, receivers) = self.layout.lanes, y.shape
        f_space, g_space = self.workspace(self.rx), self.workspace(self.tx, batch)
        data = y.conj().transpose(0, 1).reshape(1, freqs, batch * transmitters, receivers)
        data = data.expand(lanes, -1, -1, -1).flatten(0, 1)
        s = y.new_empty(self.layout.blocks, lanes, batch, self.layout.width)
        for i in range(self.layout.blocks):
            tx, rx = self.tables(i)
            f = self.rx.expand(rx, f_space).flatten(2, 3).flatten(0, 1)
            torch.bmm(data, f, out=g_space.flatten(2, 3).flatten(0, 1))
            s[i] = self.tx.contract(tx, g_space)
        return self.layout.join(s).conj().resolve_conj()

    def columns(self, block: int) -> list[Tensor]:
        """The dense columns of one block, ``(K * T * R, lanes * width)``, in one part."""
        tx, rx = self.tables(block)
        e = self.tx.expand(tx, self.workspace(self.tx))[:, :, 0]
        f = self.rx.expand(rx, self.workspace(self.rx))[:, :, 0]
        return [self.joined((e[:, :, :, None] * f[:, :, None]).flatten(2, 3), block)]

    def joined(self, rows: Tensor, block: int) -> Tensor:
        """``(lanes, K, rows, width)`` of one block to ``(K * rows, voxels)``, without the padding."""
        seen = (self.layout.places(block, self.device) < self.layout.voxels).flatten()
        return rows.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)[:, seen]
