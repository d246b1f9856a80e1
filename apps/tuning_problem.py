"""The bilevel problem of some measurement files: their reconstructions under the parameters that are tuned."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..datasets import InputError, Measurement, load_measurement
from ..operators.substitute import substitute
from ..priors import Prior
from ..recon import Problem, Solver
from ..recon.bilevel import (
    FixedPoint,
    Joint,
    Known,
    Parameters,
    Part,
    Reconstruction,
    UpperLevel,
    UpperLoss,
)
from ..recon.problem import norms
from ..recon.start import fitted
from .cli import UsageError
from .method import prior_strength

#: A solver's number is one to tune if halving it moves an image solved to ``PROBE`` by ``EFFECT``, of the image's norm.
PROBE, EFFECT = 1e-5, 1e-3
#: Steps of a solve of that.
MAX_PROBE = 10_000
#: Names of parameters that a refusal lists.
MOST_NAMED = 8


@dataclass(frozen=True)
class Scan:
    """A file, on the device and in double precision, and what multiplies the prior's weight for it."""

    path: Path
    measurement: Measurement
    strength: float | Tensor


@dataclass(frozen=True)
class Tuned:
    """What is tuned: a solver's prior, and the names of tensors of both.

    :param make: a solver of a prior.
    :param parameters: of the modules ``{"prior": prior, "solver": make(prior)}``.
    :param least_eigenvalue: ``lambda_min(A^H A)`` where it is known.
    """

    make: Callable[[Prior], Solver]
    prior: Prior
    parameters: Parameters
    least_eigenvalue: float

    @property
    def smooth(self) -> bool:
        """Whether the solver descends along gradients: then its images are minimisers with a certificate."""
        return self.make(self.prior).needs == "grad"

    def prior_at(self, theta: Tensor, strength: float | Tensor) -> Prior:
        """The prior of a file with the parameters ``theta``."""
        found = self.parameters.substituted(theta)["prior"]
        assert isinstance(found, Prior)
        return found.scaled(strength)

    def solver_at(self, theta: Tensor, strength: float | Tensor) -> Solver:
        """The solver of a file, with its own numbers and its prior those of ``theta``."""
        solver = self.make(self.prior_at(theta, strength))
        for name, value in self.parameters.scatter(theta).items():
            if name.startswith("solver."):
                solver = cast(Solver, substitute(solver, name.partition(".")[2], value))
        return solver


class ScaledReconstruction(Reconstruction):
    """A reconstruction whose prior's weight is multiplied by a strength of its own."""

    def __init__(self, tuned: Tuned, problem: Problem, strength: float | Tensor, least_eigenvalue: float):
        self.tuned, self.strength = tuned, strength
        super().__init__(problem, tuned.parameters.names, (), least_eigenvalue, fitted(problem))
        self.parameters = tuned.parameters

    def at(self, theta: Tensor) -> Problem:
        problem = super().at(theta)
        problem.priors = (self.tuned.prior_at(theta, self.strength),)
        return problem


def tuned_of(
    make: Callable[[Prior], Solver], prior: Prior | None, names: Sequence[str], device: str, least_eigenvalue: float
) -> Tuned:
    """The named tensors of the prior and the solver, numbers above 0 by their logarithm, others in units of their size.

    :raises UsageError: for a name that is not there, or of something without a derivative.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"--parameter: found {twice} twice, expected it once")
    if prior is None:
        raise UsageError("--prior: found none, expected the prior whose parameters are tuned")
    prior = prior.to(device, torch.float64).requires_grad_(False)
    modules = {"prior": prior, "solver": make(prior)}
    full = [_list_entry(prior, name) for name in names]
    known = sorted(numbers(prior, "prior")) + sorted(solver_numbers(modules["solver"]))
    try:
        values = Parameters(modules, full).values()
        _refuse_whole(names, known)
        logarithmic = [name for name, value in values.items() if value.ndim == 0 and bool(value > 0)]
        others = [name for name in full if name not in logarithmic]
        return Tuned(make, prior, Parameters(modules, full, logarithmic, others), least_eigenvalue)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--parameter: {error}; known are {_some(known, names)}") from error


def _some(known: Sequence[str], asked: Sequence[str]) -> str:
    """The names most like those asked for, and how many more there are; a network has hundreds."""
    alike = sorted(known, key=lambda n: -max(SequenceMatcher(None, n, a).ratio() for a in asked))
    more = f" and {len(known) - MOST_NAMED} more" if len(known) > MOST_NAMED else ""
    return (", ".join(alike[:MOST_NAMED]) or "none") + more


def _refuse_whole(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse numbers that have no derivative, or that no constructor takes.

    :raises ValueError: naming the first.
    """
    for name in names:
        if name not in known and name.rpartition(".")[0] not in known:
            raise ValueError(f"{name}: found no argument with a derivative, expected one")


