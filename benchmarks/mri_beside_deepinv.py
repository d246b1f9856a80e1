"""Multi-coil MRI in resolvent and deepinv: seconds to the same objective, algorithm by algorithm.

The moco brain (7 coils, 256 x 216, Poisson disc, R = 4), sparse magnitudes (PGD, ADMM) and isotropic total
variation (PDCP). Either side runs its own operator and its own solver; deepinv keeps an image in two channels, and
its L12Prior over them is the sparsity of complex magnitudes. Both have step sizes to choose from, in units of
1 / ||A||^2; each side's fastest is shown. deepinv starts from zero too, instead of its default, which is slower.
Beside the same algorithm stands FISTA, which is what resolvent would take. One function outside both computes the
objective; the target is 0.1 % above the lowest found.

    python benchmarks/mri_beside_deepinv.py [--only ALGORITHM ...] [--out FILE.md]
"""

from collections.abc import Callable, Sequence

import deepinv
import torch
from _brains import Scan, accelerated
from _contest import SIDES, Contender, contest, sides, solving
from _timing import main, table
from deepinv.optim import L2, L12Prior
from torch import Tensor

from resolvent.operators import FiniteDifferences, poisson_disc
from resolvent.priors import L1, TV, Analysis, GroupL1, Prior
from resolvent.recon import ADMM, FISTA, PrimalDual, ProximalGradient, RelativeChange

FRACTION, MARGIN, LONGEST, STEPS = 0.002, 1e-3, 128, (3.0, 10.0)
NEVER = RelativeChange(0.0)


def channels(x: Tensor) -> Tensor:
    """Complex ``(B, N, ...)`` as deepinv has it, ``(B, 2, N, ...)`` or, for one image, ``(B, 2, ...)``."""
    return torch.view_as_real(x).movedim(-1, 1).squeeze(2)


def theirs(scan: Scan) -> tuple[Tensor, deepinv.physics.MultiCoilMRI]:
    """deepinv's data and operator."""
    maps, mask = scan.physics.sensitivity_maps, scan.physics.mask
    physics = deepinv.physics.MultiCoilMRI(mask=mask[None, None], coil_maps=maps[None], img_size=mask.shape)
    return channels(scan.y), physics


def objective(scan: Scan, term: Callable[[Tensor], Tensor], weight: float) -> Callable[[Tensor], float]:
    """F in double precision, by transforms with shifts."""
    maps, mask, y = (t.to(torch.complex128) for t in (scan.physics.sensitivity_maps, scan.physics.mask, scan.y))

    def value(x: Tensor) -> float:
        x = x if x.is_complex() else torch.complex(x[:, :1].contiguous(), x[:, 1:].contiguous())
        k = torch.fft.ifftshift(maps * x.to(torch.complex128), (-2, -1))
        k = torch.fft.fftshift(torch.fft.fft2(k, norm="ortho"), (-2, -1))
        return float((mask * k - y).abs().square().sum() / 2 + weight * term(x))

    return value


def variation(x: Tensor) -> Tensor:
    """Isotropic total variation, no differences across the border."""
    across, down = torch.zeros_like(x), torch.zeros_like(x)
    across[..., :-1], down[..., :-1, :] = x.diff(dim=-1), x.diff(dim=-2)
    return torch.stack([across, down]).abs().square().sum(0).sqrt().sum()


def descent(scan: Scan, weight: float) -> dict[str, Contender]:
    """Proximal gradient; its step size is 1 / ||A||^2."""
    y, physics = theirs(scan)

    def stock(n: int) -> deepinv.optim.PGD:
        return deepinv.optim.PGD(
            data_fidelity=L2(), prior=L12Prior(l2_axis=1), lambda_reg=weight, stepsize=1.0, max_iter=n,
            custom_init=lambda y, p: {"est": (zero(y, p),) * 2},
        )  # fmt: skip

    def own(n: int) -> ProximalGradient:
        return ProximalGradient(L1(weight), step_size=1.0, max_iter=n, stop=NEVER)

    return {
        "resolvent": solving(own, scan.y, scan.physics), "FISTA": accelerated_descent(scan, L1(weight)),
        "deepinv": solving(stock, y, physics),
    }  # fmt: skip


