"""What is wrong with a file, in one line: which file or key, what was found, what was expected."""

from __future__ import annotations

#: Longer messages, of files with absurdly long names inside, end in an ellipsis.
LONGEST = 600


class InputError(ValueError):
    """A file or value from outside that cannot be used; its message is one printable line."""

    def __init__(self, message: str):
        super().__init__(printable(message, LONGEST))


def printable(text: object, longest: int = 80) -> str:
    """``text`` on one line, with characters that steer a terminal escaped, at most ``longest`` of them."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text)[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
