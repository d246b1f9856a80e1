"""What each operator costs over its floor: the transforms that no implementation goes without.

Floors, timed in the same run on arrays of the same shapes: for Cartesian MRI the unscaled FFTs of the coil images,
of A^H A along the axes on which the mask varies; for blur the real FFTs of the operator's grid; for trajectories the
executes of the FINUFFT plans. For ultrasound it is a yardstick: a gather of as many complex numbers as the matrix has
entries, which also writes them; a product that does not may be faster. Where A^H A can do with less than A and A^H one
after the other, a row of its own has the floors of these two.
Medians of interleaved repeats, process time, single precision.

    python benchmarks/operator_floors.py [--out FILE.md]
"""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import finufft
import numpy as np
import torch
from _timing import main, medians, table
from torch import Tensor

from resolvent.datasets import ring_coils
from resolvent.operators import (
    Blur,
    CartesianMRI,
    CircularBlur,
    NonCartesianMRI,
    Operator,
    PlaneWaveIQ,
    cartesian_lines,
    poisson_disc,
)
from resolvent.operators.non_cartesian_mri import PRECISION

C64, F64 = torch.complex64, torch.float64
HEADER = ("operator", "product", "ms", "floor ms", "ratio")
Work = Callable[[], object]


class Case(NamedTuple):
    """An operator, the dtype of its images, and what A and A^H (and A^H A, where that is less) cannot go without."""

    physics: Operator
    dtype: torch.dtype
    floors: Mapping[str, Work]


def cartesian(mask: Tensor, coils: int, varying: tuple[int, ...]) -> Case:
    """Coil images to k-space and back, each transform unscaled; of A^H A only along the ``varying`` axes."""
    physics = CartesianMRI(mask, ring_coils(coils, mask.shape))
    stack, axes = torch.randn(1, coils, *mask.shape, dtype=C64), tuple(range(-mask.ndim, 0))

    def back(stack: Tensor, axes: tuple[int, ...]) -> Tensor:
        return torch.fft.ifftn(stack, dim=axes, norm="forward")

    floors = {"A": lambda: torch.fft.fftn(stack, dim=axes), "A^H": lambda: back(stack, axes)}
    less = {"A^H A": lambda: back(torch.fft.fftn(stack, dim=varying), varying)} if varying != axes else {}
    return Case(physics, C64, floors | less)


def blur(physics: Blur | CircularBlur) -> Case:
    """To the spectrum of the grid and back."""
    image = torch.randn(1, 1, *physics.grid)

    def pair() -> Tensor:
        return torch.fft.irfftn(torch.fft.rfftn(image, dim=(-2, -1)), s=physics.grid, dim=(-2, -1))

    once = {"A": pair, "A^H": pair}
    return Case(physics, torch.float32, once | ({"A^H A": pair} if isinstance(physics, CircularBlur) else {}))


def radial(spokes: int = 64, samples: int = 512, size: int = 256, coils: int = 8) -> Case:
    """The same plans as the operator's, on arrays that need no conversion."""
    angle, radius = torch.arange(spokes, dtype=F64) * (torch.pi / spokes), (torch.arange(samples) / samples - 0.5)
    trajectory = torch.stack([torch.outer(angle.cos(), radius), torch.outer(angle.sin(), radius)], -1).flatten(0, 1)
    shape, points = (size, size), (2 * torch.pi * trajectory).float().numpy().T.copy()
    plans = {}
    for kind, sign in ((1, 1), (2, -1)):
        plans[kind] = finufft.Plan(
            kind, shape, n_trans=coils, eps=PRECISION[C64], isign=sign, dtype="complex64", nthreads=1
        )
        plans[kind].setpts(*points)
    images = np.random.default_rng(0).standard_normal((coils, *shape)).astype(np.complex64)
    echoes = np.ones((coils, spokes * samples), np.complex64)
    physics = NonCartesianMRI(trajectory, (1, *shape), ring_coils(coils, shape))
    return Case(physics, C64, {"A": lambda: plans[2].execute(images), "A^H": lambda: plans[1].execute(echoes)})