def _list_entry(prior: Prior, name: str) -> str:
    """The only entry of a list is meant by the list's name."""
    if not name.startswith("prior."):
        return name
    owner: Any = prior
    for part in name.split(".")[1:]:
        owner = getattr(owner, part, None)
    return f"{name}.0" if isinstance(owner, list) and len(owner) == 1 else name


def numbers(module: torch.nn.Module, name: str) -> Iterator[str]:
    """Names of what can be tuned in a module: fractional numbers, tensors, lists of one number."""
    useless = {"weight"} if getattr(module, "weight_inside", False) else set()
    for own, value in {**vars(module), **module._parameters}.items():
        entry = value[0] if isinstance(value, list) and len(value) == 1 else value
        tensor = isinstance(entry, Tensor) and entry.is_floating_point()
        if not own.startswith("_") and own not in useless and (isinstance(entry, float) or tensor):
            yield f"{name}.{own}"
    for own, child in module.named_children():
        yield from numbers(child, f"{name}.{own}")


def solver_numbers(solver: Solver) -> Iterator[str]:
    """Names of a solver's own arguments that are fractional numbers."""
    taken = inspect.signature(type(solver)).parameters
    for name, value in vars(solver).items():
        if name in taken and (isinstance(value, float) or (isinstance(value, Tensor) and value.is_floating_point())):
            yield f"solver.{name}"


def load_scan(path: Path, tuned: Tuned, settings: Mapping[str, Any], device: str) -> Scan:
    """A file's data in double precision, and the strength that the method's settings give its prior."""
    m = load_measurement(path)
    y, physics = m.y.to(device), m.physics.to(device)
    y = y.to(torch.promote_types(y.dtype, torch.float64))
    truth = None if m.truth is None else m.truth.to(device, torch.promote_types(m.truth.dtype, torch.float64))
    m = Measurement(y, physics, truth, m.noise_std, m.meta)
    problem, solver = Problem(y, physics), tuned.make(tuned.prior)
    with torch.no_grad():
        return Scan(path, m, prior_strength(settings, solver, tuned.prior, problem, m.noise_std))


def part_of(scan: Scan, tuned: Tuned, loss: UpperLoss, theta: Tensor) -> Part:
    """A file's images as a part of the bilevel problem.

    :raises InputError: if the loss needs what the file does not have.
    """
    m = scan.measurement
    truth = m.truth
    if truth is not None and m.y.is_complex() and not truth.is_complex():
        truth = truth.to(m.y.dtype)
    try:
        posed = loss.pose(Known(m.y, m.physics, m.noise_std, truth))
    except ValueError as error:
        raise InputError(f"{scan.path}: {error}") from error
    problem, strength = Problem(posed.y, posed.physics, (tuned.prior,)), stacked(scan.strength, len(posed.y))
    unit = float(norms(fitted(problem)).mean())
    if not 0 < unit < float("inf"):
        raise InputError(f"{scan.path}: found data of norm {unit:g}, expected some that are not zero")
    if tuned.smooth:
        least = 0.0 if posed.partial else tuned.least_eigenvalue
        lower = ScaledReconstruction(tuned, problem, strength, least)
        return Part(lower, posed.measure, unit, lower.start())
    fixed = FixedPoint(
        posed.y,
        posed.physics,
        lambda theta: tuned.solver_at(theta, strength),
        theta,
        tuned.make(tuned.prior).max_iter,
    )
    measure = dataclasses.replace(posed.measure, of=lambda s: posed.measure(fixed.image(s)))
    return Part(fixed, measure, unit, fixed.start())


