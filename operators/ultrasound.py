r"""Pulse-echo ultrasound of a reflectivity map: the delay-and-sum model.

.. math:: y_{ijt} = \sum_v x_v\, a_{jv}\, e^{-j 2\pi f_c \tau_{ijv}}\, h\big((\tau_{ijv} - t_0) f_s - t\big),
          \qquad \tau_{ijv} = \tau^{\mathrm{tx}}_{iv} + \frac{\|r_v - e_j\|}{c}, \qquad h(s) = \max(1 - |s|, 0) .

Its adjoint is conventional delay-and-sum beamforming: every trace is read at the echo's arrival time by linear
interpolation, rotated back to the carrier's phase and added up over the receive aperture ``|x - x_j| <= z / (2F)``
(Perrot et al., Ultrasonics 111:106309, 2021). Only the transmit delay tells one kind of scan from another.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from .array_geometry import Vector, axis_values
from .operator import Operator, along
from .sparse import Entries, SparseMap, bytes_per_entry, product, sparse_map

#: Echoes (pairs of element and pixel) of one block: as many as keep its vectors in the cache.
CPU_ECHOES, ACCELERATOR_ECHOES = 2**16, 2**24
#: Samples of silence before and after a trace, where echoes outside the record end up.
BEFORE, AFTER = 1, 2


class Reach(NamedTuple):
    """What some elements receive: per echo its pixel, the trace it ends up in, its way back and that way's phase."""

    pixels: Tensor
    traces: Tensor
    delay: Tensor
    phasor: Tensor


class Block(NamedTuple):
    """Entries of the matrix: per echo its pixel, the sample before its arrival, the weights of that and the next."""

    transmit: int
    pixels: Tensor
    samples: Tensor
    near: Tensor
    far: Tensor


