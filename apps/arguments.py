"""Parsing: jsonargparse with one-line errors and safely loaded YAML."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ..datasets.errors import InputError
from .cli import UsageError


def new_parser(verb: str, about: str) -> ArgumentParser:
    """A parser that raises instead of exiting and knows ``--config``."""
    return ArgumentParser(prog=f"resolvent {verb}", description=about, exit_on_error=False)


def parse(parser: ArgumentParser, argv: list[str]) -> Namespace:
    """Parse, or raise :class:`UsageError` in one line."""
    try:
        return parser.parse_args(argv)
    except (ArgumentError, TypeError, ValueError) as error:
        raise UsageError(brief(error)) from error
    except SystemExit:
        sys.stdout.flush()
        raise


def plain(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """A configuration as plain values, those that are None among them: a constructor may default to others."""
    return json.loads(parser.dump(config, format="json", skip_unset=False))


def instantiate(parser: ArgumentParser, config: Namespace) -> Namespace:
    """Build the objects a configuration names; what their constructors refuse is a usage error, but for files.

    :raises InputError: if a file that a constructor reads cannot be used.
    """
    from ..priors.weights_file import WeightsError  # heavy, and not every verb makes objects

    try:
        return parser.instantiate(config)
    except (ArgumentError, TypeError, ValueError) as error:
        for cause in causes(error):
            if isinstance(cause, InputError | WeightsError):
                raise InputError(str(cause)) from error
        raise UsageError(brief(error)) from error


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def brief(error: Any) -> str:
    """A parser's message in one line: the dotted key, what was found, what was expected."""
    message = str(error)
    own = re.search(r"[^\n]*found .+, expected .+", message)
    if own:
        return own.group(0).strip(" -")
    key = "--" + ".".join(re.findall(r'[Pp]arser key "([^"]+)"', message))
    refused = re.search(r"class_path '([^']+)':\s+Option '([^']+)' is not accepted", message)
    if refused:
        return f"{key}: found {refused.group(2)!r}, expected an argument of {refused.group(1)}"
    refused = re.search(r"Option '([^']+)' is not accepted\. Got value: Namespace\(class_path='([^']+)'", message)
    if refused:
        return f"{key}: found {refused.group(1)!r}, expected an argument of {refused.group(2)}"
    missing = re.search(r"the following arguments are required: ([^\n]+)", message)
    owner = re.search(r"class_path[= ]'([^']+)'", message)
    if missing and owner:
        return f"{key}: found no {missing.group(1)}, expected with {owner.group(1)}"
    name = re.search(r"Expected a dot import path string: (\S+)", message)
    if name:
        return f"{key}: found {name.group(1)!r}, expected the name of a class"
    kind = re.search(r"Expected an? (?!<class 'NoneType'>)(?:<class '(\w+)'>|typing\.)?([^.\n]*)", message)
    value = re.search(r"(?:Got|Given) value: (?!NestedArg|Namespace)(.+?)(?:\. |\n|$)", message) or re.search(
        r"val='([^']*)'", message
    )
    if kind and value:
        return f"{key}: found {value.group(1)!r}, expected {kind.group(1) or kind.group(2)}"
    return " ".join(message.split())[:300]
