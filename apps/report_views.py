r"""What a report shows of an image: normalised magnitude and phase, cut and projected.

.. math:: m = \frac{|s|}{\max |s|}, \qquad \mathrm{dB} = 20 \log_{10} m .

Panels of a volume ``(X, Y, Z)`` have their first axis to the right and their second upwards; a flat
image ``(rows, columns)`` is shown as stored, its first row on top: rows along z or y, columns along x.
Volumes in metres and echo images, whose rows are depths z, are read in decibels; all others are linear first, in grey.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..datasets.export import white
from ..datasets.result import in_order

#: Magnitudes this far below the peak and lower are drawn in the darkest colour.
DYNAMIC_RANGE = 30.0
#: The same for echo images, as sonographers see them.
ECHO_RANGE = 60.0
#: Phase is drawn where the magnitude is less far below the peak than this.
PHASE_RANGE = 20.0
#: Sides of a volume, as (to the right, upwards, cut or projected along).
PLANES = ((0, 1, 2), (0, 2, 1), (1, 2, 0))


@dataclass(frozen=True)
class Axis:
    """Coordinates along one axis, in millimetres where metres are known and in voxels elsewhere."""

    name: str
    unit: str
    values: np.ndarray

    @property
    def label(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def at(self, index: int) -> str:
        """``x = 12.5 mm``."""
        value = f"{self.values[index]:.4g}".replace("-", "−")
        return f"{self.name} = {value} {self.unit}".rstrip()


@dataclass(frozen=True)
class Picture:
    """One image of a result or of its truth, ready to be shown.

    :param magnitude: normalised to its peak, ``(*spatial)``, root sum of squares over channels.
    :param phase: in radians, of the first channel; None for real images.
    :param peak: what the magnitude was divided by.
    :param colours: red, green and blue from 0 to 1, ``(rows, columns, 3)``, of three channels of a flat real image.
    :param channels: the magnitudes ``(rows, columns)`` of a flat image of several that are no colours.
    """

    name: str
    magnitude: np.ndarray
    phase: np.ndarray | None
    peak: float
    axes: tuple[Axis, ...]
    colours: np.ndarray | None = None
    channels: tuple[np.ndarray, ...] = ()

    @property
    def is_volume(self) -> bool:
        return self.magnitude.ndim == 3

    @property
    def is_echo(self) -> bool:
        """Whether this is a flat image with depth downwards."""
        return not self.is_volume and self.axes[0].name == "z"

    @property
    def is_scene(self) -> bool:
        """Whether this is a volume in metres: what a radar saw, of any contrast."""
        return self.is_volume and bool(self.axes[0].unit)

    @property
    def decibels_first(self) -> bool:
        return self.is_scene or self.is_echo

    @property
    def dynamic_range(self) -> float:
        """Decibels shown below the peak."""
        return ECHO_RANGE if self.is_echo else DYNAMIC_RANGE

    @property
    def brightest(self) -> tuple[int, ...]:
        """Index of the peak."""
        return tuple(int(i) for i in np.unravel_index(self.magnitude.argmax(), self.magnitude.shape))

    @property
    def peak_place(self) -> str:
        """Where the peak is, in words."""
        return ", ".join(axis.at(i) for axis, i in zip(self.axes, self.brightest, strict=True))


@dataclass(frozen=True)
class Panel:
    """A plane to draw: values ``(up, right)``, its axes, and the peak's place in it."""

    title: str
    values: np.ndarray
    right: Axis
    up: Axis
    peak: tuple[float, float] | None
    first_row_on_top: bool = False


