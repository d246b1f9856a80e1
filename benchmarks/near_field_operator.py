"""Near-field MIMO radar operator against the dense matrix, stored factors and the machine's limits.

Measures forward and adjoint of ``NearFieldMIMO`` for the paper's set-up (20 frequencies), which has two
mirrors, and for the same with antennas moved, which has none, beside the dense complex64 product and
batched products with stored phasors; the set-up of ten times that size; and a breast-imaging ring
measured by antenna pairs. Limit: the larger of 8 M N flop over the complex matrix product rate and the
phasors' bytes over the read bandwidth, both measured in the same run; a symmetric array needs a half or
a quarter of that.

    python benchmarks/near_field_operator.py [--out FILE.md]
"""

import math

import torch
from _timing import MB, gemm_rate, main, medians, peak_memory, read_bandwidth, relative_error, table

from resolvent.operators import SPEED_OF_LIGHT, NearFieldMIMO

HEADER = (
    "set-up", "product", "time ms", "dense ms", "dense / ours", "stored factors ms", "limit ms", "ours / limit",
    "error to dense", "error to float64", "peak memory MB",
)  # fmt: skip


def paper() -> NearFieldMIMO:
    """12 x 13 antennas, 20 frequencies, 25 x 25 x 49 voxels."""
    return NearFieldMIMO.paper(20)


def spoilt() -> NearFieldMIMO:
    """The same, one antenna of each arm a millimetre off."""
    physics = paper()
    for antennas in (physics.transmitters, physics.receivers):
        antennas[1, 0] += 1e-3
    return NearFieldMIMO(**physics.geometry())


def experiment() -> NearFieldMIMO:
    """16 x 9 antennas, 30 frequencies, 61^3 voxels."""
    return NearFieldMIMO.experiment(n_frequencies=30, n_voxels=61)


def ring() -> NearFieldMIMO:
    """24 antennas on a 7 cm ring in oil, 96 pairs, 76 frequencies, 41 x 41 x 21 voxels."""
    angle = torch.arange(24, dtype=torch.float64) * (2 * math.pi / 24)
    antennas = 0.07 * torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)
    pairs = torch.tensor([(i, (i + d) % 24) for i in range(24) for d in (3, 5, 8, 11)])
    lateral = torch.linspace(-0.05, 0.05, 41, dtype=torch.float64)
    return NearFieldMIMO(
        antennas, antennas, torch.linspace(1e9, 8.5e9, 76, dtype=torch.float64), lateral, lateral,
        torch.linspace(0.01, 0.06, 21, dtype=torch.float64), pairs=pairs,
        propagation_speed=SPEED_OF_LIGHT / math.sqrt(2.7), spreading=False,
    )  # fmt: skip


def distances(physics: NearFieldMIMO) -> tuple[torch.Tensor, torch.Tensor]:
    """Antennas to voxels in metres, float64: transmitters ``(T, N)``, receivers ``(R, N)``."""
    grid = torch.meshgrid(physics.x, physics.y, physics.z, indexing="ij")
    voxels = torch.stack([axis.flatten() for axis in grid], 1)
    return tuple(
        torch.linalg.vector_norm(p[:, None] - voxels, dim=2) for p in (physics.transmitters, physics.receivers)
    )


def exact_rows(physics: NearFieldMIMO, frequency: int) -> torch.Tensor:
    """All rows of one frequency, ``(T R or P, N)`` complex128, from the model's equation."""
    there, back = distances(physics)
    if physics.pairs is None:
        path, gain = there[:, None] + back, 1 / (4 * math.pi * there[:, None] * back)
    else:
        path, gain = there[physics.pairs[:, 0]] + back[physics.pairs[:, 1]], torch.ones((), dtype=torch.float64)
    return torch.polar(gain.expand_as(path), -physics.wavenumbers[frequency] * path).flatten(0, -2)


def inputs(physics: NearFieldMIMO) -> tuple[torch.Tensor, torch.Tensor]:
    """A random image and random data, complex64."""
    generator = torch.Generator().manual_seed(0)
    shapes = physics.image_shape, physics.data_shape
    return tuple(torch.randn(1, *shape, dtype=torch.complex64, generator=generator) for shape in shapes)


