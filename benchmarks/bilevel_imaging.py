"""Bilevel learning on images: what learning finds beside a fine grid, by what method, and what a missing truth costs.

Crops of BSD400 to learn from, of BSD68 to score on, noise 0.1 seeded by the crop's index; PSNR of a peak of 1 is that
of the mean square error of all crops (for the ridge regulariser the mean of each crop's own, as published); cost counts
gradients of the lower level and products with its Hessian. Every table ends within minutes on one core; --only chooses
some of them:

    tv       weight and smoothing of total variation
    experts  48 filters of 7 x 7, their weights and smoothing
    ridge    convex ridge regularisers, of random filters and of a denoiser's, beside published weights on these crops
    weak-ridge  weakly convex ones, likewise
    brain    weights of total variation and wavelets for a fourfold accelerated scan, learned on another mask
    truth    supervised, by Stein's estimate, by the discrepancy principle
    methods  a grid, Optuna and MAID at the same cost, for 1 to 2449 parameters

    python benchmarks/bilevel_imaging.py [--only tv truth] [--budget 1500] [--weights NAME] [--out FILE.md]
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import _timing
import torch
import tune_weights
from _brains import coil_kspace
from _photographs import DATA, middle, picture
from deepinv.physics import Denoising
from torch import Tensor

from resolvent.datasets import save_measurement
from resolvent.operators import CartesianMRI, cartesian_lines, sensitivity_maps
from resolvent.priors import FieldsOfExperts, Prior, RidgeDenoiser, SmoothedTV, WeaklyConvexRidge, load_denoiser
from resolvent.priors.weights_file import shipped
from resolvent.recon import Problem, psnr
from resolvent.recon.bilevel import (
    MAID,
    SURE,
    AcceleratedMAID,
    DiscrepancyPrinciple,
    Grid,
    Known,
    Learned,
    MeanSquare,
    Method,
    OptunaSearch,
    Reconstruction,
    SquaredError,
    UpperLevel,
    UpperLoss,
)

F64, SIGMA = torch.float64, 0.1
#: Accuracy of the images that are scored, in the norm of one.
FINE = 1e-2


def crops(name: str, count: int, side: int) -> Tensor:
    """Middles of pictures spread over a folder, ``(count, 1, side, side)``."""
    files = sorted((DATA / "natural" / name).glob("*.png"))
    chosen = files[:: len(files) // count][:count]
    return torch.stack([torch.as_tensor(middle(picture(f), side), dtype=F64)[None] for f in chosen])


def noisy(clean: Tensor) -> Tensor:
    """With noise seeded by the index."""
    noise = [torch.randn(x.shape, generator=torch.Generator().manual_seed(i), dtype=F64) for i, x in enumerate(clean)]
    return clean + SIGMA * torch.stack(noise)


class Denoiser:
    """Denoising by smooth priors, some of whose tensors are learned.

    :param learn: names as :class:`Reconstruction` takes them; those of ``tensors`` are in units of their own size,
        those of ``numbers`` by their logarithm, ``plain`` ones as they are.
    """

    def __init__(self, priors: Sequence[Prior], numbers=(), tensors=(), plain=()):
        self.priors = tuple(p.double().requires_grad_(False) for p in priors)
        self.names, self.numbers, self.tensors = (*numbers, *tensors, *plain), numbers, tensors

    def lower(self, y: Tensor, physics: Denoising) -> Reconstruction:
        problem = Problem(y, physics, self.priors)
        return Reconstruction(problem, self.names, self.numbers, start=y, relative=self.tensors)

    def upper(self, clean: Tensor) -> UpperLevel:
        """Half the squared distance to the truth."""
        return UpperLevel(self.lower(noisy(clean), Denoising()), SquaredError(clean))

    def posed(self, clean: Tensor, loss: UpperLoss) -> UpperLevel:
        """A loss that may know the noise alone."""
        found = loss.pose(Known(noisy(clean), Denoising(), SIGMA, clean))
        return UpperLevel(self.lower(found.y, found.physics), found.measure)

    def theta(self) -> Tensor:
        """As the priors have it."""
        return self.lower(torch.zeros(1, 1, 8, 8, dtype=F64), Denoising()).theta().detach()

    def priors_at(self, theta: Tensor) -> Sequence[Prior]:
        """The priors that ``theta`` stands for."""
        return self.lower(torch.zeros(1, 1, 8, 8, dtype=F64), Denoising()).at(theta).priors

    def images(self, theta: Tensor, clean: Tensor) -> Tensor:
        """Of noisy crops."""
        return self.lower(noisy(clean), Denoising()).solve(theta, FINE, max_iter=3000).x

    def psnr(self, theta: Tensor, clean: Tensor) -> float:
        """dB, of the mean square error of all."""
        return decibels(self.images(theta, clean), clean)


def decibels(x: Tensor, clean: Tensor) -> float:
    """PSNR of the mean square error of all images, which is what learning lowers."""
    return -10 * math.log10(float((x - clean).square().mean()))


class Table:
    """Rows that are printed as they come."""

    def __init__(self, *head: str):
        self.head, self.rows = head, []

    def add(self, *cells: object) -> None:
        """A row, numbers to four digits."""
        self.rows += _timing.shown([[f"{c:.4g}" if isinstance(c, float) else c for c in cells]])

    def __str__(self) -> str:
        return _timing.table(self.head, self.rows)


def scored(table: Table, name: str, model: Denoiser, found: Learned, clean: tuple[Tensor, Tensor], shown="") -> None:
    """A row: what was found, its cost, dB on the crops learned from and on the others."""
    table.add(name, shown, int(found.cost[-1]), *(f"{model.psnr(best(found), c):.2f}" for c in clean))


def best(found: Learned) -> Tensor:
    """The parameters of the least f for certain: accelerated MAID may stand elsewhere when the budget ends."""
    return found.history["theta"][found.history["high"].argmin()]


def exponentials(found: Learned) -> str:
    """The numbers themselves."""
    return ", ".join(f"{t:.4f}" for t in best(found).exp().tolist())


def total_variation() -> Denoiser:
    """Weight and smoothing."""
    return Denoiser([SmoothedTV(0.01, nu=0.01)], ("prior.weight", "prior.nu"))


def maid(budget: float, upper: UpperLevel, theta: Tensor) -> Learned:
    """Accelerated MAID with no word on its steps."""
    return AcceleratedMAID(limit=12).minimise(upper, theta, budget=budget)


def tv(budget: float) -> Table:
    """MAID and a grid of 12 x 12."""
    clean, model = (crops("bsd400_train_gray180", 4, 48), crops("bsd68_gray", 8, 96)), total_variation()
    table = Table("method", "weight, smoothing", "cost", "dB", "dB, others")
    upper, theta = model.upper(clean[0]), model.theta()
    found_by: dict[str, Method] = {
        "MAID": MAID(limit=12), "accelerated MAID": AcceleratedMAID(limit=12),
        "grid": Grid([-5, -7], [-1, -1], 12, eps=0.1),
    }  # fmt: skip
    for name, method in found_by.items():
        found = method.minimise(upper, theta, budget=math.inf if name == "grid" else budget)
        scored(table, name, model, found, clean, exponentials(found))
    return table


def experts(budget: float) -> Table:
    """All of a field of experts, beside its weight alone."""
    clean = crops("bsd400_train_gray180", 8, 40), crops("bsd68_gray", 8, 96)
    table = Table("learned", "parameters", "cost", "dB", "dB, others")
    for name, model in {"weight": one_weight(), "all": field()}.items():
        found = maid(budget, model.upper(clean[0]), model.theta())
        scored(table, name, model, found, clean, str(len(found.theta)))
    return table


def one_weight() -> Denoiser:
    """Cosine filters, the weight of all together."""
    return Denoiser([FieldsOfExperts(7, nu=0.02, weight=0.3)], ("prior.weight",))


def field() -> Denoiser:
    """The weight, the filters, their weights and smoothing."""
    return Denoiser([FieldsOfExperts(7, nu=0.02, weight=0.3)], ("prior.weight",), ("prior.filters",),
                    ("prior.log_weights", "prior.log_smoothing"))  # fmt: skip


def ridge(budget: float, weights: str) -> Table:
    """Convex: of filters drawn at random, and of those of a denoiser."""
    torch.manual_seed(0)
    drawn = WeaklyConvexRidge(SIGMA, channels=(4, 8, 32), weak_convexity=0.0, sharpness=3.0)
    return ridges(budget, {"random": drawn} | trained(weights, 0.0), "CRR", "26.94")


def weak_ridge(budget: float, weights: str) -> Table:
    """Weakly convex: of the filters of a denoiser."""
    return ridges(budget, trained(weights, 1.0), "WCRR", "27.46")


def trained(weights: str, weak_convexity: float) -> dict[str, WeaklyConvexRidge]:
    """The filters and scales of a denoiser that is one gradient step of its regulariser.

    Its potentials' slopes go up to one step's worth within that step; a minimiser has them at once, so that its
    potentials begin as sharp as random ones', with a weight at which the lower level is strongly convex.
    """
    if not weights:
        return {}
    denoiser = load_denoiser(weights)
    assert isinstance(denoiser, RidgeDenoiser)
    prior = denoiser.prior.at(SIGMA).scaled(0.6)
    prior.rho, prior.sharpness = weak_convexity, torch.nn.Parameter(torch.tensor(3.0))
    return {"a denoiser's": prior}


def ridges(budget: float, priors: dict[str, WeaklyConvexRidge], name: str, published: str) -> Table:
    """Weight, scale and sharpness alone, then all numbers; the mean of each crop's PSNR."""
    clean = crops("bsd400_train_gray180", 16, 40), crops("bsd68_gray", 8, 96)
    method = AcceleratedMAID(eps=FINE, delta=FINE, limit=12)
    table = Table("filters", "learned", "parameters", "cost", "dB", "dB, others")
    table.add("noisy images", "", "", "", *(each(noisy(c), c) for c in clean))
    for filters, prior in priors.items():
        few = Denoiser([prior], ("prior.weight", "prior.sigma"), (), ("prior.sharpness",))
        found = method.minimise(few.upper(clean[0]), few.theta(), budget=budget / 3)
        all_of_it = everything(few.priors_at(best(found)))
        more = method.minimise(all_of_it.upper(clean[0]), all_of_it.theta(), budget=budget)
        for what, model, run in (("three numbers", few, found), ("all", all_of_it, more)):
            shown = (each(model.images(best(run), c), c) for c in clean)
            table.add(filters, what, len(run.theta), int(run.cost[-1]), *shown)
    table.add(f"published {name}, by its authors' weights", "all", 13767, "", "", published)
    return table


