r"""The interactive viewer: volumes as bytes inside the page, and the markup its script brings to life.

A normalised magnitude m is stored as the byte ``round(255 sqrt(m))``: steps below half a decibel over
the 30 dB shown, and below one percent at the peak.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from matplotlib import colormaps

from .report_drawing import decibel_scale, linear_scale
from .report_views import Picture

#: Bytes all volumes of a page may take before base64.
BUDGET = 4 * 2**20


def viewer(groups: Sequence[Sequence[Picture]]) -> str:
    """Markup and data; ``groups`` holds the pictures of each image of the batch."""
    pictures = [p for group in groups for p in group]
    if not pictures:
        return ""
    room = BUDGET // len(pictures)
    volumes = [_volume(p, i, room) for i, group in enumerate(groups) for p in group]
    model = max(pictures, key=lambda p: (p.is_volume, p.is_echo))
    data = {"volumes": volumes, "range": model.dynamic_range, "images": len(groups), "scale": _scales(model)[0][0],
            "colours": {"db": _colours(decibel_scale(model).colours),
                        "linear": _colours(linear_scale(model).colours)}}  # fmt: skip
    coarse = max(v["factor"] for v in volumes)
    note = (
        f'<p class="note">Large volumes are shown coarser here: blocks of up to {coarse} voxels a side '
        "stand as their maximum. The pictures below show every voxel.</p>"
        if coarse > 1
        else ""
    )
    return _markup(volumes, len(groups), _scales(model), note) + _script_data(data)


def _scales(p: Picture) -> list[tuple[str, str]]:
    """Scales to choose from, the one to begin with first."""
    scales = [("db", "dB"), ("linear", "linear")]
    return scales if p.decibels_first else scales[::-1]


def _volume(p: Picture, image: int, room: int) -> dict[str, Any]:
    """One picture for the script: bytes with the first axis slowest, coordinates, peak."""
    values = p.magnitude if p.is_volume else p.magnitude.T[:, :, None]
    axes = p.axes if p.is_volume else p.axes[::-1]
    factor = 1
    while np.prod([-(-n // factor) for n in values.shape]) > room:
        factor += 1
    small = block_maximum(values, factor)
    coordinates = [_limits(axis.values, n, factor) for axis, n in zip(axes, small.shape, strict=False)]
    return {
        "name": p.name, "image": image, "shape": small.shape, "factor": factor, "flat": not p.is_volume,
        "axes": [{"name": a.name, "unit": a.unit, "from": c[0], "step": c[1]}
                 for a, c in zip(axes, coordinates, strict=True)],
        "peak": p.peak, "data": base64.b64encode(np.rint(255 * np.sqrt(small)).astype(np.uint8).tobytes()).decode(),
    }  # fmt: skip


def block_maximum(values: np.ndarray, factor: int) -> np.ndarray:
    """Maximum over cubes of ``factor`` voxels a side; flat axes stay flat."""
    if factor == 1:
        return values
    for axis in range(values.ndim):
        starts = np.arange(0, values.shape[axis], factor)
        values = np.maximum.reduceat(values, starts, axis=axis)
    return values


def _limits(values: np.ndarray, n: int, factor: int) -> tuple[float, float]:
    """Coordinate of the first block's centre and the mean distance between blocks."""
    step = float(values[-1] - values[0]) / (len(values) - 1) if len(values) > 1 else 1.0
    return float(values[0]) + step * (factor - 1) / 2, step * factor


def _colours(name: str) -> str:
    table = (colormaps[name](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return base64.b64encode(table.tobytes()).decode()


def _script_data(data: dict[str, Any]) -> str:
    """JSON that cannot end its own script element, whatever the names in it."""
    quoted = json.dumps(data).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return f'<script type="application/json" id="viewer-data">{quoted}</script>'


def _markup(volumes: Sequence[dict[str, Any]], images: int, scales: Sequence[tuple[str, str]], note: str) -> str:
    names = list(dict.fromkeys(v["name"] for v in volumes))
    results = "".join(f'<option value="{i}">{escape(name)}</option>' for i, name in enumerate(names))
    batch = "".join(f'<option value="{i}">{i + 1}</option>' for i in range(images))
    image = f'<label>Image <select id="viewer-image">{batch}</select></label>' if images > 1 else ""
    flat = all(v["flat"] for v in volumes)
    planes = "" if flat else _choice("View", "plane", ("2", "x–y"), ("1", "x–z"), ("0", "y–z"))
    kinds = "" if flat else _choice("Show", "kind", ("slice", "slice"), ("maximum", "maximum"), ("turn", "3-D"))
    slider = (
        ""
        if flat
        else '<label class="slide">Slice <input type="range" id="viewer-slice" min="0" value="0">'
        '<output id="viewer-place" for="viewer-slice"></output></label>'
    )
    return f"""
<noscript><p class="note">The viewer needs JavaScript; everything else on this page does without.</p></noscript>
<div id="viewer-box" hidden>
  <div class="controls" role="group" aria-label="Viewer controls">
    <label>Result <select id="viewer-result">{results}</select></label>{image}
    {kinds}{planes}{_choice("Scale", "scale", *scales)}
  </div>
  <canvas id="viewer-canvas" tabindex="0" role="img" aria-label="Interactive image"></canvas>
  {slider}
  <p id="viewer-reading" aria-live="polite"></p>
  <p class="note">{_help(flat)}</p>{note}
</div>
"""


def _choice(label: str, name: str, *options: tuple[str, str]) -> str:
    """A row of buttons of which one is pressed."""
    buttons = "".join(
        f'<button type="button" data-choice="{name}" data-value="{value}" aria-pressed="{str(i == 0).lower()}">'
        f"{text}</button>"
        for i, (value, text) in enumerate(options)
    )
    return f'<span class="choice" role="group" aria-label="{label}">{buttons}</span>'


def _help(flat: bool) -> str:
    if flat:
        return "Point at the image to read values; with the image in focus, R changes the result and L the scale."
    return (
        "Point at the image to read values. With the image in focus: arrow keys change the slice or turn the volume, "
        "as dragging does, Home goes to the brightest voxel, 1–3 choose the view, R the result, L the scale."
    )
