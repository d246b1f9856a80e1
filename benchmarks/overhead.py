"""What the solver loop costs: resolvent, a bare torch loop and deepinv on the same 8-coil MRI problem.

All three run the same operator (deepinv.physics.MultiCoilMRI, 8 coils, 256 x 256), the same prior
object (deepinv.optim.L1Prior), step size and number of iterations, without stopping. Proximal
gradient and ADMM; conjugate gradients solve the data step of ADMM to the same relative residual
(the bare loop starts them at the last solution; deepinv, as it comes, at the centre of the step). "To exact" is
the distance from the minimiser, or, where the row says so, from ADMM's image with exactly solved data steps
(conjugate gradients to 1e-7). Rows of equal error give resolvent what it takes to come as near as deepinv does:
FISTA in place of proximal gradient, tolerances and steps of ADMM. Medians of interleaved repeats.

    python benchmarks/overhead.py [--out FILE.md]
"""

import math
import time
from functools import partial

import deepinv
import torch
from _timing import main, medians, relative_error, table
from deepinv.optim.data_fidelity import L2

from resolvent.apps.memory import keep_memory
from resolvent.operators import CartesianMRI
from resolvent.priors import Prior
from resolvent.recon import ADMM, FISTA, ProximalGradient, RelativeChange

SIZE, COILS, DESCENTS, SPLITS, GAMMA, CG_STEPS, CG_RTOL = 256, 8, 30, 10, 5.0, 20, 1e-5
#: With these FISTA and ADMM come as near to the minimiser as deepinv, and data steps as near to their solutions.
EQUAL_STEPS, EQUAL_SPLITS, LOOSE_RTOL, EQUAL_RTOL = 14, 11, 1e-4, 1.5e-5


def coil_maps() -> torch.Tensor:
    """Eight smooth maps around the field of view, sum of squares 1, ``(N, H, W)`` complex64."""
    axis = torch.linspace(-1, 1, SIZE)
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    angle = torch.arange(COILS)[:, None, None] * (2 * math.pi / COILS)
    distance = ((u - 1.3 * angle.cos()) ** 2 + (v - 1.3 * angle.sin()) ** 2).sqrt()
    maps = torch.polar(1 / distance, angle + torch.atan2(v - 1.3 * angle.sin(), u - 1.3 * angle.cos()))
    return maps / torch.linalg.vector_norm(maps, dim=0)


