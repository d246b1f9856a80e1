"""Parsing: jsonargparse with one-line errors and safely loaded YAML."""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import itertools
import json
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from ..datasets.errors import InputError
from ..operators.files import first_line
from .cli import UsageError

# Hundreds of classes are below torch's Module; one search for a name among them serves the whole command line.
_typehints = getattr(jsonargparse, "_typehints", None)
if hasattr(_typehints, "get_all_subclass_paths"):
    _typehints.get_all_subclass_paths = functools.cache(_typehints.get_all_subclass_paths)

# What a value names is imported; modules that run other programs, such as os, are refused.
jsonargparse.set_parsing_settings(import_path_denylist=[])
SWITCHES, TRUTHS = (bool, bool | None), ("true", "false", "yes", "no", "null")

_load = jsonargparse.get_loader("yaml")
# An argument of a class within a class is handed on as text, in which null has become None.
jsonargparse.set_loader("yaml", lambda text: None if text == "None" else _load(text), (yaml.YAMLError,))


def new_parser(verb: str, about: str) -> ArgumentParser:
    """A parser that raises instead of exiting and knows ``--config``."""
    parser = ArgumentParser(prog=f"resolvent {verb}", description=about, exit_on_error=False)
    parser._negative_number_matcher = re.compile(r"-\.?\d")  # those with exponents, and lists, too
    return parser


def parse(parser: ArgumentParser, argv: list[str]) -> Namespace:
    """Parse, or raise :class:`UsageError` in one line."""
    try:
        refuse_aliases(argv)
        config = parser.parse_args(with_truth(parser, classes_first(with_classes(configurations_first(argv)))))
    except UnicodeError as error:
        raise UsageError(f"--config: found a file that is no text ({error}), expected YAML") from error
    except (ArgumentError, TypeError, ValueError) as error:
        raise UsageError(of_no_class(brief(error), argv)) from error
    except SystemExit:
        sys.stdout.flush()
        raise
    if config.get("files") == []:
        config.files = list(listed_files(argv))
    for name, value in vars(config.as_flat()).items():
        check_value(name, value)
    for name, value in vars(config).items():
        if value == "" != parser.get_default(name):
            raise UsageError(f"--{name}: found '', expected a value")
    return config


def configuration_files(argv: list[str]) -> Iterator[str]:
    """What a command line names by ``--config``."""
    words = [word for argument in argv for word in argument.split("=", 1)]
    return (value for option, value in itertools.pairwise(words) if option == "--config")


def configurations_first(argv: list[str]) -> list[str]:
    """A command line whose configuration files come first: a parser lets what is later win, here the line itself."""
    first, rest, words = [], [], iter(argv)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == "--config":
            first += [word, *itertools.islice(words, 1)]
        else:
            (first if word.startswith("--config=") else rest).append(word)
    return first + rest


def classes_first(argv: list[str]) -> list[str]:
    """A command line on which every class, ``--a X``, comes before what is said to it, ``--a.b 1``."""
    words = list(argv)
    for i, word in enumerate(itertools.takewhile(lambda word: word != "--", argv)):
        option = word.split("=")[0]
        before = next((j for j, w in enumerate(words[:i]) if w.startswith(f"{option}.")), i)
        if option.startswith("--") and before < i and option not in {w.split("=")[0] for w in words[:before]}:
            end = i + (1 if "=" in word else 2)
            words[before:end] = words[i:end] + words[before:i]
    return words


def listed_files(argv: list[str]) -> Iterator[str]:
    """``files`` of the configuration files, as ``--print_config`` writes them; a parser takes its line's alone."""
    for name in configuration_files(argv):
        with contextlib.suppress(OSError, UnicodeError, yaml.YAMLError):
            found = yaml.safe_load(Path(name).read_text())
            listed = found.get("files") if isinstance(found, dict) else None
            yield from (file for file in (listed if isinstance(listed, list) else []) if isinstance(file, str))


def with_classes(argv: list[str]) -> list[str]:
    """A command line whose configuration files, where need be, are written out, each class with its arguments.

    The parser takes a class, or arguments by dots, but of both in one file it loses one.
    """
    written = list(argv)
    for name in configuration_files(argv):
        with contextlib.suppress(OSError, UnicodeError, yaml.YAMLError):
            found = yaml.safe_load(Path(name).read_text())
            if isinstance(found, dict) and (joined := joined_classes(found)) != found:
                text = yaml.safe_dump(joined, sort_keys=False)
                written = [text if w == name else f"--config={text}" if w == f"--config={name}" else w for w in written]
    return written


