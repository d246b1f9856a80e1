"""``resolvent datasets [NAME…]``: public data sets, and getting them."""

from __future__ import annotations

import json

from ..datasets import registry
from .arguments import new_parser, parse


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = new_parser("datasets", "List public data sets; of those named, get the files and print their paths.")
    parser.add_argument("names", nargs="*", help="sets to get; all are listed if none is named")
    parser.add_argument("--folder", type=str | None, help="where downloads are kept; the user's cache if not given")
    parser.add_argument("--json", type=bool, default=False, help="one JSON object per set")
    config = parse(parser, argv)
    for name in config.names:
        paths = [str(path) for path in registry.fetch(name, config.folder)]
        print(json.dumps({"name": name, "files": paths}) if config.json else "\n".join(paths))
    if not config.names:
        for row in registry.known_sets().values():
            facts = {"name": row.name, "about": row.about, "origin": row.origin, "licence": row.licence,
                     "files": len(row.files), "bytes": row.size,
                     "download": all(file.url is not None for file in row.files)}  # fmt: skip
            print(json.dumps(facts) if config.json else _line(facts))
    return 0


def _line(facts: dict) -> str:
    where = "" if facts["download"] else ", by hand"
    size = f"{facts['files']} files, {facts['bytes'] / 1e6:.1f} MB{where}"
    return f"{facts['name']:<22}{facts['about']}\n{'':<22}{size}; {facts['licence']}; {facts['origin']}"
