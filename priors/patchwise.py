r"""A prior of small images for large ones: overlapping patches, estimated one by one and stitched together.

.. math:: \hat x(x_t) = \frac{\sum_p R_p^T w\, \hat x_p(R_p x_t)}{\sum_p R_p^T w}, \qquad
          w(i) = \sin^2\Big(\frac{\pi}{2} \frac{i + 1/2}{o}\Big) \text{ over the o pixels nearest to an edge, else } 1,

R_p the cut of patch p and w a Hann ramp along each axis. The patches share one noisy image, so that at every step of a
sampler they agree where they overlap, in signal and noise, without being made to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .diffusion import Diffusion


class Patchwise(Diffusion):
    """``prior`` on patches of images of any size, on its own schedule.

    :param prior: of images ``(C, *size)``.
    :param size: sides of a patch; an image that is shorter along an axis is taken whole there.
    :param overlap: the least share of a patch's side that it has in common with the next one.
    """

    def __init__(self, prior: Diffusion, size: Sequence[int], overlap: float = 0.1, weight: float | Tensor = 1.0):
        super().__init__(prior.schedule, weight)
        if not 0 <= overlap < 1 or not size or min(size) < 1:
            found = f"{list(size)}, {overlap}"
            raise ValueError(f"size, overlap: found {found}, expected sides of at least 1, and from 0 to below 1")
        self.prior, self.size, self.overlap = prior, tuple(size), overlap

    def mean(self, x: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
        places = list(cuts(x.shape[2:], self.size, self.overlap))
        patches = torch.cat([x[:, :, *place] for place in places])
        levels = [v.repeat(len(places), *[1] * (v.ndim - 1)) if v.ndim else v for v in (signal, noise)]
        return stitched(self.prior.mean(patches, *levels).chunk(len(places)), places, x.shape, self.overlap)


def cuts(sides: Sequence[int], size: Sequence[int], overlap: float) -> Iterator[tuple[slice, ...]]:
    """Where patches lie that cover an image evenly, as few as have at least ``overlap`` in common with the next.

    :raises ValueError: for another number of axes.
    """
    if len(sides) != len(size):
        raise ValueError(f"x: found {len(sides)} spatial axes, expected {len(size)}, as a patch has")
    return itertools.product(*(_cuts(n, min(m, n), overlap) for n, m in zip(sides, size, strict=True)))


def _cuts(n: int, m: int, overlap: float) -> list[slice]:
    """Along one axis of n pixels, m each."""
    count = 1 + math.ceil((n - m) / (m - math.floor(overlap * m)))
    starts = [round(i * (n - m) / max(count - 1, 1)) for i in range(count)]
    return [slice(start, start + m) for start in starts]


def stitched(
    patches: Sequence[Tensor], places: Sequence[tuple[slice, ...]], shape: Sequence[int], overlap: float
) -> Tensor:
    """The image of ``shape`` that patches ``(B, C, *size)`` at ``places`` make, Hann ramps where they overlap."""
    window = hann_ramps(patches[0].shape[2:], overlap).to(patches[0].real)
    image, total = patches[0].new_zeros(shape), window.new_zeros(tuple(shape[2:]))
    for patch, place in zip(patches, places, strict=True):
        image[:, :, *place] += window * patch
        total[place] += window
    return image / total


def hann_ramps(size: Sequence[int], overlap: float) -> Tensor:
    """w, double precision: 1 but near the edges, above 0 everywhere."""
    window = torch.ones((), dtype=torch.float64)
    for m in size:
        edge = torch.minimum(torch.arange(m), torch.arange(m).flip(0)).double() + 0.5
        ramp = torch.sin(math.pi / 2 * (edge / max(math.floor(overlap * m), 1)).clamp_max(1)).square()
        window = window[..., None] * ramp
    return window
