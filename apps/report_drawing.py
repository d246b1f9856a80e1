"""Panels in one row or grid with one colour bar, drawn off screen and handed over as an ``<img>``.

Only the object interface of matplotlib is used: no window, no global figure, no changed defaults.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .report_views import Axis, Panel, Picture

#: Dots per inch of the PNG, and pixels of the page per inch.
DPI, PIXELS = 150, 110
#: Inches: a full figure's width, room left of the panels, between columns, between rows, for the colour bar.
WIDTH, LEFT, GAP, ROW_GAP, BAR = 10.1, 0.88, 0.66, 0.76, 0.95
#: Behind what is masked: a grey no cyclic colour comes close to.
HIDDEN = "#9a9a9a"
#: Points: text, and lines around panels.
FONT, LINE = 9.5, 0.6


@dataclass(frozen=True)
class Scale:
    """A colour scale: map, limits and what the colour bar says."""

    colours: str
    low: float
    high: float
    label: str
    ticks: tuple[tuple[float, str], ...] = ()


PHASE = Scale("twilight", -np.pi, np.pi, "phase (rad)", ((-np.pi, "−π"), (0.0, "0"), (np.pi, "π")))


def decibel_scale(p: Picture) -> Scale:
    """Decibels below the peak: all but radar's volumes in grey, as they are read."""
    return Scale("inferno" if p.is_scene else "gray", -p.dynamic_range, 0.0, "magnitude (dB below peak)")


def linear_scale(p: Picture) -> Scale:
    """Shares of the peak: all but radar's volumes in grey."""
    return Scale("viridis" if p.is_scene else "gray", 0.0, 1.0, "magnitude / peak")


def draw(grid: Sequence[Sequence[Panel]], scale: Scale | None, alt: str, heads: Sequence[str] = ()) -> str:
    """Rows of panels under one scale as an ``<img>``; ``heads`` stand above the columns."""
    return img(compose(grid, scale, heads), alt)


def compose(grid: Sequence[Sequence[Panel]], scale: Scale | None, heads: Sequence[str] = ()) -> Figure:
    """Rows of panels under one scale, none where they are in colours; ``heads`` stand above the columns."""
    figure, axes = _lay_out(grid)
    for ax, panel in zip(axes.flat, (panel for row in grid for panel in row), strict=True):
        _draw_panel(ax, panel, scale)
    if heads:
        _name_columns(axes, heads)
    if scale is not None:
        _colour_bar(figure, axes, scale)
    return figure


def plain(ax: Axes) -> Axes:
    """Thin lines and small text, and names taken as they are, dollar signs too."""
    ax.tick_params(labelsize=FONT, width=LINE, length=3)
    for spine in ax.spines.values():
        spine.set_linewidth(LINE)
    for words in (ax.title, ax.xaxis.label, ax.yaxis.label):
        words.set_fontsize(FONT)
        words.set_parse_math(False)
    return ax


def img(figure: Figure, alt: str) -> str:
    """A figure as a PNG inside an ``<img>`` of its natural size."""
    width, height = (round(v * PIXELS) for v in figure.get_size_inches())
    data = base64.b64encode(png(figure)).decode()
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


def _lay_out(grid: Sequence[Sequence[Panel]]) -> tuple[Figure, np.ndarray]:
    """A figure with axes placed in inches, so that the panels of a column line up and nothing is measured twice."""
    columns = len(grid[0])
    side = min(3.4 if columns == 1 else 2.7, (WIDTH - LEFT - BAR - (columns - 1) * GAP) / columns)
    heights = [side * max(min(1.6, max(0.3, _aspect(panel))) for panel in row) for row in grid]
    width = LEFT + columns * side + (columns - 1) * GAP + BAR
    height = sum(heights) + ROW_GAP * len(grid) + 0.12
    figure, axes = Figure(figsize=(width, height), dpi=DPI), np.empty((len(grid), columns), dtype=object)
    top = height - 0.27
    for i, tall in enumerate(heights):
        for j in range(columns):
            left = LEFT + j * (side + GAP)
            axes[i, j] = figure.add_axes((left / width, (top - tall) / height, side / width, tall / height))
        top -= tall + ROW_GAP
    return figure, axes