def stacked(strength: float | Tensor, count: int) -> float | Tensor:
    """Strengths of a batch, of which a loss stacks copies, for ``count`` images in all."""
    if not isinstance(strength, Tensor) or not strength.ndim or len(strength) == 1:
        return strength
    return strength.repeat(count // len(strength), *[1] * (strength.ndim - 1))


def upper_level(scans: Sequence[Scan], tuned: Tuned, loss: UpperLoss, derivatives: bool = True) -> UpperLevel:
    """The mean loss of all files' images.

    :param derivatives: whether the method goes along them.
    :raises UsageError: if a solver of smooth problems has one that is not strongly convex.
    """
    theta = tuned.parameters.gather().detach()
    _refuse_numbers_of_descent(tuned)
    try:
        joint = Joint([part_of(scan, tuned, loss, theta) for scan in scans])
    except TypeError as error:
        raise UsageError(f"--solver: {error}; a solver with a proximal step, such as ADMM, takes this prior") from error
    if tuned.smooth and not joint.certifies(theta):
        mu = float(joint.strong_convexity(theta))
        raise UsageError(
            f"--solver: found a problem with strong convexity {mu:.3g}, expected above 0 for a certificate: add "
            "Tikhonov to the prior by Sum, state --least_eigenvalue of A^H A (a loss that keeps data back has another "
            "A), or take a proximal solver such as FISTA"
        )
    if derivatives:
        demand_dependence(joint.parts[0], theta, tuned.parameters.names)
    for name in tuned.parameters.names:
        if name.startswith("solver."):
            demand_effect(joint.parts[0], theta, name)
    return UpperLevel(joint, joint.loss())


def _refuse_numbers_of_descent(tuned: Tuned) -> None:
    """Refuse numbers of a solver that finds the minimiser whatever they are.

    :raises UsageError: naming the first.
    """
    for name in tuned.parameters.names:
        if tuned.smooth and name.startswith("solver."):
            raise UsageError(f"--parameter: found {name}, on which the minimiser does not depend, expected the prior's")


@torch.enable_grad()
def demand_dependence(part: Part, theta: Tensor, names: Sequence[str]) -> None:
    """Refuse parameters of which the problem makes no use, such as the weight of a denoiser whose level is given.

    :raises UsageError: if that is so of all.
    """
    variable = theta.clone().requires_grad_()
    residual = part.lower.gradient(part.like, variable)
    used = residual.requires_grad and torch.autograd.grad(
        residual, variable, torch.ones_like(residual), allow_unused=True
    )  # fmt: skip
    if not used or used[0] is None:
        raise UsageError(f"--parameter: found {', '.join(names)}, of which the image makes no use, expected another")


@torch.no_grad()
def demand_effect(part: Part, theta: Tensor, name: str) -> None:
    """Refuse a solver's number whose halving leaves the image where it is: a step size of a convex problem.

    :raises UsageError: saying how little the first file's image moves.
    """
    fixed, own = part.lower, name.partition(".")[2]
    assert isinstance(fixed, FixedPoint)
    solver = fixed.solver(theta)
    half = cast(Solver, substitute(solver, own, getattr(solver, own) / 2))
    other = FixedPoint(fixed.y, fixed.physics, lambda _: half, theta)
    here = fixed.solve(theta, PROBE * part.unit, max_iter=MAX_PROBE)
    there = other.solve(theta, PROBE * part.unit, here.x, MAX_PROBE)
    moved = float(norms(fixed.image(there.x) - fixed.image(here.x)).max()) / part.unit
    if moved < EFFECT:
        raise UsageError(
            f"--parameter: found {name}, whose halving moves the image by {moved:.1g} of its norm, expected one on "
            "which the solution depends"
        )


class Relative:
    """The loss over a number: its gradient in an image at the start has norm 1 in the mean."""

    def __init__(self, upper: UpperLevel):
        self._loss = upper.loss
        steep = float(norms(upper.image_gradient(upper.lower.start())).mean())
        self.scale = steep if 0 < steep < float("inf") else 1.0
        self.smoothness, self.convex = self._loss.smoothness / self.scale, self._loss.convex
        self.floor = self._loss.floor / self.scale

    def __call__(self, x: Tensor) -> Tensor:
        return self._loss(x) / self.scale


def images_of(upper: UpperLevel, rows: Tensor, scans: Sequence[Scan]) -> list[Tensor]:
    """Each file's images; of what a loss asks for besides, nothing."""
    joint = upper.lower
    assert isinstance(joint, Joint)
    found = []
    for part, variable, scan in zip(joint.parts, joint.split(rows), scans, strict=True):
        image = part.lower.image(variable) if isinstance(part.lower, FixedPoint) else variable
        found.append(image[: len(scan.measurement.y)])
    return found