def problem() -> tuple[torch.Tensor, deepinv.physics.MultiCoilMRI]:
    """Noisy data of bright discs and the operator; in units of the image in which the L1 weight is 1."""
    generator = torch.Generator().manual_seed(0)
    lines = torch.rand(SIZE, generator=generator) < 0.3
    lines[SIZE // 2 - 12 : SIZE // 2 + 12] = True
    physics = deepinv.physics.MultiCoilMRI(
        mask=lines.float().expand(SIZE, SIZE), coil_maps=coil_maps(), img_size=(SIZE, SIZE),
        max_iter=CG_STEPS, tol=CG_RTOL,
    )  # fmt: skip
    v, u = torch.meshgrid(torch.linspace(-1, 1, SIZE), torch.linspace(-1, 1, SIZE), indexing="ij")
    centres = torch.rand(12, 2, generator=generator) - 0.5
    image = sum(((u - a) ** 2 + (v - b) ** 2 < 0.02).float() for a, b in centres)
    y = physics.A(torch.stack([100 * image, 30 * image])[None])
    return y + 2 * torch.randn(y.shape, generator=generator) * (y != 0), physics


class PartsL1(Prior):
    """|Re| + |Im|, which is deepinv's L1 on two channels."""

    def _prox(self, v, gamma):
        return torch.view_as_complex(torch.nn.functional.softshrink(torch.view_as_real(v), gamma))


def bare_descent(y, physics, prior):
    """Proximal gradient as a student would write it, with the back-projection computed once."""
    back = physics.A_adjoint(y)
    x = torch.zeros_like(back)
    for _ in range(DESCENTS):
        x = prior.prox(x - (physics.A_adjoint_A(x) - back), gamma=1.0)
    return x


def bare_acceleration(y, physics, prior):
    """The same with Nesterov's momentum."""
    back = physics.A_adjoint(y)
    x = w = torch.zeros_like(back)
    t = 1.0
    for _ in range(EQUAL_STEPS):
        previous, x = x, prior.prox(w - (physics.A_adjoint_A(w) - back), gamma=1.0)
        before, t = t, (1 + math.sqrt(1 + 4 * t * t)) / 2
        w = x + (before - 1) / t * (x - previous)
    return x


def bare_splitting(y, physics, prior):
    """ADMM with warm-started conjugate gradients, for one image."""
    back = physics.A_adjoint(y)
    x = fit = u = torch.zeros_like(back)
    for _ in range(SPLITS):
        fit = bare_cg(lambda p: p + GAMMA * physics.A_adjoint_A(p), x - u + GAMMA * back, fit)
        x = prior.prox(fit + u, gamma=GAMMA)
        u = u + fit - x
    return x


def bare_cg(system, rhs, x):
    """Conjugate gradients from ``x``."""
    r = rhs - system(x)
    p, rr, target = r, r.ravel() @ r.ravel(), CG_RTOL**2 * (rhs.ravel() @ rhs.ravel())
    for _ in range(CG_STEPS):
        if rr <= target:
            break
        sp = system(p)
        alpha = rr / (p.ravel() @ sp.ravel())
        x, r = x + alpha * p, r - alpha * sp
        previous, rr = rr, r.ravel() @ r.ravel()
        p = r + (rr / previous) * p
    return x


def from_zero(y, physics):
    """deepinv's default start is the back-projection, for image and dual; ours is zero."""
    zero = torch.zeros_like(physics.A_adjoint(y))
    return {"est": (zero, zero)}


def splitting(prior, cg_rtol: float, cg_iterations: int = CG_STEPS, steps: int = SPLITS) -> ADMM:
    """Our ADMM."""
    return ADMM(prior, GAMMA, max_iter=steps, stop=RelativeChange(0.0), cg_rtol=cg_rtol, cg_iterations=cg_iterations)


def methods(prior) -> dict:
    """Per algorithm: how resolvent builds its solver for a prior, the same exactly, the bare loop, deepinv's solver."""
    common = {"data_fidelity": L2(), "prior": prior, "lambda_reg": 1.0, "custom_init": from_zero}
    descent, fast, minimiser = (
        partial(kind, step_size=1.0, max_iter=steps, stop=RelativeChange(0.0))
        for kind, steps in ((ProximalGradient, DESCENTS), (FISTA, EQUAL_STEPS), (FISTA, 1000))
    )
    plain = deepinv.optim.PGD(stepsize=1.0, max_iter=DESCENTS, **common)
    accelerated = deepinv.optim.FISTA(stepsize=1.0, max_iter=EQUAL_STEPS, **common)
    solved = partial(splitting, cg_rtol=1e-7, cg_iterations=100)
    loose = partial(splitting, cg_rtol=LOOSE_RTOL, steps=EQUAL_SPLITS)
    admm = bare_splitting, deepinv.optim.ADMM(stepsize=GAMMA, max_iter=SPLITS, **common)
    descents, splits = f"{DESCENTS} of proximal gradient", f"ADMM, {SPLITS} iterations"
    return {
        f"proximal gradient, {DESCENTS} iterations": (descent, minimiser, bare_descent, plain),
        f"FISTA, {EQUAL_STEPS} iterations": (fast, minimiser, bare_acceleration, accelerated),
        f"FISTA, {EQUAL_STEPS} beside {descents}, equal error": (fast, minimiser, bare_acceleration, plain),
        splits: (partial(splitting, cg_rtol=CG_RTOL), minimiser, *admm),
        f"ADMM, {EQUAL_SPLITS} beside {SPLITS}, equal error": (loose, minimiser, *admm),
        f"{splits}, equal error of data steps": (partial(splitting, cg_rtol=EQUAL_RTOL), solved, *admm),
    }


def applications(work, physics) -> str:
    """How often an algorithm applies A, be it within A^H A or alone."""
    asked, forward = [], physics.A
    physics.A = lambda x, **kwargs: asked.append(1) or forward(x, **kwargs)
    work()
    del physics.A
    return str(len(asked))


def row(name, y, physics, prior, ours, exact, bare, theirs) -> list[str]:
    """Times, ratios and differences of one algorithm."""
    native = CartesianMRI(physics.mask[0, 0], physics.coil_maps[0])
    data, complex_l1 = complex_kspace(y), PartsL1()
    works = {
        "ours": lambda: ours(prior)(y, physics),
        "bare": lambda: bare(y, physics, prior),
        "theirs": lambda: theirs(y, physics),
        "native": lambda: ours(complex_l1)(data, native),
    }
    image = {key: work() for key, work in works.items()} | {"exact": exact(prior)(y, physics)}
    image["native"] = torch.cat([image["native"].real, image["native"].imag], 1)
    t = medians(works, repeats=5, warm_up=1, clock=time.process_time)
    ratios = t["ours"] / t["bare"], t["theirs"] / t["ours"], t["theirs"] / t["native"]
    pairs = (("bare", "ours"), ("theirs", "ours"), ("native", "ours"), ("ours", "exact"), ("theirs", "exact"))
    differences = [f"{relative_error(image[a], image[b]):.4g}" for a, b in pairs]
    applied = " / ".join(applications(works[key], physics) for key in ("ours", "bare", "theirs"))
    return [name, applied, *(f"{v:.3f}" for v in t.values()), *(f"{r:.2f}" for r in ratios), *differences]


def complex_kspace(y: torch.Tensor) -> torch.Tensor:
    """deepinv's k-space ``(B, 2, N, H, W)`` as this file's ``(B, N, H, W)`` complex."""
    return torch.complex(y[:, 0], y[:, 1])


@torch.no_grad()
def report() -> str:
    """The table."""
    keep_memory()
    y, physics = problem()
    prior = deepinv.optim.L1Prior()
    rows = [row(name, y, physics, prior, *solvers) for name, solvers in methods(prior).items()]
    header = (
        "algorithm", "times A: resolvent / bare / deepinv",
        "resolvent s", "bare loop s", "deepinv s", "resolvent, complex s", "resolvent / bare",
        "deepinv / resolvent", "deepinv / resolvent complex", "difference to bare", "to deepinv", "to complex",
        "to exact", "deepinv to exact",
    )  # fmt: skip
    return table(header, rows)


if __name__ == "__main__":
    main(report, threads=1)
