"""Every example of README and docs is run, page by page, in an empty folder.

Python blocks of a page share their names; of the shell blocks the lines that call `resolvent` are run.
A block after the comment ``<!-- not run -->`` is left out.
"""

import inspect
import re
import shlex
from pathlib import Path

import pytest

from resolvent import operators
from resolvent.apps.cli import main
from resolvent.operators import Operator

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))) if p.exists()
]
BLOCK = re.compile(r"(<!-- not run -->\s*)?^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Language, first line number and text of the blocks of a page that are to be run."""
    text = page.read_text()
    for match in BLOCK.finditer(text):
        if not match[1]:
            yield match[2], text[: match.start(3)].count("\n"), match[3]


LONG = {"index.md"}  # reconstructs volumes of full size
MARKED = [pytest.param(p, marks=[pytest.mark.slow] if p.name in LONG else []) for p in PAGES]


@pytest.mark.parametrize("page", MARKED, ids=lambda p: str(p.relative_to(ROOT)))
def test_examples_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "example"}
    for language, line, text in blocks(page):
        if language == "python":
            exec(compile("\n" * line + text, page, "exec"), names)
        else:
            for command in text.replace("\\\n", " ").splitlines():
                if command.startswith("resolvent "):
                    assert main(shlex.split(command, comments=True)[1:]) == 0, f"{page.name}:{line}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    local = [t for t in targets if not re.match(r"[a-z]+:", t)]
    assert [t for t in local if not (page.parent / t).exists()] == []


STORED = [c for c in vars(operators).values() if isinstance(c, type) and issubclass(c, Operator) and c is not Operator]


@pytest.mark.parametrize("kind", STORED)
def test_the_format_of_files_describes_every_operator(kind):
    """By its name and the names of its arguments, so that other languages can write its measurements."""
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "measurement-format.md").read_text()))
    assert {kind.__name__, *inspect.signature(kind).parameters} - {"kwargs", "cache_dir"} <= described
