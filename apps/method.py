"""Which method a command line, configuration files and the modality's preset come to."""

from __future__ import annotations

import contextlib
import copy
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, cast

import torch
from jsonargparse import ArgumentParser, Namespace

from ..datasets import InputError
from ..operators.norm import TINY, norms
from ..operators.substitute import substitute
from ..operators.tensor_file import load_tensors
from ..priors import Prior
from ..priors.weights_file import SUFFIX
from ..recon import Problem, Solver
from ..recon.bilevel import Parameters
from ..recon.problem import per_image
from .arguments import brief, instantiate, plain
from .cli import UsageError

AnyPrior = TypeVar("AnyPrior", bound=Prior)

#: What of the command line determines an image; kept in the result and hashed into its fingerprint.
SETTINGS = (
    "prior",
    "solver",
    "parameters",
    "strength",
    "least_strength",
    "strength_growth",
    "seed",
    "record",
    "samples",
)

#: What an import path looks like, and ends of names that are files.
IMPORTABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
FILES = (".h5", SUFFIX)


def add_method_options(parser: ArgumentParser) -> None:
    """The options that say how images are reconstructed."""
    add = parser.add_argument
    add(
        "--config",
        action="config",
        help="YAML with any of these options; may be given several times, later wins, and options over all",
    )
    add(
        "--prior",
        type=Prior | None,
        help="prior class and its arguments (--prior L1 --prior.weight 2), or trained weights (--prior image-denoiser)",
    )
    add("--solver", type=Callable[[Prior], Solver] | None, help="solver class and its arguments")
    add("--parameters", type=str | None, help="file of tensors that the prior takes on, as 'resolvent tune' writes it")
    add(
        "--strength",
        type=float | Literal["universal"],
        default="universal",
        help="multiplies the prior's weight: 'universal' (from the noise) or a fraction of what leaves nothing",
    )
    add(
        "--least_strength",
        type=float,
        default=0.0,
        help="a fraction of what leaves nothing, below which 'universal' does not fall, however little noise there is",
    )
    add(
        "--strength_growth",
        type=float,
        default=0.0,
        help="how much faster than the noise 'universal' grows: the power of the noise's share of the data in it",
    )
    add("--device", type=str, default="auto", help="auto, cpu, cuda or cuda:N")
    add("--seed", type=int, default=0, help="seed of whatever is random in the method")
    add("--record", type=list[Literal["objective", "data_residual"]], default=[], help="measures for the history")


def settings_of(parser: ArgumentParser, config: Namespace) -> dict[str, Any]:
    """The part of the configuration that determines the image, as plain values."""
    return {k: v for k, v in plain(parser, config).items() if k in SETTINGS}


def choose(parser: ArgumentParser, settings: dict[str, Any]) -> tuple[Callable[[Prior | None], Solver], Prior | None]:
    """The solver class with its arguments, and the prior; refuses what their constructors refuse.

    :raises UsageError: if the settings do not make a solver.
    :raises InputError: if there is no file of tensors where one is named.
    """
    refuse_no_solver(settings)
    chosen = instantiate(parser, parser.parse_object({"files": [], **copy.deepcopy(settings)}))
    if chosen.solver is None:
        raise UsageError("--solver: found none, and this modality has no default; expected a solver")
    strength = settings["strength"]
    if strength != "universal" and not 0 <= strength < float("inf"):
        raise UsageError(f"--strength: found {strength}, expected 'universal' or a finite number not below 0")
    least = settings.get("least_strength", 0.0)
    if not 0 <= least < 1:
        raise UsageError(f"--least_strength: found {least}, expected a number from 0 to below 1")
    growth = settings.get("strength_growth", 0.0)
    if not 0 <= growth <= 1:
        raise UsageError(f"--strength_growth: found {growth}, expected a number from 0 to 1")
    try:
        prior = with_tensors(chosen.prior, settings.get("parameters"))
        chosen.solver(prior)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise UsageError(brief(error)) from error
    return chosen.solver, prior


def refuse_strangers(path: object, settings: Any, trusted: Sequence[str] = ()) -> None:
    """Refuse settings out of a file that name a class or a function of another package: to make it is to run it.

    :param trusted: packages that may be named besides this one.
    :raises InputError: naming the first.
    """
    own = __package__.partition(".")[0]
    if isinstance(settings, dict | list):
        for part in settings.values() if isinstance(settings, dict) else settings:
            refuse_strangers(path, part, trusted)
    elif isinstance(settings, str) and IMPORTABLE.fullmatch(settings) and not settings.endswith(FILES):
        package = settings.partition(".")[0]
        known = package in sys.modules or importlib.util.find_spec(package) is not None
        if package not in (own, *trusted) and known:
            asked = f"expected nothing but of {own}; --trust {package} runs it"
            raise InputError(f"{path}: its settings name {settings}, {asked}")