def plane_wave() -> Case:
    """A linear array over a square of 25 mm; a read of the image per entry, or of the data."""
    elements = 0.298e-3 * (torch.arange(128, dtype=F64) - 63.5)
    x, z = 1e-4 * torch.arange(-125, 126, dtype=F64), 1e-4 * torch.arange(100, 351, dtype=F64)
    physics = PlaneWaveIQ([0.0], elements, x, z, 334, 20e6 / 3, 5e6, 9.95e-6, 1480.0, f_number=1.1)
    heard = (2 * 1.1 * (x - elements[:, None]).abs())[:, None] <= z[:, None]
    pixels = heard.flatten(1).nonzero()[:, 1].int().repeat(2)
    samples = torch.randint(128 * 334, pixels.shape, dtype=torch.int32).sort().values
    image, traces = torch.randn(251 * 251, dtype=C64), torch.randn(128 * 334, dtype=C64)
    return Case(physics, C64, {"A": gather(image, pixels), "A^H": gather(traces, samples)})


def gather(values: Tensor, indices: Tensor, at_once: int = 2**15) -> Work:
    """Reads of ``values`` at ``indices``, written where the cache keeps them."""
    parts, buffer = indices.split(at_once), torch.empty(at_once, dtype=values.dtype)
    return lambda: [torch.index_select(values, 0, part, out=buffer[: len(part)]) for part in parts]


CASES = {
    "MRI, 8 coils 256 x 256, Poisson disc": lambda: cartesian(poisson_disc((256, 256), 6), 8, (-2, -1)),
    "MRI, 8 coils 256 x 256, lines": lambda: cartesian(cartesian_lines((256, 256), 4), 8, (-1,)),
    "MRI, 4 coils 64 x 64 x 64, Poisson disc": lambda: cartesian(poisson_disc((64, 64, 64), 4), 4, (-2, -1)),
    "circular blur 512 x 512, 15 x 15": lambda: blur(CircularBlur(torch.rand(15, 15), (1, 512, 512))),
    "blur 512 x 512, 15 x 15": lambda: blur(Blur(torch.rand(15, 15), (1, 512, 512))),
    "MRI, 8 coils 256 x 256, 64 spokes of 512": radial,
    "plane wave, 128 elements, 251 x 251 pixels": plane_wave,
}


def rows(name: str, case: Case) -> list[list[str]]:
    """One row for each of the three products; the floor of A^H A is that of one after the other if none is stated."""
    x = torch.randn(1, *case.physics.image_shape, dtype=case.dtype)
    y = torch.randn(1, *case.physics.data_shape, dtype=case.dtype)
    products = {
        "A": lambda: case.physics.A(x), "A^H": lambda: case.physics.A_adjoint(y),
        "A^H A": lambda: case.physics.A_adjoint_A(x),
    }  # fmt: skip
    works = products | {f"floor of {key}": work for key, work in case.floors.items()}
    times = medians(works, repeats=31, clock=time.process_time)
    both = times["floor of A"] + times["floor of A^H"]
    floors = {key: times.get(f"floor of {key}", both) for key in products}
    figures = [(key, times[key], floor) for key, floor in floors.items()]
    if "A^H A" in case.floors:
        figures.append(("A^H A over A and A^H", times["A^H A"], both))
    return [[name, key, f"{1e3 * t:.2f}", f"{1e3 * floor:.2f}", f"{t / floor:.2f}"] for key, t, floor in figures]


@torch.no_grad()
def report() -> str:
    """The table."""
    torch.manual_seed(0)
    return table(HEADER, [row for name, make in CASES.items() for row in rows(name, make())])


if __name__ == "__main__":
    main(report, threads=1)
