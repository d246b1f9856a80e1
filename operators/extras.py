"""Optional libraries: imported where they are used, with one clear line where they are absent."""

from __future__ import annotations

import importlib
from types import ModuleType


class MissingExtra(ModuleNotFoundError):
    """An optional library is absent; the message names it and the extra that brings it, in one line."""


def require(module: str, extra: str) -> ModuleType:
    """The module, which ``pip install 'resolvent[extra]'`` brings.

    :raises MissingExtra: if the library is absent.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        message = f"{error.name}: found no such library, expected it installed: pip install 'resolvent[{extra}]'"
        raise MissingExtra(message, name=error.name) from None
