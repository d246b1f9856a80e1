"""The inspection of denoisers, on linear ones whose Jacobian is known."""

import math

import pytest
import torch
from torch.testing import assert_close

from resolvent.priors import ImagePotential, LearnedProximalNetwork
from resolvent.priors.inspection import (
    agreement,
    asymmetry,
    blur_path,
    dense_jacobian,
    eigenbasis,
    expansion,
    extreme_eigenvalues,
    inhomogeneity,
    jvp,
    mixing_path,
    noise_path,
    spectral_norm,
    vjp,
)

F64 = torch.float64
SHAPE = (1, 1, 6, 5)


def linear(matrix):
    return lambda x: (x.flatten() @ matrix.T).reshape(x.shape)


@pytest.fixture
def matrix():
    return torch.randn(30, 30, dtype=F64) / 6


@pytest.fixture
def y():
    return torch.randn(SHAPE, dtype=F64)


def test_products(matrix, y):
    d = torch.randn(SHAPE, dtype=F64)
    assert_close(jvp(linear(matrix), y, d).flatten(), matrix @ d.flatten())
    assert_close(vjp(linear(matrix), y, d).flatten(), matrix.T @ d.flatten())
    assert_close(dense_jacobian(linear(matrix), y), matrix)


def test_asymmetry(matrix, y):
    exact = float((matrix - matrix.T).norm() / matrix.norm())
    assert asymmetry(linear(matrix), y, probes=400) == pytest.approx(exact, rel=0.05)
    assert asymmetry(linear(matrix + matrix.T), y) < 1e-14
    turn = torch.block_diag(*[torch.tensor([[0.0, 1], [-1, 0]], dtype=F64)] * 15)
    assert asymmetry(linear(turn), y) == pytest.approx(2)


def test_spectrum(matrix, y):
    exact = torch.linalg.eigvalsh((matrix + matrix.T) / 2)
    low, high = extreme_eigenvalues(linear(matrix), y, 1e-8)
    assert (low, high) == (pytest.approx(float(exact[0])), pytest.approx(float(exact[-1])))
    norm = float(torch.linalg.matrix_norm(matrix, 2))
    assert spectral_norm(linear(matrix), y, 500) == pytest.approx(norm, rel=1e-4)


def test_expansion_is_reached_along_the_first_singular_vector(matrix, y):
    _, s, v = torch.linalg.svd(matrix)
    along = (y, y + 0.1 * v[0].reshape(SHAPE))
    other = (y, y + 0.1 * v[3].reshape(SHAPE))
    assert expansion(linear(matrix), [other, along]) == pytest.approx(float(s[0]))
    assert expansion(linear(matrix), [other]) == pytest.approx(float(s[3]))


def test_homogeneity(matrix, y):
    assert inhomogeneity(linear(matrix), y) < 1e-14
    image = linear(matrix)(y)
    shifted = inhomogeneity(lambda x: linear(matrix)(x) + 1, y, (0.5,))
    assert shifted == pytest.approx(float(0.5 * math.sqrt(30) / (0.5 * (image + 1)).norm()))


def test_eigenbasis_is_the_denoiser(matrix, y):
    symmetric = matrix @ matrix.T
    basis = eigenbasis(symmetric, y)
    again = (basis.factors * basis.coefficients) @ basis.images.flatten(1)
    assert_close(again, symmetric @ y.flatten())
    assert (basis.factors[:-1] >= basis.factors[1:]).all()
    assert basis.dimension == pytest.approx(float(symmetric.trace()))


def test_learned_proximal_network_is_symmetric():
    f = LearnedProximalNetwork(ImagePotential(1, 8, 4, (1, 2)), 0.2).double()
    y = torch.randn(1, 1, 8, 8, dtype=F64)
    assert asymmetry(f, y) < 1e-12
    low, high = extreme_eigenvalues(f, y)
    assert 0.2 * (1 - 1e-6) <= low <= high
    assert spectral_norm(f, y, 200) == pytest.approx(high, rel=1e-2)


def test_paths():
    a, b = torch.rand(2, 1, 1, 8, 8, dtype=F64)
    noisy, blurred, mixed = noise_path(a, (0, 0.1, 0.3)), blur_path(a, (0, 1, 4)), mixing_path(a, b, (0, 0.5, 1))
    for path in (noisy, blurred, mixed):
        assert path.shape == (3, 1, 8, 8) and torch.equal(path[:1], a)
    assert noisy.min() >= 0 and noisy.max() <= 1 and not torch.equal(noisy[1], noisy[0])
    assert blurred[2].std() < blurred[1].std() < a.std()
    assert_close(mixed[1:2], (a + b) / 2)
    assert torch.equal(mixed[2:], b)


def test_agreement_of_independent_errors_is_one(y):
    errors = torch.linalg.qr(torch.randn(30, 2, dtype=F64)).Q.T.reshape(2, *SHAPE)
    found = agreement(lambda v: v + 3 * errors[0], lambda v: v - 4 * errors[1], y, y)
    assert_close(torch.tensor([*found, found.disagreement]), torch.tensor([5, 3, 4, float(y.norm())]) / float(y.norm()))
