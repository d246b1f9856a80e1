"""The report of a tuning run: loss against cost, the way of the parameters, images before and after."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ..datasets import Result
from ..recon import Solver
from ..recon.bilevel import Search, State
from ..recon.bilevel.search import Visited
from .document import document, write_document
from .record import axes_of, measures
from .report import distinct_names
from .report_curves import COLOURS
from .report_drawing import DPI, img, plain
from .report_page import image_section, pictures
from .report_tables import facts_table, metrics_table
from .tuning_problem import Scan, images_of

if TYPE_CHECKING:
    from .tune import Run

#: Files whose images are drawn.
MAX_FILES = 4
NAMES = ("before", "after")


def write_report(run: Run, state: State, path: Path) -> None:
    """Write the page, whole or not at all."""
    lines = [json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()]
    start = run.tuned.parameters.gather().detach()
    with torch.no_grad():
        before = images_of(run.upper, run.upper.lower.solve(start, float(state.eps)).x, run.scans)
        after = images_of(run.upper, state.x, run.scans)
    solver = run.tuned.make(run.tuned.prior)
    pairs = [
        [result(scan, image, solver) for image in images]
        for scan, *images in zip(run.scans, before, after, strict=True)
    ]
    heading = "Tuning of " + ", ".join(run.tuned.parameters.names)
    write_document(path, document(heading, sections(run, state, lines, pairs)))


def result(scan: Scan, image: Tensor, solver: Solver) -> Result:
    """An image with its measures."""
    m, image = scan.measurement, image.cpu()
    truth = None if m.truth is None else m.truth.cpu().to(image.dtype)
    found = measures(solver, image, truth, type(m)(m.y.cpu(), m.physics.cpu(), truth, m.noise_std, m.meta))
    truth = None if truth is None else m.physics.frame(truth)
    return Result(m.physics.frame(image), {}, {"metrics": found}, truth, axes_of(m.physics))


def sections(
    run: Run, state: State, lines: Sequence[dict[str, Any]], pairs: Sequence[Sequence[Result]]
) -> dict[str, str]:
    """The page's sections by title."""
    found = {"Summary": summary(run, lines), "Descent": curves(run, state, lines), "Steps": steps_table(lines)}
    names = distinct_names([scan.path for scan in run.scans])
    for name, pair in list(zip(names, pairs, strict=True))[:MAX_FILES]:
        body = image_section(pair, NAMES, 0, pictures(pair, NAMES, 0))
        found[f"Images of {name}"] = metrics_table(pair, NAMES) + body
    if len(run.scans) > MAX_FILES:
        found["Summary"] += f'<p class="note">Images of the first {MAX_FILES} of {len(run.scans)} files are shown.</p>'
    found["Settings"] = (
        f"<details open><summary>Everything that was set</summary><pre>{_pretty(run.settings)}</pre></details>"
    )
    return found


def summary(run: Run, lines: Sequence[dict[str, Any]]) -> str:
    """What was tuned, by what, and what came of it."""
    first, last = lines[0], lines[-1]
    accepted = sum(line["accepted"] for line in lines[1:])
    facts: dict[str, Any] = {
        name: f"{_text(first['parameters'][name])} → {_text(last['parameters'][name])}" for name in last["parameters"]
    }
    facts |= {
        "loss": f"{first['loss']:.5g} → {last['loss']:.5g}",
        "loss between": f"{last['low']:.6g} and {last['high']:.6g}" + ("" if certified(run) else ", no certificate"),
        "method": type(run.method).__name__, "files": len(run.scans),
        "steps": f"{len(lines) - 1}, of which {accepted} moved the parameters",
        "cost": f"{last['gradients']} gradients and {last['products']} products with the Hessian",
    }  # fmt: skip
    watched = [line["validation"] for line in lines if "validation" in line]
    if watched:
        facts["validation loss"] = f"{watched[0]:.5g} → {watched[-1]:.5g}"
    return facts_table([facts], ["value"])


def certified(run: Run) -> bool:
    """Whether the images have certificates: a residual otherwise stands in for one."""
    return run.upper.lower.certifies(run.tuned.parameters.gather().detach())


