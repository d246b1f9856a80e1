"""Priors made of others: on a transform of the image, in a wavelet basis, several at once."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import Dense, FiniteDifferences, Wavelet
from resolvent.priors import (
    L1,
    TV,
    Analysis,
    Box,
    Denoiser,
    GroupL1,
    InWavelets,
    Magnitude,
    NonNegative,
    Normalised,
    SmoothedL1,
    SmoothedTV,
    Sum,
    Tikhonov,
)
from resolvent.recon.bilevel import Parameters

F64, C128 = torch.float64, torch.complex128
SHAPE = (2, 8, 6)


def image(dtype=C128):
    return torch.randn(3, *SHAPE, dtype=dtype)


# -- on a transform ---------------------------------------------------------------------------------
def test_group_sparse_differences_are_isotropic_total_variation():
    x = image()
    prior = Analysis(GroupL1(0.7, axes=(1,)), FiniteDifferences(SHAPE))
    assert_close(prior.fn(x), TV(0.7).fn(x))
    assert_close(prior.scaled(2.0).fn(x), TV(1.4).fn(x))
    assert prior.convex and prior.explicit_prior and not prior.has_prox and not prior.has_grad


def test_sparse_differences_are_anisotropic_total_variation():
    x = image(F64)
    expected = x.diff(dim=2).abs().flatten(1).sum(1) + x.diff(dim=3).abs().flatten(1).sum(1)
    assert_close(Analysis(L1(), FiniteDifferences(SHAPE)).fn(x), expected)


def test_smoothed_differences_are_smoothed_total_variation():
    x = image()
    isotropic = Analysis(SmoothedL1(0.7, 0.2, axes=(1,)), FiniteDifferences(SHAPE))
    assert_close(isotropic.fn(x), SmoothedTV(0.7, 0.2).fn(x))
    assert_close(isotropic.grad(x), SmoothedTV(0.7, 0.2).grad(x))


@pytest.mark.parametrize("nu", [1e-2, 1e-4, 1e-6])
def test_smoothing_costs_at_most_nu_for_each_term(nu):
    """R <= R_nu <= R + nu N, so that the smoothed priors tend to the norms."""
    x = image()
    for norm, smooth, terms in ((L1(), SmoothedL1(nu=nu), 96), (TV(), SmoothedTV(nu=nu), 96)):
        gap = smooth.fn(x) - norm.fn(x)
        assert (gap >= 0).all() and (gap <= nu * terms).all()


def test_gradient_follows_the_chain_rule():
    x = image().requires_grad_()
    prior = Analysis(Tikhonov(0.7), FiniteDifferences(SHAPE))
    (expected,) = torch.autograd.grad(prior.fn(x).sum(), x)
    assert_close(prior.grad(x.detach()), expected)


def test_without_a_prox_it_says_so():
    with pytest.raises(NotImplementedError, match="Analysis has no prox"):
        Analysis(L1(), FiniteDifferences(SHAPE)).prox(image())


# -- wavelets ---------------------------------------------------------------------------------------
def test_wavelet_prox_thresholds_coefficients():
    x, w = image(), Wavelet(SHAPE, "db2")
    prior = InWavelets(L1(0.7), "db2")
    assert_close(prior.fn(x), L1(0.7).fn(w.A(x)))
    assert_close(w.A(prior.prox(x, gamma=0.5)), L1(0.35).prox(w.A(x)))


def test_a_weight_map_frees_the_approximation():
    x, w = image(), Wavelet(SHAPE, "haar", 1)
    weight = torch.ones(SHAPE[1:], dtype=F64)
    weight[:4, :3] = 0
    coefficients = w.A(InWavelets(L1(100 * weight), "haar", 1).prox(x))
    assert_close(coefficients[..., :4, :3], w.A(x)[..., :4, :3])
    assert coefficients[..., 4:, :].abs().max() < 1e-14 and coefficients[..., 3:].abs().max() < 1e-14


def test_unknown_wavelets_are_refused_at_once():
    with pytest.raises(ValueError, match=r"wavelet: found 'bior2\.2'"):
        InWavelets(L1(), "bior2.2")


# -- sums -------------------------------------------------------------------------------------------
def test_sum_of_l1_and_nonnegativity_is_a_one_sided_threshold():
    v = image(F64)
    prox = Sum([L1(0.5), NonNegative()], iterations=100).prox(v, gamma=0.6)
    assert_close(prox, (v - 0.3).clamp_min(0), rtol=0, atol=1e-10)


def test_sum_of_l1_and_energy_is_a_shrunk_threshold():
    v = image()
    expected = L1(0.5).prox(v) / 1.3
    assert_close(Sum([L1(0.5), Tikhonov(0.3)], iterations=100).prox(v), expected, rtol=0, atol=1e-10)


def test_sum_of_total_variation_and_l1_is_one_after_the_other():
    """The fused lasso, along one axis: the threshold of the total variation's proximal step."""
    v = torch.randn(3, 2, 12, dtype=F64)
    expected = L1(0.2).prox(TV(0.3, iterations=1500).prox(v))
    assert_close(Sum([TV(0.3), L1(0.2)], iterations=300).prox(v), expected, rtol=0, atol=1e-5)


