"""What it saves to keep freed memory, as the command ``resolvent`` does, beside how glibc comes.

Each run is a process of its own, since what malloc was told cannot be taken back; the two kinds take turns. A solver
runs twice and the second time counts. Seconds, millions of page faults and the process's peak memory, medians of three.

    python benchmarks/kept_memory.py [--out FILE.md]
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from _timing import main, shown, table

from resolvent.apps.memory import keep_memory
from resolvent.datasets import ring_coils
from resolvent.operators import CartesianMRI, poisson_disc
from resolvent.priors import L1, TV, InWavelets
from resolvent.recon import FISTA, PrimalDual, Solver

REPEATS, COILS, WEIGHT = 3, 8, 0.01
CASES: dict[str, tuple[tuple[int, ...], Callable[[], Solver]]] = {
    "256 x 256, wavelets": ((256, 256), partial(FISTA, InWavelets(L1(WEIGHT)), max_iter=40)),
    "96 x 96 x 96, L1": ((96, 96, 96), partial(FISTA, L1(WEIGHT), max_iter=10)),
    "96 x 96 x 96, TV": ((96, 96, 96), partial(PrimalDual, TV(WEIGHT), max_iter=10)),
    "160 x 160 x 160, L1": ((160, 160, 160), partial(FISTA, L1(WEIGHT), max_iter=4)),
}
HEADER = ("scan of 8 coils", "seconds", "kept", "ratio", "faults (millions)", "kept", "peak (GB)", "kept")


@torch.no_grad()
def run(name: str, keep: bool, threads: int) -> tuple[float, float, float]:
    """Seconds, millions of page faults and peak memory in GB of one run."""
    torch.set_num_threads(threads)
    if keep:
        keep_memory()
    shape, make = CASES[name]
    physics = CartesianMRI(poisson_disc(shape, 4), ring_coils(COILS, shape))
    generator = torch.Generator().manual_seed(0)
    y = physics.A(torch.randn(1, *physics.image_shape, dtype=torch.complex64, generator=generator))
    make().solve(y, physics)
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    make().solve(y, physics)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    return seconds, (after.ru_minflt - before.ru_minflt) / 1e6, after.ru_maxrss / 1e6


def row(name: str) -> list[str]:
    """One scan, given back beside kept."""
    found: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for _ in range(REPEATS):
            for keep, runs in found.items():
                runs.append(pool.apply(run, (name, keep, torch.get_num_threads())))
    (t, faults, peak), (kept_t, kept_faults, kept_peak) = (
        [statistics.median(values) for values in zip(*runs, strict=True)] for runs in found.values()
    )
    times = [f"{t:.2f}", f"{kept_t:.2f}", f"{t / kept_t:.2f}"]
    return [name, *times, f"{faults:.2f}", f"{kept_faults:.2f}", f"{peak:.2f}", f"{kept_peak:.2f}"]


def report() -> str:
    """The table."""
    return table(HEADER, shown(row(name) for name in CASES))


if __name__ == "__main__":
    main(report, threads=1)
