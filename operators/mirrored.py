r"""The two bistatic contractions of an array with mirror symmetry, over a fundamental domain D of its voxels.

.. math:: y_{kij} = \sum_{v \in D} E'_{kiv} F'_{kjv}\, \hat s_{\alpha_i \beta_j}(v), \qquad
          \hat s_\chi(v) = \frac{1}{|G_v|} \sum_{g \in G} \chi(g)\, s(gv),

where E' and F' are the even and odd parts of the phasors of transmitters and receivers and y those of the data (see
``symmetry``): as many phasors and products as voxels in D, a half or a quarter of all.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .bistatic import Bistatic, Layout
from .symmetry import Symmetry


class Mirrored:
    """The contractions of :class:`~resolvent.operators.bistatic.Bistatic` over all voxels.

    :param domain: phasors and layout of the domain's voxels.
    """

    def __init__(self, domain: Bistatic, symmetry: Symmetry):
        self.domain, self.symmetry = domain, symmetry
        sides = symmetry.transmitters, symmetry.receivers
        self.duals = [(side.orthonormal / side.lengths).to(domain.device, domain.tx.dtype) for side in sides]
        self.signs, self.share = (t.to(domain.device, domain.tx.dtype) for t in (symmetry.signs, symmetry.share))

    @property
    def layout(self) -> Layout:
        return self.domain.layout

    def bytes_per_image(self) -> int:
        return self.domain.bytes_per_image()

    def forward(self, s: Tensor) -> Tensor:
        """Reflectivity ``(B, V)`` to data ``(B, K, T, R)``."""
        domain, (transmitters, receivers) = self.domain, self.duals
        parts = self.signs @ (s[:, self.symmetry.orbits] * self.share)
        scene = self.layout.cut(parts.flatten(0, 1)).unflatten(2, parts.shape[:2])
        space, weighted = self._space(), domain.workspace(domain.tx, len(s))
        lanes, (freqs, columns) = self.layout.lanes, (domain.tx.count, len(s) * len(transmitters))
        products = [
            (m, rows, s.new_zeros(lanes * freqs, rows.stop - rows.start, columns)) for m, rows in self._products()
        ]
        for block, weight in enumerate(scene):
            e, f = self._phasors(block, space)
            for members, rows, y in products:
                torch.mul(e, weight[:, None, :, members], out=weighted)
                y.baddbmm_(f[:, :, 0, rows].flatten(0, 1), weighted.flatten(2, 3).flatten(0, 1).transpose(1, 2))
        y = torch.cat([y for *_, y in products], 1).unflatten(0, (lanes, freqs)).sum(0)
        y = y.transpose(1, 2).unflatten(1, (len(s), -1)).transpose(0, 1)
        return transmitters.T @ y @ receivers

    def adjoint(self, y: Tensor) -> Tensor:
        """Data ``(B, K, T, R)`` to reflectivity ``(B, V)``."""
        domain, (transmitters, receivers) = self.domain, self.duals
        data = (transmitters @ y.conj().resolve_conj() @ receivers.T).transpose(0, 1).flatten(1, 2)
        data = data.expand(self.layout.lanes, *data.shape).flatten(0, 1)
        space, product = self._space(), domain.workspace(domain.tx, len(y))
        s = y.new_zeros(self.layout.blocks, self.layout.lanes, len(y), len(self.signs), self.layout.width)
        for block, part in enumerate(s):
            e, f = self._phasors(block, space)
            for members, rows in self._products():
                torch.bmm(data[..., rows], f[:, :, 0, rows].flatten(0, 1), out=product.flatten(2, 3).flatten(0, 1))
                part.index_add_(2, members, product.mul_(e).sum(1))
        parts = self.layout.join(s.flatten(2, 3)).conj().resolve_conj().unflatten(0, (len(y), -1))
        return (self.signs @ parts).flatten(1)[:, self.symmetry.place]

    def columns(self, block: int) -> list[Tensor]:
        """Per character, columns ``(K n, lanes * width)`` whose outer products sum to its part of ``A A^H``."""
        sizes = self.symmetry.sizes[self.layout.indices(block, self.domain.device)].sqrt()
        tx, rx = (side.lengths.to(self.domain.device) for side in (self.symmetry.transmitters, self.symmetry.receivers))
        e, f = (phasors[:, :, 0] for phasors in self._phasors(block, self._space()))
        e, f = e.div_(tx).mul_(sizes[:, None, None]), f.div_(rx)
        members = self.symmetry.members()
        return [self.domain.joined(e[:, :, i] * f[:, :, j], block) for i, j in members]

    def _products(self) -> Iterator[tuple[Tensor, slice]]:
        """Receivers of one character and, for each transmitter, the character of both."""
        for character, rows in self.symmetry.receivers.runs():
            yield self.symmetry.transmitters.characters ^ character, rows

    def _space(self) -> tuple[Tensor, Tensor]:
        return self.domain.workspace(self.domain.tx), self.domain.workspace(self.domain.rx)

    def _phasors(self, block: int, space: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Even and odd parts ``(lanes, K, 1, rows, width)`` of one block's phasors of transmitters and receivers."""
        tx, rx = self.domain.tables(block)
        e, f = self.domain.tx.expand(tx, space[0]), self.domain.rx.expand(rx, space[1])
        return self.symmetry.transmitters.apply(e), self.symmetry.receivers.apply(f)
