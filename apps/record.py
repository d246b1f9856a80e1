"""What a result says of its own making: settings, measures, cautions, axes."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch
from deepinv.physics import Physics

from ..datasets import Measurement, Result
from ..operators import Operator
from ..operators.norm import TINY
from ..recon import (
    Migration,
    Problem,
    Sampler,
    Solution,
    Solver,
    magnitude_psnr,
    magnitude_ssim,
    psnr,
    ssim,
    unmet_conditions,
)
from ..recon.metrics import nmse
from ..recon.problem import norms

#: Certificates, relative, above which a run that came to its stop is said to be unfinished.
FAR = 0.1


def assemble(
    about: dict[str, Any],
    m: Measurement,
    solver: Solver,
    solution: Solution,
    std: torch.Tensor | None = None,
    samples: int = 1,
) -> Result:
    """Image, history and record of a finished run.

    :param about: what the caller knows of it.
    :param std: of the samples whose mean the image is, and how many they are.
    """
    image = seen(m.physics, solution.image.cpu())
    truth = m.truth.to(image.dtype) if m.truth is not None else None
    std = seen(m.physics, std.cpu()) if std is not None else None
    metrics = measures(solver, image, truth, m) | uncertainty(image, truth, std, samples)
    run = {
        "operator": type(m.physics).__name__, "solver": type(solver).__name__,
        "x_update": getattr(m.physics, "x_update", None), "noise_std": m.noise_std, "meta": dict(m.meta),
        "status": list(solution.status), "iterations": solution.iterations, "seconds": solution.seconds,
        "certificate": solution.certificate.tolist(),
        "metrics": metrics, "warnings": cautions(about, solver, solution, m) + unexplained(metrics, solution, m),
        "version": version("resolvent"), "torch": torch.__version__, "threads": torch.get_num_threads(),
    }  # fmt: skip
    window = torch.tensor([(part.start, part.stop) for part in m.physics.window]).reshape(-1, 2)
    return Result(image, solution.history, about | run, truth, axes_of(m.physics), std, window=window)


@torch.no_grad()
def seen(physics: Physics, image: torch.Tensor) -> torch.Tensor:
    """An image with 0 where the operator sees nothing, such as outside all coils: the data do not notice.

    Not so where data are masked, as in inpainting: there the prior fills in.
    """
    norms = physics.innermost.column_norms() if isinstance(physics, Operator) else None
    return image if norms is None else torch.where((norms > 0).to(image.device), image, 0)


def uncertainty(
    image: torch.Tensor, truth: torch.Tensor | None, std: torch.Tensor | None, samples: int
) -> dict[str, Any]:
    """Root mean square of the standard deviation, and what the error is of the one expected.

    A mean of n samples misses a truth drawn like them by the deviation times the root of 1 + 1/n: 1 where the samples
    know it.
    """
    if std is None:
        return {}
    spread = _rms(std)
    expected = spread.clamp_min(TINY) * (1 + 1 / samples) ** 0.5
    known = {} if truth is None else {"error_over_spread": (_rms(image - truth) / expected).tolist()}
    return {"spread": spread.tolist()} | known


def _rms(x: torch.Tensor) -> torch.Tensor:
    """Root mean square per image."""
    return x.abs().square().flatten(1).mean(1).sqrt()


def measures(solver: Solver, image: torch.Tensor, truth: torch.Tensor | None, m: Measurement) -> dict[str, Any]:
    """Residual, peak, and against the truth NMSE and the magnitudes' PSNR and SSIM; one number per image.

    Only what lies inside the operator's frame is compared with the truth.
    """
    found: dict[str, Any] = {}
    if not isinstance(solver, Migration):
        found["relative_residual"] = Problem(_floating(m.y), m.physics.cpu()).relative_residual(image).tolist()
    found["peak"] = image.abs().flatten(1).amax(1).tolist()
    if truth is not None:
        image, truth = m.physics.frame(image), m.physics.frame(truth)
        pair = (image, truth) if m.physics.relative_scale or not image.is_complex() else (image.abs(), truth.abs())
        likeness = (magnitude_psnr, magnitude_ssim) if m.physics.relative_scale else (psnr, ssim)
        found |= {name: measure(*pair).tolist() for name, measure in zip(("psnr", "ssim"), likeness, strict=True)}
        if not isinstance(solver, Migration):  # its images have no unit
            found["nmse"] = nmse(image, truth).tolist()
    return found


def _floating(y: torch.Tensor) -> torch.Tensor:
    """Integer data as float32."""
    return y.to(torch.promote_types(y.dtype, torch.float32))


def cautions(about: dict[str, Any], solver: Solver, solution: Solution, m: Measurement) -> list[str]:
    """What a reader of the result should know."""
    by_noise = about.get("config", {}).get("strength") == "universal" and weighed_by_noise(solver)
    notes = []
    stopped = sum(s == "max_iter" for s in solution.status)
    if stopped:
        notes.append(
            f"{stopped} of {len(solution.status)} images stopped at max_iter = {solver.max_iter}, not converged"
        )
    if "diverged" in solution.status:
        which = ", ".join(str(i) for i, s in enumerate(solution.status) if s == "diverged")
        notes.append(f"image {which} of the file diverged; the last finite one is kept")
    if solution.certificate is not None and "converged" in solution.status:
        far = max(c for c, s in zip(solution.certificate.tolist(), solution.status, strict=True) if s == "converged")
        if far > FAR:
            notes.append(
                f"it stopped moving {far:.2g} from its optimality condition: a smaller --solver.stop.tol "
                f"(of --solver.stop {type(solver.stop).__name__}) goes on"
            )
    if not bool(solution.image.abs().sum() > 0):
        stronger = "the prior is stronger than the data; " if len(solver.priors) else ""
        why = f"{stronger}are units, positions and the order of the axes right?"
        notes.append(f"the image is zero everywhere: {why if bool(m.y.abs().sum() > 0) else 'so are the data'}")
    if m.noise_std is None and (by_noise or getattr(solver, "noise_std", 0) is None):
        notes.append("the file states no noise level; it was estimated from the data")
    if m.noise_std == 0 and by_noise and not about.get("strength"):
        notes.append("the file states a noise level of 0: the prior has no weight; --strength gives it one")
    if isinstance(solver, Sampler) and m.noise_std is not None:
        notes += missed(solution, m, m.noise_std)
    return notes + list(unmet_conditions(solver, Problem(_floating(m.y), m.physics.cpu())))


def weighed_by_noise(solver: Solver) -> bool:
    """Whether the weight that keeps noise out depends on the noise level."""
    return solver.weighs_prior and any(getattr(prior, "weighted", True) for prior in solver.priors)


def unexplained(metrics: dict[str, Any], solution: Solution, m: Measurement) -> list[str]:
    """A caution where an image explains next to nothing of data that are not mostly noise, or none explains more."""
    size = torch.linalg.vector_norm(_floating(m.y).flatten(1), dim=1)
    noise = (m.noise_std or 0.0) * m.y[0].numel() ** 0.5
    shares = zip(metrics.get("relative_residual", ()), size.tolist(), solution.status, strict=False)
    finished = (r for r, norm, status in shares if (status != "max_iter" or r > 1) and noise < norm / 2)
    worst = max(finished, default=0)
    if not bool(solution.image.abs().sum() > 0) or not worst > 0.9:
        return []
    return [
        f"the image explains {100 * (1 - min(worst, 1) ** 2):.2g} % of the data's energy, expected more of data that "
        "are not mostly noise: are units, positions and the order of the axes right?"
    ]


def missed(solution: Solution, m: Measurement, noise_std: float) -> list[str]:
    """A caution where samples do not fit the data: their mean should miss them by no more than the noise does.

    Of data that were not taken, exactly zero, there is no noise.
    """
    y = _floating(m.y)
    noise = noise_std * (y != 0).flatten(1).sum(1).sqrt()
    misfit = solution.certificate.cpu() * norms(y)
    worst = float((misfit / noise.clamp_min(TINY)).max())
    if noise_std == 0 or not worst > 2:
        return []
    return [
        f"the samples miss the data by {worst:.3g} times the noise: expected images of the range that the prior was "
        "trained for, and enough steps"
    ]


def axes_of(physics: Operator) -> dict[str, torch.Tensor]:
    """Voxel coordinates of an operator that has them."""
    grid = physics.innermost.geometry()
    return {name: grid[name].cpu() for name in ("x", "y", "z") if isinstance(grid.get(name), torch.Tensor)}
