r"""Cartesian magnetic resonance imaging with one or several coils, in two or three dimensions.

.. math:: y_c = m \odot F (s_c \odot x), \qquad F = \epsilon\, D\, \mathrm{FFT}\, D, \quad
          D_n = e^{2\pi j\, n c / N},\; \epsilon = e^{-2\pi j\, c^2 / N} / \sqrt N,\; c = \lfloor N/2 \rfloor

on each axis of length N: the unitary transform whose origins lie in the middle, as k-space is stored,
is the plain one between two modulations. One is kept with the coil maps, the other with the mask. Then

.. math:: A^H A\, x = \sum_c \bar s_c \odot F^H |m|^2 F (s_c \odot x)

needs transforms only along the axes on which the mask varies: along the others they cancel.
Pruessmann, Weiger, Scheidegger and Boesiger, Magn. Reson. Med. 42:952 (1999).
"""

from __future__ import annotations

import cmath
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .noise import deviation, outermost
from .norm import as_factor
from .operator import Operator, along


class CartesianMRI(Operator):
    r"""k-space ``(B, coils, *spatial)`` of complex images ``(B, C, *spatial)``, zero frequency in the middle.

    With sensitivity maps C is 1 and each coil sees the image through its map; without, each of C channels (coils
    whose maps are not known, frames, echoes) is measured by itself.

    :param mask: ``(*spatial)``, two or three axes, or one per image ``(B, 1, *spatial)``: 1 where k-space
        was sampled and 0 elsewhere, or real weights.
    :param sensitivity_maps: complex ``(coils, *spatial)``, or one set per image ``(B, coils, *spatial)``;
        none if None, and the proximal step is exact.
    :param channels: C, where there are no maps.
    :raises ValueError: if the shapes do not fit each other.
    """

    complex_data = True

    def __init__(self, mask: Tensor, sensitivity_maps: Tensor | None = None, channels: int = 1, **kwargs: Any):
        mask = torch.as_tensor(mask)
        maps = None if sensitivity_maps is None else torch.as_tensor(sensitivity_maps)
        spatial = _spatial_shape(mask)
        if channels < 1 or (channels > 1 and maps is not None):
            raise ValueError(f"channels: found {channels}, expected at least 1, and 1 with sensitivity_maps")
        coils = channels if maps is None else coils_of(maps, spatial)
        super().__init__((channels, *spatial), (coils, *spatial), **kwargs)
        self._axes = tuple(range(-len(spatial), 0))
        self.register_buffer("mask", mask.contiguous())
        self.register_buffer("sensitivity_maps", None if maps is None else maps.contiguous())

    def geometry(self) -> dict[str, Any]:
        return {"mask": self.mask, "sensitivity_maps": self.sensitivity_maps, "channels": self.image_shape[0]}

    def one_per_image(self) -> tuple[str, ...]:
        tensors = {"mask": self.mask, "sensitivity_maps": self.sensitivity_maps}
        return tuple(
            name for name, t in tensors.items() if t is not None and t.ndim > len(self.image_shape) and len(t) > 1
        )

    def groups(self) -> dict[str, Tensor]:
        """``columns`` of k-space, along the last axis; of three axes ``readouts`` along the first, before them."""
        shape, kinds = self.data_shape, {"columns": along(self.data_shape, -1)}
        if len(shape) == 4:
            places = torch.arange(shape[-2] * shape[-1]).reshape(shape[-2:])
            kinds = {"readouts": places.expand(shape)} | kinds
        mask = self.mask[0] if self.mask.ndim > 3 else self.mask
        taken = (mask != 0).cpu()
        return {name: torch.where(taken, groups, -1) for name, groups in kinds.items()}

    @property
    def has_exact_prox(self) -> bool:
        """Whether :meth:`prox_l2` is in closed form: without sensitivity maps."""
        return self.sensitivity_maps is None

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        r"""Euclidean norm of each column of A, ``(C, *spatial)``: :math:`\sqrt{\sum_c |s_c|^2 \sum_k m_k^2 / N}`."""
        power, maps = self.mask.to(torch.float64).square(), self.sensitivity_maps
        power = power if weights is None else power * self._squares(weights)
        sampled = power.mean(self._axes, keepdim=True).sqrt()
        if maps is None:
            return sampled.expand(*sampled.shape[: -len(self.image_shape)], *self.image_shape)
        return torch.linalg.vector_norm(sampled.to(maps.real.dtype) * maps, dim=-1 - len(self._axes), keepdim=True)

    def estimate_noise(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in data that state none, per image, shape ``(B,)``.

        The Rayleigh median of the tenth of the samples that lie farthest out, where an image has next to nothing; those
        at which every coil is 0, as where k-space was padded, tell nothing.
        """
        grid = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in self.image_shape[1:]), indexing="ij")
        radius = torch.stack(grid).square().sum(0).to(y.device).expand(y.shape)
        known = (y != 0).any(1, keepdim=True) & ~y.isnan().any(1, keepdim=True)
        taken = ((self.mask != 0) & known).expand(y.shape)
        outer = [k[t][outermost(r[t])] for k, t, r in zip(y, taken, radius, strict=True)]
        return torch.cat([deviation(k[None]) for k in outer])

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``, ``gamma`` a number or one per image.

        .. math:: r - F^H \frac{\gamma |m|^2}{1 + \gamma |m|^2} F r, \qquad r = z + \gamma A^H y,

        without sensitivity maps; by conjugate gradients with them.
        """
        if not self.has_exact_prox:
            return super().prox_l2(z, y, gamma, **kwargs)
        gamma = as_factor(gamma, z)
        r = z + gamma * self.A_adjoint(y)
        t = self._tables_for(r)
        share = gamma * t.power / (1 + gamma * t.power)
        if not t.axes:  # torch.vmap of a transform along no axis transforms all
            return r - t.coils_conj * (share * (t.coils * r))
        k = torch.fft.fftn(t.coils * r, dim=t.axes, norm="ortho") * share
        return r - t.coils_conj * torch.fft.ifftn(k, dim=t.axes, norm="ortho")

    def _forward_map(self, x: Tensor) -> Tensor:
        t = self._tables_for(x)
        return _times(torch.fft.fftn(t.coils * x, dim=self._axes), t.samples)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        t = self._tables_for(y)
        return self._sum(_times(torch.fft.ifftn(t.samples_conj * y, dim=self._axes, norm="forward"), t.coils_conj))

    def _normal_map(self, x: Tensor) -> Tensor:
        t = self._tables_for(x)
        if not t.axes:
            return self._sum(_times(_times(t.coils * x, t.normal), t.coils_conj))
        k = _times(torch.fft.fftn(t.coils * x, dim=t.axes), t.normal)
        return self._sum(_times(torch.fft.ifftn(k, dim=t.axes, norm="forward"), t.coils_conj))

    def _sum(self, z: Tensor) -> Tensor:
        """Coil images to one image; channels stay by themselves."""
        return z if z.shape[1] == self.image_shape[0] else z.sum(1, keepdim=True)

    def _tables_for(self, x: Tensor) -> _Tables:
        dtype = torch.promote_types(x.dtype, torch.complex64)
        return self._derived("tables", dtype, lambda: self._build(dtype))

    def _build(self, dtype: torch.dtype) -> _Tables:
        spatial = self.image_shape[1:]
        modulation, constant = _modulation(spatial, self.mask.device)
        mask = self.mask.to(torch.float64)
        mask = mask if mask.ndim > 3 else mask[None]
        coils = modulation[None] if self.sensitivity_maps is None else modulation * self.sensitivity_maps
        power, axes = _along_varying(mask.square(), len(spatial))
        normal = power / math.prod(spatial[a] for a in axes)
        coils, samples, normal = (t.to(dtype) for t in (coils, constant * modulation * mask, normal))
        return _Tables(coils, _conjugate(coils), samples, _conjugate(samples), normal, power.to(dtype.to_real()), axes)


class _Tables(NamedTuple):
    """Modulated maps and mask with their conjugates, ``|m|^2`` for unscaled and for unitary transforms, their axes."""

    coils: Tensor
    coils_conj: Tensor
    samples: Tensor
    samples_conj: Tensor
    normal: Tensor
    power: Tensor
    axes: tuple[int, ...]


def _modulation(spatial: tuple[int, ...], device: torch.device) -> tuple[Tensor, complex]:
    """The product of D over the axes, and that of the constants epsilon."""
    modulation, constant = torch.ones((), dtype=torch.complex128, device=device), 1.0 + 0.0j
    for n in spatial:
        phase = 2 * math.pi / n * (torch.arange(n, dtype=torch.float64, device=device) * (n // 2) % n)
        modulation = modulation[..., None] * torch.polar(torch.ones_like(phase), phase)
        constant *= cmath.exp(-2j * math.pi * (n // 2) ** 2 / n) / math.sqrt(n)
    return modulation, constant


def _along_varying(mask: Tensor, dimensions: int) -> tuple[Tensor, tuple[int, ...]]:
    """``mask`` cut to length 1 on the spatial axes along which it is constant, and the other axes."""
    varying = []
    for axis in range(-dimensions, 0):
        first = mask.narrow(axis, 0, 1)
        if torch.equal(mask, first.expand_as(mask)):
            mask = first
        else:
            varying.append(axis)
    return mask, tuple(varying)


def _times(z: Tensor, table: Tensor) -> Tensor:
    """In place; but one image beside the masks or maps of several becomes several."""
    return z.mul_(table) if len(table) in (1, len(z)) else z * table


def _conjugate(x: Tensor) -> Tensor:
    """Stored, not lazy: a product with a lazy conjugate takes three times as long."""
    return x.conj().resolve_conj()


def _spatial_shape(mask: Tensor) -> tuple[int, ...]:
    spatial = tuple(mask.shape[2:] if mask.ndim > 3 else mask.shape)
    if len(spatial) not in (2, 3) or (mask.ndim > 3 and mask.shape[1] != 1) or mask.is_complex():
        found = f"{str(mask.dtype).removeprefix('torch.')} {tuple(mask.shape)}"
        raise ValueError(f"mask: found {found}, expected real (*spatial) or (batch, 1, *spatial)")
    return spatial


def coils_of(maps: Tensor, spatial: tuple[int, ...]) -> int:
    """How many coils maps ``(coils, *spatial)`` or ``(B, coils, *spatial)`` have.

    :raises ValueError: for another shape.
    """
    if tuple(maps.shape[-len(spatial) :]) != spatial or maps.ndim - len(spatial) not in (1, 2):
        expected = f"(coils, {', '.join(map(str, spatial))}), or that after a batch axis"
        raise ValueError(f"sensitivity_maps: found shape {tuple(maps.shape)}, expected {expected}")
    return maps.shape[-len(spatial) - 1]
