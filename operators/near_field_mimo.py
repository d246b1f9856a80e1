r"""Near-field MIMO array radar: multistatic scattering of a reflectivity volume (Born approximation).

.. math:: y_{ktr} = \sum_v \frac{e^{-j k_k (R_{tv} + R_{rv})}}{4\pi R_{tv} R_{rv}}\, s_v ,
          \qquad k_k = 2\pi f_k / c .

Model and simulated set-up: O. Oral and F. S. Oktem, IEEE Trans. Comput. Imaging 10:762 (2024).
"""

from __future__ import annotations

import math
import os
from typing import Any, ClassVar

import torch
from torch import Tensor

from .array_geometry import (
    Vector,
    axis_values,
    grid_axis,
    pair_indices,
    positions,
    refuse_coincidence,
    sunflower,
    voxel_support,
)
from .bistatic import Bistatic, Layout, Recurrence, Spectrum
from .gram import GramFactor, add_upper_outer
from .mirrored import Mirrored
from .operator import Operator, along
from .paths import (
    Amplitude,
    Paths,
    antenna_paths,
    far_obliquity,
    near_obliquity,
    spherical,
    spherical_over_4pi,
    two_way,
    unit,
)
from .symmetry import Symmetry

SPEED_OF_LIGHT = 299_792_458.0
#: Phasors of one block: a few times a second-level cache, so that products find them in the third.
CPU_WORKSPACE = 8 * 2**20


