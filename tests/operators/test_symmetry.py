"""Arrays with mirror symmetry: the contraction over a fundamental domain against the one over all voxels."""

import math

import pytest
import torch

from resolvent.operators import NearFieldMIMO
from resolvent.operators.mirrored import Mirrored
from resolvent.operators.symmetry import Symmetry

F64, C128 = torch.float64, torch.complex128
CENTRE = torch.tensor([0.01, -0.02, 0.0], dtype=F64)
ACROSS, ALONG = torch.diag(torch.tensor([-1.0, 1, 1], dtype=F64)), torch.diag(torch.tensor([1.0, -1, 1], dtype=F64))
SWAP = torch.eye(3, dtype=F64)[[1, 0, 2]]
TURN = ACROSS @ ALONG
GROUPS = {
    "mirror across x": [ACROSS],
    "mirror across y": [ALONG],
    "diagonal mirror": [SWAP],
    "other diagonal": [TURN @ SWAP],
    "half-turn": [TURN],
    "two mirrors": [ACROSS, ALONG, TURN],
    "two diagonals": [SWAP, TURN @ SWAP, TURN],
}


def orbit(points, moves):
    """The points and their images, each once, in an order without system, about the centre."""
    images = torch.cat([points, *(points @ m.T for m in moves)]).add(0.0).unique(dim=0)
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(3))] + CENTRE


def antennas(moves, seed):
    """Two anywhere, one on each mirror, one in the centre; with the images of all."""
    anywhere = 0.05 * torch.randn(2, 3, generator=torch.Generator().manual_seed(seed), dtype=F64)
    special = torch.tensor([[0.03, 0, 0], [0, 0.02, 0], [0.04, 0.04, 0.01], [0.01, -0.01, 0], [0, 0, 0.01]], dtype=F64)
    return orbit(torch.cat([anywhere, special]), moves)


def radar(moves, size=(4, 4), **kwargs):
    lateral = [torch.linspace(-0.05, 0.05, n, dtype=F64) + c for n, c in zip(size, CENTRE[:2], strict=True)]
    given = {
        "transmitters": antennas(moves, 0), "receivers": antennas(moves, 1), "frequencies": torch.linspace(4e9, 8e9, 6),
        "x": lateral[0], "y": lateral[1], "z": torch.tensor([0.2, 0.23, 0.3]),
    }  # fmt: skip
    return NearFieldMIMO(**(given | kwargs))


def check(physics, order):
    """Against the contractions without symmetry, in float64, and that the symmetry found is of that order."""
    engine = physics._engine(C128)
    assert isinstance(engine, Mirrored) and len(engine.symmetry.orbits) == order
    plain = physics._build(C128, *physics._physical(), keep=False)
    s = torch.randn(2, physics._n_voxels, dtype=C128)
    y = torch.randn(2, *physics.data_shape[1:3], *(physics.data_shape[3:] or (1,)), dtype=C128)
    for _ in range(2):
        assert torch.allclose(engine.forward(s), plain.forward(s), rtol=0, atol=1e-11 * plain.forward(s).abs().max())
        assert torch.allclose(engine.adjoint(y), plain.adjoint(y), rtol=0, atol=1e-11 * plain.adjoint(y).abs().max())


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("name", GROUPS)
def test_every_symmetry_even_and_odd_grids(name, size):
    check(radar(GROUPS[name], (size, size)), 1 + len(GROUPS[name]))


def test_a_rectangular_grid_keeps_its_mirrors():
    check(radar(GROUPS["two mirrors"], (4, 5)), 4)


def test_frequencies_without_a_common_step():
    check(radar(GROUPS["two diagonals"], frequencies=torch.tensor([4e9, 5e9, 7.5e9])), 4)


def test_a_symmetric_support():
    support = torch.zeros(5, 5, 3, dtype=torch.bool)
    support[1:4, 2] = support[2, 1:4] = True
    check(radar(GROUPS["two mirrors"], (5, 5), support=support), 4)


