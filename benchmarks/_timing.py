"""Shared by the benchmarks: interleaved medians, machine rates, peak memory, Markdown tables, the command line."""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Work = Callable[[], object]
MB = 1e6


def medians(
    works: Mapping[str, Work], repeats: int = 15, warm_up: int = 2, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each work, the works taking turns so that a busy machine slows all alike.

    On one thread ``time.process_time`` as the clock leaves out what other processes took.
    """
    for work in works.values():
        for _ in range(warm_up):
            work()
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            began = clock()
            work()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def gemm_rate(n: int = 1024) -> float:
    """Complex64 matrix product rate in flop/s, 8 real operations per multiply-add; best of 10."""
    a, b = torch.randn(n, n, dtype=torch.complex64), torch.randn(n, n, dtype=torch.complex64)
    return 8 * n**3 / _best(lambda: a @ b)


def read_bandwidth(megabytes: int = 512) -> float:
    """Bytes per second of a float32 sum over an array far larger than the caches; best of 10."""
    x = torch.ones(megabytes * 250_000)
    return x.nbytes / _best(x.sum)


def _best(work: Work, repeats: int = 10) -> float:
    return min(medians({"work": work}, repeats=1, warm_up=1)["work"] for _ in range(repeats))


def peak_memory(work: Callable[..., object], *args: object) -> float:
    """Bytes by which the resident memory of a fresh process grows at most during ``work(baseline, *args)``.

    ``work`` calls ``baseline()`` once its inputs stand and its libraries are warm.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_watched, args=(theirs, work, args, torch.get_num_threads()))
    process.start()
    theirs.close()
    peak = ours.recv()
    process.join()
    return peak


def _watched(pipe, work, args, threads):
    torch.set_num_threads(threads)
    before = []

    def baseline() -> None:
        ctypes.CDLL(None).malloc_trim(0)  # free heap still resident would hide what the work takes
        Path("/proc/self/clear_refs").write_text("5")
        before.append(_resident("VmRSS"))

    work(baseline, *args)
    pipe.send(_resident("VmHWM") - before[-1])


def _resident(field: str) -> float:
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith(field))
    return 1024 * float(line.split()[1])


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    """``||a - b|| / ||b||`` in float64."""
    a, b = a.flatten().to(torch.complex128), b.flatten().to(torch.complex128)
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def machine() -> str:
    """The machine in words."""
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}, Python {platform.python_version()}"
    )


def shown(rows: Iterable[Sequence[object]]) -> list[Sequence[object]]:
    """The rows of a table, each printed when it is there."""
    found = []
    for row in rows:
        print(*row, sep=" | ", flush=True)
        found.append(row)
    return found


def main(report: Callable[..., str], threads: int, parts: Sequence[str] = (), **options: Any) -> None:
    """Print ``report()`` as run on ``threads`` threads, and write it to ``--out`` if given.

    The script's docstring is its help.

    :param parts: what ``--only`` chooses from; if there are any, ``report`` takes those to be measured first.
    :param options: further options, which ``report`` takes by name: their default, or the type of one that is None
        if not given. A flag is False, of a list several are taken.
    """
    parser = argparse.ArgumentParser(
        description=sys.modules["__main__"].__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    if parts:
        parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts of the tables to measure")
    for name, default in options.items():
        parser.add_argument(f"--{name}", **_kind(default))
    given = vars(parser.parse_args())
    out, only = given.pop("out"), ([given.pop("only")] if parts else [])
    torch.set_num_threads(threads)
    text = f"{report(*only, **given)}\n\nMeasured on {machine()}, {threads} thread{'s' * (threads > 1)}.\n"
    print(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")


def _kind(default: Any) -> dict[str, Any]:
    """What argparse is told of an option."""
    if isinstance(default, type):
        return {"type": default}
    if isinstance(default, bool):
        return {"action": "store_true"}
    several = isinstance(default, list)
    kind = type(default[0] if several else default)
    return {
        "type": Path if issubclass(kind, Path) else kind, "default": default, "help": f"{default} if not given",
        **({"nargs": "+"} if several else {}),
    }  # fmt: skip