def everything(priors: Sequence[Prior]) -> Denoiser:
    """All numbers of a ridge regulariser."""
    layers = tuple(f"prior.layers.{i}" for i in range(3))
    return Denoiser(priors, ("prior.weight",), layers, ("prior.log_scales", "prior.sharpness"))


def each(x: Tensor, clean: Tensor) -> str:
    """The mean of each crop's PSNR."""
    return f"{float(psnr(x, clean, 1.0).mean()):.2f}"


def truth(budget: float) -> Table:
    """What the truth is worth: the same learning without it, scored with it."""
    clean, model = (crops("bsd400_train_gray180", 8, 48), crops("bsd68_gray", 8, 96)), total_variation()
    weight = Denoiser([SmoothedTV(0.01, nu=0.01)], ("prior.weight",))
    table = Table("loss", "weight (and smoothing)", "cost", "dB", "dB, others")
    stein = SURE(probes=4)
    chosen = {"truth": (model, MeanSquare()), "Stein": (model, stein), "truth, weight": (weight, MeanSquare()),
              "Stein, weight": (weight, stein), "discrepancy, weight": (weight, DiscrepancyPrinciple())}  # fmt: skip
    for name, (denoiser, loss) in chosen.items():
        upper, theta = denoiser.posed(clean[0], loss), denoiser.theta()
        found = AcceleratedMAID(delta=1e-4, limit=12).minimise(upper, theta, budget=budget)
        scored(table, name, denoiser, found, clean, exponentials(found))
    return table


