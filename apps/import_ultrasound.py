"""Traces of a linear array as a measurement of a delay-and-sum operator: plane waves or a full matrix."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..datasets import Arrays, InputError, analytic, demodulate, read_arrays, save_measurement
from ..datasets.demodulation import SHORTEST
from ..operators import FullMatrixCapture, Operator, PlaneWaveIQ
from ..operators.norm import TINY, norms
from .cli import UsageError
from .import_ import pick

#: The axes that an array of traces may have, in the order in which a measurement has them.
AXES = ("frame", "transmission", "element", "sample")
#: Pixels of an image along one axis; more are a slip of units.
LONGEST = 20_000
#: Share of the energy that lies where it should, or should not.
LEAST = 0.1
#: Share of the pixels without an echo, above which something is said.
SILENT = 0.5
UNITS = "metres, metres per second, seconds and hertz"
#: Traces looked at for that.
MOST = 256


def main(
    source: str,
    out: str,
    sampling_frequency: float,
    x_range: tuple[float, float],
    z_range: tuple[float, float],
    pixel: float | tuple[float, float],
    pitch: float | None = None,
    elements: list[float] | None = None,
    transmitters: list[float] | None = None,
    array: str | None = None,
    imaginary: str | None = None,
    axes: str = "transmission,element,sample",
    frame: int | None = None,
    kind: Literal["plane-wave", "full-matrix"] = "plane-wave",
    angles: list[float] = [0.0],  # noqa: B006 (the parser shows it as the default)
    carrier_frequency: float = 0.0,
    bandwidth: float | None = None,
    start_time: float | list[float] = 0.0,
    speed_of_sound: float = 1540.0,
    f_number: float = 0.0,
    noise_std: float | None = None,
) -> None:
    """Make a measurement file from traces of a linear array, radio frequency or IQ.

    :param source: file of any known format.
    :param out: measurement file to write.
    :param sampling_frequency: of the traces, in hertz.
    :param x_range: of the image, from and to, in metres.
    :param z_range: depths of the image, from and to, in metres.
    :param pixel: from pixel to pixel, in metres; of both axes, or of x and of z.
    :param pitch: from element to element, in metres; the array's middle is at x = 0.
    :param elements: their x, in metres, one by one, in place of a pitch: for gaps and missing ones.
    :param transmitters: x of the elements that fire, in metres and in their order, where a full matrix has not all.
    :param array: which array of the file; ``data`` for the cells data{1}, data{2}, …
        together, which become the first axis.
    :param imaginary: which array has the imaginary parts, where IQ data come as two.
    :param axes: what the array's axes are, in order: of frame, transmission, element and sample, and part, of length
        two, where it holds real and imaginary part.
    :param frame: of several frames, the one to take; all if not given.
    :param kind: plane waves, or a full matrix: every element fires in turn.
    :param angles: of the plane waves, in degrees, positive towards larger x.
    :param carrier_frequency: in hertz, of the pulse, with which traces are demodulated, or of IQ data. 0: real traces
        become analytic signals, which suits a full matrix.
    :param bandwidth: of the pulse, in hertz; for demodulation.
    :param start_time: of the first sample, in seconds; of all transmissions, or of each.
    :param speed_of_sound: in metres per second.
    :param f_number: depth over the width of the receive aperture; 0 for the whole array.
    :param noise_std: total standard deviation of one complex sample, in the units of the file.
    """
    path, found = Path(source), read_arrays(source)
    values = _chosen(path, found, array)
    if imaginary is not None:
        values = _with_imaginary(values, _chosen(path, found, imaginary))
    traces = _sorted(path, *_without_parts(values, axes), frame)
    n_elements, n_samples = traces.shape[-2:]
    across, down = pixel if isinstance(pixel, tuple) else (pixel, pixel)
    scan = {
        "elements": _elements(n_elements, pitch, elements),
        "x": _grid("--x_range", x_range, across), "z": _grid("--z_range", z_range, down), "n_samples": n_samples,
        "sampling_frequency": sampling_frequency, "carrier_frequency": carrier_frequency, "start_time": start_time,
        "speed_of_sound": speed_of_sound, "f_number": f_number,
    }  # fmt: skip
    with _as_usage_error():
        physics = _operator(kind, angles, transmitters, scan)
        _check_transmissions(kind, physics.data_shape[1], traces.shape[1])
        _check_carrier(traces, carrier_frequency, bandwidth)
        y = _complex(traces, sampling_frequency, carrier_frequency, bandwidth, physics.start_time)[:, None]
    silent = float((physics.column_norms() == 0).double().mean())
    if silent == 1:
        raise UsageError(f"--x_range, --z_range: found no pixel whose echo the traces record, expected {UNITS}")
    save_measurement(out, y, physics, noise_std=noise_std, meta={"source": Path(source).name})
    samples, pixels = (" x ".join(map(str, shape)) for shape in (y.shape[2:], physics.image_shape[1:]))
    print(f"{out}: {len(y)} x {samples} complex samples, {pixels} pixels")
    for note in cautions(traces, y, carrier_frequency, silent):
        print(f"  note: {note}")


def cautions(traces: Tensor, y: Tensor, carrier: float, silent: float) -> Iterator[str]:
    """What slips of units look like: pixels beyond the traces; demodulated, less than half as much energy."""
    if silent > SILENT:
        yield f"{silent:.0%} of the pixels have no echo that the traces record: are there {UNITS}?"
    share = float(norms(y).square().sum() / norms(traces).square().sum().clamp_min(TINY) / 2)
    if carrier and not traces.is_complex() and share < LEAST:
        yield f"{share:.0%} of the traces' energy lie within the bandwidth about the carrier: are both in hertz?"


def _elements(count: int, pitch: float | None, elements: list[float] | None) -> Tensor:
    """Where they are along x, in metres."""
    if (pitch is None) == (elements is None):
        found = "none" if pitch is None else "it beside --elements"
        raise UsageError(f"--pitch: found {found}, expected one of the two")
    if pitch is not None:
        if pitch == 0 or not math.isfinite(pitch):
            raise UsageError(f"--pitch: found {pitch:g}, expected metres other than 0")
        return pitch * (torch.arange(count, dtype=torch.float64) - (count - 1) / 2)
    places = torch.tensor(elements, dtype=torch.float64)
    if len(places) != count or not bool(places.isfinite().all()):
        raise UsageError(f"--elements: found {len(places)} positions, expected {count} finite ones, as the data have")
    return places


def _with_imaginary(real: Tensor, imaginary: Tensor) -> Tensor:
    """Two real arrays as a complex one."""
    if real.shape != imaginary.shape or real.is_complex() or imaginary.is_complex():
        found = f"{tuple(imaginary.shape)} beside {tuple(real.shape)}"
        raise UsageError(f"--imaginary: found an array of shape {found}, expected two real ones of one shape")
    return torch.complex(_floating(real), _floating(imaginary))


def _without_parts(values: Tensor, axes: str) -> tuple[Tensor, str]:
    """Complex traces of an array with an axis of real and imaginary part, and its other axes."""
    names = [name.strip() for name in axes.split(",")]
    if "part" not in names or values.ndim != len(names):
        return values, axes
    axis = names.index("part")
    if values.shape[axis] != 2 or values.is_complex():
        raise UsageError(f"--axes: found part for an axis of length {values.shape[axis]}, expected 2, real")
    return _with_imaginary(*values.unbind(axis)), ",".join(name for name in names if name != "part")


def _floating(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.to(torch.float32)


def _operator(kind: str, angles: list[float], transmitters: list[float] | None, scan: dict[str, Any]) -> Operator:
    if kind == "full-matrix":
        return FullMatrixCapture(transmitters=transmitters, **scan)
    if transmitters is not None:
        raise UsageError("--transmitters: found them of plane waves, expected --kind full-matrix beside them")
    return PlaneWaveIQ([math.radians(angle) for angle in angles], **scan)


def _chosen(path: Path, found: Arrays, name: str | None) -> Tensor:
    """An array, or all cells of one name."""
    cells = [found.arrays[key] for key in found.arrays if name is not None and key.startswith(f"{name}{{")]
    if not cells:
        return pick(path, found, name, list(found.arrays))
    shapes = {tuple(cell.shape) for cell in cells}
    if len(shapes) > 1:
        raise InputError(f"{path}: cells of {name} of shapes {sorted(shapes)}, expected one shape")
    return torch.stack(cells)


def _sorted(path: Path, values: Tensor, axes: str, frame: int | None) -> Tensor:
    """``(frames, transmissions, elements, samples)``, double precision only of what has it."""
    names = [name.strip() for name in axes.split(",")]
    if len(set(names)) < len(names) or not {"element", "sample"} <= set(names) <= set(AXES):
        raise UsageError(f"--axes: found {axes!r}, expected element, sample, and maybe {AXES[0]} and {AXES[1]}")
    if values.ndim != len(names) or 0 in values.shape:
        shape = tuple(values.shape)
        raise UsageError(f"--axes: found {axes!r}, expected as many axes as those of shape {shape} in {path}")
    missing = [name for name in AXES if name not in names]
    values = values[(None,) * len(missing)].permute([(missing + names).index(name) for name in AXES])
    if frame is not None:
        if not 0 <= frame < len(values):
            raise UsageError(f"--frame: found {frame}, expected 0 to {len(values) - 1} in {path}")
        values = values[frame : frame + 1]
    return values if values.is_complex() or values.dtype == torch.float64 else values.to(torch.float32)


def _check_transmissions(kind: str, stated: int, found: int) -> None:
    if stated != found:
        option = "--angles" if kind == "plane-wave" else "--transmitters"
        raise UsageError(f"{option}: found {stated} transmissions, expected as many as the data have, {found}")


def _check_carrier(traces: Tensor, carrier: float, bandwidth: float | None) -> None:
    """Refuse complex traces that say, or are said, something else than they are.

    Analytic signals, whose carrier is still in them, have next to nothing at negative frequencies; IQ data as much as
    at positive ones.
    """
    if not traces.is_complex():
        return
    if bandwidth is not None:
        raise UsageError(f"--bandwidth: found {bandwidth:g} for complex traces, expected none: they are demodulated")
    power = torch.fft.fft(traces.flatten(0, -2)[:MOST]).abs().square().sum(0)
    negative = float(power[power.shape[0] // 2 + 1 :].sum() / power.sum().clamp_min(1e-300))
    if carrier == 0 and negative > LEAST:
        raise UsageError(
            "--carrier_frequency: found none for complex traces, of whose energy "
            f"{negative:.0%} lie at negative frequencies, expected that of their demodulation, in hertz"
        )


def _complex(traces: Tensor, rate: float, carrier: float, bandwidth: float | None, start: Tensor) -> Tensor:
    """IQ data are taken as they are.

    :param start: of all transmissions or ``(transmissions,)``.
    """
    if traces.is_complex():
        return traces
    if carrier == 0:
        return analytic(traces)
    if bandwidth is None:
        raise UsageError("--bandwidth: found none, expected hertz, since --carrier_frequency asks for demodulation")
    if traces.shape[-1] <= SHORTEST:
        found = f"--carrier_frequency: found traces of {traces.shape[-1]} samples"
        raise UsageError(f"{found}, expected more than {SHORTEST} to demodulate")
    return demodulate(traces, rate, carrier, bandwidth, start[..., None])


def _grid(option: str, ends: tuple[float, float], step: float) -> Tensor:
    """From the first to the last, both included where the step allows."""
    first, last = ends
    if not (step > 0 and first <= last and math.isfinite(last - first)):
        raise UsageError(f"{option}: found {first:g} to {last:g} in steps of {step:g}, expected an increasing axis")
    if (pixels := (last - first) / step) >= LONGEST:
        raise UsageError(f"--pixel: found {step:g} m, {pixels:.3g} pixels along {option}, expected fewer")
    return first + step * torch.arange(1 + math.floor((last - first) / step + 1e-6), dtype=torch.float64)


@contextmanager
def _as_usage_error() -> Iterator[None]:
    """What describes no scan is a wrong argument."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"--{error}") from error
