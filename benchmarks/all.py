"""Run every benchmark and put its table between its marks in the page of figures; the prose there stays.

python benchmarks/all.py [NAME …] [--out docs/benchmarks.md]
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
NAMES = (
    "near_field_operator",
    "overhead",
    "tv_deblurring",
    "operator_floors",
    "fused_cartesian",
    "kept_memory",
    "default_strengths",
    "mri_side_by_side",
    "mri_beside_deepinv",
    "deblurring_beside_deepinv",
    "mri_brain",
    "deblurring_protocol",
    "radar_table",
    "radar_phantoms",
    "gray_denoising",
    "learned_proximal",
    "flow_restoration",
    "posterior_calibration",
    "noise2score",
    "super_resolution",
    "unmixing",
    "low_light",
    "dehazing",
    "dehazing_disk",
    "active_mri",
    "bilevel_quadratic",
    "bilevel_tv",
    "bilevel_imaging",
    "bilevel_logistic",
    "tune_weights",
    "self_tuning",
)


def measure(name: str) -> str:
    """The table of one benchmark, measured in a process of its own."""
    # a script finds the helpers beside it only on the ordinary import path
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "table.md"
        subprocess.run([sys.executable, HERE / f"{name}.py", "--out", out], check=True, env=environment)
        return out.read_text(encoding="utf-8")


def insert(page: str, name: str, figures: str) -> str:
    """``page`` with ``figures`` between the marks of ``name``."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(page):
        raise SystemExit(f"{name}: found no marks in the page, expected {begin} … {end}")
    return pattern.sub(lambda _: f"{begin}\n{figures}\n{end}", page)


def main() -> None:
    """Measure one after the other; each table is written when it is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="benchmarks to run; all if none is named")
    parser.add_argument("--out", type=Path, default=HERE.parent / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    for name in arguments.names:
        figures = measure(name)
        page = arguments.out.read_text(encoding="utf-8")
        arguments.out.write_text(insert(page, name, figures), encoding="utf-8")


if __name__ == "__main__":
    main()