def mixed() -> Denoiser:
    """Ten numbers: total variation's two, and the weights of eight filters beside it."""
    priors = [SmoothedTV(0.01, nu=0.01), FieldsOfExperts(3, nu=0.02, weight=0.03)]
    return Denoiser(priors, ("priors.0.weight", "priors.0.nu"), (), ("priors.1.log_weights",))


def methods(budget: float) -> Table:
    """Grids as fine as the budget allows, e^3 about the start; no grid where not even two values a parameter fit."""
    clean = crops("bsd400_train_gray180", 4, 40), crops("bsd68_gray", 8, 96)
    table = Table("parameters", "method", "cost", "dB", "dB, others")
    weight = Denoiser([SmoothedTV(0.01, nu=0.01)], ("prior.weight",))
    for model in (weight, total_variation(), mixed(), field()):
        upper, theta = model.upper(clean[0]), model.theta()
        low, high, eps = (theta - 3).tolist(), (theta + 3).tolist(), 0.1
        points = round((budget / 30) ** (1 / len(theta)))
        searches: dict[str, Method] = {"Optuna": OptunaSearch(low, high, eps), "MAID": AcceleratedMAID(limit=12)}
        if points >= 2:
            searches = {f"grid, {points} values each": Grid(low, high, points, eps), **searches}
        for name, method in searches.items():
            found = method.minimise(upper, theta, budget=budget)
            table.add(len(theta), name, int(found.cost[-1]), *(f"{model.psnr(best(found), c):.2f}" for c in clean))
    return table


