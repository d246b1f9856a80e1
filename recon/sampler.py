r"""Samplers: from noise to images that fit the data, one step for each of falling times.

.. math:: x_{t'} = a' \hat x + \sqrt{s'^2 - c^2}\; \frac{x_t - a \hat x}{s} + c\, z, \qquad
          c = \eta\, s' \sqrt{1 - \Big(\frac{a s'}{a' s}\Big)^2}, \qquad t_K = 0,

:func:`reverse_step`, with x-hat the mean of the image given x_t (and, in some way, the data): ancestral sampling at
eta = 1 (Ho, Jain and Abbeel, NeurIPS 2020), the probability flow's ODE at eta = 0 (Song, Meng and Ermon, ICLR 2021).
The solvers' loop runs the steps. Everything random about step k comes from the seed and k, so that a run that was
interrupted goes on as if it had not been.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from deepinv.physics import LinearPhysics
from torch import Generator, Tensor

from ..operators.operator import of_images
from ..priors import Diffusion
from ..priors.schedule import noise_like
from .linear import data_prox
from .problem import Problem, one_or_each
from .solver import Diverged, Solver
from .stopping import Criterion, RelativeChange

#: Odd, near 2^64 / golden ratio: seeds of successive steps have nothing in common.
STRIDE = 0x9E3779B97F4A7C15


class SampleState(NamedTuple):
    """The noisy image ``x``, how many steps are done and the run's seed, the latter two per image ``(B,)``."""

    x: Tensor
    steps: Tensor
    seed: Tensor


class Posterior(NamedTuple):
    """What :meth:`Sampler.sample` returns.

    :param samples: ``(B, N, C, *spatial)``.
    :param mean: over the samples, ``(B, C, *spatial)``; the estimate of least mean square error.
    :param std: standard deviation of every pixel, real; nan for one sample.
    :param history: as in :class:`~resolvent.recon.Solution`, a column for each sample of each image.
    """

    samples: Tensor
    mean: Tensor
    std: Tensor
    history: dict[str, Tensor]
    seconds: float


class Level(NamedTuple):
    """One point of a sampler's path: time, signal a and noise s."""

    t: float
    a: float
    s: float


class Sampler(Solver):
    r"""Base class of the samplers. ``sampler(y, physics)`` and :meth:`solve` draw one sample for each image's data.

    A subclass gives :meth:`move`; :meth:`begin`, too, where it does not start from noise.

    :param prior: a :class:`~resolvent.priors.Diffusion`; its schedule is walked.
    :param steps: times from the schedule's first to 0, evenly.
    :param noise_std: the total standard deviation of one sample of the data; the operator's noise model says it if
        None.
    """

    needs = "mean, a Diffusion"
    at_the_end = "completed"
    weighs_prior = False

    def __init__(self, prior: Diffusion, steps: int, noise_std: float | None = None, stop: Criterion | None = None):
        super().__init__(prior, steps, stop or RelativeChange(0))
        if noise_std is not None and not 0 < noise_std < float("inf"):
            raise ValueError(f"noise_std: found {noise_std}, expected a finite number above 0")
        self.noise_std = noise_std

    def accepts(self, prior: object) -> bool:
        return isinstance(prior, Diffusion)

    @property
    def prior(self) -> Diffusion:
        """The one prior."""
        return self.priors[0]  # pyright: ignore[reportReturnType]

    @abstractmethod
    def move(self, problem: Problem, state: Any, k: int) -> Any:
        """The state after step k, its image and what else the algorithm keeps."""

    def begin(self, problem: Problem, x0: Tensor | None, seed: Tensor) -> Any:
        """The state before the first step: noise, and ``x0`` as far as it is left at the first time."""
        like, first = problem.back_projection, self.level(0)
        state = SampleState(like, torch.zeros_like(seed), seed)
        noise = first.s * self.draw(state, like, -1)
        return state._replace(x=noise if x0 is None else first.a * x0 + noise)

    def init(self, problem: Problem, x0: Tensor | None) -> Any:
        return self.begin(problem, x0, new_seed(problem.back_projection, None))

    def step(self, problem: Problem, state: Any) -> Any:
        done = int(state.steps.max())
        if done >= self.max_iter:
            return state
        with torch.no_grad():
            return self.move(problem, state, done)._replace(steps=state.steps + 1)

    def optimality(self, problem: Problem, state: Any) -> Tensor:
        """``||A x - y|| / ||y||``; a sample fits the data to within their noise."""
        return problem.relative_residual(state.x)

    def level(self, k: int) -> Level:
        """The path before step k; after the last one nothing is left of the noise."""
        return self.at(self.prior.schedule.first * (1 - k / self.max_iter))

    def at(self, t: float) -> Level:
        """The path at a time; at 0 the image itself, though the schedule may end a little before it."""
        if t <= 0:
            return Level(0.0, 1.0, 0.0)
        schedule, time = self.prior.schedule, torch.tensor(t, dtype=torch.float64)
        return Level(t, float(schedule.signal(time)), float(schedule.noise(time)))

    def draw(self, state: Any, like: Tensor, k: int, which: int = 0) -> Tensor:
        """Normal numbers of step k shaped as ``like``; of several in one step, number ``which``."""
        return noise_like(like, self.generator(state, k, which))

    def generator(self, state: Any, k: int, which: int = 0) -> Generator:
        """What the random numbers of step k come from; where a step draws several times, number ``which``."""
        seed = int(state.seed[0]) + (4 * (k + 1) + which + 1) * STRIDE
        return Generator().manual_seed(seed % 2**63)

    def sample(
        self,
        y: Tensor,
        physics: LinearPhysics,
        samples: int = 8,
        generator: Generator | None = None,
        x0: Tensor | None = None,
        **kwargs: Any,
    ) -> Posterior:
        """Draw several samples for each image's data, all at once.

        :param y: data ``(B, ...)``.
        :param generator: says the run's seed; torch's own if None.
        :param x0: images ``(B, C, *spatial)`` to begin from, with noise added; where samplers begin late, on the path
            of :class:`~resolvent.priors.Late`, they say what the samples look like.
        :param kwargs: ``record``, ``callback``, ``checkpoint`` of :meth:`solve`.
        :raises Diverged: if a sample did not stay finite.
        """
        if samples < 1:
            raise ValueError(f"samples: found {samples}, expected at least 1")
        which = torch.arange(len(y)).repeat_interleave(samples)
        physics = of_images(physics, which, len(y))
        repeated = y.repeat_interleave(samples, 0)
        problem = Problem(repeated, physics, self.priors)
        start = None if x0 is None else x0.repeat_interleave(samples, 0)
        begin = self.begin(problem, start, new_seed(problem.back_projection, generator))
        solution = self.solve(repeated, physics, state=begin, **kwargs)
        if "diverged" in solution.status:
            where = divmod(solution.status.index("diverged"), samples)
            raise Diverged(f"sample {where[1]} of image {where[0]} diverged within {solution.iterations} steps")
        drawn = solution.image.unflatten(0, (len(y), samples))
        std = drawn.std(1) if samples > 1 else torch.full_like(drawn[:, 0].real, torch.nan)
        return Posterior(drawn, drawn.mean(1), std, solution.history, solution.seconds)


