"""What is wrong with a file, in one line: which file or key, what was found, what was expected."""

from __future__ import annotations


class InputError(ValueError):
    """A file or value from outside that cannot be used; its message is one line."""