def brain(budget: float) -> Table:
    """Learned on one mask and scored on another, against the best of a grid on that other one."""
    kind = tune_weights.kind
    priors: dict[str, tuple[Callable[[float], dict], str]] = {
        "TV": (lambda w: kind("TV", weight=w, iterations=20), "prior.weight"),
        "wavelets": (lambda w: kind("InWavelets", prior=kind("L1", weight=w)), "prior.prior.weight"),
    }
    ways = {"search": tune_weights.search(), "Brent": tune_weights.sections()}
    table = Table("prior", "method", "weight", "grid's", "gap (dB) on the other mask", "cost",
                  f"over {tune_weights.POINTS} reconstructions'", "over the warm grid's")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [brain_scan(folder / f"{seed}.h5", seed) for seed in (1, 2)]
        for prior, made in priors.items():
            one, other = (tune_weights.Scene(file, *made) for file in files)
            whole = tune_weights.reconstructions(other, folder / f"{prior} alone")
            searched = tune_weights.tune(other, folder / f"{prior} grid", tune_weights.grid(), "MeanSquare")
            warm = searched[-1]["cost"] - searched[0]["cost"]
            for way, method in ways.items():
                last = tune_weights.tune(one, folder / f"{prior} {way}", method, "MeanSquare")[-1]
                weight = last["parameters"][one.name]
                error = tune_weights.alone(other, weight, folder / f"{prior} {way}")["loss"]
                gap, cost = 10 * math.log10(error / searched[-1]["loss"]), last["cost"]
                table.add(prior, way, weight, searched[-1]["parameters"][one.name], f"{gap:+.3f}", cost,
                          f"{cost / whole:.3f}", f"{cost / warm:.3f}")  # fmt: skip
    return table


def brain_scan(path: Path, seed: int) -> Path:
    """The middle of the slice's k-space, 128 x 108, a quarter of its lines, with noise of 40 dB below the peak."""
    full, shape = coil_kspace(), (128, 108)
    full = full[:, 64:192, 54:162]
    images = CartesianMRI(torch.ones(shape)).A_adjoint(full[:, None])[:, 0]
    scale = torch.linalg.vector_norm(images, dim=0).max()
    generator, std = torch.Generator().manual_seed(seed), 0.01
    mask = cartesian_lines(shape, 4, seed, 0.15)
    noise = torch.randn(full.shape, dtype=full.dtype, generator=generator)
    y = mask * (full / scale + std * noise)
    maps = sensitivity_maps(y)
    target = (maps.conj() * images / scale).sum(0)[None, None]
    save_measurement(path, y[None], CartesianMRI(mask, maps), target, std)
    return path


TABLES = {"tv": tv, "experts": experts, "ridge": ridge, "weak-ridge": weak_ridge, "brain": brain,
          "truth": truth, "methods": methods}  # fmt: skip


def report(tables: Sequence[str], budget: float, weights: str) -> str:
    """Those tables, each under its name."""
    found = []
    for name in tables:
        print(f"\n{name}", flush=True)
        given = (weights,) if name.endswith("ridge") else ()
        found.append(f"### {name}\n\n{TABLES[name](budget, *given)}")
    return "\n\n".join(found)


if __name__ == "__main__":
    there = "ridge-regulariser" if "ridge-regulariser" in shipped() else ""
    _timing.main(report, threads=1, parts=tuple(TABLES), budget=1500.0, weights=there)