class GuidedDiffusion(Sampler):
    """Reverse diffusion with the data in the mean: a subclass gives :meth:`guided`.

    :param randomness: eta, from 0 to 1.
    :param cg_iterations: conjugate gradient steps at most where a data step has no closed form.
    :param cg_rtol: their relative residual, as the last two steps foretell it.
    """

    def __init__(
        self,
        prior: Diffusion,
        steps: int = 200,
        noise_std: float | None = None,
        randomness: float = 1.0,
        cg_iterations: int = 50,
        cg_rtol: float = 1e-5,
    ):
        super().__init__(prior, steps, noise_std)
        if not 0 <= randomness <= 1:
            raise ValueError(f"randomness: found {randomness}, expected a number from 0 to 1")
        self.randomness, self.cg_iterations, self.cg_rtol = randomness, cg_iterations, cg_rtol

    @abstractmethod
    def guided(self, problem: Problem, x: Tensor, here: Level) -> Tensor:
        """The mean of the image given ``x`` and the data."""

    def move(self, problem: Problem, state: SampleState, k: int) -> SampleState:
        here, there = self.level(k), self.level(k + 1)
        estimate = self.guided(problem, state.x, here)
        x = reverse_step(state.x, estimate, here, there, self.randomness, self.draw(state, state.x, k))
        return state._replace(x=x)


class Unguided(GuidedDiffusion):
    """Samples of the prior; the data say only of what shape."""

    def guided(self, problem: Problem, x: Tensor, here: Level) -> Tensor:
        return self.prior.estimate(x, here.t)


def reverse_step(x: Tensor, estimate: Tensor, here: Level, there: Level, randomness: float, z: Tensor) -> Tensor:
    """From one time to a lower one, along the mean of the image; ``z`` is noise of variance 1."""
    ratio = here.a * there.s / (there.a * here.s)
    fresh = randomness * there.s * max(1 - ratio**2, 0.0) ** 0.5
    kept = (there.s**2 - fresh**2) ** 0.5
    return there.a * estimate + kept / here.s * (x - here.a * estimate) + fresh * z


def estimate_and_pullback(prior: Diffusion, x: Tensor, t: float) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    r"""The mean given ``x``, and the adjoint of its derivative, :math:`h \mapsto J^H h`.

    :math:`(s^2 / a)\, J` is the covariance of the image given ``x``.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        estimate = prior.estimate(x, t)

    def pullback(h: Tensor) -> Tensor:
        with torch.inference_mode(False):
            return torch.autograd.grad(estimate, x, h.clone(), retain_graph=True)[0]

    return estimate.detach(), pullback


def uncertainty(here: Level, scale: float) -> float:
    """The standard deviation of an image given ``x_t``, were its pixels normal and independent."""
    sigma = here.s / here.a
    return scale * sigma / (scale**2 + sigma**2) ** 0.5


def data_sample(
    problem: Problem, mean: Tensor, std: float, noise: Tensor, z: tuple[Tensor, Tensor], max_iter: int, rtol: float
) -> Tensor:
    r"""A sample of :math:`\mathcal{N}(x; m, r^2)\, \mathcal{N}(y; A x, \sigma^2)`: the mode, both perturbed.

    Papandreou and Yuille (NeurIPS 2010).

    :param noise: sigma of each image ``(B,)``.
    :param z: noise of variance 1 of the shapes of the image and of the data.
    """
    perturbed = Problem(problem.y + one_or_each(noise, z[1]) * z[1], problem.physics, problem.priors)
    return data_prox(perturbed, mean + std * z[0], (std / noise) ** 2, mean, max_iter, rtol)


def new_seed(like: Tensor, generator: Generator | None) -> Tensor:
    """The seed of a run, the same number for each image ``(B,)``."""
    seed = torch.randint(2**62, (), generator=generator, device="cpu" if generator is None else generator.device)
    return seed.to(like.device).expand(len(like)).clone()
