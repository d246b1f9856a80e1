"""Tissue from under haze by joint sampling: of Gaussians beside Wiener's filter, and on a real scan.

The first table is of stationary Gaussian tissue and haze, 64 pixels, data their sum with half of the haze and noise of
0.05. There every rule is affine in data and noise, so that the mean and the spread of its samples follow exactly, for
each frequency, from a recursion over its steps. Gain errors are root mean squares of the mean's gain over y less
Wiener's, spread is the standard deviation over the posterior's, and NMSE is that of the mean. Steps "Euler" are those
of the published programs; "released" is their pseudo-inverse guidance as it was released, with a sum of the network's
derivatives in place of their product with the residual, and the weights .93 and .88 of its settings.

    python benchmarks/dehazing.py [--out FILE.md]
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from _timing import main, shown, table
from torch import Tensor

from resolvent.operators import CartesianMRI, Superposition
from resolvent.priors import ExponentialVariance, GaussianPrior, Joint, Schedule

F64 = torch.float64
N, GAMMA, SIGMA = 64, 0.5, 0.05
EYE = torch.eye(2, dtype=F64)
A = torch.tensor([[1.0, GAMMA]], dtype=F64)
SCHEDULE = ExponentialVariance()


# -- tissue and haze of known spectra -------------------------------------------------------------------
def powers() -> Tensor:
    """The power spectra of tissue and haze ``(64, 2)``, of mean 1, frequency 0 first."""
    f = torch.fft.fftfreq(N, dtype=F64).abs()
    tissue, haze = (1 + (f / 0.05) ** 2) ** -1.5, torch.exp(-0.5 * ((f - 0.25) / 0.05) ** 2) + 1e-3
    return torch.stack([tissue / tissue.mean(), haze / haze.mean()], 1)


def joint_prior(schedule: Schedule = SCHEDULE) -> Joint:
    """The two as one prior of images ``(2, 1, 64)``."""
    basis, spectra = CartesianMRI(torch.ones(1, N)), torch.fft.fftshift(powers(), dim=0).mT
    parts = [GaussianPrior(torch.zeros(1, 1, N, dtype=F64), s[None, None], basis) for s in spectra]
    return Joint(parts, schedule=schedule)


def superposition() -> Superposition:
    """Tissue and half of the haze."""
    return Superposition(A[0], (1, 1, N))


def wiener() -> tuple[Tensor, Tensor]:
    """The exact gains ``(64, 2)`` of the mean over y, and the covariances ``(64, 2, 2)`` of the posterior."""
    prior = torch.diag_embed(powers())
    gain = prior @ A.mT / data_power()[:, None, None]
    return gain[..., 0], prior - gain @ A @ prior


def data_power() -> Tensor:
    """The power spectrum of y ``(64,)``."""
    return powers() @ A[0].square() + SIGMA**2


class Step(NamedTuple):
    """One step of a rule, ``v' = M v + b y + noise of covariance Q``, v tissue and haze at each frequency."""

    m: Tensor
    b: Tensor
    q: Tensor


class Rule(NamedTuple):
    """How far the data move the mean, K, and in what steps the noise goes."""

    gain: Callable[[float], Tensor]
    euler: bool = False
    pull: Tensor = torch.zeros(2, dtype=F64)


def no_gain(s: float) -> Tensor:
    """Data that do not enter the mean."""
    return torch.zeros(N, 2, 1, dtype=F64)


def exact_gain(s: float) -> Tensor:
    """K of moment matching at noise s: the covariance that is left of both is known."""
    left = torch.diag_embed(powers() * s**2 / (powers() + s**2))
    return left @ A.mT / (A @ left @ A.mT + SIGMA**2)


def pigdm_gain(s: float) -> Tensor:
    """K of pseudo-inverse guidance: what is left is taken to be white, of variance s^2 / (s^2 + 1)."""
    left = torch.diag_embed(powers() * s**2 / (powers() + s**2))
    return left @ A.mT / (float((A @ A.mT)[0, 0]) * s**2 / (s**2 + 1) + SIGMA**2)


#: A step from its time and length, and whether it is the last.
Steps = Callable[[float, float, bool], Step]


def steps(rule: Rule) -> Steps:
    """Those of a rule."""
    return lambda t, dt, last: step(rule, t, dt, last)


def step(rule: Rule, t: float, dt: float, last: bool) -> Step:
    """The step at time t."""
    s, then = noise(t), noise(t - dt)
    mean = torch.diag_embed(powers() / (powers() + s**2))
    k = rule.gain(s)
    e = mean - k @ A @ mean
    if rule.euler:
        part, fresh = SCHEDULE.sigma ** (2 * t) * dt / s**2, 0.0 if last else SCHEDULE.sigma ** (2 * t) * dt
    else:
        part, fresh = 1 - (then / s) ** 2, then**2 * (1 - (then / s) ** 2)
    move = Step(EYE + part * (e - EYE), part * k, fresh * EYE.expand(N, 2, 2))
    return pulled(move, rule.pull, s if rule.euler else then)


def pulled(move: Step, pull: Tensor, s: float) -> Step:
    """A step and then a part of the projection on to data of noise s."""
    back = torch.diag(pull) @ A.mT
    keep = EYE - back @ A
    return Step(keep @ move.m, keep @ move.b + back, keep @ move.q @ keep.mT + s**2 * back @ A @ A.mT @ back.mT)


