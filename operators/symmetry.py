r"""Mirror symmetry of an array and its voxels.

A reflection, or a half-turn, g about the grid's vertical axis that maps voxels, transmitters and receivers each onto
themselves leaves every path length as it is, so that with commuting ones (a group G with \|G\| = 2 or 4)

.. math:: A_{(gt)(gr)(gv)} = A_{trv} , \qquad
          E'_{iv} = \sum_t B_{it} E_{tv} , \quad E'_{i(gv)} = \alpha_i(g)\, E'_{iv} , \quad \alpha_i(g) = \pm 1 ,

with the even and odd parts E' of the antennas' orbits, whose rows of B are orthogonal. A character alpha is a number
``a`` of as many bits as G has generators: :math:`\alpha(g_b) = (-1)^{|a \wedge b|}`, and characters multiply by
exclusive or.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

#: Distances below this part of a wavelength are none: phases keep float64's accuracy.
TOLERANCE = 1e-12


class Move(NamedTuple):
    """A reflection or half-turn: of lateral coordinates, a ``(2, 2)`` matrix, and of a grid ``(X, Y, ...)``."""

    matrix: Tensor
    of_grid: Callable[[Tensor], Tensor]


def _moves() -> list[Move]:
    one = torch.eye(2, dtype=torch.float64)
    across, swap = torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64)), one.flip(0)
    return [
        Move(across, lambda grid: grid.flip(0)),
        Move(-across, lambda grid: grid.flip(1)),
        Move(swap, lambda grid: grid.transpose(0, 1)),
        Move(-swap, lambda grid: grid.transpose(0, 1).flip(0, 1)),
        Move(-one, lambda grid: grid.flip(0, 1)),
    ]


class Element(NamedTuple):
    """Of the group: the matrix, and which voxel, transmitter and receiver each comes to lie on."""

    matrix: Tensor
    voxels: Tensor
    transmitters: Tensor
    receivers: Tensor

    def after(self, first: Element) -> Element:
        """First the other, then this one."""
        indices = (mine[theirs] for mine, theirs in zip(self[1:], first[1:], strict=True))
        return Element(self.matrix @ first.matrix, *indices)

    def extends(self, group: list[Element]) -> bool:
        """Not in a group, and commuting with it."""
        new = not any(torch.equal(self.matrix, g.matrix) for g in group)
        return new and all(torch.equal(self.matrix @ g.matrix, g.matrix @ self.matrix) for g in group)


class Basis(NamedTuple):
    r"""Even and odd parts of antennas: sums and differences of those that the group exchanges.

    :param order: in which antennas stand, ``(N,)``: together those that the same part of the group leaves in place.
    :param butterflies: pairs of slices of rows a, b to replace by a + b, a - b, one pair after the other.
    :param characters: of each row then, ``(N,)``.
    """

    order: Tensor
    butterflies: tuple[tuple[slice, slice], ...]
    characters: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """Replace the ordered antennas' rows ``(..., N, C)`` by their parts."""
        for a, b in self.butterflies:
            even, odd = rows[..., a, :], rows[..., b, :]
            even += odd
            torch.sub(even, odd, alpha=2, out=odd)
        return rows

    @property
    def lengths(self) -> Tensor:
        """Square roots of the orbits' sizes: the norms of the rows of B, ``(N, 1)`` float64."""
        return torch.linalg.vector_norm(self._matrix(), dim=-1, keepdim=True)

    @property
    def orthonormal(self) -> Tensor:
        """B for antennas as they came, ``(N, N)`` float64, its rows of length 1."""
        return self._matrix() / self.lengths

    def _matrix(self) -> Tensor:
        return self.apply(torch.nn.functional.one_hot(self.order).double())

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Neighbouring rows of one character."""
        values, counts = self.characters.unique_consecutive(return_counts=True)
        start = 0
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            yield value, slice(start, start + count)
            start += count


class Symmetry(NamedTuple):
    """What the group does to ``V`` voxels, of which ``D`` are a fundamental domain, and to the antennas.

    :param orbits: voxel indices ``(|G|, D)``, the domain's own first.
    :param place: of each voxel one place in ``orbits.flatten()``, ``(V,)``.
    :param share: one over how often an orbit meets its voxel, ``(D,)`` float64.
    """

    orbits: Tensor
    place: Tensor
    share: Tensor
    transmitters: Basis
    receivers: Basis

    @property
    def signs(self) -> Tensor:
        """The characters' table ``(|G|, |G|)`` float64."""
        return _signs(len(self.orbits))

    @property
    def sizes(self) -> Tensor:
        """Of the orbits, ``(D,)`` float64."""
        return len(self.orbits) * self.share

    def members(self) -> list[tuple[Tensor, Tensor]]:
        """For each character that occurs, the even or odd parts of transmitters and of receivers that make it."""
        products = self.transmitters.characters[:, None] ^ self.receivers.characters
        return [(products == c).nonzero(as_tuple=True) for c in products.unique()]

    def split(self, y: Tensor) -> list[Tensor]:
        """Data ``(B, K, T, R)`` by characters, orthonormal coordinates ``(B, M_i)`` each: A A^H mixes none of them."""
        tx, rx = (side.orthonormal.to(y.dtype) for side in (self.transmitters, self.receivers))
        parts = tx @ y @ rx.T
        return [parts[:, :, i, j].flatten(1) for i, j in self.members()]

    def join(self, parts: list[Tensor], shape: torch.Size) -> Tensor:
        """The inverse of :meth:`split`."""
        y = parts[0].new_empty(shape)
        for part, (i, j) in zip(parts, self.members(), strict=True):
            y[:, :, i, j] = part.unflatten(1, (shape[1], -1))
        tx, rx = (side.orthonormal.to(y.dtype) for side in (self.transmitters, self.receivers))
        return tx.T @ y @ rx

    @classmethod
    def of(
        cls, x: Tensor, y: Tensor, voxels: Tensor, transmitters: Tensor, receivers: Tensor, wavelength: float
    ) -> Symmetry | None:
        """Of a grid with coordinates ``x (X,)`` and ``y (Y,)`` in metres; None where there is none.

        :param voxels: their numbers ``(X, Y, Z)`` from 0, -1 outside the support.
        :param transmitters: positions behind each row of phasors ``(N, n, 3)`` in metres; likewise ``receivers``.
        :param wavelength: the smallest, in metres.
        """
        centre = torch.stack([x[[0, -1]].mean(), y[[0, -1]].mean(), x.new_zeros(())])
        plane = torch.stack(torch.meshgrid(x - centre[0], y - centre[1], indexing="ij"), -1)
        antennas = transmitters - centre, receivers - centre
        numbers = voxels[voxels >= 0]
        group = [Element(torch.eye(2).to(plane), numbers, *(torch.arange(len(a), device=x.device) for a in antennas))]
        for move in _moves():
            image = _image(move, plane, voxels, antennas, TOLERANCE * wavelength)
            if image is not None and image.extends(group):
                group += [image.after(g) for g in group]
        if len(group) == 1:
            return None
        _, of_voxels, tx, rx = (torch.stack(part) for part in zip(*group, strict=True))
        return cls(*_domain(of_voxels), _basis(tx), _basis(rx))