def accelerated_descent(scan: Scan, prior: Prior) -> Contender:
    """FISTA."""
    return solving(lambda n: FISTA(prior, step_size=1.0, max_iter=n, stop=NEVER), scan.y, scan.physics)


def splitting(scan: Scan, weight: float) -> dict[str, Contender]:
    """ADMM at several step sizes."""
    y, physics = theirs(scan)

    def stock(step: float) -> Callable[[int], deepinv.optim.ADMM]:
        return lambda n: deepinv.optim.ADMM(
            data_fidelity=L2(), prior=L12Prior(l2_axis=1), lambda_reg=weight, stepsize=step, max_iter=n,
            custom_init=lambda y, p: {"est": (zero(y, p),) * 2},
        )  # fmt: skip

    def own(step: float) -> Callable[[int], ADMM]:
        return lambda n: ADMM(L1(weight), step_size=step, max_iter=n, stop=NEVER, cg_rtol=1e-4)

    return {"FISTA": accelerated_descent(scan, L1(weight))} | {
        f"{who} {step:g}": solving(make(step), *problem)
        for who, make, problem in (("resolvent", own, (scan.y, scan.physics)), ("deepinv", stock, (y, physics)))
        for step in STEPS
    }


def primal_dual(scan: Scan, weight: float) -> dict[str, Contender]:
    """Primal-dual splitting of total variation at several step sizes of the primal."""
    y, physics = theirs(scan)
    two, one = FiniteDifferences((2, *scan.y.shape[-2:])), FiniteDifferences(scan.physics.image_shape)

    def push(x: Tensor) -> Tensor:
        """Directions and channels on one axis."""
        return two.A(x).flatten(1, 2)

    def pull(u: Tensor) -> Tensor:
        return two.A_adjoint(u.unflatten(1, (2, 2)))

    def stock(step: float) -> Callable[[int], deepinv.optim.PDCP]:
        def start(y: Tensor, p: deepinv.physics.Physics) -> dict:
            x = zero(y, p)
            return {"est": (x, x, push(x))}

        return lambda n: deepinv.optim.PDCP(
            data_fidelity=L2(), prior=L12Prior(l2_axis=1), K=push, K_adjoint=pull, g_first=True,
            lambda_reg=weight, stepsize=step, stepsize_dual=1 / (8 * step), max_iter=n, custom_init=start,
        )  # fmt: skip

    def own(step: float) -> Callable[[int], PrimalDual]:
        prior = Analysis(GroupL1(weight, axes=(1,)), one)
        return lambda n: PrimalDual(prior, step_size=step, max_iter=n, stop=NEVER)

    steps = {"resolvent": (0.3, 0.6, 1.0), "deepinv": (1.0, *STEPS)}
    problems = {"resolvent": (own, (scan.y, scan.physics)), "deepinv": (stock, (y, physics))}
    return {"FISTA": accelerated_descent(scan, TV(weight, iterations=10))} | {
        f"{who} {step:g}": solving(make(step), *problem)
        for who, (make, problem) in problems.items()
        for step in steps[who]
    }


def zero(y: Tensor, physics: deepinv.physics.Physics) -> Tensor:
    """An empty image in deepinv's two channels."""
    return torch.zeros_like(physics.A_adjoint(y))


#: Algorithm and prior, the contenders and the prior's term outside them.
ALGORITHMS: dict[str, tuple[Callable[[Scan, float], dict[str, Contender]], Callable[[Tensor], Tensor]]] = {
    "proximal gradient, L1": (descent, lambda x: x.abs().sum()),
    "ADMM, L1": (splitting, lambda x: x.abs().sum()),
    "primal-dual, TV": (primal_dual, variation),
}


@torch.no_grad()
def report(algorithms: Sequence[str]) -> str:
    """The table."""
    scan = accelerated(poisson_disc((256, 216), 4), 0.005, 0)
    weight = FRACTION * float(scan.physics.A_adjoint(scan.y).abs().max())
    rows = []
    for name in algorithms:
        contenders, term = ALGORITHMS[name]
        _, standings = contest(contenders(scan, weight), objective(scan, term, weight), LONGEST, MARGIN, repeats=3)
        rows.append([name, *sides(standings)])
    return table(("algorithm", *SIDES), rows)


if __name__ == "__main__":
    main(report, threads=1, parts=tuple(ALGORITHMS))
