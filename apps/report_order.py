"""What an acquisition measured, and when: its groups in their order, and why the later ones were chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..datasets import Result
from .report_curves import COLOURS, legend
from .report_drawing import DPI, img, plain

#: A mark for each result, as its colour.
MARKS = "osD^vP"


def orders(results: Sequence[Result], names: Sequence[str]) -> str:
    """The group of each measurement as one ``<img>``; empty if no result has an order."""
    found = [(name, order) for r, name in zip(results, names, strict=True) if (order := order_of(r))]
    if not found:
        return ""
    figure = Figure(figsize=(9.25, 3.1), dpi=DPI, layout="constrained")
    ax = figure.subplots()
    for i, (name, order) in enumerate(found):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[i % len(MARKS)], "linestyle": "none"}
        ax.plot(order, np.arange(1, len(order) + 1), markersize=4, label=f" {name}", **style)
    ax.set(xlabel=f"group ({results[0].record.get('groups', 'number')})", ylabel="measurement")
    ax.set_ylim(max(len(order) for _, order in found) + 0.5, 0.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    plain(ax)
    ax.grid(color="#dddddd", linewidth=0.5)
    legend(figure, [ax])
    return img(figure, f"Groups in the order in which they were measured: {', '.join(name for name, _ in found)}")


def order_of(result: Result) -> list[int]:
    """The groups measured; empty of a result that is no acquisition."""
    order = result.record.get("order")
    return [int(group) for group in order if isinstance(group, (int, float))] if isinstance(order, list) else []