def released(t: float, dt: float, last: bool) -> Step:
    """Pseudo-inverse guidance as released: Euler's step for the mean, the sum of its derivatives for their product."""
    s, growth = noise(t), SCHEDULE.sigma ** (2 * t) * dt
    mean = 1 - growth / (powers() + s**2)
    back = (torch.tensor([0.93, 0.88], dtype=F64) * A[0] * mean[0] / 2)[:, None].expand(N, 2, 1)
    diagonal = torch.diag_embed(mean)
    return Step(diagonal - back @ A @ diagonal, back, (0.0 if last else growth) * EYE.expand(N, 2, 2))


def noise(t: float) -> float:
    """The schedule's, 0 at its end."""
    return float(SCHEDULE.noise(torch.tensor(max(t, 0.0), dtype=F64)))


class Moments(NamedTuple):
    """What samples of a rule are: the gain of their mean over y ``(64, 2)`` and their covariances ``(64, 2, 2)``."""

    gain: Tensor
    covariance: Tensor


def moments(of: Steps, count: int, first: float = 1.0, floor: float = 0.0, length: float | None = None) -> Moments:
    """The recursion over ``count`` even steps from time ``first``; where it is not 1, from y itself with noise.

    :param floor: the last step's time, where the steps do not end at 0 but one before it.
    :param length: of a step; ``first / count`` if None.
    """
    started = float(first < 1)
    gain = torch.full((N, 2, 1), started, dtype=F64)
    covariance = noise(first) ** 2 * EYE.expand(N, 2, 2)
    for i in range(count):
        t = first + (floor - first) * i / (count - 1) if floor else first * (1 - i / count)
        m, b, q = of(t, length or first / count, i == count - 1)
        gain, covariance = m @ gain + b, m @ covariance @ m.mT + q
    return Moments(gain[..., 0], covariance)


class Figures(NamedTuple):
    """Errors of the gains of tissue and haze, spread, error of the mean tissue."""

    tissue: float
    haze: float
    spread: float
    nmse: float


def figures(of: Moments) -> Figures:
    """What the table says of a rule."""
    exact, covariance = wiener()
    power, prior = data_power(), powers()[:, 0]
    tissue, haze = (((of.gain - exact).square() * power[:, None]).sum(0) / power.sum()).sqrt().tolist()
    spread = math.sqrt(float(of.covariance[:, 0, 0].sum() / covariance[:, 0, 0].sum()))
    return Figures(tissue, haze, spread, nmse(of.gain[:, 0], prior, power))


def nmse(gain: Tensor, prior: Tensor, power: Tensor) -> float:
    """The error of ``gain y`` for a signal of spectrum ``prior`` in data of spectrum ``power``."""
    return float((prior - 2 * gain * prior + gain.square() * power).sum() / prior.sum())


HALF = torch.full((2,), 0.5, dtype=F64)
EXACT, PIGDM, PROJECTION = Rule(exact_gain), Rule(pigdm_gain), Rule(no_gain, pull=HALF)


def published(rule: Rule, count: int, first: float = 1.0, length: float | None = None) -> Moments:
    """A rule in the steps of the published programs."""
    return moments(steps(rule._replace(euler=True)), count, first, 1e-3, length)


def ours(rule: Rule, count: int, first: float = 1.0) -> Moments:
    """A rule in the steps of the samplers here."""
    return moments(steps(rule), count, first)


#: What the first table has in its rows.
ROWS: dict[str, Callable[[], Moments]] = {
    "the posterior": lambda: Moments(*wiener()),
    "MomentMatching, 200 steps": lambda: ours(EXACT, 200),
    "MomentMatching, 1000": lambda: ours(EXACT, 1000),
    "MomentMatching from y at time .8, 200": lambda: ours(EXACT, 200, 0.8),
    "MomentMatching from y at time .4, 50": lambda: ours(EXACT, 50, 0.4),
    "MomentMatching from y at time .2, 40": lambda: ours(EXACT, 40, 0.2),
    "PiGDM, 200": lambda: ours(PIGDM, 200),
    "PiGDM, 1000": lambda: ours(PIGDM, 1000),
    "Projection, 200": lambda: ours(PROJECTION, 200),
    "Projection, 1000": lambda: ours(PROJECTION, 1000),
    "Projection from y at time .8, 200": lambda: ours(PROJECTION, 200, 0.8),
    "Euler: exact, 200": lambda: published(EXACT, 200),
    "Euler: exact, 1000": lambda: published(EXACT, 1000),
    "Euler: exact from y at time .8, 200": lambda: published(EXACT, 200, 0.8),
    "Euler: exact from y at time .4, 50": lambda: published(EXACT, 50, 0.4),
    "Euler: exact from y at time .2, 40": lambda: published(EXACT, 40, 0.2),
    "Euler: pseudo-inverse, 200": lambda: published(PIGDM, 200),
    "Euler: pseudo-inverse, 1000": lambda: published(PIGDM, 1000),
    "Euler: projection, 200": lambda: published(PROJECTION, 200),
    "Euler: projection, 1000": lambda: published(PROJECTION, 1000),
    "Euler: projection from y at time .8, 200": lambda: published(PROJECTION, 200, 0.8),
    "Euler: projection from y at time .2, 200": lambda: published(PROJECTION, 200, 0.2),
    "Euler: projection, the same with steps of 1/200": lambda: published(PROJECTION, 200, 0.2, 1 / 200),
    "released, 200": lambda: moments(released, 200, floor=1e-3),
    "released, 600": lambda: moments(released, 600, floor=1e-3),
}


def report() -> str:
    """One row for each rule."""
    rows = ((name, *figures(make())) for name, make in ROWS.items())
    header = ("rule", "gain error, tissue", "haze", "spread", "NMSE of the tissue")
    return table(header, shown([n, f"{t:.4f}", f"{h:.4f}", f"{s:.3f}", f"{e:.4f}"] for n, t, h, s, e in rows))


if __name__ == "__main__":
    main(report, threads=1)