def test_pairs_that_are_exchanged():
    moves = GROUPS["half-turn"]
    tx, rx = antennas(moves, 0), antennas(moves, 1)
    every = torch.cartesian_prod(torch.arange(len(tx)), torch.arange(len(rx)))
    equally_far = (tx[every[:, 0]] - rx[every[:, 1]]).norm(dim=1) < 0.1
    assert 0 < equally_far.sum() < len(every)
    check(radar(moves, pairs=every[equally_far]), 2)


def test_the_paper_s_array_has_both_diagonals():
    symmetry = NearFieldMIMO.paper(3)._symmetry
    assert symmetry.orbits.shape == (4, 13 * 13 * 49)


@pytest.mark.parametrize("name", ["two mirrors", "half-turn"])
def test_gram_matrix_in_parts(name):
    """In the coordinates of ``split`` A A^H is block-diagonal, and ``split`` is orthonormal."""
    physics = radar(GROUPS[name], (5, 5), frequencies=[4e9, 5e9])
    m = math.prod(physics.data_shape)
    unit = torch.eye(m, dtype=C128).reshape(m, *physics.data_shape)
    basis = torch.cat(physics.split(unit), 1)
    assert torch.allclose(basis.mH @ basis, torch.eye(m, dtype=C128), atol=1e-13)
    assert torch.allclose(physics.join(physics.split(unit)), unit, atol=1e-13)
    coordinates = torch.eye(m, dtype=C128).split([len(part) for part in physics.gram(C128)], 1)
    image = torch.cat(physics.split(physics.A(physics.A_adjoint(physics.join(list(coordinates))))), 1)
    parts = torch.block_diag(*physics.gram(C128))
    assert torch.allclose(image.mT, parts, rtol=0, atol=1e-12 * parts.abs().max())


def test_exact_proximal_step_solves_its_equation():
    physics = radar(GROUPS["two diagonals"], (9, 9), z=torch.linspace(0.2, 0.3, 20), frequencies=[4e9, 5e9])
    assert physics.has_exact_prox and physics.x_update.count(" x ") == 4
    z, y = torch.randn(2, *physics.image_shape, dtype=C128), torch.randn(2, *physics.data_shape, dtype=C128)
    x = physics.prox_l2(z, y, 0.3)
    gradient = (x - z) / 0.3 + physics.A_adjoint(physics.A(x) - y)
    assert gradient.norm() <= 1e-10 * physics.A_adjoint(y).norm()


def test_one_step_images_are_those_without_symmetry(monkeypatch):
    physics = radar(GROUPS["two mirrors"])
    y = torch.randn(2, *physics.data_shape, dtype=C128)
    images = physics.back_project(y), physics.kirchhoff(y)
    assert physics._symmetry is not None
    monkeypatch.setattr(Symmetry, "of", lambda *_: None)
    plain = radar(GROUPS["two mirrors"])
    for image, expected in zip(images, (plain.back_project(y), plain.kirchhoff(y)), strict=True):
        assert torch.allclose(image, expected, rtol=0, atol=1e-11 * expected.abs().max())


TX = antennas(GROUPS["mirror across x"], 0)
SPOILT = {
    "one antenna a nanometre off": {"transmitters": TX + 1e-9 * (torch.arange(len(TX)) == 1)[:, None]},
    "an antenna twice": {"transmitters": torch.cat([TX, TX[:1]])},
    "the grid": {"x": torch.tensor([-0.04, -0.02, 0.0, 0.0601], dtype=F64)},
    "the support": {"support": torch.arange(4 * 4 * 3).reshape(4, 4, 3) > 0},
    "the pairs": {"pairs": torch.tensor([[0, 1], [2, 3]])},
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_nearly_symmetric_is_not_symmetric(spoilt):
    assert radar(GROUPS["mirror across x"])._symmetry is not None
    assert radar(GROUPS["mirror across x"], **SPOILT[spoilt])._symmetry is None