def with_truth(parser: ArgumentParser, argv: list[str]) -> list[str]:
    """A command line on which options of true or false that stand alone are true."""
    switches = {n for a in parser._actions if getattr(a, "_typehint", None) in SWITCHES for n in a.option_strings}
    said = []
    for word, following in itertools.pairwise([*argv, ""]):
        said += [word, "true"] if word in switches and following.lower() not in TRUTHS else [word]
    return said


def joined_classes(settings: dict[str, Any]) -> dict[str, Any]:
    """``{X: Class, X.a: 1}`` as ``{X: {class_path: Class, init_args: {a: 1}}}``, likewise of classes within."""
    joined = {}
    for key, value in settings.items():
        inner = {k.removeprefix(f"{key}."): v for k, v in settings.items() if str(k).startswith(f"{key}.")}
        if any(str(key).startswith(f"{k}.") and isinstance(v, str) for k, v in settings.items()):
            continue
        named = isinstance(value, str) and inner
        joined[key] = {"class_path": value, "init_args": joined_classes(inner)} if named else value
    return joined


def refuse_aliases(argv: list[str]) -> None:
    """Refuse YAML that refers to itself: a few lines of that can stand for billions.

    :raises UsageError: naming the file.
    """
    for name in configuration_files(argv):
        with contextlib.suppress(OSError, UnicodeError, yaml.YAMLError):
            text = Path(name).read_text()
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
                raise UsageError(f"--config: found an alias (*name) in {name}, expected values written out")


