"""``resolvent inspect IMAGE --prior PRIOR --out FOLDER``: what a prior's proximal step does at an image.

Is it a proximal operator (a symmetric Jacobian without eigenvalues below 0), non-expansive, homogeneous? In which
basis does it shrink, and by how much? Does the prior, where it has a value, rise with noise, blur and mixing? And is a
second one, trained on other images, the same function?
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser, Namespace
from matplotlib.figure import Figure
from torch import Tensor

from .. import priors  # noqa: F401  (its classes are named on the command line)
from ..datasets import InputError, read_arrays
from ..datasets.result import finite
from ..operators.files import atomic
from ..operators.norm import TINY
from ..priors import Prior
from ..priors.inspection import (
    Eigenbasis,
    agreement,
    blur_path,
    dense_jacobian,
    eigenbasis,
    expansion,
    inhomogeneity,
    mixing_path,
    noise_path,
)
from .arguments import brief, instantiate, new_parser, parse
from .cli import UsageError
from .document import document, write_document
from .report_drawing import DPI, img
from .report_tables import facts_table

#: Noise, blur in pixels and shares of the mixed-in image along which the prior is followed.
NOISES, BLURS, SHARES = (0.0, 0.05, 0.1, 0.2, 0.3), (0.0, 0.5, 1.0, 2.0, 4.0), (0.0, 0.25, 0.5, 0.75, 1.0)
#: The dense Jacobian of a crop has as many numbers as its fourth power.
LARGEST_CROP = 64
SHOWN = 8


def main(argv: list[str]) -> int:
    """Run the verb."""
    parser = build_parser()
    config = parse(parser, argv)
    if config.prior is None or config.out is None:
        raise UsageError(f"--{'out' if config.prior else 'prior'}: found none, expected one")
    for name in ("sigma", "step"):
        if not 0 <= config[name] < float("inf"):
            raise UsageError(f"--{name}: found {config[name]}, expected a finite number not below 0")
    made = instantiate(parser, config)
    prior = made.prior
    clean = load_crop(Path(config.image), config.crop)
    torch.manual_seed(config.seed)
    noisy = clean + config.sigma * torch.randn_like(clean)
    with refused("prior"):
        facts, basis, denoised = inspect(prior, clean, noisy, config.step)
    with refused("second"):
        facts |= compare(prior, made.second, clean, noisy, config.step)
    write(Path(config.out), describe(config) | facts, basis, [clean, noisy, denoised])
    print(json.dumps(finite(facts)) if config.json else f"report: {Path(config.out) / 'inspection.html'}")
    return 0


@contextlib.contextmanager
def refused(option: str) -> Iterator[None]:
    """What the prior of an option cannot do at this image is a usage error that names it."""
    try:
        yield
    except (NotImplementedError, ValueError) as error:
        raise UsageError(f"--{option}: {brief(error)}") from error


def build_parser() -> ArgumentParser:
    """The verb's parser."""
    parser = new_parser("inspect", "Inspect a prior's proximal step at an image; write a report.")
    add = parser.add_argument
    add("image", help="picture or array; the middle of its first plane is used, scaled to a peak of 1")
    add("--config", action="config", help="YAML with any of these options")
    add("--prior", type=Prior | None, help="prior class and its arguments, as for reconstruct")
    add("--second", type=Prior | None, help="another prior, such as a denoiser trained on other images: do they agree?")
    add("--out", type=str | None, help="folder for inspection.json and inspection.html (required)")
    add("--crop", type=int, default=16, help=f"pixels along either side, up to {LARGEST_CROP}")
    add("--sigma", type=float, default=0.1, help="noise added, its unit the image's peak")
    add("--step", type=float, default=1.0, help="gamma of the proximal step")
    add("--seed", type=int, default=0, help="seed of the noise")
    add("--json", type=bool, default=False, help="print the findings as JSON")
    return parser


