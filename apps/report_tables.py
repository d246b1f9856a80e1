"""The report's tables: summary, metrics, settings, provenance. Every string is escaped here."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from ..datasets import Result

#: Metrics known by name: heading, digits, and whether more is better (None: neither).
METRICS: dict[str, tuple[str, str, bool | None]] = {
    "psnr": ("PSNR (dB)", ".2f", True),
    "ssim": ("SSIM", ".4f", True),
    "nmse": ("NMSE", ".4g", False),
    "relative_residual": ("‖Ax − y‖ / ‖y‖", ".4g", None),
    "spread": ("Standard deviation, rms", ".4g", None),
    "error_over_spread": ("rms error / std", ".3g", None),
    "peak": ("Peak |x|", ".4g", None),
    "certificate": ("Certificate", ".1e", None),
}
PROVENANCE: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "Input file": lambda r: _input(r).get("path"),
    "Input SHA-256": lambda r: _input(r).get("sha256"),
    "resolvent": lambda r: r.get("version"),
    "PyTorch": lambda r: r.get("torch"),
    "Seed": lambda r: r.get("seed"),
    "Threads": lambda r: r.get("threads"),
    "Device": lambda r: r.get("device"),
    "Noise level": lambda r: r.get("noise_std"),
    "Largest prior strength": lambda r: r.get("strength"),
    "x-update": lambda r: r.get("x_update"),
    "Fingerprint": lambda r: r.get("fingerprint"),
}
UNKNOWN = "–"


def _input(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record["input"] if isinstance(record.get("input"), Mapping) else {}


def summary_line(result: Result) -> str:
    """``NearFieldMIMO · L1 · FISTA · converged · 120 iterations · 4.2 s``, of what is known."""
    record = result.record
    parts = [text(record[key]) for key in ("operator",) if record.get(key)]
    parts += [prior_name(record), solver_name(record), status(record)]
    if record.get("iterations") is not None:
        parts.append(f"{text(record['iterations'])} iteration" + ("" if record["iterations"] == 1 else "s"))
    if isinstance(record.get("seconds"), (int, float)):
        parts.append(duration(record["seconds"]))
    return " · ".join(escape(part) for part in parts if part)


def prior_name(record: Mapping[str, Any]) -> str:
    """The prior's class, with the one inside it: ``Magnitude(TV)``."""
    return _class_name(_config(record).get("prior"))


def solver_name(record: Mapping[str, Any]) -> str:
    return text(record["solver"]) if record.get("solver") else _class_name(_config(record).get("solver"))


def _config(record: Mapping[str, Any]) -> Mapping[str, Any]:
    return record["config"] if isinstance(record.get("config"), Mapping) else {}


def _class_name(value: Any) -> str:
    if not isinstance(value, Mapping):
        return text(value).rsplit(".", 1)[-1] if value else ""
    inner = value.get("init_args", {}).get("prior") if isinstance(value.get("init_args"), Mapping) else None
    name = text(value.get("class_path", "")).rsplit(".", 1)[-1]
    return f"{name}({_class_name(inner)})" if inner else name


def status(record: Mapping[str, Any]) -> str:
    """``converged``, or counts where the images of a batch differ."""
    found = record.get("status") or []
    count = Counter(map(text, [found] if isinstance(found, str) else found))
    return ", ".join(word if len(count) == 1 else f"{n} {word}" for word, n in count.items())