class NearFieldMIMO(Operator):
    r"""Near-field array radar with complex reflectivity on a Cartesian voxel grid.

    Images are ``(B, 1, X, Y, Z)`` complex; data are ``(B, 1, K, T, R)`` in the order frequency,
    transmitter, receiver, or ``(B, 1, K, P)`` with ``pairs``. Phases are computed in float64;
    products run in the dtype of the image or data given (complex64 or complex128).

    :param transmitters: positions ``(T, 3)`` in metres.
    :param receivers: positions ``(R, 3)`` in metres.
    :param frequencies: ``(K,)`` in hertz. A uniform grid is recognised and served by a recurrence.
        So is a mirror symmetry of antennas and voxels, of which a half or a quarter is then computed.
    :param x: voxel coordinates along x in metres, ``(X,)``; likewise ``y`` and ``z``.
    :param pairs: measured (transmitter, receiver) indices ``(P, 2)``; all T x R pairs if None.
        Monostatic data are pairs ``(i, i)``.
    :param support: boolean ``(X, Y, Z)``: voxels outside are zero and cost nothing.
    :param propagation_speed: metres per second; ``SPEED_OF_LIGHT / sqrt(permittivity)`` in a medium.
    :param spreading: keep the amplitude ``1 / (4 pi R_t R_r)``. False for data whose amplitudes do not
        follow it (lossy media, uncalibrated antennas): phases alone are then modelled, each with gain 1.
    :param memory_budget: bytes the phasor tables and the factorisation may each take.
    :param cache_dir: folder in which the Gram matrix of the exact x-update is kept between runs.
    :raises ValueError: for shapes, indices or values that describe no array.
    """

    units: ClassVar = {
        "transmitters": "m", "receivers": "m", "frequencies": "Hz", "x": "m", "y": "m", "z": "m",
        "propagation_speed": "m/s", "memory_budget": "B",
    }  # fmt: skip
    without_derivative = frozenset(units)
    relative_scale = complex_data = True

    def __init__(
        self,
        transmitters: Tensor,
        receivers: Tensor,
        frequencies: Vector,
        x: Vector,
        y: Vector,
        z: Vector,
        pairs: Tensor | None = None,
        support: Tensor | None = None,
        propagation_speed: float = SPEED_OF_LIGHT,
        spreading: bool = True,
        memory_budget: int = 512 * 2**20,
        cache_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ):
        tx, rx = positions("transmitters", transmitters), positions("receivers", receivers)
        grid = {name: grid_axis(name, values) for name, values in (("x", x), ("y", y), ("z", z))}
        freqs = axis_values("frequencies", frequencies)
        if freqs.min() <= 0:
            raise ValueError(f"frequencies: found {float(freqs.min()):g} Hz, expected values above 0")
        if not (math.isfinite(propagation_speed) and propagation_speed > 0):
            raise ValueError(f"propagation_speed: found {propagation_speed:g} m/s, expected a value above 0")
        if spreading not in (0, 1):
            raise ValueError(f"spreading: found {spreading}, expected 0 or 1")
        if memory_budget <= 0:
            raise ValueError(f"memory_budget: found {memory_budget}, expected bytes above 0")
        spatial = tuple(len(a) for a in grid.values())
        if spreading:
            refuse_coincidence("transmitters", tx, grid)
            refuse_coincidence("receivers", rx, grid)
        channels = (len(tx), len(rx)) if pairs is None else (len(pairs),)
        super().__init__((1, *spatial), (1, len(freqs), *channels), **kwargs)
        self.register_buffer("transmitters", tx)
        self.register_buffer("receivers", rx)
        self.register_buffer("frequencies", freqs)
        for name, values in grid.items():
            self.register_buffer(name, values)
        self.register_buffer("pairs", None if pairs is None else pair_indices(pairs, len(tx), len(rx)))
        self.register_buffer("support", None if support is None else voxel_support(support, spatial))
        self.propagation_speed = float(propagation_speed)
        self.spreading = bool(spreading)
        self.memory_budget = int(memory_budget)
        self.cache_dir = cache_dir

    # -- constructors ---------------------------------------------------------------------------
    @classmethod
    def paper(cls, n_frequencies: int = 20, **kwargs: Any) -> NearFieldMIMO:
        """The simulated set-up of Oral and Oktem: a 0.3 m Mills cross, 4-16 GHz, 25 x 25 x 49 voxels."""
        arm = torch.linspace(-0.15, 0.15, 13, dtype=torch.float64)
        other = torch.linspace(-0.15, 0.15, 12, dtype=torch.float64)
        lateral = torch.linspace(-0.15, 0.15, 25, dtype=torch.float64)
        return cls(
            transmitters=torch.stack([other, -other, 0 * other], 1),
            receivers=torch.stack([arm, arm, 0 * arm], 1),
            frequencies=torch.linspace(4e9, 16e9, n_frequencies, dtype=torch.float64),
            x=lateral,
            y=lateral,
            z=torch.linspace(0.35, 0.65, 49, dtype=torch.float64),
            **kwargs,
        )

    @classmethod
    def experiment(cls, n_frequencies: int = 11, n_voxels: int = 61, **kwargs: Any) -> NearFieldMIMO:
        """A set-up in the style of the experiment: 16 x 9 antennas irregular in a plane, 5 mm voxels.

        The measured array's positions are not public; these are two sunflower spirals of ours.
        """
        lateral = torch.linspace(-0.15, 0.15, n_voxels, dtype=torch.float64)
        return cls(
            transmitters=sunflower(16, 0.25, 0.0),
            receivers=sunflower(9, 0.12, 1.0),
            frequencies=torch.linspace(4e9, 16e9, n_frequencies, dtype=torch.float64),
            x=lateral,
            y=lateral,
            z=torch.linspace(0.35, 0.65, n_voxels, dtype=torch.float64),
            **kwargs,
        )

    def geometry(self) -> dict[str, Any]:
        names = ("transmitters", "receivers", "frequencies", "x", "y", "z", "pairs", "support")
        arrays = {name: getattr(self, name) for name in names}
        scalars = ("propagation_speed", "spreading", "memory_budget")
        return arrays | {name: getattr(self, name) for name in scalars}

    def groups(self) -> dict[str, Tensor]:
        """``transmitters``, ``receivers``, ``pairs`` of them, and ``frequencies``."""
        shape, frequencies = self.data_shape, along(self.data_shape, 1)
        if self.pairs is not None:
            by = {"transmitters": self.pairs[:, 0], "receivers": self.pairs[:, 1], "pairs": None}
            return {name: along(shape, 2, labels) for name, labels in by.items()} | {"frequencies": frequencies}
        pairs = torch.arange(shape[2] * shape[3]).reshape(shape[2:]).expand(shape)
        return {
            "transmitters": along(shape, 2), "receivers": along(shape, 3), "pairs": pairs, "frequencies": frequencies,
        }  # fmt: skip

    # -- linear maps ----------------------------------------------------------------------------
    @property
    def wavenumbers(self) -> Tensor:
        """Wavenumbers ``2 pi f / c`` in rad/m, ``(K,)`` float64."""
        return 2 * math.pi * self.frequencies / self.propagation_speed

    def _forward_map(self, x: Tensor) -> Tensor:
        engine = self._engine(_complex(x.dtype))
        s = self._voxels(x.to(_complex(x.dtype)))
        return torch.cat([self._as_data(engine.forward(part)) for part in s.split(self._batch(engine))])

    def _adjoint_map(self, y: Tensor) -> Tensor:
        engine = self._engine(_complex(y.dtype))
        return self._focus(engine, y.to(_complex(y.dtype)))

    def back_project(self, y: Tensor) -> Tensor:
        r"""Matched phase without amplitude: ``sum_ktr exp(+j k (R_t + R_r)) y``."""
        self._check("data", y, self.data_shape)
        engine = self._contraction(_complex(y.dtype), unit, unit, keep=False)
        return self._focus(engine, y.to(_complex(y.dtype)))

    def kirchhoff(self, y: Tensor) -> Tensor:
        r"""Multistatic Kirchhoff migration, the array normal along z.

        .. math:: \sum_{ktr} z_t z_r \Big(\frac{jk}{R_t} + \frac1{R_t^2}\Big)
                  \Big(\frac{jk}{R_r} + \frac1{R_r^2}\Big) e^{jk(R_t+R_r)}\, y_{ktr}

        which is the textbook kernel ``4 (z/R_t)(z/R_r)[R_t R_r (jk)^2 + (R_t + R_r) jk + 1]`` over
        ``4 R_t R_r``, with its bracket factored.
        """
        self._check("data", y, self.data_shape)
        terms = {1: far_obliquity, 0: near_obliquity}
        jk = (1j * self.wavenumbers).reshape(1, 1, -1, *[1] * (y.ndim - 3)).to(_complex(y.dtype))
        image = torch.zeros((), dtype=y.dtype, device=y.device)
        for p, tx in terms.items():
            for q, rx in terms.items():
                engine = self._contraction(_complex(y.dtype), tx, rx, keep=False)
                image = image + self._focus(engine, jk ** (p + q) * y)
        return image

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        r"""Norm of each column of ``A``: ``sqrt(sum_ktr |E_tv F_rv|^2)``, shape ``(1, X, Y, Z)`` float64.

        What a voxel of unit reflectivity contributes to the data; zero outside the support.
        """
        engine = self._build(torch.complex64, *self._physical(), keep=False)
        pairs = self._as_product(self._squares(weights)[None])[0].sum(0).to(engine.device)
        blocks = []
        for i in range(engine.layout.blocks):
            voxels = engine.layout.indices(i, engine.device)
            tx, rx = (side.paths.amplitude(voxels).square() for side in (engine.tx, engine.rx))
            blocks.append((tx * (pairs @ rx)).sum(1, keepdim=True))
        power = engine.layout.join(torch.stack(blocks))
        return self._image(power.sqrt())[0]

    # -- exact x-update -------------------------------------------------------------------------
    @property
    def x_update(self) -> str:
        """What the automatic choice came to."""
        if not self.has_exact_prox:
            return super().x_update
        return f"exact: cached Cholesky factor of kappa I + A A^H, {' + '.join(f'{m} x {m}' for m in self._part_sizes)}"

    @property
    def has_exact_prox(self) -> bool:
        """Whether the factorisation fits the memory budget and data are fewer than voxels."""
        return self._fits(torch.complex64) and math.prod(self.data_shape) <= math.prod(self.image_shape)

    def _fits(self, dtype: torch.dtype) -> bool:
        """Whether ``A A^H`` and its factor are within the memory budget; in double precision both precisions'."""
        copies = 2 if dtype == torch.complex64 else 3
        return copies * dtype.itemsize * sum(m * m for m in self._part_sizes) <= self.memory_budget

    @property
    def _part_sizes(self) -> list[int]:
        if self._symmetry is None:
            return [math.prod(self.data_shape)]
        return [len(self.frequencies) * len(i) for i, _ in self._symmetry.members()]

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float | Tensor, **kwargs: Any) -> Tensor:
        r"""``argmin_x gamma/2 ||A x - y||^2 + 1/2 ||x - z||^2``, exactly when the factor fits."""
        if not self.has_exact_prox:
            return super().prox_l2(z, y, gamma, **kwargs)
        return self.prox_l2_with_data(z, y, gamma)[0]

    def prox_l2_with_data(self, z: Tensor, y: Tensor, gamma: float | Tensor) -> tuple[Tensor, Tensor]:
        r"""The exact :meth:`prox_l2` and its data ``A x``, for one ``A`` and one ``A^H``.

        .. math:: q = (\kappa I + A A^H)^{-1}(y - A z), \quad x = z + A^H q, \quad A x = y - \kappa q,
                  \qquad \kappa = 1/\gamma .

        One gamma per image costs one factorisation per image. A small kappa is factored in double precision.
        """
        if not self.has_exact_prox:
            return super().prox_l2_with_data(z, y, gamma)
        if isinstance(gamma, Tensor) and gamma.numel() > 1:
            parts = [self.prox_l2_with_data(*p) for p in zip(z.split(1), y.split(1), gamma.flatten(), strict=True)]
            x, data = zip(*parts, strict=True)
            return torch.cat(x), torch.cat(data)
        kappa = 1 / (gamma.reshape(()) if isinstance(gamma, Tensor) else gamma)
        factor = self._gram_factor(_complex(z.dtype))
        if factor.loses(kappa):
            if not self._fits(torch.complex128):
                x = super().prox_l2(z, y, gamma)
                return x, self.A(x)
            factor = self._gram_factor(torch.complex128)
        r = (y - self.A(z)).to(factor.parts[0].dtype)
        q = self.join(factor.solve(self.split(r), kappa)).to(y.dtype)
        return z + self.A_adjoint(q), y - kappa * q

    def _gram_factor(self, dtype: torch.dtype) -> GramFactor:
        return self._derived(f"gram, {dtype}", dtype, lambda: GramFactor.of(self, dtype, self.cache_dir))

    def gram(self, dtype: torch.dtype) -> list[Tensor]:
        """``A A^H`` in the coordinates of :meth:`split`: a dense matrix ``(M_i, M_i)`` for each part."""
        width = max(64, min(4096, self.memory_budget // (8 * math.prod(self.data_shape) * dtype.itemsize)))
        engine = self._contraction(dtype, *self._physical(), keep=False, width=width, lanes=1)
        parts = [torch.zeros(m, m, dtype=dtype, device=self.transmitters.device) for m in self._part_sizes]
        for block in range(engine.layout.blocks):
            for part, columns in zip(parts, engine.columns(block), strict=True):
                add_upper_outer(part, columns)
        return [torch.triu(part) + torch.triu(part, 1).mH for part in parts]

    def split(self, y: Tensor) -> list[Tensor]:
        """Orthonormal coordinates of data, ``(B, M_i)`` each, in parts that ``A A^H`` does not mix.

        The data as they are where the array has no symmetry.
        """
        return [y.flatten(1)] if self._symmetry is None else self._symmetry.split(self._as_product(y))

    def join(self, parts: list[Tensor]) -> Tensor:
        """The inverse of :meth:`split`."""
        shape = (len(parts[0]), *self.data_shape)
        if self._symmetry is None:
            return parts[0].reshape(shape)
        return self._symmetry.join(parts, self._as_product(parts[0].new_empty(shape)).shape).reshape(shape)

    # -- phasor engines -------------------------------------------------------------------------
    def _physical(self) -> tuple[Amplitude, Amplitude]:
        return (spherical, spherical_over_4pi) if self.spreading else (unit, unit)

    def _engine(self, dtype: torch.dtype) -> Bistatic | Mirrored:
        key = (dtype, self.transmitters.device, torch.get_num_threads())
        return self._derived("engine", key, lambda: self._contraction(dtype, *self._physical(), keep=True))

    def _contraction(
        self, dtype: torch.dtype, tx: Amplitude, rx: Amplitude, keep: bool, width: int = 0, lanes: int = 0
    ) -> Bistatic | Mirrored:
        """Phasors with the given amplitudes, of a fundamental domain where the array and its voxels are symmetric."""
        symmetry = self._symmetry
        if symmetry is None:
            return self._build(dtype, tx, rx, keep, width, lanes)
        return Mirrored(self._build(dtype, tx, rx, keep, width, lanes, symmetry), symmetry)

    @property
    def _symmetry(self) -> Symmetry | None:
        return self._derived("symmetry", self.transmitters.device, self._find_symmetry)

    def _find_symmetry(self) -> Symmetry | None:
        whole = torch.ones(self.image_shape[1:], dtype=torch.bool, device=self.transmitters.device)
        inside = whole if self.support is None else self.support.bool()
        numbers = (inside.flatten().cumsum(0).view_as(inside) - 1).masked_fill(~inside, -1)
        return Symmetry.of(self.x, self.y, numbers, *self._antennas(), 2 * math.pi / float(self.wavenumbers.max()))

    def _antennas(self) -> tuple[Tensor, Tensor]:
        """Positions behind each row of the two phasor tables, ``(rows, n, 3)`` in metres."""
        if self.pairs is None:
            return self.transmitters[:, None], self.receivers[:, None]
        both = torch.stack([self.transmitters[self.pairs[:, 0]], self.receivers[self.pairs[:, 1]]], 1)
        return both, both.new_zeros(1, 0, 3)

    def _build(
        self,
        dtype: torch.dtype,
        tx: Amplitude,
        rx: Amplitude,
        keep: bool,
        width: int = 0,
        lanes: int = 0,
        part: Symmetry | None = None,
    ) -> Bistatic:
        """Phasors of all antennas (or all pairs) to all voxels, or to a symmetry's domain, cut to the memory budget."""
        device, k = self.transmitters.device, self.wavenumbers
        kind = Recurrence if _uniform(k) else Spectrum
        tx_paths, rx_paths = self._paths(tx, rx)
        if part is not None:
            tx_paths = tx_paths.over(part.orbits[0], part.transmitters.order)
            rx_paths = rx_paths.over(part.orbits[0], part.receivers.order)
        rows, itemsize = tx_paths.rows + rx_paths.rows, dtype.itemsize
        lanes = lanes or (torch.get_num_threads() if device.type == "cpu" else 1)
        workspace = CPU_WORKSPACE if device.type == "cpu" else self.memory_budget // 4
        width = width or max(64, workspace // (lanes * len(k) * rows * itemsize))
        count = self._n_voxels if part is None else part.orbits.shape[1]
        layout = Layout(count, lanes, min(width, math.ceil(count / lanes)))
        fits = kind.tables_per_row(len(k)) * rows * layout.padded * itemsize <= self.memory_budget
        return Bistatic(kind(tx_paths, k, dtype), kind(rx_paths, k, dtype), layout, device, keep and fits)

    def _paths(self, tx: Amplitude, rx: Amplitude) -> tuple[Paths, Paths]:
        if self.pairs is None:
            ends = (self.transmitters, tx), (self.receivers, rx)
        else:
            ends = (self.transmitters[self.pairs[:, 0]], tx), (self.receivers[self.pairs[:, 1]], rx)
        there, back = (antenna_paths(antennas, amplitude, self._position) for antennas, amplitude in ends)
        return (there, back) if self.pairs is None else two_way(there, back)

    def _focus(self, engine: Bistatic | Mirrored, y: Tensor) -> Tensor:
        parts = [engine.adjoint(part) for part in self._as_product(y).split(self._batch(engine))]
        return self._image(torch.cat(parts))

    def _batch(self, engine: Bistatic | Mirrored) -> int:
        """Images handled at once, so that their phasors stay within the memory budget."""
        return max(1, self.memory_budget // engine.bytes_per_image())

    # -- voxels ---------------------------------------------------------------------------------
    @property
    def _n_voxels(self) -> int:
        return math.prod(self.image_shape) if self.support is None else int(self.support.sum())

    def _position(self, voxels: Tensor) -> Tensor:
        """Voxel indices ``(lanes, width)`` to positions ``(lanes, 1, width, 3)`` in metres."""
        if self.support is not None:
            voxels = self.support.flatten().nonzero().squeeze(1)[voxels]
        i, j, k = torch.unravel_index(voxels, self.image_shape[1:])
        return torch.stack([self.x[i], self.y[j], self.z[k]], -1).unsqueeze(1)

    def _voxels(self, x: Tensor) -> Tensor:
        return x.flatten(1) if self.support is None else x[:, 0, self.support]

    def _image(self, s: Tensor) -> Tensor:
        if self.support is None:
            return s.unflatten(1, self.image_shape)
        image = s.new_zeros(len(s), *self.image_shape)
        image[:, 0, self.support] = s
        return image

    def _as_product(self, y: Tensor) -> Tensor:
        """Data ``(B, 1, K, T, R)``, or of pairs, as ``(B, K, T, R)``: pairs as transmitters of one receiver."""
        return y[:, 0] if self.pairs is None else y[:, 0, :, :, None]

    def _as_data(self, y: Tensor) -> Tensor:
        return (y if self.pairs is None else y[..., 0]).unsqueeze(1)


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.complex64)


def _uniform(k: Tensor) -> bool:
    """Uniform to the rounding of float64, so that the recurrence loses nothing."""
    steps = torch.diff(k)
    return len(k) < 3 or bool((steps - steps.mean()).abs().max() <= 1e-9 * k.abs().max() / len(k))