def test_sum_of_two_sets_projects_onto_what_they_share():
    v = image(F64)
    prox = Sum([Box(-1.0, 0.5), Box(0.2, 2.0)], iterations=200).prox(v)
    assert_close(prox, v.clamp(0.2, 0.5), rtol=0, atol=1e-10)


def test_sum_continues_where_it_was():
    v, prior = image(), Sum([L1(0.5), GroupL1(0.5)], iterations=3)
    exact = Sum([L1(0.5), GroupL1(0.5)], iterations=500).prox(v)
    aux, errors = prior.start(v), []
    for _ in range(12):
        x, aux = prior.prox_from(v, 1.0, aux)
        errors.append(float((x - exact).norm()))
    assert errors[-1] < 1e-2 * errors[0]


def test_sum_has_what_all_its_terms_have():
    x = image()
    prior = Sum([Tikhonov(0.3), Tikhonov(0.4)])
    assert_close(prior.fn(x), Tikhonov(0.7).fn(x))
    assert_close(prior.grad(x), Tikhonov(0.7).grad(x))
    assert_close(prior.scaled(2.0).fn(x), Tikhonov(1.4).fn(x))
    mixed = Sum([L1(), Analysis(Tikhonov(), FiniteDifferences(SHAPE))])
    assert mixed.convex and mixed.has_value and not mixed.has_prox and not mixed.has_grad
    with pytest.raises(ValueError, match="priors: found none"):
        Sum([])
    with pytest.raises(ValueError, match="iterations: found 0"):
        Sum([L1()], iterations=0)


def test_transform_of_complex_images_has_a_lipschitz_constant():
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 4, generator=generator, dtype=torch.complex64)
    prior = Analysis(SmoothedL1(1.0, 0.1), Dense(matrix, (1, 2, 2)))
    expected = torch.linalg.matrix_norm(matrix, 2).square() * SmoothedL1(1.0, 0.1).lipschitz
    assert_close(prior.lipschitz.float(), expected.float(), rtol=2e-3, atol=0)


def test_a_learned_weight_is_scaled():
    weight = torch.nn.Parameter(torch.tensor(0.5))
    prior = L1(weight)
    assert_close(prior.scaled(2.0).weight, torch.tensor(1.0), check_dtype=False)
    assert prior.weight is weight and dict(prior.named_parameters()) == {"weight": weight}


def test_an_empty_image_has_no_peak():
    """A denoiser's answer to zeros is not zero; what is as small as the smallest number is no image."""
    prior = Magnitude(Normalised(Denoiser(lambda v, s: v + 0.1, 0.2)))
    for v in (torch.zeros(2, 1, 3, 3, dtype=torch.complex64), torch.full((1, 1, 3, 3), 1e-40, dtype=torch.complex64)):
        assert torch.equal(prior.prox(v), torch.zeros_like(v))
    v = torch.zeros(1, 1, 3, 3, requires_grad=True)
    Normalised(L1(0.1)).prox(v).sum().backward()
    assert not v.grad.any()


@pytest.mark.parametrize("make", [Magnitude, Normalised, InWavelets, lambda prior: Sum([prior, Tikhonov()])])
def test_a_weight_that_would_do_nothing_is_refused(make):
    made = make(L1())
    with pytest.raises(AttributeError, match=r"\.weight: found 10"):
        made.weight = 10
    with pytest.raises(ValueError, match=r"prior\.weight: found"):
        Parameters({"prior": made}, ["prior.weight"])
    assert made.double().weight == 1


def test_a_level_of_its_own_stands_in_place_of_a_weight():
    fixed, free = Denoiser(lambda x, sigma: x, 0.1), Denoiser(lambda x, sigma: x, None)
    assert not fixed.weighted and not Magnitude(fixed).weighted and Magnitude(free).weighted
    assert fixed.scaled(2.0) is fixed and free.scaled(2.0).weight == 2
    assert Sum([fixed, L1()]).weighted and not Sum([fixed, Normalised(fixed)]).weighted
