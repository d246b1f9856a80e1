"""Half-quadratic splitting against its recursion written out, deepinv's DPIR, and what a start is good for."""

import copy
import itertools
import math

import deepinv
import pytest
import skimage
import torch
from deepinv.physics import GaussianNoise, Inpainting
from torch.testing import assert_close

from resolvent.operators import Blur, CircularBlur, Dense, Scaled
from resolvent.priors import L1, TV, Denoiser, KSupport, Magnitude, Tikhonov
from resolvent.recon import HalfQuadratic, Problem, RelativeChange, filled, psnr
from resolvent.recon.linear import conjugate_gradient, unchanged
from resolvent.recon.start import first_image, fitted

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])


def dense(dtype=C128):
    return Dense(torch.randn(30, 12, dtype=dtype), (1, 3, 4))


def total_variation(x, sigma):
    """A denoiser of sorts for noise of standard deviation sigma."""
    return TV(iterations=30).prox(x, gamma=sigma)


def camera(size=64):
    photo = torch.as_tensor(skimage.data.camera(), dtype=F64)[None, None] / 255
    return torch.nn.functional.avg_pool2d(photo, 4)[..., 16 : 16 + size, 32 : 32 + size]


@DTYPES
def test_quadratic_prior_is_the_recursion_written_out(dtype):
    physics, sigma, weight = dense(dtype), 0.02, 0.23
    y, m = torch.randn(1, 30, dtype=dtype), physics.matrix
    z = x0 = torch.randn(1, 1, 3, 4, dtype=dtype)
    z = z.flatten()
    for k in range(5):
        level = (49 / 255) * (sigma / (49 / 255)) ** (k / 4)
        rho = weight * sigma**2 / level**2
        x = torch.linalg.solve(m.mH @ m + rho * torch.eye(12), m.mH @ y[0] + rho * z)
        z = x / (1 + level**2 * 3.0)
    solver = HalfQuadratic(Tikhonov(3.0), noise_std=sigma, max_iter=5, cg_iterations=100, cg_rtol=1e-14)
    assert_close(solver.solve(y, physics, x0=x0).image.flatten(), z, rtol=1e-9, atol=1e-9)


def test_a_schedule_is_completed_not_cut_short():
    physics, y = dense(), torch.randn(2, 30, dtype=C128)
    assert HalfQuadratic(L1(), 0.05, max_iter=3).solve(y, physics).status == ("completed",) * 2
    still = HalfQuadratic(Tikhonov(0.0), 0.05, first=0.05, stop=RelativeChange(1e-9), cg_rtol=1e-14)
    assert still.solve(y, physics).status == ("converged",) * 2


def test_is_deepinvs_dpir():
    """From A^H y, as DPIR begins, with an exact data step on both sides."""

    class Shrink(deepinv.models.base.Denoiser):
        def forward(self, x, sigma):
            sigma = torch.as_tensor(sigma).reshape(-1, 1, 1, 1)
            return x - sigma * torch.tanh(x - x.mean((-1, -2), keepdim=True))

    kernel = torch.rand(3, 3)
    ours, theirs = (
        CircularBlur(kernel / kernel.sum(), (1, 12, 12)),
        deepinv.physics.BlurFFT((1, 12, 12), filter=(kernel / kernel.sum())[None, None]),
    )
    y = torch.rand(2, 1, 12, 12)
    dpir = deepinv.optim.DPIR(sigma=0.03, denoiser=Shrink(), device="cpu")(y, theirs)
    image = HalfQuadratic(Denoiser(Shrink(), None), 0.03)(y, ours, x0=ours.A_adjoint(y))
    assert_close(image, dpir, rtol=1e-4, atol=1e-5)


def test_schedule_falls_evenly_to_the_noise():
    problem = Problem(torch.zeros(1, 30), dense())
    levels = HalfQuadratic(L1(), noise_std=0.01).schedule(problem)[:, 0].tolist()
    assert len(levels) == 8 and levels[0] == pytest.approx(49 / 255) and levels[-1] == pytest.approx(0.01)
    ratios = [b / a for a, b in itertools.pairwise(levels)]
    assert_close(torch.tensor(ratios), torch.full((7,), ratios[0]))
    assert HalfQuadratic(L1(), noise_std=0.5).schedule(problem).flatten().tolist() == pytest.approx([0.5] * 8)


def test_a_single_level_is_that_of_the_data():
    physics = Dense(torch.eye(30), (1, 30))
    only = HalfQuadratic(L1(), noise_std=0.01, max_iter=1).schedule(Problem(torch.zeros(1, 30), physics))
    assert only.tolist() == [[pytest.approx(0.01)]]


