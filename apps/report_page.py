"""The report's HTML, put together from tables, pictures, curves and the viewer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape

import numpy as np

from ..datasets import Result
from .document import document
from .report_curves import curves, steps
from .report_drawing import PHASE, Scale, decibel_scale, draw, linear_scale
from .report_order import orders
from .report_tables import comparable, metrics_table, provenance_table, settings_table, summary_line
from .report_viewer import viewer
from .report_views import (
    PHASE_RANGE,
    Panel,
    Picture,
    coloured,
    decibels,
    picture,
    projections,
    separated,
    slices,
    visible_phase,
)

#: Images of a batch that are drawn.
MAX_IMAGES = 8
#: Channels of an image that are drawn.
MAX_CHANNELS = 12
#: Pictures beside each other in a comparison.
MAX_COLUMNS = 4
TRUTH = "truth"


def page(results: Sequence[Result], names: Sequence[str]) -> str:
    """The whole page."""
    results = [r.framed().upright() for r in results]
    n_images = max(len(r.image) for r in results)
    shown = min(n_images, MAX_IMAGES)
    groups = [pictures(results, names, i) for i in range(shown)]
    sections = {
        "Summary": summary(results, names),
        "Viewer": viewer(groups),
        **{_image_title(i, n_images): image_section(results, names, i, groups[i]) for i in range(shown)},
        "Measurements": measurements(results, names),
        "Convergence": convergence(results, names),
        "Settings": settings_table(results, names),
        "Provenance": provenance_table(results, names) + records(results, names),
    }
    sections = {title: body for title, body in sections.items() if body}
    if n_images > shown:
        last = _image_title(shown - 1, n_images)
        sections[last] += f'<p class="note">The first {shown} of {n_images} images are shown; all are in the file.</p>'
    return document(title(results, names), sections)


def _image_title(i: int, n: int) -> str:
    return "Images" if n == 1 else f"Image {i + 1} of {n}"


def title(results: Sequence[Result], names: Sequence[str]) -> str:
    """What the page is called, unescaped."""
    return f"Reconstruction of {names[0]}" if len(results) == 1 else f"{len(results)} reconstructions compared"


def summary(results: Sequence[Result], names: Sequence[str]) -> str:
    """A line and the warnings of each result, then all metrics in one table."""
    lines = "".join(
        f"<li><strong>{escape(name)}</strong> {summary_line(r)}</li>" for r, name in zip(results, names, strict=True)
    )
    found = "".join(_warnings(r, name if len(names) > 1 else "") for r, name in zip(results, names, strict=True))
    alert = f'<div class="warnings" role="note"><h3>Warnings</h3><ul>{found}</ul></div>' if found else ""
    return f'<ul class="lines">{lines}</ul>{alert}{metrics_table(results, names)}'


def _warnings(result: Result, name: str) -> str:
    given = result.record.get("warnings") or []
    notes = [str(note) for note in ([given] if isinstance(given, str) else given)]
    bad = int((~np.isfinite(np.asarray(result.image.detach().cpu()))).sum())
    if bad:
        notes.append(f"the image holds {bad} NaN or infinite values, drawn as zero")
    if result.truth is not None and not comparable(result):
        notes.append(f"the truth has shape {tuple(result.truth.shape)}, the image {tuple(result.image.shape)}")
    return "".join(f"<li>{f'<strong>{escape(name)}</strong>: ' if name else ''}{escape(note)}</li>" for note in notes)


def pictures(results: Sequence[Result], names: Sequence[str], i: int) -> list[Picture]:
    """Image ``i``: its truth if one result knows it, then each result that has it."""
    known = [r for r in results if comparable(r) and len(r.image) > i]
    found = [picture(TRUTH, known[0].truth[i], known[0].axes)] if known and known[0].truth is not None else []
    return found + [picture(n, r.image[i], r.axes) for r, n in zip(results, names, strict=True) if len(r.image) > i]


def image_section(results: Sequence[Result], names: Sequence[str], i: int, shown: Sequence[Picture]) -> str:
    """Comparison, errors, and each picture by itself."""
    batch = max(len(r.image) for r in results) > 1
    numbers = metrics_table(results, names, i) if batch else ""
    parts = [numbers, comparison(shown), errors(shown), spreads(results, names, i)]
    parts += [f"<h3>{escape(p.name)}</h3>" + alone(p) for p in shown]
    return "".join(parts)


def comparison(shown: Sequence[Picture]) -> str:
    """All pictures side by side on one scale; nothing if there is only one."""
    if len(shown) < 2 or len({p.is_volume for p in shown}) > 1:
        return ""
    first = shown[0]
    what = "Maximum projections" if first.is_volume else "Magnitudes"
    text = f"{what} side by side, each relative to its own peak (circle)"
    columns = [projections(p, decibels(p.magnitude)) for p in shown]
    heads = [p.name for p in shown]
    figures = [_side_by_side(columns, heads, decibel_scale(first), f"{text}, {_range_of(first)}.")]
    if not first.is_volume:
        linear = [projections(p, p.magnitude) for p in shown]
        figures.insert(first.is_echo, _side_by_side(linear, heads, linear_scale(first), f"{text}, linear."))
    if all(p.colours is not None for p in shown):
        figures.insert(0, _side_by_side([coloured(p) for p in shown], heads, None, "In colour, side by side."))
    return f"<h3>Side by side</h3>{''.join(figures)}"


def _range_of(p: Picture) -> str:
    return f"common scale from −{p.dynamic_range:.0f} to 0 dB"


def errors(shown: Sequence[Picture]) -> str:
    """``| |x| - |truth| |`` of each result, both at peak 1, on one scale."""
    truth, results = shown[0], shown[1:]
    results = [p for p in results if p.magnitude.shape == truth.magnitude.shape]
    if truth.name != TRUTH or not results:
        return ""
    gaps = [np.abs(p.magnitude - truth.magnitude) for p in results]
    scale = Scale("magma", 0.0, max(float(np.max(gaps)), 1e-6), "| |x| − |truth| |, peaks at 1")
    columns = [
        [replace(panel, peak=None) for panel in projections(p, gap)] for p, gap in zip(results, gaps, strict=True)
    ]
    how = "its maximum projections, " if truth.is_volume else ""
    caption = f"Error of the magnitude against the truth, both with their peaks at 1; {how}linear, one scale for all."
    return "<h3>Error</h3>" + _side_by_side(columns, [p.name for p in results], scale, caption)


def spreads(results: Sequence[Result], names: Sequence[str], i: int) -> str:
    """The standard deviation of each result that has one, and beside it its error, on one scale."""
    columns, heads = [], []
    for r, name in zip(results, names, strict=True):
        if r.std is None or r.std.shape != r.image.shape or len(r.std) <= i:
            continue
        maps = {"standard deviation": r.std[i]}
        if comparable(r) and r.truth is not None:
            maps["|x − truth|"] = r.image[i] - r.truth[i]
        shape = picture(name, r.image[i], r.axes)
        for what, values in maps.items():
            one = picture(what, values, r.axes)
            columns.append([replace(panel, peak=None) for panel in slices(shape, one.peak * one.magnitude)])
            heads.append((f"{name}, " if len(results) > 1 else "") + what)
    if not columns:
        return ""
    largest = max(float(panel.values.max()) for column in columns for panel in column)
    scale = Scale("magma", 0.0, largest or 1.0, "in units of the image")
    caption = (
        "Standard deviation of the samples, and where the truth is known the error of their mean; one scale for all."
    )
    return "<h3>Uncertainty</h3>" + _side_by_side(columns, heads, scale, caption)


def measurements(results: Sequence[Result], names: Sequence[str]) -> str:
    """What acquisitions measured, and when; nothing of other results."""
    drawn = orders(results, names)
    caption = "Each measurement's group, the first ones on top."
    return drawn and f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>"


def _side_by_side(columns: Sequence[list[Panel]], heads: Sequence[str], scale: Scale | None, caption: str) -> str:
    """One column per picture under its head (a single one lies on its side), a few columns to a figure."""
    if len(columns) == 1:
        return _figure([columns[0]], scale, caption)
    out = ""
    for start in range(0, len(columns), MAX_COLUMNS):
        part = columns[start : start + MAX_COLUMNS]
        rows = [list(row) for row in zip(*part, strict=True)]
        out += _figure(rows, scale, caption, heads[start : start + MAX_COLUMNS])
    return out


def alone(p: Picture) -> str:
    """One picture: magnitude in decibels and linear, and its phase."""
    if not p.peak:
        return '<p class="note">Zero everywhere.</p>'
    db, where = decibels(p.magnitude), f"peak {p.peak:.4g} at {p.peak_place} (circle)"
    planes = "Slices through the brightest voxel" if p.is_volume else "Magnitude"
    more = ", maximum projections" if p.is_volume else ""
    rows = [slices(p, db), projections(p, db)] if p.is_volume else [slices(p, db)]
    logarithmic = _figure(rows, decibel_scale(p), f"{planes}{more}; {_range_of(p)}; {where}.")
    linear = _figure([slices(p, p.magnitude)], linear_scale(p), f"{planes}, linear; {where}.")
    out = logarithmic + linear if p.decibels_first else linear + logarithmic
    if p.colours is not None:
        out = _figure([coloured(p)], None, "In colour, white where a thousandth of the values lies above.") + out
    if p.channels:
        out = channels(p) + out
    if p.phase is not None:
        caption = f"Phase, grey where the magnitude is more than {PHASE_RANGE:.0f} dB below the peak."
        out += _figure([[replace(q, peak=None) for q in slices(p, visible_phase(p))]], PHASE, caption)
    return f'<div class="figures{"" if p.is_volume else " flat"}">{out}</div>'


def channels(p: Picture) -> str:
    """The first channels of a picture that has several, on one scale."""
    scale = Scale("gray", 0.0, max(float(values.max()) for values in p.channels) or 1.0, "in units of the image")
    return "".join(
        _figure([[panel]], scale, f"Channel {i} of {len(p.channels)}, one scale for all.")
        for i, panel in enumerate(separated(p)[:MAX_CHANNELS], 1)
    )


def _figure(grid: list[list[Panel]], scale: Scale | None, caption: str, heads: Sequence[str] = ()) -> str:
    alt = " – ".join(part for part in (", ".join(heads), caption) if part)
    return f"<figure>{draw(grid, scale, alt, heads)}<figcaption>{escape(caption)}</figcaption></figure>"


def convergence(results: Sequence[Result], names: Sequence[str]) -> str:
    """The curves, or why there are none."""
    drawn = curves(results, names)
    if not drawn:
        return "<p>No iterations were recorded.</p>"
    batch = ", one line per image" if max(len(r.image) for r in results) > 1 else ""
    return f"<figure>{drawn}<figcaption>Measures of each {steps(results)}{batch}.</figcaption></figure>"


def records(results: Sequence[Result], names: Sequence[str]) -> str:
    """Everything that was recorded, folded away."""
    return "".join(
        f"<details><summary>Full record of {escape(name)}</summary><pre>"
        f"{escape(json.dumps(r.record, indent=2, ensure_ascii=False, default=str))}</pre></details>"
        for r, name in zip(results, names, strict=True)
    )
