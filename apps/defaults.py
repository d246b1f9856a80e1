"""What a command line leaves unsaid: the method of the modality of its first measurement file.

``presets/OPERATOR.yaml`` is an operator's method, ``presets/trained/OPERATOR.yaml`` the one for a trained denoiser,
which ``--prior`` then names alone.
"""

from __future__ import annotations

import contextlib
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from .. import operators
from ..datasets import InputError
from ..datasets.hdf5 import reading, text
from ..operators.around import Around
from ..priors import Network
from ..priors.weights_file import SUFFIX, architectures, read_description, shipped
from .arguments import configuration_files, listed_files
from .cli import UsageError

PRESETS = Path(str(files(__package__) / "presets"))


def understood(argv: list[str]) -> tuple[list[str], dict[str, Any]]:
    """The command line as a parser takes it, and that parser's defaults.

    ``--prior`` with the name or file of trained weights leaves the line: its method is then the default.

    :raises UsageError: if the modality has no method for trained weights.
    """
    operator = first_modality(argv)
    argv, weights = without_weights(argv)
    known, chosen = weights is not None and operator is not None, chosen_values(argv)
    preset = with_denoiser(trained_preset(operator, weights), weights) if known else preset_of(operator or "default")
    if known and "solver" not in chosen:
        refuse_one_level(weights, preset)
    if "prior" in chosen and is_of_class(chosen["prior"], preset.get("prior")):
        del chosen["prior"]  # to name what is the default anyway changes nothing
    own = {"least_strength", "strength_growth"} if "prior" in chosen else set()
    return argv, {k: v for k, v in preset.items() if k not in chosen.keys() | own}


def refuse_one_level(weights: str, method: dict[str, Any]) -> None:
    """Refuse weights trained for one noise level for a method that goes through many.

    :raises UsageError: saying which.
    """
    noise: dict[str, Any] = {}
    ignores = False
    with contextlib.suppress(ValueError, KeyError, TypeError):
        description = read_description(weights)
        ignores = architectures(Network)[description["architecture"]].one_level
        noise = dict(description["config"]["noise"]["init_args"])
    low = noise.get("low", noise.get("sigma"))
    one = ignores or (low is not None and low == noise.get("high", low))
    if method["prior"]["init_args"].get("sigma", 0) is None and one:
        solver = method["solver"]["class_path"].rpartition(".")[2]
        raise UsageError(
            f"--prior: found {weights!r}, made for noise of one strength, expected weights for all the levels that "
            f"{solver} goes through, such as image-denoiser, or a --solver and --solver.step_size beside it"
        )


def is_of_class(value: Any, default: Any) -> bool:
    """Whether a setting names the class of the default one, with its module or without."""
    named, own = (v.get("class_path") if isinstance(v, dict) else v for v in (value, default))
    return own is not None and named in (own, own.rpartition(".")[2])


def without_weights(argv: list[str]) -> tuple[list[str], str | None]:
    """The command line less ``--prior WEIGHTS``, and these."""
    for i, argument in enumerate(argv):
        option, joined, value = argument.partition("=")
        end = i + (1 if joined else 2)
        value = value if joined else "".join(argv[i + 1 : end])
        if option == "--prior" and (value in shipped() or value.endswith(SUFFIX)):
            return argv[:i] + argv[end:], value
    return argv, None


def chosen_values(argv: list[str]) -> dict[str, Any]:
    """Top-level options given whole on the command line or in the configuration files that it names.

    A solver chosen by name thus has its own defaults, not those meant for another one; arguments without a class
    join the default's.
    """
    chosen: dict[str, Any] = {}
    for name in configuration_files(argv):
        with contextlib.suppress(OSError, UnicodeError, yaml.YAMLError):
            found = yaml.safe_load(Path(name).read_text())
            chosen |= {k: v for k, v in found.items() if not _arguments(v)} if isinstance(found, dict) else {}
    words = [word for argument in argv for word in argument.split("=", 1)]
    return chosen | {w.removeprefix("--"): value for w, value in pairwise([*words, ""]) if w.startswith("--")}


def _arguments(value: Any) -> bool:
    """Whether a value of a configuration is arguments of a class named elsewhere."""
    return isinstance(value, dict) and "class_path" not in value


def first_modality(argv: list[str]) -> str | None:
    """The operator of the first measurement file on the command line, or in its ``--config``, that can be read."""
    options, files = argv, []
    if "--" in argv:
        options, files = argv[: argv.index("--")], argv[argv.index("--") + 1 :]
    for argument in [a for a in options if not a.startswith("-")] + files + list(listed_files(argv)):
        with contextlib.suppress(InputError, KeyError):
            if Path(argument).is_file():
                return modality(Path(argument))
    return None


def modality(path: Path) -> str:
    """Name of the innermost operator in a measurement file."""
    with reading(path) as file:
        group = file["physics"]
        while _is_around(name := text(group.attrs["operator"])):
            group = group["physics"]
        return name


def _is_around(operator: str) -> bool:
    """Whether an operator is around another one, whose method is then its."""
    kind = getattr(operators, operator, None)
    return isinstance(kind, type) and issubclass(kind, Around)


def preset_of(operator: str) -> dict[str, Any]:
    """An operator's default reconstruction; the general one where it has none."""
    own = preset_path(operator)
    return yaml.safe_load((own if own.exists() else preset_path("default")).read_text())


def trained_preset(operator: str, weights: str) -> dict[str, Any]:
    """An operator's reconstruction with a denoiser, which is None in it.

    :raises UsageError: if there is none.
    """
    own = preset_path(operator, PRESETS / "trained")
    if not own.exists():
        raise UsageError(
            f"--prior: found weights, {weights!r}, for which {operator} has no method; expected a class: "
            f"{method_with(weights, operator)}, for weights of many levels and images in the units that they were "
            "trained in"
        )
    return yaml.safe_load(own.read_text())


def method_with(weights: str, operator: str) -> str:
    """Options that reconstruct with a denoiser: of complex images by a sampler, if it denoises both parts at once."""
    lifted, channels = getattr(getattr(operators, operator, None), "complex_data", False), None
    with contextlib.suppress(ValueError, KeyError, TypeError):
        channels = read_description(weights)["arguments"]["channels"]
    if lifted and channels == 2:
        return f"--prior DenoiserDiffusion --prior.denoiser {weights} --solver Flower"
    outer, inner = ("--prior Magnitude ", "--prior.prior") if lifted else ("", "--prior")
    return f"{outer}{inner} Denoiser {inner}.denoiser {weights} {inner}.sigma null --solver HalfQuadratic"


def with_denoiser(method: Any, weights: str) -> Any:
    """``method`` with ``weights`` for every ``denoiser``."""
    if not isinstance(method, dict):
        return method
    return {k: weights if k == "denoiser" else with_denoiser(v, weights) for k, v in method.items()}


def preset_path(operator: str, folder: Path = PRESETS) -> Path:
    """Where an operator's preset is, or would be."""
    snake = "".join("_" + c.lower() if c.isupper() and (i and not operator[i - 1].isupper()) else c.lower()
                    for i, c in enumerate(operator))  # fmt: skip
    return folder / f"{snake}.yaml"