def _aspect(panel: Panel) -> float:
    return (np.ptp(panel.up.values) or 1.0) / (np.ptp(panel.right.values) or 1.0)


def _draw_panel(ax: Axes, panel: Panel, scale: Scale | None) -> None:
    ax.set_facecolor(HIDDEN)
    how = (None, None) if scale is None else (_colour_map(scale), Normalize(scale.low, scale.high))
    _draw_values(ax, panel, *how)
    if panel.peak is not None:
        ax.plot(*panel.peak, marker="o", markersize=11, markerfacecolor="none", markeredgecolor="black", mew=2.2)
        ax.plot(*panel.peak, marker="o", markersize=11, markerfacecolor="none", markeredgecolor="white", mew=1.1)
    ax.set(title=panel.title, xlabel=panel.right.label, ylabel=panel.up.label)
    plain(ax)
    ax.set_aspect("equal" if 1 / 6 < _aspect(panel) < 6 else "auto")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=not panel.right.unit))


def _name_columns(axes: np.ndarray, heads: Sequence[str]) -> None:
    """Heads above the columns; what the panels of a row have in common goes to its left end."""
    for row in axes:
        row[0].set_ylabel(f"{row[0].get_title()}\n{row[0].get_ylabel()}".strip())
        for ax in row:
            ax.set_title("")
        for ax in row[1:]:
            ax.set_ylabel("" if ax.get_ylabel() in row[0].get_ylabel() else ax.get_ylabel())
    for ax, head in zip(axes[0], heads, strict=True):
        ax.set_title(shortened(head, 28), fontsize=FONT + 0.5, fontweight="bold")


def _draw_values(ax: Axes, panel: Panel, colours: Colormap | None, norm: Normalize | None) -> None:
    """An image on a uniform grid, cells of their own size on any other."""
    x, y = _edges(panel.right), _edges(panel.up)
    if _uniform(x) and _uniform(y):
        limits = (x[0], x[-1], y[0], y[-1])
        ax.imshow(panel.values, cmap=colours, norm=norm, extent=limits, origin="lower", interpolation="nearest")
    else:
        ax.pcolormesh(x, y, panel.values, cmap=colours, norm=norm)
    if panel.first_row_on_top:
        ax.invert_yaxis()


def _edges(axis: Axis) -> np.ndarray:
    """Borders of the cells around an axis's coordinates."""
    v = axis.values
    if len(v) == 1:
        return v[0] + np.array([-0.5, 0.5])
    middle = (v[1:] + v[:-1]) / 2
    return np.concatenate([[2 * v[0] - middle[0]], middle, [2 * v[-1] - middle[-1]]])


def _uniform(edges: np.ndarray) -> bool:
    steps = np.diff(edges)
    return bool(np.allclose(steps, steps[0], rtol=1e-4))


def _colour_map(scale: Scale) -> Colormap:
    return colormaps[scale.colours]


def _colour_bar(figure: Figure, axes: np.ndarray, scale: Scale) -> None:
    colours = ScalarMappable(Normalize(scale.low, scale.high), _colour_map(scale))
    first, last, width = axes[0, -1].get_position(), axes[-1, -1].get_position(), figure.get_figwidth()
    place = (first.x1 + 0.16 / width, last.y0, 0.15 / width, first.y1 - last.y0)
    bar = figure.colorbar(colours, cax=figure.add_axes(place))
    bar.set_label(scale.label)
    plain(bar.ax)
    bar.outline.set_linewidth(LINE)
    if scale.ticks:
        bar.set_ticks([place for place, _ in scale.ticks], labels=[text for _, text in scale.ticks])


def shortened(name: str, limit: int) -> str:
    """``name``, its end cut off where it is too long to draw."""
    return name if len(name) <= limit else name[: limit - 1] + "…"