def duration(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def metrics_of(result: Result) -> dict[str, list[float]]:
    """Recorded metrics and certificate, a number per image; where none is of the known truth, they are computed."""
    recorded = result.record.get("metrics")
    found = {k: _numbers(v) for k, v in recorded.items()} if isinstance(recorded, Mapping) else {}
    found["certificate"] = _numbers(result.record.get("certificate"))
    if comparable(result) and not found.keys() & {"psnr", "ssim", "nmse"}:
        from ..recon.metrics import magnitude_psnr, magnitude_ssim, nmse

        for name, measure in {"psnr": magnitude_psnr, "ssim": magnitude_ssim, "nmse": nmse}.items():
            found[name] = measure(result.image, result.truth.to(result.image.dtype)).tolist()
    return {name: values for name, values in found.items() if values}


def comparable(result: Result) -> bool:
    """Whether the truth is known and lies on the image's grid."""
    return result.truth is not None and result.truth.shape == result.image.shape


def _numbers(value: Any) -> list[float]:
    values = value if isinstance(value, (list, tuple)) else [value]
    return [float(v) for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]


def metrics_table(results: Sequence[Result], names: Sequence[str], image: int | None = None) -> str:
    """One row per result; the mean (and range) over a batch, or one image's numbers; the best in bold."""
    found = [metrics_of(r) for r in results]
    if image is not None:
        found = [{k: v[image : image + 1] for k, v in m.items() if len(v) > image} for m in found]
    keys = [k for k in METRICS if any(k in m for m in found)]
    keys += sorted({k for m in found for k in m} - METRICS.keys())
    if not keys:
        return ""
    heads = "".join(f'<th scope="col">{escape(_heading(key))}</th>' for key in ("", *keys))
    best = {key: _best(key, [m.get(key, []) for m in found]) for key in keys}
    rows = ""
    for i, (name, values) in enumerate(zip(names, found, strict=True)):
        cells = "".join(_metric_cell(key, values.get(key, []), i in best[key]) for key in keys)
        rows += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
    return (
        f'<div class="scroll"><table class="numbers"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _heading(key: str) -> str:
    return METRICS[key][0] if key in METRICS else key.replace("_", " ")


def _metric_cell(key: str, values: Sequence[float], best: bool) -> str:
    digits = METRICS[key][1] if key in METRICS else ".4g"
    if not values:
        return f"<td>{UNKNOWN}</td>"
    number = format(math.fsum(values) / len(values), digits)
    if len(values) > 1:
        number += f' <span class="range">({min(values):{digits}} – {max(values):{digits}})</span>'
    return f"<td><strong>{number}</strong></td>" if best else f"<td>{number}</td>"


def _best(key: str, columns: Sequence[Sequence[float]]) -> set[int]:
    """Rows with the best mean, if there is something to choose from."""
    more = METRICS[key][2] if key in METRICS else None
    means = {i: math.fsum(v) / len(v) for i, v in enumerate(columns) if v and all(map(math.isfinite, v))}
    if more is None or len(means) < 2:
        return set()
    top = (max if more else min)(means.values())
    return {i for i, mean in means.items() if mean == top}


def settings_table(results: Sequence[Result], names: Sequence[str]) -> str:
    """Every setting in its own row; rows in which the results differ are marked."""
    return facts_table([dict(_flat(_config(r.record))) for r in results], names)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """``prior.class_path`` becomes ``prior``, ``prior.init_args.weight`` becomes ``prior.weight``."""
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        name = ".".join(p for p in (prefix, text(key)) if p)
        if key == "class_path" and prefix:
            found.append((prefix, item))
        elif isinstance(item, Mapping) and item:
            found += _flat(item, prefix if key == "init_args" and prefix else name)
        else:
            found.append((name, item))
    return found


def provenance_table(results: Sequence[Result], names: Sequence[str]) -> str:
    """Where each result comes from."""
    facts = [{head: get(r.record) for head, get in PROVENANCE.items()} for r in results]
    return facts_table([{k: v for k, v in f.items() if v is not None} for f in facts], names)


def facts_table(columns: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """A row for every key, a column for every name; rows whose cells differ are marked."""
    keys = list(dict.fromkeys(key for column in columns for key in column))
    if not keys:
        return "<p>Not recorded.</p>"
    rows = ""
    for key in keys:
        cells = [text(column[key]) if key in column else UNKNOWN for column in columns]
        mark = ' class="differs"' if len(set(cells)) > 1 else ""
        rows += (
            f'<tr{mark}><th scope="row">{escape(key)}</th>' + "".join(f"<td>{escape(c)}</td>" for c in cells) + "</tr>"
        )
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("", *names))
    head = f"<thead><tr>{heads}</tr></thead>" if len(names) > 1 else ""
    return f'<div class="scroll"><table class="facts">{head}<tbody>{rows}</tbody></table></div>'


def text(value: Any) -> str:
    """A value as a person would write it."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)) and not any(isinstance(v, (list, tuple, Mapping)) for v in value):
        return ", ".join(map(text, value)) or "none"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