def _image(
    move: Move, plane: Tensor, voxels: Tensor, antennas: tuple[Tensor, Tensor], tolerance: float
) -> Element | None:
    """What a move does; None where it does not map voxels and antennas each onto themselves."""
    matrix, moved, numbers = move.matrix.to(plane), move.of_grid(plane), move.of_grid(voxels)
    if moved.shape != plane.shape or (plane @ matrix.T - moved).abs().max() > tolerance:
        return None
    if not torch.equal(numbers < 0, voxels < 0):
        return None
    tx, rx = (_matched(a, matrix, tolerance) for a in antennas)
    return None if tx is None or rx is None else Element(matrix, numbers[voxels >= 0], tx, rx)


def _matched(antennas: Tensor, matrix: Tensor, tolerance: float) -> Tensor | None:
    """The row on which each row's image falls; None where it is nobody's."""
    moved = torch.cat([antennas[..., :2] @ matrix.T, antennas[..., 2:]], -1)
    distance, image = (moved[:, None] - antennas).abs().sum((-2, -1)).min(1)
    return image if distance.max() <= tolerance and len(image.unique()) == len(image) else None


def _domain(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orbits, places and shares of a :class:`Symmetry` from where each element takes each voxel, ``(|G|, V)``."""
    itself = images[0]
    orbits = images[:, images.amin(0) == itself]
    place = torch.empty_like(itself)
    for b in reversed(range(len(orbits))):
        place[orbits[b]] = b * orbits.shape[1] + torch.arange(orbits.shape[1], device=place.device)
    return orbits, place, 1 / (orbits == orbits[0]).sum(0).double()


def _basis(images: Tensor) -> Basis:
    """From where each element of the group takes each row, ``(|G|, N)``: orbits of one kind after the other."""
    signs = _signs(len(images))
    fixed = images == images[0]
    leaders = (images.amin(0) == images[0]).nonzero().flatten()
    order, butterflies, characters, start = [], [], [], 0
    for kind in fixed[:, leaders].unique(dim=1).flip(1).T:
        members = leaders[(fixed[:, leaders] == kind[:, None]).all(0)]
        steps = [b for b in range(len(images)) if images[b, members[0]] not in images[:b, members[0]]]
        blocks = [slice(start + i * len(members), start + (i + 1) * len(members)) for i in range(len(steps))]
        butterflies += [
            (blocks[i], blocks[i | h]) for h in (1, 2) for i in range(len(steps)) if not i & h and i | h < len(steps)
        ]
        for row in _signs(len(steps)):
            alike = (signs[:, steps] == row).all(1) & (signs[:, kind.cpu()] == 1).all(1)
            characters += [int(alike.nonzero()[0, 0])] * len(members)
        order += [images[b, members] for b in steps]
        start += len(steps) * len(members)
    return Basis(torch.cat(order), tuple(butterflies), torch.tensor(characters, device=images.device))


def _signs(order: int) -> Tensor:
    a = torch.arange(order)
    bits = torch.stack([(a[:, None] & a) >> i & 1 for i in range(order.bit_length())])
    return 1 - 2 * (bits.sum(0) % 2).double()