class DelayAndSum(Operator):
    """What all scans of a linear array have in common; a subclass says when each transmission reaches a pixel."""

    relative_scale = complex_data = True
    units: ClassVar = {
        "angles": "rad", "transmitters": "m", "elements": "m", "x": "m", "z": "m", "sampling_frequency": "Hz",
        "carrier_frequency": "Hz", "start_time": "s", "speed_of_sound": "m/s", "memory_budget": "B",
    }  # fmt: skip
    without_derivative = frozenset({*units, "f_number"})

    def __init__(
        self,
        n_transmissions: int,
        elements: Vector,
        x: Vector,
        z: Vector,
        n_samples: int,
        sampling_frequency: float,
        carrier_frequency: float,
        start_time: float | Vector,
        speed_of_sound: float,
        f_number: float,
        memory_budget: int,
        **kwargs: Any,
    ):
        lateral, across, depth = axis_values("elements", elements), _increasing("x", x), _increasing("z", z)
        if depth[0] < 0:
            raise ValueError(f"z: found {float(depth[0]):g} m, expected depths not below 0")
        start = _starts(start_time, n_transmissions)
        samples = int(_above_zero("n_samples", n_samples))
        super().__init__((1, len(depth), len(across)), (1, n_transmissions, len(lateral), samples), **kwargs)
        for name, values in {"elements": lateral, "x": across, "z": depth, "start_time": start}.items():
            self.register_buffer(name, values)
        self.n_samples = samples
        self.sampling_frequency = _above_zero("sampling_frequency", sampling_frequency)
        self.carrier_frequency = _not_negative("carrier_frequency", carrier_frequency)
        self.speed_of_sound = _above_zero("speed_of_sound", speed_of_sound)
        self.f_number = _not_negative("f_number", f_number)
        self.memory_budget = int(_above_zero("memory_budget", memory_budget))

    @abstractmethod
    def _transmit_delay(self, i: int, x: Tensor, z: Tensor) -> Tensor:
        """Seconds until transmission ``i`` reaches pixels at ``x`` and ``z``."""

    def groups(self) -> dict[str, Tensor]:
        """``transmits``, and ``elements`` that receive."""
        return {"transmits": along(self.data_shape, 1), "elements": along(self.data_shape, 2)}

    def geometry(self) -> dict[str, Any]:
        names = ("elements", "x", "z", "n_samples", "sampling_frequency", "carrier_frequency", "speed_of_sound",
                 "f_number", "memory_budget")  # fmt: skip
        start = self.start_time if self.start_time.ndim else float(self.start_time)
        return {name: getattr(self, name) for name in names} | {"start_time": start}

    # -- linear maps ----------------------------------------------------------------------------
    def _forward_map(self, x: Tensor) -> Tensor:
        image = x.to(_complex(x.dtype)).flatten(1)
        kept = self._matrices(image.dtype)
        traces = self._all_echoes(image) if kept is None else product(kept.matrix, image)
        shots = traces.unflatten(1, (1, *self.data_shape[1:3], -1))
        return shots[..., BEFORE:-AFTER].contiguous()

    def _adjoint_map(self, y: Tensor) -> Tensor:
        traces = torch.nn.functional.pad(y.to(_complex(y.dtype)), (BEFORE, AFTER)).flatten(1)
        kept = self._matrices(traces.dtype)
        image = self._all_focused(traces) if kept is None else product(kept.adjoint, traces)
        return image.unflatten(1, self.image_shape)

    def _all_echoes(self, image: Tensor) -> Tensor:
        """The traces of images ``(B, pixels)``, one after the other with silence around: ``(B, rows)``."""
        traces = image.new_zeros(len(image), self.data_shape[1], self._rows_per_transmit)
        for block in self._blocks(image.dtype):
            for reflectivity, shot in zip(image, traces[:, block.transmit], strict=True):
                echoes = reflectivity.index_select(0, block.pixels)
                shot[:-1].index_add_(0, block.samples, block.near * echoes)
                shot[1:].index_add_(0, block.samples, block.far * echoes)
        return traces.flatten(1)

    def _all_focused(self, traces: Tensor) -> Tensor:
        """The images ``(B, pixels)`` of traces as :meth:`_all_echoes` gives them."""
        traces = traces.unflatten(1, (self.data_shape[1], -1)).conj().resolve_conj()
        image = traces.new_zeros(len(traces), math.prod(self.image_shape))
        for block in self._blocks(image.dtype):
            for focused, shot in zip(image, traces[:, block.transmit], strict=True):
                echoes = block.near * shot[:-1].index_select(0, block.samples)
                echoes.addcmul_(block.far, shot[1:].index_select(0, block.samples))
                focused.index_add_(0, block.pixels, echoes)
        return image.conj().resolve_conj()

    def column_norms(self, weights: Tensor | None = None) -> Tensor:
        r"""Norm of each column of ``A``, ``sqrt(sum_ij a^2 (h_t^2 + h_{t+1}^2))``, shape ``(1, n_z, n_x)`` float32."""
        power = torch.zeros(math.prod(self.image_shape), dtype=torch.float32, device=self.x.device)
        recorded = torch.nn.functional.pad(self._squares(weights)[0].to(power), (BEFORE, AFTER)).flatten(1)
        for block in self._blocks(torch.complex64):
            for entries, samples in ((block.near, block.samples), (block.far, block.samples + 1)):
                power.index_add_(0, block.pixels, entries.abs().square() * recorded[block.transmit][samples])
        return power.sqrt().reshape(self.image_shape)

    # -- entries of the matrix ------------------------------------------------------------------
    @property
    def _rows_per_transmit(self) -> int:
        return len(self.elements) * (self.n_samples + BEFORE + AFTER)

    def _matrices(self, dtype: torch.dtype) -> SparseMap | None:
        """A and its adjoint, if their entries fit the memory budget; else every product goes through blocks."""
        entries = 2 * self.data_shape[1] * self._n_echoes
        if entries * bytes_per_entry(dtype) > self.memory_budget:
            return None
        shape = self.data_shape[1] * self._rows_per_transmit, math.prod(self.image_shape)
        return self._derived("matrices", dtype, lambda: sparse_map(self._entries(dtype), entries, shape, dtype))

    def _entries(self, dtype: torch.dtype) -> Iterator[Entries]:
        for block in self._blocks(dtype):
            rows = block.samples + block.transmit * self._rows_per_transmit
            yield Entries(rows, block.pixels, block.near)
            yield Entries(rows + 1, block.pixels, block.far)

    def _blocks(self, dtype: torch.dtype) -> Iterator[Block]:
        z, x = (grid.flatten() for grid in torch.meshgrid(self.z, self.x, indexing="ij"))
        outward = [self._transmit_delay(i, x, z) for i in range(self.data_shape[1])]
        phasors = [self._phasor(delay, dtype) for delay in outward]
        echoes = CPU_ECHOES if self.x.device.type == "cpu" else ACCELERATOR_ECHOES
        for some in torch.arange(len(self.elements), device=self.x.device).split(max(1, echoes // len(x))):
            reach = self._reach(some, x, z, dtype)
            for i, (delay, phasor) in enumerate(zip(outward, phasors, strict=True)):
                yield self._block(i, reach, delay, phasor)

    def _reach(self, some: Tensor, x: Tensor, z: Tensor, dtype: torch.dtype) -> Reach:
        across = x - self.elements[some, None]
        row, pixels = self._in_aperture(across, z).nonzero(as_tuple=True)
        delay = torch.hypot(across[row, pixels], z[pixels]) / self.speed_of_sound
        traces = some[row] * (self.n_samples + BEFORE + AFTER)
        return Reach(pixels.int(), traces.int(), delay, self._phasor(delay, dtype))

    def _block(self, i: int, reach: Reach, delay: Tensor, phasor: Tensor) -> Block:
        arrival = delay.index_select(0, reach.pixels).add_(reach.delay)
        place = (
            arrival.sub_(self.start_time.expand(self.data_shape[1])[i])
            .mul_(self.sampling_frequency)
            .clamp_(-BEFORE, self.n_samples)
        )
        sample = place.floor()
        fraction = place.sub_(sample).to(phasor.real.dtype)
        weight = phasor.index_select(0, reach.pixels).mul_(reach.phasor)
        far = weight * fraction
        return Block(i, reach.pixels, reach.traces + sample.int() + BEFORE, weight.sub_(far), far)

    def _in_aperture(self, across: Tensor, z: Tensor) -> Tensor:
        """Whether elements ``across`` to the side of depth ``z`` listen: ``|x - x_j| <= z / (2F)``, all at F = 0."""
        return 2 * self.f_number * across.abs() <= z

    @property
    def _n_echoes(self) -> int:
        """Pairs of a pixel and an element that hears it."""
        return self._derived("echoes", None, self._count_echoes)

    def _count_echoes(self) -> int:
        across = self.x - self.elements[:, None]
        return sum(int(self._in_aperture(across, depth).sum()) for depth in self.z.unbind())

    def _phasor(self, delay: Tensor, dtype: torch.dtype) -> Tensor:
        """``exp(-j 2 pi f_c tau)``, its argument computed in float64."""
        phase = -2 * math.pi * (self.carrier_frequency * delay).frac().to(dtype.to_real())
        return torch.complex(phase.cos(), phase.sin())


class PlaneWaveIQ(DelayAndSum):
    r"""Steered plane waves on a linear array, demodulated: ``tau_tx = (x sin th + z cos th) / c``.

    Images are ``(B, 1, n_z, n_x)``, data ``(B, 1, n_angles, n_elements, n_samples)``, both complex. Time 0 is when
    the wave passes the origin of the coordinates; where it is when the first element fires, steered waves need
    their own shift of the data. The phase of the data is that of a demodulation in the same time.

    :param angles: steering angles in radians, ``(n_angles,)``, positive towards larger x.
    :param elements: lateral positions of the elements in metres, ``(n_elements,)``, at depth 0.
    :param x: lateral pixel coordinates in metres, increasing.
    :param z: depths of the pixels in metres, increasing.
    :param n_samples: samples of one trace.
    :param sampling_frequency: of the IQ data, in hertz.
    :param carrier_frequency: frequency the data were demodulated with, in hertz.
    :param start_time: time of the first sample in seconds, one for all transmissions or ``(n_angles,)``.
    :param speed_of_sound: metres per second.
    :param f_number: depth over the width of the receive aperture; 0 for the whole array.
    :param memory_budget: bytes the matrix's entries may take while they are put in order, 56 per echo in single
        precision; where they take more, every product recomputes them.
    :raises ValueError: for axes, numbers or angles that describe no scan.
    """

    def __init__(
        self,
        angles: Vector,
        elements: Vector,
        x: Vector,
        z: Vector,
        n_samples: int,
        sampling_frequency: float,
        carrier_frequency: float,
        start_time: float | Vector = 0.0,
        speed_of_sound: float = 1540.0,
        f_number: float = 0.0,
        memory_budget: int = 2**30,
        **kwargs: Any,
    ):
        steering = axis_values("angles", angles)
        if steering.abs().max() >= math.pi / 2:
            raise ValueError(f"angles: found {float(steering.abs().max()):g} rad, expected less than a right angle")
        super().__init__(
            len(steering), elements, x, z, n_samples, sampling_frequency, carrier_frequency, start_time,
            speed_of_sound, f_number, memory_budget, **kwargs,
        )  # fmt: skip
        self.register_buffer("angles", steering)

    def geometry(self) -> dict[str, Any]:
        return {"angles": self.angles} | super().geometry()

    def _transmit_delay(self, i: int, x: Tensor, z: Tensor) -> Tensor:
        return (x * self.angles[i].sin() + z * self.angles[i].cos()) / self.speed_of_sound


class FullMatrixCapture(DelayAndSum):
    r"""Every element of a linear array fires in turn and all listen: ``tau_tx = |r - e_i| / c``.

    Its adjoint is the total focusing method. Images are ``(B, 1, n_z, n_x)``, data ``(B, 1, n_transmitters, n_elements,
    n_samples)`` in the order transmitter, receiver, both complex: analytic signals, whose carrier is 0, or IQ data.

    :param carrier_frequency: frequency the data were demodulated with, in hertz; 0 for analytic signals.
    :param transmitters: lateral positions in metres of those that fire, in their order, where they are not all
        elements, or others: ``(n_transmitters,)``.

    The other parameters are those of :class:`PlaneWaveIQ`.
    """

    def __init__(
        self,
        elements: Vector,
        x: Vector,
        z: Vector,
        n_samples: int,
        sampling_frequency: float,
        carrier_frequency: float = 0.0,
        start_time: float | Vector = 0.0,
        speed_of_sound: float = 1540.0,
        f_number: float = 0.0,
        memory_budget: int = 2**30,
        transmitters: Vector | None = None,
        **kwargs: Any,
    ):
        firing = axis_values("transmitters", elements if transmitters is None else transmitters)
        super().__init__(
            len(firing), elements, x, z, n_samples, sampling_frequency, carrier_frequency, start_time, speed_of_sound,
            f_number, memory_budget, **kwargs,
        )  # fmt: skip
        self.register_buffer("transmitters", firing)

    def geometry(self) -> dict[str, Any]:
        return super().geometry() | {"transmitters": self.transmitters}

    def _transmit_delay(self, i: int, x: Tensor, z: Tensor) -> Tensor:
        return torch.hypot(x - self.transmitters[i], z) / self.speed_of_sound


def _starts(start_time: float | Vector, transmissions: int) -> Tensor:
    """One start for all transmissions, or one for each."""
    start = torch.as_tensor(start_time, dtype=torch.float64)
    if start.shape not in ((), (transmissions,)) or not bool(start.isfinite().all()):
        found = f"{start.item():g}" if start.numel() == 1 else f"shape {tuple(start.shape)}"
        raise ValueError(f"start_time: found {found}, expected finite seconds, one or {transmissions}")
    return start.clone()


def _increasing(name: str, values: Vector) -> Tensor:
    axis = axis_values(name, values)
    if not (torch.diff(axis) > 0).all():
        raise ValueError(f"{name}: found a coordinate not above the one before it, expected an increasing axis")
    return axis


def _above_zero(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}: found {value:g}, expected a number above 0")
    return float(value)


def _not_negative(name: str, value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}: found {value:g}, expected a number not below 0")
    return float(value)


def _complex(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.complex64)