def curves(run: Run, state: State, lines: Sequence[dict[str, Any]]) -> str:
    """Loss, parameters and accuracies against the cost; steps, or all that a search has compared."""
    figure = Figure(figsize=(9.25, 6.2), dpi=DPI, layout="constrained")
    loss, parameters, accuracy, last = figure.subplots(2, 2).flatten()
    cost = [max(line["cost"], 1) for line in lines]
    _loss(loss, lines, cost)
    for i, name in enumerate(lines[-1]["parameters"]):
        values = [_number(line["parameters"][name]) for line in lines]
        parameters.plot(cost, values, color=COLOURS[i % len(COLOURS)], marker=".", label=name)
    parameters.set(title="parameters", yscale="log")
    for i, name in enumerate(("eps", "delta", "certificate")):
        accuracy.plot(cost, [line[name] or float("nan") for line in lines], color=COLOURS[i], label=name)
    accuracy.set(title="accuracies, over the image's norm", yscale="log")
    for ax in (loss, parameters, accuracy):
        _finish(ax)
    if isinstance(run.method, Search):
        _compared(last, run, Visited(*state.memory))
    else:
        _steps(last, lines, cost)
    caption = (
        "Against gradients of the lower level and products with its Hessian; crosses are steps that were not taken."
    )
    return f"<figure>{img(figure, 'Curves of a tuning run')}<figcaption>{caption}</figcaption></figure>"


def _loss(ax: Axes, lines: Sequence[dict[str, Any]], cost: Sequence[int]) -> None:
    ax.plot(cost, [line["loss"] for line in lines], color=COLOURS[0], label="loss")
    ax.fill_between(cost, [v["low"] for v in lines], [v["high"] for v in lines], color=COLOURS[0], alpha=0.2, lw=0)
    for accepted, marker, colour in ((True, "o", COLOURS[0]), (False, "x", COLOURS[1])):
        chosen = [(c, v["loss"]) for c, v in zip(cost[1:], lines[1:], strict=True) if v["accepted"] is accepted]
        if chosen:
            label = "taken" if accepted else "not taken"
            ax.plot(*zip(*chosen, strict=True), linestyle="", marker=marker, markersize=4, color=colour, label=label)
    watched = [(c, v["validation"]) for c, v in zip(cost, lines, strict=True) if "validation" in v]
    if watched:
        ax.plot(*zip(*watched, strict=True), color=COLOURS[2], linestyle="--", label="validation")
    ax.set(title="loss", yscale="log" if min(v["loss"] for v in lines) > 0 else "linear")


def _steps(ax: Axes, lines: Sequence[dict[str, Any]], cost: Sequence[int]) -> None:
    for i, (name, label) in enumerate({"step_size": "step size", "gradient": "hypergradient"}.items()):
        ax.plot(cost, [line[name] or float("nan") for line in lines], color=COLOURS[i], label=label)
    ax.set(title="step size and hypergradient", yscale="log")
    _finish(ax)


def _compared(ax: Axes, run: Run, visited: Visited) -> None:
    """The loss of every place, against the parameter if there is one, else in their order."""
    names, of = run.tuned.parameters.names, run.tuned.parameters.scatter
    alone = visited.theta.shape[1] == 1
    places = [float(of(theta)[names[0]]) if alone else i for i, theta in enumerate(visited.theta, 1)]
    found = sorted(
        p for p in zip(places, (run.loss.scale * visited.value).tolist(), strict=True) if math.isfinite(p[1])
    )
    ax.plot(*zip(*found, strict=True), color=COLOURS[0], marker=".", label="loss")
    ax.set(title="all that was compared")
    _finish(ax, names[0] if alone else "number")


def _finish(ax: Axes, label: str = "cost") -> None:
    low, high = ax.dataLim.intervalx
    ax.set(xlabel=label, xscale="log" if high > 10 * low > 0 else "linear")
    plain(ax)
    ax.grid(color="#dddddd", linewidth=0.5)
    ax.spines[["top", "right"]].set_visible(False)
    for words in ax.legend(frameon=False, fontsize=8).get_texts():
        words.set_parse_math(False)


def steps_table(lines: Sequence[dict[str, Any]]) -> str:
    """Every step's numbers, folded away."""
    heads = ("step", "accepted", "loss", "low", "high", "certificate", "eps", "step_size", "cost")
    rows = "".join("<tr>" + "".join(f"<td>{_cell(line[name])}</td>" for name in heads) + "</tr>" for line in lines)
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in heads)
    return (f'<details><summary>All {len(lines) - 1} steps</summary><div class="scroll"><table><thead><tr>{head}</tr>'
            f"</thead><tbody>{rows}</tbody></table></div></details>")  # fmt: skip


def _cell(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:.5g}"


def _number(value: float | dict[str, float]) -> float:
    return value if isinstance(value, float) else value["norm"]


def _text(value: float | dict[str, float]) -> str:
    return f"{value:.5g}" if isinstance(value, float) else f"norm {value['norm']:.5g}"


def _pretty(settings: dict[str, Any]) -> str:
    return escape(json.dumps(settings, indent=2, ensure_ascii=False))
