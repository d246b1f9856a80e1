"""``resolvent demo``: one synthetic scene at the paper's geometry, from simulation to report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ..datasets import InputError, load_measurement, load_result
from ..operators.files import atomic
from .arguments import new_parser, parse
from .reconstruct import main as reconstruct
from .report import write_report
from .report_drawing import compose, decibel_scale, png
from .report_page import pictures
from .report_views import decibels, projections
from .simulate_near_field import main as near_field

#: Name in the report and the options of ``resolvent reconstruct`` that make it.
METHODS: dict[str, list[str]] = {
    "back-projection": ["--solver", "BackProjection"],
    "L1": [],
    "TV on the magnitude": [
        "--solver", "ConstrainedADMM", "--solver.max_iter", "100", "--prior", "Normalised",
        "--prior.prior", "Magnitude", "--prior.prior.prior", "TV", "--prior.prior.prior.weight", "0.039",
        "--prior.prior.prior.iterations", "5", "--prior.prior.prior.outside", "zero",
    ],
}  # fmt: skip


#: The file that says that a folder is the demo's.
MARK = ".resolvent-demo"


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = new_parser("demo", "Simulate a scene, reconstruct it in three ways, write one comparison report.")
    parser.add_argument("--out", type=str, default="demo", help="folder for everything the demo makes")
    config = parse(parser, argv)
    began, out = time.perf_counter(), Path(config.out)
    source = out / "measurement.h5"
    claim(out)
    if not source.exists():
        near_field(str(source))
    results = {name: out / f"{name.lower().replace(' ', '-')}.h5" for name in METHODS}
    for name, target in results.items():
        options: list[Any] = [str(source), "--out", str(target), "--report", "false"]
        reconstruct(options + METHODS[name])
    page, images = out / "report.html", [load_result(path) for path in results.values()]
    write_report(images, list(results), page)
    shown = pictures(images, list(results), 0)
    rows = zip(*(projections(p, decibels(p.magnitude)) for p in shown), strict=True)
    with atomic(out / "comparison.png") as partial:
        partial.write_bytes(png(compose([list(r) for r in rows], decibel_scale(shown[0]), [p.name for p in shown])))
    scene = load_measurement(source).meta["scene"]
    print(f"\nscene: {scene}\nimages: {out}\nreport: {page.resolve()}\n{time.perf_counter() - began:.0f} s")
    return 0


def claim(out: Path) -> None:
    """Take a folder that is empty, new or the demo's already.

    :raises InputError: if it holds what is not the demo's.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: found a file, expected a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).exists():
        raise InputError(f"{out}: found files that are not the demo's, expected an empty folder or a new one")
    with atomic(out / MARK):
        pass