def plain(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """A configuration as plain values, those that are None among them: a constructor may default to others.

    What has none, such as a function, is named without its address, which no two processes share.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*[Uu]nable to serialize")
        dumped = parser.dump(config, format="json", skip_unset=False)
    return json.loads(re.sub(r" at 0x[0-9a-f]+>", ">", dumped))


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


def check_value(name: str, value: Any) -> None:
    """Refuse what no option of this name can be.

    :raises UsageError: naming it.
    """
    if name == "checkpoint_every" and not value >= 0:
        raise UsageError(f"--{name}: found {value:g}, expected seconds, not below 0")
    if name.rpartition(".")[2] == "seed" and isinstance(value, int):
        check_seed(value)


def check_seed(seed: int) -> None:
    """Refuse what no generator can begin from.

    :raises UsageError: naming it.
    """
    if not -(2**63) <= seed < 2**64:
        raise UsageError(f"--seed: found {seed}, expected an integer of 64 bits")


def keep_apart(out: str | os.PathLike[str], sources: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse to write over what is read.

    :raises InputError: naming the place.
    """
    if _whole(out) in [_whole(source) for source in sources]:
        raise InputError(f"{out}: found one of the files that are read, expected another --out")


def _whole(path: str | os.PathLike[str]) -> Path:
    """The place of a file; of BART's header that of its data."""
    place = Path(path).resolve()
    return place.with_suffix(".cfl") if place.suffix == ".hdr" else place


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def brief(error: Any) -> str:
    """A parser's message in one line: the dotted key, what was found, what was expected."""
    message = str(error)
    own = re.search(r"[^\n]*(found|is) .+, expected .+", message)
    if own:
        return own.group(0).strip(" -")
    key = "--" + ".".join(re.findall(r'[Pp]arser key "([^"]+)"', message))
    for pattern, sentence in SENTENCES:
        found = re.search(pattern, message)
        if found:
            return sentence.format(*found.groups(), key=key)
    given = re.search(r"(?:Got|Given) value: (?!NestedArg|Namespace|\{)(.+?)(?:\. |\n|$)", message) or re.search(
        r"val='([^']*)'", message
    )
    expected = _kinds(message)
    if given and expected:
        return (
            f"{key}: found {given.group(1)!r}, expected {expected}{_weights(given.group(1))}{_failing(given.group(1))}"
        )
    name = re.search(r"Expected a dot import path string: (\S+)", message)
    if name:
        return f"{key}: found {name.group(1)!r}, expected one of the classes that --help lists"
    return " ".join(message.split())[:300]


def of_no_class(message: str, argv: list[str]) -> str:
    """``message``, if it is not that an option was given to a class before the class itself."""
    told = re.match(r"(--[\w.]+): found '([^']*)', (expected .+)", message)
    words = [part for word in argv for part in word.split("=", 1)]
    if told is None or told[1] in words:
        return message
    given = [option for option, value in itertools.pairwise(words) if value == told[2]]
    inner = next((option for option in given if option.startswith(f"{told[1]}.")), None)
    return message if inner is None else f"{inner}: found no {told[1]} beside it, {told[3]}"


#: What a parser says, and how it is said here.
SENTENCES = (
    (r"class_path '([^']+)':\s+Option '([^']+)' is not accepted", "{key}: found {1!r}, expected an argument of {0}"),
    (
        r"Option '([^']+)' is not accepted\. Got value: Namespace\(class_path='([^']+)'",
        "{key}: found {0!r}, expected an argument of {1}",
    ),
    (r"^Option '([^']+)' is not accepted", "--{0}: found in a configuration, expected options that --help lists"),
    (
        r"class_path[= ]'([^']+)':\s+the following arguments are required: ([^\n]+)",
        "{key}: found no {1}, expected with {0}",
    ),
    (
        r"callable class: the following arguments are required: ([^\n]+)(?:.|\n)*class_path='([^']+)'",
        "{key}: found no {0}, expected with {1}",
    ),
    (r"^the following arguments are required: ([^\n]+)", "{0}: found none, expected one"),
    (r"^unrecognized arguments: (\S+)", "{0}: found no option of this name, expected one that --help lists"),
    (r"^argument (\S+): expected (.+)", "{0}: found none, expected {1}"),
    (r"(?:File does not exist|Path is not a file): '([^']+)'", "{key}: found no file {0!r}, expected one"),
    (r"Importing '([^']+)' is not allowed", "{key}: found {0!r}, expected a class of this package or of your own"),
    (
        r"Not a valid subclass of \w+\. Got value: ([-+.\w]+)\n",
        "{key}: found {0}, expected one of the classes that --help lists",
    ),
    (r"^Problems parsing config: ([^\n]+)", "--config: found no YAML ({0}), expected options and their values"),
    (r"^Unexpected config:", "--config: found no options in it, expected them with their values"),
)


def _weights(value: str) -> str:
    """What a value that is nearly the name of trained weights, or one in the wrong place, may have meant."""
    from ..priors.weights_file import SUFFIX, shipped

    inside = Path(value) / f"weights{SUFFIX}"
    near = [str(inside)] if inside.is_file() else difflib.get_close_matches(value, shipped())
    if value in near or value.endswith(SUFFIX):
        return f"; weights are what a class takes: --prior Denoiser --prior.denoiser {value}"
    return f", or the weights {near[0]}" if near else ""


def _failing(name: str) -> str:
    """Why a module of one's own that a name leads to cannot be imported, if it is there."""
    module = name.rpartition(".")[0]
    if not module or not all(part.isidentifier() for part in name.split(".")):
        return ""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return "" if error.name in (module, module.partition(".")[0]) else f"; importing {module}: {first_line(error)}"
    except Exception as error:
        return f"; importing {module}: {type(error).__name__}, {first_line(error)}"
    return ""


def _kinds(message: str) -> str:
    """The types that a parser expected of a value, innermost; of a class the names that there are."""
    unions = re.findall(r"Subtypes: \[(.+)\]", message)
    one = re.findall(r"Expected an? (.+?)(?:\. |\n|$)", message)
    nested = re.search(r'key "[^"]+":\s+Expected a', message)
    found = unions[-1] if unions and not nested else next(iter(one), "")
    if found.startswith("dot import path"):
        return "the name of a class"
    kinds = re.findall(r"<class '([\w.]+)'>|Literal\[([^\]]+)\]|\], ([\w.]+)\]|\b(list|dict)\[", found)
    named = [_kind("".join(kind)) for kind in kinds if kind[0] != "NoneType"]
    return " or ".join(dict.fromkeys(named)) or found


def _kind(name: str) -> str:
    """A type as a person would write it: a class of this package by those that can be chosen for it."""
    if name == "list":
        return "a list such as [a, b]"
    module, _, kind = name.rpartition(".")
    if not module.startswith(__package__.partition(".")[0]):
        return kind
    chosen = sorted(_public(getattr(sys.modules[module], kind)))
    return f"one of {', '.join(chosen)}" if chosen else kind


def _public(base: type) -> set[str]:
    """Names of the classes below ``base`` in this package that can be chosen."""
    below = {child for child in base.__subclasses__() if child.__module__.startswith(__package__.partition(".")[0])}
    own = {child.__name__ for child in below if not inspect.isabstract(child) and _exported(child)}
    return own.union(*map(_public, below))


def _exported(kind: type) -> bool:
    """Whether the package of its module has it too."""
    return getattr(sys.modules[kind.__module__.rpartition(".")[0]], kind.__name__, None) is kind