def picture(name: str, image: Any, axes: Mapping[str, Any]) -> Picture:
    """From one image ``(C, *spatial)`` and the axes of its result; single axes are dropped beyond three."""
    values = np.nan_to_num(np.asarray(image.detach().cpu()))
    values = values if values.ndim > 2 else values.reshape(1, *[1] * (3 - values.ndim), *values.shape[1:])
    values = values.reshape(values.shape[0], -1, *values.shape[-2:]) if values.ndim > 4 else values
    magnitude = np.sqrt((np.abs(values).astype(np.float64) ** 2).sum(0))
    peak = float(magnitude.max(initial=0.0))
    phase = np.angle(values[0]) if np.iscomplexobj(values) else None
    colours = _colours(values)
    channels = tuple(np.abs(values)) if values.ndim == 3 and len(values) > 1 and colours is None else ()
    return Picture(name, magnitude / (peak or 1.0), phase, peak, _axes(axes, magnitude.shape), colours, channels)


def _colours(values: np.ndarray) -> np.ndarray | None:
    if np.iscomplexobj(values) or values.ndim != 3 or len(values) != 3:
        return None
    return np.clip(values / (white(values) or 1.0), 0, 1).transpose(1, 2, 0)


def _axes(axes: Mapping[str, Any], shape: Sequence[int]) -> tuple[Axis, ...]:
    """The result's axes in millimetres if they fit the image, voxel numbers if not."""
    known = [Axis(name, "mm", _millimetres(values)) for name, values in in_order(axes).items()]
    if [len(axis.values) for axis in known] == list(shape) and all(_increasing(axis.values) for axis in known):
        return tuple(known)
    names = ("row", "column") if len(shape) == 2 else ("axis 1", "axis 2", "axis 3")
    return tuple(Axis(name, "", np.arange(n, dtype=np.float64)) for name, n in zip(names, shape, strict=True))


def _millimetres(values: Any) -> np.ndarray:
    """From metres; what is zero but for rounding becomes zero."""
    v = np.asarray(values, dtype=np.float64).ravel() * 1e3
    return np.where(np.abs(v) < 1e-4 * np.ptp(v) / max(1, len(v)), 0.0, v) if len(v) else v


def _increasing(values: np.ndarray) -> bool:
    return bool(np.isfinite(values).all() and (np.diff(values) > 0).all())


def slices(p: Picture, values: np.ndarray) -> list[Panel]:
    """Planes of ``values`` through the brightest voxel; the whole of a flat image."""
    if not p.is_volume:
        return [_flat(p, values)]
    at = p.brightest
    return [
        _panel(p, plane, values.take(at[plane[2]], plane[2]), p.axes[plane[2]].at(at[plane[2]])) for plane in PLANES
    ]


def projections(p: Picture, values: np.ndarray) -> list[Panel]:
    """Maximum of ``values`` along each axis; the whole of a flat image."""
    if not p.is_volume:
        return [_flat(p, values)]
    return [_panel(p, plane, values.max(plane[2]), f"maximum over {p.axes[plane[2]].name}") for plane in PLANES]


def coloured(p: Picture) -> list[Panel]:
    """A picture as it was taken; nothing of one that has no colours."""
    return [] if p.colours is None else [replace(_flat(p, p.colours), peak=None)]


def separated(p: Picture) -> list[Panel]:
    """The channels of a picture; none of one that has colours, or one channel."""
    return [replace(_flat(p, values), peak=None) for values in p.channels]


def _panel(p: Picture, plane: tuple[int, int, int], values: np.ndarray, title: str) -> Panel:
    right, up, _ = plane
    place = p.axes[right].values[p.brightest[right]], p.axes[up].values[p.brightest[up]]
    return Panel(title, values.T, p.axes[right], p.axes[up], place)


def _flat(p: Picture, values: np.ndarray) -> Panel:
    row, column = p.axes
    place = column.values[p.brightest[1]], row.values[p.brightest[0]]
    return Panel("", values, column, row, place, first_row_on_top=True)


def decibels(magnitude: np.ndarray) -> np.ndarray:
    """``20 log10`` of a normalised magnitude, finite also at zero."""
    return 20 * np.log10(np.maximum(magnitude, 1e-12))


def visible_phase(p: Picture) -> np.ma.MaskedArray:
    """The phase where the magnitude is within :data:`PHASE_RANGE` of the peak, masked elsewhere."""
    hidden = decibels(p.magnitude) < -PHASE_RANGE
    return np.ma.MaskedArray(p.phase, hidden)
