"""Convergence: every measure of the histories against the iteration, logarithmic where it is positive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..datasets import Result
from .report_drawing import DPI, FONT, img, plain, shortened

#: Colour-blind safe and dark enough on white (after Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#9b3f7d", "#8a6d00", "#333333")
DASHES = ("-", "--", "-.", ":")


def curves(results: Sequence[Result], names: Sequence[str]) -> str:
    """All measures as one ``<img>``; empty if no history is longer than one iteration."""
    measures = {name for r in results for name, v in r.history.items() if len(v) > 1 and name != "seconds"}
    if not measures:
        return ""
    columns = min(3, len(measures))
    rows = -(-len(measures) // columns)
    figure = Figure(figsize=(9.25 if columns > 1 else 6.0, 2.9 * rows + 0.4), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for ax, measure in zip(axes, sorted(measures), strict=False):
        _draw(ax, measure, results, names)
    for ax in axes[len(measures) :]:
        ax.set_axis_off()
    legend(figure, axes)
    return img(figure, f"Curves of {', '.join(sorted(measures))} against the {steps(results)}")


def steps(results: Sequence[Result]) -> str:
    """What the numbers of a history are of: iterations, or of acquisitions the choices."""
    return "choice" if any("order" in r.record for r in results) else "iteration"


def _draw(ax: Axes, measure: str, results: Sequence[Result], names: Sequence[str]) -> None:
    smallest, largest = np.inf, -np.inf
    for i, (result, name) in enumerate(zip(results, names, strict=True)):
        values = _values(result, measure)
        if values is None:
            continue
        smallest, largest = min(smallest, np.nanmin(values)), max(largest, np.nanmax(values))
        style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.4}
        for j, column in enumerate(values.T):
            ax.plot(np.arange(1, len(column) + 1), column, label=f" {name}" if j == 0 else None, **style)
    if 0 < smallest < largest:
        _logarithmic(ax, largest / smallest)
    ax.set(title=measure.replace("_", " "), xlabel=steps(results))
    plain(ax)
    ax.grid(color="#dddddd", linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)


def _logarithmic(ax: Axes, ratio: float) -> None:
    """A logarithmic axis with plain numbers, and more of them where the range is small."""
    ax.set_yscale("log")
    subs = (1,) if ratio >= 100 else (1, 2, 5) if ratio >= 5 else range(1, 10)
    ax.yaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _values(result: Result, measure: str) -> np.ndarray | None:
    """``(iterations, B)``, what is not finite or exactly zero left out; None without a curve."""
    if len(result.history.get(measure, ())) < 2:
        return None
    values = np.asarray(result.history[measure].detach().cpu(), dtype=np.float64)
    values = values.reshape(len(values), -1).copy()
    values[~np.isfinite(values) | (values == 0)] = np.nan
    return values if np.isfinite(values).any() else None


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """Below a figure, the labels of all its axes once."""
    found = {label: line for ax in axes for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels = [shortened(label.strip(), 40) for label in found]
    legend = figure.legend(found.values(), labels, loc="outside lower center", ncols=4, frameon=False, fontsize=FONT)
    for words in legend.get_texts():
        words.set_parse_math(False)