def load_crop(path: Path, size: int) -> Tensor:
    """The middle ``(1, 1, size, size)`` of the first plane of an image file, its peak at 1."""
    if not 2 <= size <= LARGEST_CROP:
        raise UsageError(f"--crop: found {size}, expected 2 to {LARGEST_CROP} pixels")
    arrays = read_arrays(path).arrays
    image = next(iter(arrays.values()))
    image = (image.abs() if image.is_complex() else image).float()
    plane = image.reshape(-1, *image.shape[-2:])[0] if image.ndim >= 2 else image
    if plane.ndim < 2 or min(plane.shape) < size:
        raise InputError(f"{path}: found {tuple(plane.shape)} pixels, expected at least {size} x {size}")
    top, left = ((n - size) // 2 for n in plane.shape)
    peak = image.max()
    if not (torch.isfinite(image).all() and peak > 0):
        raise InputError(f"{path}: peak is {float(peak)}, expected finite numbers with a peak above 0")
    return (plane[top : top + size, left : left + size] / peak)[None, None]


def inspect(prior: Prior, clean: Tensor, noisy: Tensor, step: float) -> tuple[dict[str, Any], Eigenbasis, Tensor]:
    """The findings by name, the eigenbasis at the noisy image, and its proximal step."""

    def denoise(v: Tensor) -> Tensor:
        return prior.prox(v, gamma=step)

    matrix = dense_jacobian(denoise, noisy).detach()
    basis = eigenbasis(matrix, noisy)
    denoised = denoise(noisy).detach()
    facts = {
        "asymmetry": float((matrix - matrix.T).norm() / matrix.norm().clamp_min(TINY)),
        "least_eigenvalue": float(basis.factors[-1]),
        "greatest_eigenvalue": float(basis.factors[0]),
        "spectral_norm": float(torch.linalg.matrix_norm(matrix, 2)),
        "expansion": expansion(lambda v: denoise(v).detach(), [(noisy, clean), (noisy, noisy.flip(-1))]),
        "inhomogeneity": inhomogeneity(lambda v: denoise(v).detach(), noisy),
        "reconstruction_by_jacobian": float(
            ((matrix @ noisy.flatten()).reshape(noisy.shape) - denoised).norm() / denoised.norm().clamp_min(TINY)
        ),
        "effective_dimension": basis.dimension,
        "pixels": noisy.numel(),
    }
    return facts | {"value_along": follow(prior, clean)}, basis, denoised


@torch.no_grad()
def compare(prior: Prior, second: Prior | None, clean: Tensor, noisy: Tensor, step: float) -> dict[str, float]:
    """How far the two proximal steps are from each other and from the truth; empty without a second prior."""
    if second is None:
        return {}
    found = agreement(lambda v: prior.prox(v, gamma=step), lambda v: second.prox(v, gamma=step), noisy, clean)
    names = ("distance_between", "distance_to_truth", "distance_of_second_to_truth")
    return dict(zip(names, found, strict=True)) | {"disagreement": found.disagreement}


def follow(prior: Prior, clean: Tensor) -> dict[str, dict[str, list[float]]]:
    """R along noise, blur and mixing with the mirrored image; empty of a prior without a value."""
    if not prior.has_value:
        return {}
    paths = {
        "noise": (NOISES, noise_path(clean, NOISES)),
        "blur": (BLURS, blur_path(clean, BLURS)),
        "mixing": (SHARES, mixing_path(clean, clean.flip(-1), SHARES)),
    }
    return {name: {"at": list(at), "value": values(prior.fn, path)} for name, (at, path) in paths.items()}


def values(fn: Callable[[Tensor], Tensor], path: Tensor) -> list[float]:
    """R of each image, infinite where a learned prior has none."""
    found = []
    for image in path:
        try:
            found.append(float(fn(image[None]).detach()))
        except ArithmeticError:
            found.append(float("inf"))
    return found


def describe(config: Namespace) -> dict[str, Any]:
    """What was inspected, as plain values."""
    return {k: getattr(config, k) for k in ("image", "crop", "sigma", "step", "seed")} | {
        "prior": config.prior.class_path.rsplit(".", 1)[-1]
    }


def write(folder: Path, facts: dict[str, Any], basis: Eigenbasis, images: list[Tensor]) -> None:
    """``inspection.json`` and ``inspection.html``, each whole or not at all."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(folder / "inspection.json") as partial:
            partial.write_text(json.dumps(finite(facts), indent=1) + "\n")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}), expected a folder") from error
    heading = f"Inspection of {facts['prior']}"
    write_document(folder / "inspection.html", document(heading, sections(facts, basis, images)))


def sections(facts: dict[str, Any], basis: Eigenbasis, images: list[Tensor]) -> dict[str, str]:
    """The page's sections by title."""
    told = {name.replace("_", " "): value for name, value in facts.items() if not isinstance(value, dict)}
    found = {
        "Findings": facts_table([told], ["value"]),
        "Images": draw_images(basis, images),
        "Shrinkage": draw_factors(basis),
        "Value": draw_paths(facts["value_along"]),
    }
    return {title: body for title, body in found.items() if body}


def draw_images(basis: Eigenbasis, images: list[Tensor]) -> str:
    """Clean, noisy and denoised image, then the first of the eigenbasis with their shrinkage factors."""
    figure = Figure(figsize=(10, 3.2), dpi=DPI, layout="constrained")
    axes = figure.subplots(2, SHOWN)
    panels = list(zip(("image", "noisy", "denoised"), (x[0, 0] for x in images), strict=True))
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, (title, image) in zip(axes[0], panels, strict=False):
        ax.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=8)
    for ax, image, factor in zip(axes[1], basis.images, basis.factors, strict=False):
        ax.imshow(image[0].numpy(), cmap="RdBu")
        ax.set_title(f"{float(factor):.3f}", fontsize=8)
    return img(figure, "Images, and the first of the eigenbasis with their shrinkage factors")


def draw_factors(basis: Eigenbasis) -> str:
    """The spectrum, and beside it the size of the image's coefficients."""
    figure = Figure(figsize=(10, 3), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(basis.factors.numpy(), color="#0072b2")
    left.set(title="shrinkage factors", xlabel="index")
    right.semilogy(basis.coefficients.abs().numpy() + np.finfo(np.float32).tiny, ".", color="#d55e00", markersize=3)
    right.set(title="coefficients of the noisy image", xlabel="index")
    return img(figure, "Shrinkage factors and coefficients against their index")


def draw_paths(paths: dict[str, dict[str, list[float]]]) -> str:
    """R along each path; empty of a prior without a value."""
    if not paths:
        return ""
    figure = Figure(figsize=(10, 2.8), dpi=DPI, layout="constrained")
    for ax, (name, path) in zip(figure.subplots(1, len(paths)), paths.items(), strict=True):
        ax.plot(path["at"], path["value"], "o-", color="#007a5a")
        ax.set(title=f"R along {name}")
    return img(figure, f"The prior along {', '.join(paths)}")
