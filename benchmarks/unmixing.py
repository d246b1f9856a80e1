"""Unmixing with spoilt bands, of scenes of known purity, and of the Samson scene.

Methods: shares alone of the purest pixels' spectra (FCLS), blind sweeps whose residuals count by band (p = 1, 1/2, or
from the guidance), and the same sweeps with residuals that count squared (p = 1/2). Errors of shares are root mean
squares after the best assignment of the materials; medians of seeds.

    python benchmarks/unmixing.py [--out FILE.md]
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from _timing import main, table
from scipy.io import loadmat
from torch import Tensor

from resolvent.operators import Mixing
from resolvent.priors import Simplex
from resolvent.recon import FISTA, RelativeChange, RobustUnmixing, spectral_angles, vertices

SAMSON = Path(__file__).resolve().parents[2] / "shared" / "data" / "hsi" / "Samson.mat"
HEADER = ("scene", "FCLS", "p = 1", "p = 1/2", "guidance", "squared")
SEEDS, SOFT, BANDS, SIDE = range(5), 1e3, 100, 30

Method = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def shares_alone(y: Tensor, endmembers: Tensor) -> tuple[Tensor, Tensor]:
    solver = FISTA(Simplex(), max_iter=2000, stop=RelativeChange(1e-6))
    return solver.solve(y, Mixing(endmembers, y.shape[2:])).image, endmembers


def blind(method: RobustUnmixing) -> Method:
    def unmix(y: Tensor, endmembers: Tensor) -> tuple[Tensor, Tensor]:
        found = method(y, endmembers)
        return found.abundances, found.endmembers

    return unmix


HALF = RobustUnmixing(exponent=0.5)
SQUARED = replace(HALF, sparsity=HALF.sparsity / (2 * SOFT), total=HALF.total / (2 * SOFT) ** 0.5, softness=SOFT)
METHODS = (shares_alone, *map(blind, (replace(HALF, exponent=1.0), HALF, replace(HALF, exponent=None), SQUARED)))


def scene(seed: int, noise: float, pure: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Four smooth spectra, their shares in 900 pixels, and the cube; Dirichlet(0.3), or one half of it pure pixels."""
    generator, place = torch.Generator().manual_seed(seed), torch.linspace(0, 1, BANDS, dtype=torch.float64)
    centres, widths = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64)
    endmembers = 0.05 + torch.exp(-(((place[:, None, None] - centres) / (0.05 + 0.2 * widths)) ** 2)).mean(1)
    torch.manual_seed(seed)
    drawn = torch.distributions.Dirichlet(torch.full((4,), 1.0 if pure else 0.3, dtype=torch.float64))
    shares = drawn.sample((SIDE * SIDE,))
    shares[:4] = torch.eye(4)
    shares = shares.T.reshape(1, 4, SIDE, SIDE)
    if pure:
        one = torch.randint(4, (SIDE, SIDE // 2), generator=generator)
        shares[0, :, :, : SIDE // 2] = torch.nn.functional.one_hot(one, 4).permute(2, 0, 1).double()
    clean = Mixing(endmembers, (SIDE, SIDE)).A(shares)
    return endmembers, shares, clean + noise * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


def spoilt(y: Tensor, part: float, seed: int) -> Tensor:
    """The cube with a part of its bands replaced by uniform noise."""
    generator, y = torch.Generator().manual_seed(seed), y.clone()
    bad = torch.randperm(BANDS, generator=generator)[: round(part * BANDS)]
    y[:, bad] = torch.rand(1, len(bad), SIDE, SIDE, generator=generator, dtype=torch.float64)
    return y


def row(name: str, each: Callable[[int, Method], float]) -> list[str]:
    return [name, *(f"{statistics.median(each(seed, method) for seed in SEEDS):.4f}" for method in METHODS)]


def of_shares(found: tuple[Tensor, Tensor], endmembers: Tensor, shares: Tensor, where: slice = slice(None)) -> float:
    order = spectral_angles(found[1], endmembers)[1]
    return float((found[0][:, order] - shares)[..., where].square().mean().sqrt())


def outliers(noise: float, part: float, known: bool) -> list[str]:
    def error(seed: int, method: Method) -> float:
        endmembers, shares, y = scene(seed, noise, pure=False)
        bad = spoilt(y, part, seed)
        return of_shares(method(bad, vertices(y if known else bad, 4, seed)), endmembers, shares)

    start = "start of the bands before" if known else "start of these bands"
    return row(f"shares: noise {noise:g}, {part:.0%} of the bands spoilt, {start}", error)


def purity(where: slice, name: str) -> list[str]:
    def error(seed: int, method: Method) -> float:
        endmembers, shares, y = scene(seed, 0.01, pure=True)
        return of_shares(method(y, vertices(y, 4, seed)), endmembers, shares, where)

    return row(f"shares: half pure, half mixed, noise 0.01: the {name} half", error)


def samson() -> list[list[str]]:
    if not SAMSON.exists():
        return []
    file = loadmat(SAMSON)
    truth, shares = torch.from_numpy(file["GT"]).double().T, torch.from_numpy(file["S_GT"]).double()
    y = torch.from_numpy(file["Y"]).double().reshape(1, -1, 95, 95).mT
    y = y / y.norm(dim=1, keepdim=True)
    kept = {(seed, method): method(y, vertices(y, 3, seed)) for seed in SEEDS for method in METHODS}

    def angle(seed: int, method: Method) -> float:
        return float(spectral_angles(kept[seed, method][1], truth)[0].mean())

    def error(seed: int, method: Method) -> float:
        return of_shares(kept[seed, method], truth, shares.permute(2, 0, 1)[None])

    return [row("Samson: mean spectral angle, rad", angle), row("Samson: shares", error)]


def report() -> str:
    """The table."""
    found = [outliers(noise, part, True) for noise in (0.003, 0.01) for part in (0, 0.05, 0.1, 0.2)]
    found += [outliers(0.01, part, False) for part in (0.05, 0.2)]
    found += [purity(slice(SIDE // 2), "pure"), purity(slice(SIDE // 2, None), "mixed")]
    return table(HEADER, found + samson())


if __name__ == "__main__":
    main(report, threads=1)
