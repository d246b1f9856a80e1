"""An HTML page that stands alone: nothing is fetched, and nothing but its own style and script acts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path

from ..datasets import InputError
from ..datasets.hdf5 import begins
from ..operators.files import atomic

#: By which a page of ours is known.
GENERATOR = '<meta name="generator" content="resolvent">'


def write_document(path: Path, html: str) -> None:
    """Write a page, whole or not at all.

    :raises InputError: if the place cannot be written, or another's file is there.
    """
    refuse_other(path)
    try:
        with atomic(path) as partial:
            partial.write_text(html, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}), expected a new HTML file") from error


def refuse_other(path: Path) -> None:
    """Refuse to write over a file that is no page of ours.

    :raises InputError: naming it.
    """
    if path.is_file() and GENERATOR.encode() not in begins(path):
        raise InputError(f"{path}: found a file that is no report, expected another name")


def document(heading: str, sections: Mapping[str, str]) -> str:
    """Head, navigation and sections; only this page's own style and script are allowed to act."""
    style, script = asset("report.css"), asset("viewer.js")
    policy = f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    links = "".join(f'<li><a href="#{_anchor(name)}">{escape(name)}</a></li>' for name in sections)
    body = "".join(
        f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>{text}</section>\n' for name, text in sections.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
{GENERATOR}
<title>{escape(heading)}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{escape(heading)}</h1><nav aria-label="Sections"><ul>{links}</ul></nav></header>
<main>
{body}</main>
<script>{script}</script>
</body>
</html>
"""


def asset(name: str) -> str:
    """A file that lies beside this module."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _anchor(name: str) -> str:
    return "section-" + name.lower().replace(" ", "-")
