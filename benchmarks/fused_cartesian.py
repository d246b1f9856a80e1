"""What a compiled kernel could reach: products of a Cartesian scan with mask, maps and sum done in the cache.

``fused_cartesian.c``, compiled here, drives the Fourier transforms of the very MKL that torch brings, without
torch's calls between: a coil image at a time, or plane by plane and then along the first axis. Beside it the operator
itself, and the floor: torch's unscaled transforms of all coil images. Needs a C compiler, and a torch whose library
shows MKL's transforms (Linux wheels for x86-64).

    python benchmarks/fused_cartesian.py [--out FILE.md]
"""

import ctypes
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from ctypes import c_long, c_void_p
from pathlib import Path

import torch
from _timing import main, medians, relative_error, table
from torch import Tensor

from resolvent.apps.memory import keep_memory
from resolvent.datasets import ring_coils
from resolvent.operators import CartesianMRI, cartesian_lines, poisson_disc

C64 = torch.complex64
HEADER = ("scan", "product", "floor ms", "ours / floor", "C, whole / floor", "C, slabs / floor", "error of C")
Product = Callable[[Tensor], Tensor]


def compiled(folder: Path) -> ctypes.CDLL:
    """The kernel for this processor, over torch's MKL."""
    source, library = Path(__file__).with_suffix(".c"), folder / "fused_cartesian.so"
    compiler = os.environ.get("CC", "cc")
    options = ("-O3", "-march=native", "-ffast-math", "-shared", "-fPIC")
    subprocess.run([compiler, *options, source, "-o", library], check=True)
    ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
    kernel = ctypes.CDLL(str(library))
    kernel.transform.restype = kernel.first_axis.restype = c_void_p
    return kernel


class Slabs(ctypes.Structure):
    """As in the C file: transforms of some planes and of a block along the first axis, and these lengths."""

    _fields_ = (
        ("plane_h", c_void_p), ("first_h", c_void_p), ("planes", c_long), ("plane", c_long), ("at_once", c_long),
        ("block", c_long),
    )  # fmt: skip


def whole(kernel: ctypes.CDLL, shape: tuple[int, ...], *tables: Tensor) -> dict[str, Product]:
    """The three products, a coil image at a time."""
    plan = c_void_p(kernel.transform(len(shape), (c_long * len(shape))(*shape), c_long(1)))
    size = c_long(tables[1].numel())
    return _products(kernel, "whole", shape, tables, lambda coils: (plan, coils, size))


def slabs(kernel: ctypes.CDLL, shape: tuple[int, ...], at_once: int, block: int, *tables: Tensor) -> dict[str, Product]:
    """The three products, plane by plane (of two axes: ``at_once`` rows), then ``block`` columns along the first."""
    rest, plane = shape[1:], tables[1][0].numel()
    rows = kernel.transform(len(rest), (c_long * len(rest))(*rest), c_long(at_once))
    columns = kernel.first_axis(c_long(shape[0]), c_long(plane), c_long(block))
    plan = Slabs(rows, columns, shape[0], plane, at_once, block)
    return _products(kernel, "slabs", shape, tables, lambda coils: (ctypes.byref(plan), coils))


def _products(kernel, kind, shape, tables, plan) -> dict[str, Product]:
    maps, mask = tables
    coils, spare = len(maps), torch.empty(shape, dtype=C64)

    def product(name: str, out_shape: tuple[int, ...]) -> Product:
        work = getattr(kernel, f"{kind}_{name}")

        def apply(source: Tensor) -> Tensor:
            out = torch.empty(out_shape, dtype=C64)
            work(*plan(c_long(coils)), *(c_void_p(t.data_ptr()) for t in (maps, source, mask, out, spare)))
            return out

        return apply

    return {"A": product("A", (coils, *shape)), "A^H": product("AH", shape), "A^H A": product("AHA", shape)}


def rows(kernel: ctypes.CDLL, name: str, mask: Tensor, coils: int, at_once: int, block: int) -> list[list[str]]:
    """A row for each product; every way's result is compared with the plain formula's."""
    shape, axes = tuple(mask.shape), tuple(range(-mask.ndim, 0))
    maps = ring_coils(coils, shape).to(C64).contiguous()
    physics, mask = CartesianMRI(mask, maps), mask.float().contiguous()
    x, y = torch.randn(shape, dtype=C64), torch.randn(coils, *shape, dtype=C64)

    def back(z: Tensor) -> Tensor:
        return torch.fft.ifftn(z, dim=axes, norm="forward")

    def plain(source: Tensor, product: str) -> Tensor:
        data = source if product == "A^H" else mask * torch.fft.fftn(maps * source, dim=axes)
        return data if product == "A" else (maps.conj() * back(mask * data)).sum(0)

    ours = {"A": physics.A, "A^H": physics.A_adjoint, "A^H A": physics.A_adjoint_A}
    ways = whole(kernel, shape, maps, mask), slabs(kernel, shape, at_once, block, maps, mask)
    sources = {"A": x, "A^H": y, "A^H A": x}
    works = {f"floor {p}": lambda p=p: back(y) if p == "A^H" else torch.fft.fftn(y, dim=axes) for p in ("A", "A^H")}
    for p, source in sources.items():
        given = source[None, None] if p != "A^H" else source[None]
        works |= {f"ours {p}": lambda p=p, z=given: ours[p](z)}
        works |= {f"{i} {p}": lambda p=p, z=source, way=way: way[p](z) for i, way in enumerate(ways)}
    times = medians(works, repeats=41, clock=time.process_time)
    times["floor A^H A"] = times["floor A"] + times["floor A^H"]
    found = []
    for p, source in sources.items():
        error = max(relative_error(way[p](source), plain(source, p)) for way in ways)
        ratios = [f"{times[f'{way} {p}'] / times[f'floor {p}']:.2f}" for way in ("ours", "0", "1")]
        found.append([name, p, f"{1e3 * times[f'floor {p}']:.2f}", *ratios, f"{error:.0e}"])
    return found


@torch.no_grad()
def report() -> str:
    """The table."""
    torch.manual_seed(0)
    keep_memory()
    with tempfile.TemporaryDirectory() as folder:
        kernel = compiled(Path(folder))
        found = rows(kernel, "8 coils 256 x 256, Poisson disc", poisson_disc((256, 256), 6), 8, 64, 64)
        found += rows(kernel, "8 coils 256 x 256, lines", cartesian_lines((256, 256), 4), 8, 64, 64)
        found += rows(kernel, "4 coils 64 x 64 x 64, Poisson disc", poisson_disc((64, 64, 64), 4), 4, 1, 512)
    return table(HEADER, found)


if __name__ == "__main__":
    main(report, threads=1)
