"""``resolvent report RESULT…``: one HTML page from one result, or from several side by side.

The page stands alone: pictures, volumes, style and script are inside it, and nothing is fetched.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..datasets import Result

#: The longest path of a file on Linux.
PATH_MAX = 4096


def write_report(results: Sequence[Result], names: Sequence[str], path: Path) -> None:
    """Write the report of ``results``, called ``names``, as one HTML file, whole or not at all.

    :raises InputError: if there is nothing to report, or the place cannot be written.
    """
    from ..datasets import InputError
    from .document import refuse_other, write_document
    from .report_page import page

    if not results or len(results) != len(names):
        raise InputError(f"{path}: found {len(results)} results and {len(names)} names, expected one name for each")
    refuse_other(path)
    write_document(path, page(results, names))


def main(argv: list[str]) -> int:
    """Run the verb."""
    from ..datasets import load_result
    from .arguments import new_parser, parse

    parser = new_parser("report", "An HTML report from one result file, or from several compared side by side.")
    parser.add_argument("results", nargs="+", help="result files")
    parser.add_argument("--out", type=str | None, help="page to write; beside the first result if not given")
    config = parse(parser, argv)
    sources = [Path(name) for name in config.results]
    out = Path(config.out) if config.out else default_path(sources)
    check_place(out, sources)
    write_report([load_result(source) for source in sources], distinct_names(sources), out)
    print(f"report: {out}")
    return 0


def default_path(sources: Sequence[Path]) -> Path:
    """Beside the first result: under its name, or ``comparison.html`` for several."""
    return sources[0].with_suffix(".html") if len(sources) == 1 else sources[0].with_name("comparison.html")


def check_place(out: Path, sources: Sequence[Path]) -> None:
    """Refuse to write over a folder or over what is reported, or another kind of file."""
    from ..datasets import InputError
    from .arguments import keep_apart
    from .cli import UsageError

    if out.is_dir():
        raise InputError(f"{out}: found a folder, expected the name of an HTML file")
    keep_apart(out, sources)
    if out.suffix.lower() not in ("", ".html", ".htm"):
        raise UsageError(f"--out: found {out}, expected the name of an HTML file; `resolvent export` makes pictures")


def distinct_names(sources: Sequence[Path]) -> list[str]:
    """File stems, or paths from the folder that all share where two stems are the same."""
    from ..datasets import printable

    count = Counter(source.stem for source in sources)
    shared = os.path.commonpath([source.absolute().parent for source in sources])
    return [
        printable(source.stem if count[source.stem] == 1 else os.path.relpath(source, shared), longest=PATH_MAX)
        for source in sources
    ]