def refuse_no_solver(settings: dict[str, Any]) -> None:
    """Refuse what is called like a solver's class and is none, before it is called.

    :raises UsageError: naming it.
    """
    named = str((settings.get("solver") or {}).get("class_path", ""))
    module, _, kind = named.rpartition(".")
    found = getattr(importlib.import_module(module), kind, None) if module else None
    if named and not (isinstance(found, type) and issubclass(found, Solver)):
        raise UsageError(f"--solver: found {named}, expected a class of solvers")


def with_tensors(prior: Prior | None, path: str | None) -> Prior | None:
    """The prior with the tensors of a file in place of its own of those names.

    :raises InputError: if the file cannot be read.
    :raises ValueError: if it does not fit.
    """
    if path is None:
        return prior
    try:
        tensors, _ = load_tensors(path)
    except (OSError, ValueError) as error:
        reason = str(error).removesuffix(f": {path}")
        raise InputError(f"--parameters: found {path!r} ({reason}), expected a file of tensors") from error
    for name, tensor in tensors.items():
        own = Parameters({"prior": prior}, [name]).values()[name]
        if own.shape != tensor.shape:
            found, expected = tuple(tensor.shape), tuple(own.shape)
            raise ValueError(f"{path}: found {name} of shape {found}, expected {expected}")
        prior = cast(Prior, substitute(prior, name.partition(".")[2], tensor.to(own.dtype)))
    return prior


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What a method refuses of a file's data is a usage error, in one line."""
    try:
        yield
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        if isinstance(error, TypeError) and ", expected " not in str(error):
            raise
        raise UsageError(brief(error)) from error


def build_solver(
    parser: ArgumentParser, settings: dict[str, Any], problem: Problem, noise_std: float | None
) -> tuple[Solver, float | None]:
    """The solver with its prior at the right strength; the strength's largest value is returned too."""
    make, prior = choose(parser, settings)
    if prior is not None:
        prior = in_precision_of(prior, problem.y)
    solver = make(prior)
    if prior is None or not prior.weighted or not len(solver.priors):
        return solver, None
    strength = prior_strength(settings, solver, prior, problem, noise_std)
    return make(prior.scaled(strength)), float(torch.as_tensor(strength).max())


def in_precision_of(prior: AnyPrior, y: torch.Tensor) -> AnyPrior:
    """``prior`` on the device of ``y``, its real and its complex numbers as precise."""
    kinds = {True: y.dtype.to_complex(), False: y.dtype.to_real()}
    return prior._apply(
        lambda t: t.to(y.device, kinds[t.is_complex()] if t.is_complex() or t.is_floating_point() else t.dtype)
    )


def prior_strength(
    settings: Mapping[str, Any], solver: Solver, prior: Prior, problem: Problem, noise_std: float | None
) -> float | torch.Tensor:
    """What multiplies the prior's weight: a fraction of the solver's unit, or the noise's own threshold.

    A number for each image where they differ. The threshold is a map over the image where it varies; where the prior
    can have none, the largest of each image.
    """
    if settings["strength"] != "universal":
        unit = float(settings["strength"]) * solver.weight_unit(problem)
        mapped = isinstance(prior.weight, torch.Tensor) and prior.weight.ndim > 1
        return _as_number(per_image(unit, problem.back_projection) if mapped and unit.ndim else unit)
    threshold, least = solver.universal_weight(problem, noise_std), settings.get("least_strength")
    if threshold.ndim and (growth := settings.get("strength_growth")):
        threshold = threshold * per_image(share_of_noise(solver, problem, threshold) ** growth, threshold)
    if threshold.ndim and least:
        threshold = torch.maximum(threshold, least * leaving_nothing(solver, problem))
    if not prior.weight_over_image and threshold.ndim:
        threshold = threshold.flatten(1).amax(1)
    return _as_number(threshold)


def share_of_noise(solver: Solver, problem: Problem, threshold: torch.Tensor) -> torch.Tensor:
    """Norm of the noise that a universal threshold is made for, over that of each image's data."""
    level = (threshold / solver.universal_weight(problem, 1.0).clamp_min(TINY)).flatten(1).amax(1)
    return level * problem.samples.to(level).sqrt() / norms(problem.y).to(level).clamp_min(TINY)


def leaving_nothing(solver: Solver, problem: Problem) -> torch.Tensor:
    """The universal threshold of as much noise as makes a sparsity prior leave nothing of each image."""
    unit = solver.universal_weight(problem, 1.0)
    seen = unit > 0
    noise = torch.where(seen, problem.back_projection.abs() / torch.where(seen, unit, 1), 0).flatten(1).amax(1)
    return per_image(noise, unit) * unit


def _as_number(values: torch.Tensor) -> float | torch.Tensor:
    """A plain number, if all that are not 0 are the same and no image has nothing else."""
    seen = values[values > 0]
    each = values.reshape(len(values), -1) if values.ndim else values[None]
    same = len(seen) > 0 and bool((seen == seen[0]).all()) and bool((each > 0).any(-1).all())
    return float(seen[0]) if same else values
