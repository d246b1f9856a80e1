r"""Magnetic resonance imaging along any trajectory: radial, spiral, free.

.. math:: y_{cm} = \frac{1}{\sqrt N} \sum_n s_c(n)\, x(n)\, e^{-2\pi j\, k_m \cdot (n - \lfloor N/2 \rfloor)} .

The nonuniform transforms are FINUFFT's (Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 41:C479,
2019). Density compensation is the fixed point :math:`A T A^H w = 1` with a triangular window T over the image,
whose transform is nowhere negative (Pipe and Menon, Magn. Reson. Med. 41:179, 1999).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .cartesian_mri import coils_of
from .extras import require
from .noise import deviation, outermost
from .operator import Operator, linear

#: Requested relative precision of a nonuniform transform, by the dtype of its data.
PRECISION = {torch.complex64: 1e-6, torch.complex128: 1e-12}


class NonCartesianMRI(Operator):
    """Samples ``(B, coils, M)`` of complex images ``(B, 1, *spatial)``.

    :param trajectory: ``(M, dimensions)``, in cycles per voxel from -0.5 to 0.5, one column per spatial axis.
    :param image_shape: ``(1, *spatial)``, two or three axes.
    :param sensitivity_maps: complex ``(coils, *spatial)``, or one set per image ``(B, coils, *spatial)``; a single
        uniform coil if None.
    :param density: weight of each sample ``(M,)`` in :meth:`back_project`; :func:`density_compensation` if None.
    :raises MissingExtra: without the extra ``nufft``.
    """

    complex_data = True
    units: ClassVar[Mapping[str, str]] = {"trajectory": "1/voxel"}
    without_derivative = frozenset(units)

    def __init__(
        self,
        trajectory: Tensor,
        image_shape: Sequence[int],
        sensitivity_maps: Tensor | None = None,
        density: Tensor | None = None,
        **kwargs: Any,
    ):
        trajectory, spatial = torch.as_tensor(trajectory), tuple(int(n) for n in image_shape[1:])
        if len(spatial) not in (2, 3) or int(image_shape[0]) != 1:
            raise ValueError(f"image_shape: found {tuple(image_shape)}, expected (1, *spatial) of two or three axes")
        if trajectory.ndim != 2 or trajectory.shape[1] != len(spatial):
            raise ValueError(f"trajectory: found shape {tuple(trajectory.shape)}, expected (samples, {len(spatial)})")
        if not bool((trajectory.abs() <= 0.5).all()):
            found = float(trajectory.abs().max())
            raise ValueError(f"trajectory: found {found:g} cycles per voxel, expected at most 0.5 in magnitude")
        maps = None if sensitivity_maps is None else torch.as_tensor(sensitivity_maps).contiguous()
        coils = 1 if maps is None else coils_of(maps, spatial)
        density = None if density is None else torch.as_tensor(density)
        if density is not None and tuple(density.shape) != (len(trajectory),):
            raise ValueError(f"density: found shape {tuple(density.shape)}, expected ({len(trajectory)},)")
        super().__init__((1, *spatial), (coils, len(trajectory)), **kwargs)
        self.register_buffer("trajectory", trajectory.to(torch.float64))
        self.register_buffer("sensitivity_maps", maps)
        self.register_buffer("density", density)

    def geometry(self) -> dict[str, Any]:
        return {
            "trajectory": self.trajectory, "image_shape": self.image_shape,
            "sensitivity_maps": self.sensitivity_maps, "density": self.density,
        }  # fmt: skip

    def one_per_image(self) -> tuple[str, ...]:
        maps = self.sensitivity_maps
        return () if maps is None or maps.ndim == len(self.image_shape) or len(maps) == 1 else ("sensitivity_maps",)

    def back_project(self, y: Tensor) -> Tensor:
        """Gridding, ``A^H (w y)`` with the density weights w: an image at about its own scale."""
        weights = self.density
        if weights is None:
            weights = self._derived("density", None, lambda: density_compensation(self.trajectory, self.image_shape))
        return self.A_adjoint(weights.to(y.real) * y)

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        r"""Euclidean norm of each column of A, ``(1, *spatial)``: :math:`\sqrt{M/N}\, \|s(n)\|`."""
        power = self._squares(weights).sum(-1) / math.prod(self.image_shape)
        power = power.reshape(-1, *[1] * (len(self.image_shape) - 1)).to(self.trajectory.device)
        if self.sensitivity_maps is None:
            return power.sqrt().expand(self.image_shape)
        return (power * self.sensitivity_maps.abs().square()).sum(-len(self.image_shape), keepdim=True).sqrt()

    def estimate_noise(self, y: Tensor) -> Tensor:
        """Standard deviation of the noise in data that state none, per image, shape ``(B,)``; rather too large.

        The Rayleigh median of the tenth of the samples that lie farthest out, where an image has least.
        """
        known = ~y.isnan().flatten(0, 1).any(0)
        return deviation(y[..., known][..., outermost(self.trajectory[known].square().sum(1))])

    def _forward_map(self, x: Tensor) -> Tensor:
        maps = self._maps_for(x)
        coil_images = x.to(_complex(x.dtype)) if maps is None else maps * x
        return linear(coil_images, self._to_samples, self._to_grid)

    def _adjoint_map(self, y: Tensor) -> Tensor:
        coil_images, maps = linear(y.to(_complex(y.dtype)), self._to_grid, self._to_samples), self._maps_for(y)
        return coil_images if maps is None else (maps.conj() * coil_images).sum(1, keepdim=True)

    def _maps_for(self, x: Tensor) -> Tensor | None:
        dtype = _complex(x.dtype)
        maps = self.sensitivity_maps
        return None if maps is None else self._derived("maps", dtype, lambda: maps.to(dtype))

    def _to_samples(self, x: Tensor) -> Tensor:
        return self._transform(2, x)

    def _to_grid(self, x: Tensor) -> Tensor:
        return self._transform(1, x)

    def _transform(self, kind: int, x: Tensor) -> Tensor:
        """Type 2, grid to samples, or its adjoint of type 1, for ``(B, coils, ...)``."""
        coils, spatial = self.data_shape[0], self.image_shape[1:]
        plan = self._plan(kind, x.dtype)
        found = torch.empty(len(x), coils, *(spatial if kind == 1 else self.data_shape[1:]), dtype=x.dtype)
        for one, result in zip(x, found, strict=True):
            values = plan.execute(np.ascontiguousarray(one.resolve_conj().cpu().numpy()))
            result.copy_(torch.from_numpy(values).reshape(result.shape))
        return found.to(x.device) / math.sqrt(math.prod(spatial))

    def _plan(self, kind: int, dtype: torch.dtype) -> Any:
        finufft = require("finufft", "nufft")
        threads = torch.get_num_threads()

        def make() -> Any:
            names = {torch.complex64: "complex64", torch.complex128: "complex128"}
            sign = -1 if kind == 2 else 1
            plan = finufft.Plan(
                kind, self.image_shape[1:], n_trans=self.data_shape[0], eps=PRECISION[dtype], isign=sign,
                dtype=names[dtype], nthreads=threads,
            )  # fmt: skip
            angles = (2 * math.pi * self.trajectory).to(dtype.to_real()).cpu().numpy()
            plan.setpts(*(np.ascontiguousarray(angle) for angle in angles.T))
            return plan

        return self._derived(f"plan of type {kind}", (dtype, threads), make)


def density_compensation(trajectory: Tensor, image_shape: Sequence[int], iterations: int = 30) -> Tensor:
    """Weights ``(M,)`` float64, scaled so that gridding keeps the size of a single-coil image.

    :param iterations: of ``w <- w / (A T A^H w)``.
    """
    physics, window = NonCartesianMRI(trajectory, image_shape), _triangle(image_shape[1:])
    w = torch.ones(1, 1, len(trajectory), dtype=torch.complex128)
    for _ in range(iterations):
        w = w / physics.A(window * physics.A_adjoint(w)).real
    return w.real.flatten()


def _triangle(spatial: Sequence[int]) -> Tensor:
    """1 in the middle of the image, 0 from its border on; a product over the axes."""
    window = torch.ones((), dtype=torch.float64)
    for n in spatial:
        away = (torch.arange(n, dtype=torch.float64) - n // 2).abs() / max(1, n // 2)
        window = window[..., None] * (1 - away).clamp_min(0)
    return window


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.complex64)
