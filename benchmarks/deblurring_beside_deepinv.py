"""TV deblurring of a photograph in resolvent and deepinv: seconds to the same objective, algorithm by algorithm.

scikit-image's coins (256 x 256 of them), circular Gaussian blur of 2 pixels, noise 0.02, isotropic total variation
without differences across the border. Either side runs its own operator (both diagonal under the FFT) and its own
solver: PGD and ADMM with 20 inner iterations of TV, as in deepinv's documentation (resolvent's prior has the same
default), and primal-dual splitting. Both have step sizes to choose from; each side's fastest is shown, and
beside the same algorithm FISTA. deepinv's dual starts at zero, which is faster than its default. One
function outside both computes the objective; the target is 0.1 % above the lowest found.

    python benchmarks/deblurring_beside_deepinv.py [--only ALGORITHM ...] [--out FILE.md]
"""

from collections.abc import Callable, Sequence

import deepinv
import skimage
import torch
from _contest import SIDES, Contender, contest, sides, solving
from _timing import main, table
from deepinv.optim import L2, L12Prior, TVPrior
from torch import Tensor

from resolvent.operators import CircularBlur, FiniteDifferences
from resolvent.priors import TV, Analysis, GroupL1
from resolvent.recon import ADMM, FISTA, PrimalDual, ProximalGradient, RelativeChange

WEIGHT, SIGMA, MARGIN, LONGEST, SHAPE = 0.01, 0.02, 1e-3, 320, (1, 256, 256)
NEVER = RelativeChange(0.0)
ALGORITHMS = ("proximal gradient", "ADMM", "primal-dual")


def problem() -> tuple[Tensor, CircularBlur, deepinv.physics.BlurFFT]:
    """The blurred, noisy photograph and the blur of either side."""
    photo = torch.as_tensor(skimage.data.coins()[:256, :256], dtype=torch.float32)[None, None] / 255
    kernel = deepinv.physics.functional.blur.gaussian_blur(sigma=(2.0, 2.0))
    ours = CircularBlur(kernel[0, 0], SHAPE)
    y = ours.A(photo) + SIGMA * torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    return y, ours, deepinv.physics.BlurFFT(img_size=SHAPE, filter=kernel, device="cpu")


def objective(y: Tensor, kernel: Tensor) -> Callable[[Tensor], float]:
    """F in float64, the convolution as a sum of shifts."""
    weights = kernel[0].double()
    centre = [n // 2 for n in weights.shape]

    def value(x: Tensor) -> float:
        x = x.double()
        shifted = (
            w * x.roll((i - centre[0], j - centre[1]), (-2, -1))
            for i, row in enumerate(weights.tolist()) for j, w in enumerate(row)
        )  # fmt: skip
        down, across = torch.zeros_like(x), torch.zeros_like(x)
        down[..., :-1, :], across[..., :-1] = x.diff(dim=-2), x.diff(dim=-1)
        return float((sum(shifted) - y).square().sum() / 2 + WEIGHT * (down.square() + across.square()).sqrt().sum())

    return value


def contests(y: Tensor, ours: CircularBlur, theirs: deepinv.physics.BlurFFT) -> dict[str, dict[str, Contender]]:
    """Per algorithm the variants of both sides; FISTA beside each."""
    differences = FiniteDifferences(SHAPE)
    joint = Analysis(GroupL1(WEIGHT, axes=(1,)), differences)
    common = {"data_fidelity": L2(), "lambda_reg": WEIGHT}
    zero = torch.zeros(1, *SHAPE)
    fista = {"FISTA": solving(lambda n: FISTA(TV(WEIGHT), step_size=1.0, max_iter=n, stop=NEVER), y, ours)}

    def descent(step: float, n: int) -> deepinv.optim.PGD:
        return deepinv.optim.PGD(prior=TVPrior(n_it_max=20), stepsize=step, max_iter=n, **common)

    def splitting(step: float, n: int) -> deepinv.optim.ADMM:
        start = {"est": (zero, zero)}
        return deepinv.optim.ADMM(
            prior=TVPrior(n_it_max=20), stepsize=step, max_iter=n, custom_init=lambda y, p: start, **common
        )

    def primal_dual(step: float, n: int) -> deepinv.optim.PDCP:
        start = {"est": (zero, zero, differences.A(zero)[:, :, 0])}
        return deepinv.optim.PDCP(
            prior=L12Prior(l2_axis=1), K=lambda x: differences.A(x)[:, :, 0],
            K_adjoint=lambda u: differences.A_adjoint(u[:, :, None]), g_first=True, stepsize=step,
            stepsize_dual=1 / (8 * step), max_iter=n, custom_init=lambda y, p: start, **common,
        )  # fmt: skip

    def variants(own: Callable, stock: Callable, own_steps: tuple, stock_steps: tuple) -> dict[str, Contender]:
        mine = {f"resolvent {s:g}": solving(lambda n, s=s: own(s, n), y, ours) for s in own_steps}
        return fista | mine | {f"deepinv {s:g}": solving(lambda n, s=s: stock(s, n), y, theirs) for s in stock_steps}

    return {
        "proximal gradient": variants(
            lambda s, n: ProximalGradient(TV(WEIGHT), step_size=s, max_iter=n, stop=NEVER), descent, (1.0,), (1.0,)
        ),
        "ADMM": variants(
            lambda s, n: ADMM(TV(WEIGHT), step_size=s, max_iter=n, stop=NEVER), splitting,
            (1.0, 3.0, 10.0, 30.0), (1.0, 3.0, 10.0, 30.0),
        ),
        "primal-dual": variants(
            lambda s, n: PrimalDual(joint, step_size=s, max_iter=n, stop=NEVER), primal_dual,
            (0.3, 0.6, 1.0, 1.8), (0.3, 1.0, 3.0, 10.0, 30.0),
        ),
    }  # fmt: skip


@torch.no_grad()
def report(algorithms: Sequence[str]) -> str:
    """The table."""
    y, ours, theirs = problem()
    score = objective(y, ours.kernel)
    rows, contenders = [], contests(y, ours, theirs)
    for name in algorithms:
        _, standings = contest(contenders[name], score, LONGEST, MARGIN, repeats=3)
        rows.append([name, *sides(standings)])
    return table(("algorithm", *SIDES), rows)


if __name__ == "__main__":
    main(report, threads=1, parts=ALGORITHMS)
