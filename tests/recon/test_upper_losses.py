"""Upper losses: closed forms of Stein's estimates, their means over noise, and what is left for the others to mean."""

import pytest
import torch
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, Dense, Operator
from resolvent.priors import L1
from resolvent.recon import ssim
from resolvent.recon.bilevel import (
    SURE,
    DiscrepancyPrinciple,
    HeldOut,
    Known,
    MeanSquare,
    ProjectedSURE,
    StructuralDissimilarity,
)
from resolvent.recon.bilevel.losses import probes

F64, C128 = torch.float64, torch.complex128
DTYPES = pytest.mark.parametrize("dtype", [F64, C128], ids=["real", "complex"])
IDENTITY = Dense(torch.eye(64, dtype=F64), (1, 8, 8))


def noise(like, sigma, seed=1):
    """Of total standard deviation sigma per sample."""
    return sigma * torch.randn(like.shape, dtype=like.dtype, generator=torch.Generator().manual_seed(seed))


def known(dtype, physics: Operator = IDENTITY, batch=1, sigma=0.3):
    """Many noisy measurements of one image."""
    truth = torch.randn(1, *physics.image_shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    truth = truth.expand(batch, *truth.shape[1:])
    clean = physics.A(truth)
    return Known(clean + noise(clean, sigma) * (clean != 0), physics, sigma, truth)


def image(y, physics=IDENTITY):
    return y.reshape(-1, *physics.image_shape)


def mean_square(x):
    return x.abs().square().flatten(1).mean(1)


def ridge(physics, weight=0.4):
    """The matrix of ``argmin |A x - y|^2 / 2 + weight |x|^2 / 2``, and of A."""
    n = physics.image_shape[-1] * physics.image_shape[-2]
    a = physics.A(torch.eye(n, dtype=C128).reshape(n, *physics.image_shape)).flatten(1).T
    return torch.linalg.solve(a.mH @ a + weight * torch.eye(n, dtype=C128), a.mH), a


def estimate(loss, images):
    """What the loss of all images is, one number for each of the batch."""
    posed = loss.pose(images)
    return posed, lambda reconstruct: posed.measure(reconstruct(posed.y)).reshape(-1, len(images.y)).mean(0)


def agrees(differences, standard_errors=4.5):
    """Whether a mean is zero within what its samples' spread leaves open."""
    return abs(float(differences.mean())) < standard_errors * float(differences.std()) / len(differences) ** 0.5


@DTYPES
@pytest.mark.parametrize("count", [1, 3])
def test_sure_of_a_ridge_denoiser(dtype, count):
    """``x = y / (1 + w)`` has divergence n / (1 + w): with directions b in place of their mean, ``|b|^2 / (1 + w)``."""
    case = known(dtype)
    _, found = estimate(SURE(count), case)
    b = torch.cat(probes(case.y, count, 0))
    expected = (0.4 / 1.4) ** 2 * mean_square(case.y) - 0.09 + 2 * 0.09 / 1.4 * mean_square(b).mean()
    assert_close(found(lambda y: image(y) / 1.4), expected)
    _, projected = estimate(ProjectedSURE(count), case)
    expected = (0.4 / 1.4) ** 2 * mean_square(case.y) + (2 / 1.4 - 1) * 0.09 * mean_square(b).mean()
    assert_close(projected(lambda y: image(y) / 1.4), expected)


@DTYPES
@pytest.mark.parametrize("loss", [SURE(seed=3), ProjectedSURE(seed=3)], ids=["SURE", "projected"])
def test_stein_estimates_have_the_mean_of_the_error(dtype, loss):
    """Of a threshold, which is not linear, in 4000 draws of the noise; the directions differ from draw to draw."""
    case = known(dtype, batch=4000)
    _, found = estimate(loss, case)
    error = mean_square(L1(0.2).prox(image(case.y)) - case.truth)
    stein = found(lambda y: L1(0.2).prox(image(y)))
    assert agrees(stein - error) and not agrees(mean_square(L1(0.2).prox(case.y) - case.y) - error)


def blind_scan():
    """A mask in Fourier space, half of it."""
    mask = torch.arange(64).reshape(8, 8) % 2
    return CartesianMRI(mask.to(F64))


def test_error_of_the_data_and_of_what_is_seen():
    """A ridge reconstruction from half of k-space: with A A^+ = P both are the same error, over m and over n."""
    physics = blind_scan()
    case, (inverse, _) = known(C128, physics, 3000), ridge(physics)

    def reconstruct(y):
        return (y.flatten(1) @ inverse.T).reshape(-1, *physics.image_shape)

    seen = physics.A(reconstruct(case.y) - case.truth).abs().square().flatten(1).sum(1)
    for loss, size in ((SURE(), 32), (ProjectedSURE(), 64)):
        _, found = estimate(loss, case)
        assert agrees(found(reconstruct) - seen / size)


def test_pseudo_inverse_of_a_wide_operator():
    """The projected estimate of a dense wide operator has the mean of ``|P (x^ - x)|^2 / n``."""
    generator = torch.Generator().manual_seed(5)
    physics = Dense(torch.randn(10, 16, generator=generator, dtype=C128), (1, 4, 4))
    case, (inverse, a) = known(C128, physics, 3000), ridge(physics, 2.0)

    def reconstruct(y):
        return (y.flatten(1) @ inverse.T).reshape(-1, *physics.image_shape)

    projection = torch.linalg.pinv(a) @ a
    seen = (reconstruct(case.y) - case.truth).flatten(1) @ projection.T
    _, found = estimate(ProjectedSURE(), case)
    assert agrees(found(reconstruct) - mean_square(seen))


def half_and_all(batch=2):
    """Of every second image half of k-space, of the others all."""
    masks = torch.ones(batch, 1, 8, 8, dtype=F64)
    masks[::2, ..., :4] = 0
    return masks


@pytest.mark.parametrize("loss", [DiscrepancyPrinciple(), HeldOut(0.5), HeldOut(0.25, axes=(-1, -2))])
def test_losses_of_a_batch_whose_masks_differ(loss):
    """Each is that of the image by itself, whose data are kept back and counted."""
    masks, x = half_and_all(), torch.randn(2, 1, 8, 8, dtype=C128, generator=torch.Generator().manual_seed(5))
    case = known(C128, CartesianMRI(masks), 2)
    both = loss.pose(case)
    for i in range(2):
        own = loss.pose(Known(case.y[i : i + 1], CartesianMRI(masks[i, 0]), case.noise_std))
        assert_close(both.y[i : i + 1], own.y)
        assert_close(both.physics.A(x)[i : i + 1], own.physics.A(x[i : i + 1]))
        assert_close(both.measure(x)[i : i + 1], own.measure(x[i : i + 1]))
        assert both.measure.smoothness >= own.measure.smoothness * (1 - 1e-2)


@pytest.mark.parametrize("loss", [SURE(), ProjectedSURE(), DiscrepancyPrinciple()])
def test_an_image_of_which_nothing_is_measured_is_refused(loss):
    masks = half_and_all()
    masks[0] = 0
    with pytest.raises(ValueError, match="found an image of which nothing is measured"):
        loss.pose(known(C128, CartesianMRI(masks), 2))


@pytest.mark.parametrize("loss", [SURE(), ProjectedSURE()])
@pytest.mark.parametrize("each", ["mask", "maps"])
def test_stein_estimates_of_a_batch_whose_operators_differ(loss, each):
    """Their means are those of the errors of each kind of image."""
    count = 2000
    if each == "mask":
        physics = CartesianMRI(half_and_all(count))
    else:
        maps = torch.randn(2, 1, 8, 8, dtype=C128, generator=torch.Generator().manual_seed(6)).sgn()
        physics = CartesianMRI(half_and_all(2)[0, 0], maps.repeat(count // 2, 1, 1, 1))
    case = known(C128, physics, count)
    posed, found = estimate(loss, case)

    def reconstruct(y, physics):
        return physics.A_adjoint(y) / 1.4

    missed = reconstruct(case.y, physics) - case.truth
    error = physics.A(missed).abs().square().flatten(1).sum(1)
    error = error / ((case.y != 0).flatten(1).sum(1) if type(loss) is SURE else 64)
    difference = found(lambda y: reconstruct(y, posed.physics)) - error
    assert agrees(difference[::2]) and agrees(difference[1::2])


def test_data_kept_back_are_predicted():
    """The mean of the loss is the prediction error plus the noise's variance, reconstructed from the others alone."""
    physics = CartesianMRI(torch.ones(8, 8, dtype=F64))
    case = known(C128, physics, 2000)
    posed, found = estimate(HeldOut(0.25, axes=(-1,)), case)
    back = (posed.y == 0).all(0)
    assert int(back.all((0, 1)).sum()) == int(back.any((0, 1)).sum()) == 2
    other = case.y + 100 * back
    assert torch.equal(HeldOut(0.25, axes=(-1,)).pose(case._replace(y=other)).y, posed.y)

    def reconstruct(y):
        return posed.physics.A_adjoint(y) / 1.2

    error = (physics.A(reconstruct(posed.y) - case.truth) * back).abs().square().flatten(1).sum(1) / back.sum()
    assert agrees(found(reconstruct) - error - 0.09)


def test_only_what_is_measured_is_kept_back():
    mask = torch.zeros(8, 8, dtype=F64)
    mask[:, [0, 3, 4, 6]] = 1
    case = known(C128, CartesianMRI(mask))
    posed = HeldOut(0.5).pose(case)
    lines = posed.y.abs().sum((0, 1, 2)) > 0
    assert int(lines.sum()) == 2 and bool((mask[0][lines] == 1).all())
    with pytest.raises(ValueError, match=r"fraction: found 0\.1 of 4 units"):
        HeldOut(0.1).pose(case)
    for axis in (0, 4, -4):
        with pytest.raises(ValueError, match=r"expected 1 to 3, or -3 to -1 from the end"):
            HeldOut(0.5, axes=(axis,)).pose(case)


def test_discrepancy_is_met_within_the_noise():
    """0 at the truth but for the spread of a chi-square, 1 where the noise is fitted, too; it counts samples."""
    case = known(C128, blind_scan(), 1000)
    measure = DiscrepancyPrinciple().pose(case).measure
    at_truth = measure(case.truth)
    assert_close(at_truth.mean(), torch.tensor(1 / 32, dtype=F64), rtol=0.2, atol=0)
    assert measure.floor == 1 / 32
    assert_close(measure(blind_scan().A_adjoint(case.y)), torch.ones(1000, dtype=F64))


@DTYPES
@pytest.mark.parametrize("loss", [MeanSquare(), SURE(2), ProjectedSURE(2), HeldOut()], ids=lambda c: type(c).__name__)
def test_smoothness_is_a_tight_bound(loss, dtype):
    """These are quadratic, and of each image by itself: the largest eigenvalue of the Hessian."""
    physics = Dense(torch.randn(7, 6, dtype=dtype), (1, 2, 3))
    posed = loss.pose(known(dtype, physics, 2))
    x = torch.randn(len(posed.y), *physics.image_shape, dtype=dtype).requires_grad_()

    def slope(x):
        return torch.autograd.grad(posed.measure(x).sum(), x, create_graph=True)[0]

    a, b = slope(x), slope(x + torch.randn_like(x))
    assert a.shape == x.shape
    if dtype == F64:
        hessian = torch.autograd.functional.jacobian(slope, x).reshape(x.numel(), x.numel())
        blocks = hessian.reshape(len(x), 6, len(x), 6)
        assert all(not bool(blocks[i, :, j].any()) for i in range(len(x)) for j in range(len(x)) if i != j)
        largest = float(torch.linalg.eigvalsh(hessian)[-1])
        assert largest <= posed.measure.smoothness * (1 + 1e-9)
        assert largest > 0.99 * posed.measure.smoothness
    assert posed.measure.convex and bool(torch.isfinite(torch.view_as_real(b) if b.is_complex() else b).all())


@pytest.mark.parametrize("shape", [(2, 9, 8), (1, 5, 6, 4), (1, 9, 8, 1)], ids=["2-D", "3-D", "a plane"])
@DTYPES
def test_structural_similarity_is_the_metric(shape, dtype):
    truth = torch.rand(2, *shape, dtype=F64)
    truth = truth if dtype == F64 else torch.polar(truth, truth.flip(-1))
    x = truth + 0.1 * torch.randn_like(truth)
    posed = StructuralDissimilarity().pose(Known(truth, IDENTITY, None, truth))
    assert_close(1 - posed.measure(x), ssim(x, truth), check_dtype=False)
    assert_close(posed.measure(truth), torch.zeros(2, dtype=F64), rtol=0, atol=1e-12)


@DTYPES
def test_structural_similarity_is_differentiable(dtype):
    truth, x = torch.randn(2, 1, 1, 3, 4, dtype=dtype)
    measure = StructuralDissimilarity().pose(Known(truth, IDENTITY, None, truth)).measure
    assert torch.autograd.gradcheck(measure, x.requires_grad_())


def test_structural_smoothness_is_the_curvature_at_the_truth():
    truth = torch.rand(1, 1, 6, 5, dtype=F64)
    truth[..., :3] = 0
    measure = StructuralDissimilarity().pose(Known(truth, IDENTITY, None, truth)).measure
    hessian = torch.autograd.functional.hessian(lambda x: measure(x).sum(), truth).reshape(30, 30)
    assert_close(measure.smoothness, float(torch.linalg.eigvalsh(hessian)[-1]), rtol=0.02, atol=0)


def test_what_a_loss_needs_is_said():
    case = known(F64)
    with pytest.raises(
        ValueError, match="MeanSquare: found no truth, expected it in the file, or a loss that needs none: SURE"
    ):
        MeanSquare().pose(case._replace(truth=None))
    with pytest.raises(ValueError, match="SURE: found noise_std None, expected a number above 0, or the loss HeldOut"):
        SURE().pose(case._replace(noise_std=None))
    with pytest.raises(ValueError, match="probes: found 0"):
        SURE(0)
    with pytest.raises(ValueError, match=r"fraction: found 1\.0"):
        HeldOut(1.0)
    assert float(SURE(noise_std=0.3).pose(case._replace(noise_std=None)).measure.smoothness) > 0