def test_images_of_other_noise_have_a_schedule_of_their_own():
    """Estimated, each image's level is its own: it is the same alone and beside a noisier one."""
    physics = CircularBlur(torch.ones(3, 3, dtype=F64) / 9, (1, 16, 16))
    y = physics.A(torch.rand(2, 1, 16, 16, dtype=F64))
    y = y + torch.tensor([0.01, 0.3], dtype=F64).reshape(2, 1, 1, 1) * torch.randn(2, 1, 16, 16, dtype=F64)
    for prior in (Denoiser(lambda v, s: v / (1 + s**2), None), L1(), Magnitude(KSupport(k=40))):
        solver = HalfQuadratic(prior)
        together = solver(y, physics)
        for i in range(2):
            assert_close(together[i : i + 1], solver(y[i : i + 1], physics), rtol=1e-8, atol=1e-10)


def test_a_denoiser_sees_the_schedule():
    seen = []

    def note(x, sigma):
        seen.append(sigma)
        return x

    physics = dense()
    solver = HalfQuadratic(Magnitude(Denoiser(note, None)), noise_std=0.02)
    solver(torch.randn(2, 30, dtype=C128), physics)
    assert seen == pytest.approx(solver.schedule(Problem(torch.zeros(2, 30), physics))[:, 0].tolist())


def test_noise_level_comes_from_the_operator():
    physics, y = dense(), torch.randn(1, 30, dtype=C128)
    with pytest.raises(ValueError, match="noise_std: found none stated and none above 0 in the data"):
        HalfQuadratic(L1())(y, physics)
    by_hand = HalfQuadratic(L1(), noise_std=0.05)(y, physics)
    physics.set_noise_model(GaussianNoise(0.05))
    assert_close(HalfQuadratic(L1())(y, physics), by_hand)


def test_exact_and_iterative_data_steps_agree():
    exact = CircularBlur(torch.rand(3, 3), (1, 6, 6))
    unit = torch.eye(36, dtype=F64).unflatten(1, (1, 6, 6))
    matrix = Dense(exact.A(unit).flatten(1).mT, (1, 6, 6), (1, 6, 6))
    y = torch.randn(2, 1, 6, 6, dtype=F64)
    solver = HalfQuadratic(L1(), 0.1, cg_iterations=200, cg_rtol=1e-13)
    assert_close(solver(y, matrix), solver(y, exact), rtol=1e-8, atol=1e-8)


def test_at_the_last_level_it_minimises_the_split_objective():
    """Alternating minimisation of |Ax-y|^2/2 + rho/2 |x-z|^2 + lambda sigma^2 R(z), here a linear system."""
    physics, sigma = dense(F64), 0.3
    y, m = torch.randn(1, 30, dtype=F64), physics.matrix
    solver = HalfQuadratic(Tikhonov(2.0), sigma, first=sigma, max_iter=400, cg_iterations=100, cg_rtol=1e-14)
    solution = solver.solve(y, physics)
    shrink = 1 / (1 + sigma**2 * 2.0)
    x = torch.linalg.solve(m.mH @ m + 0.23 * (1 - shrink) * torch.eye(12), m.mH @ y[0])
    assert_close(solution.image.flatten(), shrink * x, rtol=1e-7, atol=1e-9)
    assert solution.certificate < 1e-9
    assert solver.solve(y, physics, state=solution.state).image.sub(solution.image).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["noise_std", "weight", "first"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_refuses(name, value):
    with pytest.raises(ValueError, match=f"{name}: found"):
        HalfQuadratic(L1(), **{name: value})


def test_default_start_follows_the_scale_of_the_operator():
    physics, y = dense(), torch.randn(2, 30, dtype=C128)
    x = fitted(Problem(y, physics))
    assert_close(fitted(Problem(7 * y, Scaled(physics, 7.0))), x)
    for change in (0.99, 1.01):
        assert (Problem(y, physics).residual(x) < Problem(y, physics).residual(change * x)).all()


# -- inpainting -------------------------------------------------------------------------------------
def test_filled_takes_the_nearest_known_pixel():
    x = torch.arange(12.0, dtype=F64).reshape(1, 1, 3, 4) + 5
    mask = torch.ones(1, 3, 4, dtype=F64)
    mask[0, 0, 0] = mask[0, 2, 2:] = mask[0, 2, 1] = 0
    start = filled(physics := Inpainting((1, 3, 4), mask=mask), physics.A(x))
    assert_close(physics.A(start), physics.A(x))
    assert start[0, 0, 0, 0] in (x[0, 0, 0, 1], x[0, 0, 1, 0])
    assert start[0, 0, 2, 3] == x[0, 0, 1, 3] and start[0, 0, 2, 2] == x[0, 0, 1, 2]


def test_filled_divides_by_what_was_measured():
    """A constant scene comes back as it is, whatever the weights, and between different masks of a batch."""
    physics = Inpainting((2, 6, 5), mask=2.5 * (torch.rand(3, 2, 6, 5) > 0.6).double())
    assert_close(
        filled(physics, physics.A(torch.full((3, 2, 6, 5), 1.7, dtype=F64))), torch.full((3, 2, 6, 5), 1.7).double()
    )
    blur = Blur(torch.rand(3, 4), (1, 6, 7))
    constant = torch.full((1, *blur.image_shape), 0.3, dtype=F64)
    assert_close(filled(blur, blur.A(constant)), constant)


def test_filled_changes_nothing_and_needs_a_pixel():
    physics = Inpainting((1, 4, 4), mask=torch.zeros(1, 4, 4))
    before = copy.deepcopy(physics.state_dict())
    with pytest.raises(ValueError, match="found an image without a measured pixel"):
        filled(physics, torch.zeros(1, 1, 4, 4))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), physics.state_dict().values(), strict=True))