def errors_to_float64(physics: NearFieldMIMO) -> tuple[float, float]:
    """Relative errors of forward and adjoint against the equation in float64, at three frequencies."""
    x, y = inputs(physics)
    picked = (0, len(physics.frequencies) // 2, len(physics.frequencies) - 1)
    rows = torch.cat([exact_rows(physics, k) for k in picked])
    some = torch.zeros_like(y)
    some[:, :, picked] = y[:, :, picked]
    forward = relative_error(physics.A(x)[:, :, picked], rows @ x.flatten().to(rows.dtype))
    return forward, relative_error(physics.A_adjoint(some), rows.mH @ y[:, :, picked].flatten().to(rows.dtype))


def ours(physics: NearFieldMIMO) -> dict:
    """The two products to time."""
    x, y = inputs(physics)
    return {"forward": lambda: physics.A(x), "adjoint": lambda: physics.A_adjoint(y)}


def dense(physics: NearFieldMIMO) -> tuple[dict, dict]:
    """Products with the explicit complex64 matrix, and their results."""
    matrix = torch.cat([exact_rows(physics, k).to(torch.complex64) for k in range(len(physics.frequencies))])
    s, r = (t.flatten() for t in inputs(physics))
    works = {"dense forward": lambda: matrix @ s, "dense adjoint": lambda: matrix.mH @ r}
    return works, {name.split()[1]: work() for name, work in works.items()}


def stored(physics: NearFieldMIMO) -> dict:
    """Plain batched products with the phasors of all frequencies stored."""
    there, back = distances(physics)
    k = physics.wavenumbers[:, None, None]
    e = torch.polar((1 / there).expand(len(k), -1, -1), -k * there).to(torch.complex64)
    f = torch.polar((1 / (4 * math.pi * back)).expand(len(k), -1, -1), -k * back).to(torch.complex64)
    x, y = (t[0, 0] for t in inputs(physics))
    s = x.flatten()
    return {
        "stored forward": lambda: torch.bmm(e * s, f.mT),
        "stored adjoint": lambda: torch.einsum("ktv,ktv->v", e.conj(), torch.bmm(y, f.conj())),
    }


def limit(physics: NearFieldMIMO, flops: float, bandwidth: float) -> float:
    """Seconds that neither arithmetic nor memory allows to undercut: first phasor and three powers are read."""
    size = math.prod(physics.data_shape) * math.prod(physics.image_shape)
    antennas = sum(physics.data_shape[2:]) if physics.pairs is None else len(physics.pairs)
    table_bytes = 4 * 8 * antennas * math.prod(physics.image_shape)
    return max(8 * size / flops, table_bytes / bandwidth)


def product_in_fresh_process(baseline, setup, product) -> None:
    """One product from nothing: phasor tables, workspace and result are all counted."""
    ours(NearFieldMIMO.experiment(n_frequencies=3, n_voxels=8))[product]()
    work = ours(setup())[product]
    baseline()
    work()


def rows_of(setup, rates, works: dict, others: dict | None = None, repeats: int = 15) -> list[list[str]]:
    """Forward and adjoint row of one set-up; ``others`` are timed in turn with ours."""
    physics = setup()
    seconds = medians(ours(physics) | works, repeats)
    out = []
    for product, to_float64 in zip(("forward", "adjoint"), errors_to_float64(physics), strict=True):
        bound = limit(physics, *rates)
        at_hand = {kind: seconds.get(f"{kind} {product}") for kind in ("dense", "stored")}
        to_dense = relative_error(ours(physics)[product](), others[product]) if others else None
        cells = [
            seconds[product] * 1e3, at_hand["dense"] and at_hand["dense"] * 1e3,
            at_hand["dense"] and at_hand["dense"] / seconds[product],
            at_hand["stored"] and at_hand["stored"] * 1e3, bound * 1e3, seconds[product] / bound,
        ]  # fmt: skip
        memory = peak_memory(product_in_fresh_process, setup, product) / MB
        out.append(
            [setup.__doc__.rstrip("."), product, *(_number(c, ".1f") for c in cells),
             _number(to_dense, ".1e"), f"{to_float64:.1e}", f"{memory:.0f}"]
        )  # fmt: skip
    return out


def _number(value, form: str) -> str:
    return "" if value is None else format(value, form)


def report() -> str:
    """The table and the machine's rates."""
    rates = gemm_rate(), read_bandwidth()
    rows = []
    for setup in (paper, spoilt):
        works, results = dense(setup())
        rows += rows_of(setup, rates, works | stored(setup()), results)
        del works
    rows += rows_of(experiment, rates, {}, repeats=5) + rows_of(ring, rates, {}, repeats=5)
    measured = f"Complex matrix product {rates[0] / 1e9:.0f} GFlop/s, read bandwidth {rates[1] / 1e9:.0f} GB/s."
    return f"{table(HEADER, rows)}\n\n{measured}"


if __name__ == "__main__":
    main(report, threads=2)