@pytest.mark.parametrize("kept", [0.2, 0.5])
def test_inpainting_needs_a_start_without_holes(kept):
    truth = camera()
    mask = (torch.rand(1, 64, 64) < kept).double()
    physics = Inpainting((1, 64, 64), mask=mask)
    y = physics.A(truth + 0.01 * torch.randn_like(truth))
    solver = HalfQuadratic(Denoiser(total_variation, None), noise_std=0.01, stop=RelativeChange(0))
    start = filled(physics, y)
    ours, from_zero = solver(y, physics, x0=start), solver(y, physics, x0=torch.zeros_like(truth))
    assert psnr(ours, truth, 1.0) > psnr(from_zero, truth, 1.0) + 1
    assert psnr(ours, truth, 1.0) > psnr(start, truth, 1.0) + 1


def test_first_image_keeps_a_constant_behind_means_and_fits_elsewhere():
    kernel = torch.rand(3, 5, dtype=F64)
    for physics in (Blur(kernel / kernel.sum(), (1, 12, 10)), CircularBlur(2 * kernel, (1, 12, 10))):
        constant = torch.full((1, *physics.image_shape), 0.7, dtype=F64)
        assert_close(first_image(Problem(physics.A(constant), physics)), constant)
    signed = CircularBlur(kernel - 1, (1, 12, 10))
    for problem in (
        Problem(torch.randn(1, 1, 12, 10, dtype=F64), signed),
        Problem(torch.randn(2, 30, dtype=C128), dense()),
    ):
        assert_close(first_image(problem), fitted(problem))


def test_half_quadratic_shows_what_lies_outside_the_frame():
    """A denoiser that changes little keeps a dark border that the start brings; nothing of the scene is dark."""
    truth = 0.5 + camera(48) / 2
    physics = Blur(torch.full((9, 9), 1 / 81, dtype=F64), (1, 40, 40))
    image = HalfQuadratic(Denoiser(lambda x, sigma: x), noise_std=0.01).solve(physics.A(truth), physics).image
    assert float(image.min()) > 0.35


def test_preconditioner_spares_the_products_of_an_unseen_border():
    """As many as the border asks for, not as many as the kernel's zeros do."""
    truth, gamma = camera(), 1000.0
    physics = Blur(torch.ones(1, 9, dtype=F64) / 9, (1, 64, 56))
    problem = Problem(physics.A(truth), physics)
    rhs = truth + gamma * problem.back_projection

    def products(near):
        count = itertools.count()
        system = lambda x: x + gamma * physics.A_adjoint_A(x) if next(count) >= 0 else x  # noqa: E731
        x = conjugate_gradient(system, rhs, torch.zeros_like(rhs), torch.zeros_like(rhs), 2000, 1e-8, near).x
        return x, next(count)

    (plain, slow), (x, fast) = products(unchanged), products(lambda v: physics.precondition(v, gamma))
    assert_close(x, plain, atol=1e-4, rtol=0)
    assert fast < slow / 2


def test_noise_level_that_nobody_states_is_found_in_a_photograph():
    truth = camera()
    physics = CircularBlur(torch.full((5, 5), 1 / 25, dtype=F64), (1, 64, 64))
    y = physics.A(truth) + 0.03 * torch.randn(1, 1, 64, 64, dtype=F64)
    found = float(Problem(y, physics).noise_level())
    assert found == pytest.approx(0.03, rel=0.15) and float(Problem(y, physics).noise_level(0.1)) == 0.1
    assert_close(HalfQuadratic(L1())(y, physics), HalfQuadratic(L1(), noise_std=found)(y, physics))
    with pytest.raises(ValueError, match="noise_std: found none"):
        Problem(torch.zeros_like(y), physics).noise_level()
