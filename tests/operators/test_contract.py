"""What is true of every operator. A new operator is one more row in ``CASES``."""

import copy
import math
import pickle

import pytest
import torch
from deepinv.physics import GaussianNoise, LinearPhysics, ZeroNoise
from elsewhere import Elsewhere
from torch.testing import assert_close

from resolvent.operators import (
    Blur,
    CartesianMRI,
    CircularBlur,
    Dense,
    Downsampling,
    Exposure,
    FiniteDifferences,
    FullMatrixCapture,
    Identity,
    Mixing,
    NearFieldMIMO,
    NonCartesianMRI,
    Operator,
    PlaneWaveIQ,
    Restricted,
    Scaled,
    Superposition,
    Wavelet,
    has_exact_prox,
    squared_norm,
)
from resolvent.operators.substitute import substitute
from resolvent.recon import Problem

F64, C64, C128 = torch.float64, torch.complex64, torch.complex128


def radar(frequencies=4, **kwargs):
    """Three transmitters, four receivers, 3 x 4 x 5 voxels, 12 cm away."""
    generator = torch.Generator().manual_seed(7)
    plane = torch.tensor([1.0, 1.0, 0.1], dtype=F64)
    arrays = {
        "transmitters": 0.1 * torch.randn(3, 3, generator=generator, dtype=F64) * plane,
        "receivers": 0.1 * torch.randn(4, 3, generator=generator, dtype=F64) * plane,
    }
    if isinstance(frequencies, int):
        frequencies = torch.linspace(4e9, 9e9, frequencies, dtype=F64)
    axes = {n: torch.linspace(a, b, m, dtype=F64) for n, a, b, m in AXES}
    return NearFieldMIMO(**(arrays | axes | {"frequencies": frequencies} | kwargs))


AXES = (("x", -0.03, 0.03, 3), ("y", -0.05, 0.04, 4), ("z", 0.12, 0.2, 5))


def mask():
    return torch.arange(60).reshape(3, 4, 5) % 3 != 1


def dense(dtype):
    generator = torch.Generator().manual_seed(3)
    return Dense(torch.randn(7, 12, generator=generator, dtype=dtype), (1, 3, 4))


SCAN = {
    "elements": [-6e-4, -1e-4, 2e-4, 7e-4], "x": [-5e-4, -1e-4, 4e-4], "z": [0.0, 4e-4, 7e-4, 9e-4, 1.5e-3],
    "n_samples": 9, "sampling_frequency": 5e6, "carrier_frequency": 4e6, "start_time": 3e-7,
}  # fmt: skip


def plane_waves(**kwargs):
    """Two waves, four elements, 5 x 3 pixels, some of whose echoes come before or after the record."""
    return PlaneWaveIQ(**({"angles": [-0.2, 0.1]} | SCAN | kwargs))


def full_matrix(**kwargs):
    return FullMatrixCapture(**(SCAN | kwargs))


CASES = {
    "radar": radar,
    "radar, nonuniform frequencies": lambda: radar([4e9, 4.5e9, 6.1e9, 6.2e9, 9e9]),
    "radar, descending frequencies": lambda: radar([9e9, 7e9, 5e9, 3e9]),
    "radar, pairs": lambda: radar(pairs=[[0, 3], [2, 0], [1, 1], [2, 2], [0, 0]]),
    "radar, monostatic": lambda: radar(
        transmitters=ring(5), receivers=ring(5), pairs=[[i, i] for i in range(5)], frequencies=5
    ),
    "radar, support": lambda: radar(support=mask()),
    "radar, pairs and support, nonuniform": lambda: radar([4e9, 5e9, 9e9], pairs=[[0, 3], [2, 0]], support=mask()),
    "radar, phases only": lambda: radar(spreading=False, propagation_speed=1e8),
    "radar, tables recomputed": lambda: radar(memory_budget=3000),
    "radar, tables recomputed, nonuniform": lambda: radar([4e9, 5e9, 9e9], memory_budget=3000),
    **{f"radar, {k} frequencies": (lambda k=k: radar(k)) for k in (1, 2, 3, 5, 6, 7, 8, 9, 13)},
    "MRI, one coil": lambda: CartesianMRI(sampling(5, 6)),
    "MRI, one coil, lines": lambda: CartesianMRI(sampling(1, 6).expand(5, 6)),
    "MRI, one coil, fully sampled": lambda: CartesianMRI(torch.ones(5, 6)),
    "MRI, one coil, 3-D": lambda: CartesianMRI(sampling(3, 4, 2)),
    "MRI, channels": lambda: CartesianMRI(sampling(4, 5), channels=3),
    "MRI, coils": lambda: CartesianMRI(sampling(5, 6), coil_maps(4, 5, 6)),
    "MRI, coils, lines": lambda: CartesianMRI(sampling(8, 1).expand(8, 6), coil_maps(3, 8, 6)),
    "MRI, coils, weights": lambda: CartesianMRI(0.3 + sampling(4, 6), coil_maps(3, 4, 6)),
    "MRI, coils, 3-D": lambda: CartesianMRI(sampling(1, 3, 4).expand(2, 3, 4), coil_maps(3, 2, 3, 4)),
    "MRI, trajectory": lambda: NonCartesianMRI(trajectory(11, 2), (1, 5, 4)),
    "MRI, trajectory, coils, 3-D": lambda: NonCartesianMRI(trajectory(7, 3), (1, 3, 4, 2), coil_maps(3, 3, 4, 2)),
    "scaled, MRI": lambda: Scaled(CartesianMRI(sampling(4, 6)), 0.5j),
    "plane waves": plane_waves,
    "plane waves, aperture": lambda: plane_waves(f_number=1.0),
    "plane waves, entries recomputed": lambda: plane_waves(f_number=0.7, memory_budget=100),
    "plane waves, a start for each": lambda: plane_waves(start_time=[3e-7, 0.0]),
    "full matrix": full_matrix,
    "full matrix, two transmitters": lambda: full_matrix(transmitters=[-1e-4, 3e-4]),
    "full matrix, analytic": lambda: full_matrix(carrier_frequency=0.0),
    "scaled": lambda: Scaled(radar(), -2.5),
    "restricted, radar": lambda: Restricted(radar(), torch.rand(radar().data_shape) > 0.4),
    "scaled, complex": lambda: Scaled(radar(), 0.3 - 2j),
    "scaled, dense": lambda: Scaled(dense(F64), 3),
    "restricted, MRI": lambda: Restricted(CartesianMRI(sampling(4, 6), coil_maps(2, 4, 6)), sampling(1, 6)),
    "restricted, dense": lambda: Restricted(dense(C128), sampling(7)),
    "dense, real": lambda: dense(F64),
    "dense, complex": lambda: dense(C128),
    "circular blur": lambda: CircularBlur(kernel(3, 4), (1, 5, 6)),
    "circular blur, a kernel per channel": lambda: CircularBlur(kernel(2, 3, 2), (2, 3, 7)),
    "circular blur in 3-D": lambda: CircularBlur(kernel(2, 1, 3), (2, 3, 4, 5)),
    "identity": lambda: Identity((2, 3, 4)),
    "restricted, identity": lambda: Restricted(Identity((1, 5, 6)), sampling(5, 6)),
    "blur": lambda: Blur(kernel(3, 4), (1, 5, 6)),
    "blur, a kernel per channel": lambda: Blur(kernel(2, 3, 2), (2, 3, 7)),
    "blur in 3-D": lambda: Blur(kernel(2, 1, 3), (2, 3, 4, 5)),
    "downsampling": lambda: Downsampling(kernel(3, 4), (1, 6, 8), 2),
    "downsampling, a kernel per channel": lambda: Downsampling(kernel(2, 3, 2), (2, 9, 6), 3),
    "downsampling in 3-D": lambda: Downsampling(kernel(2, 1, 3), (2, 4, 2, 6), 2),
    "downsampling by 1": lambda: Downsampling(kernel(3, 4), (1, 5, 6), 1),
    "scaled, circular blur": lambda: Scaled(CircularBlur(kernel(3, 4), (1, 5, 6)), 0.3 - 2j),
    "differences": lambda: FiniteDifferences((2, 3, 4)),
    "differences, periodic": lambda: FiniteDifferences((1, 3, 4, 2), outside="periodic"),
    "wavelet": lambda: Wavelet((2, 8, 6), "db2"),
    "wavelet in 3-D, odd sizes": lambda: Wavelet((1, 5, 4, 3), "haar"),
    "superposition": lambda: Superposition([1.0, 0.5], (1, 4, 3)),
    "superposition of three, complex": lambda: Superposition([1.0, -0.5, 0.3j], (2, 3)),
    "mixing": lambda: Mixing(torch.rand(7, 3, dtype=F64), (3, 4)),
    "mixing, complex": lambda: Mixing(torch.randn(4, 5, dtype=C128), (2, 3, 2)),
    "exposure": lambda: Exposure(0.1, 0.01, 0.02, (2, 3, 4), noise_model=ZeroNoise(torch.clone)),
    "dense, data shape": lambda: Dense(dense(C128).matrix[:6], (3, 2, 2), (2, 3)),
}


def sampling(*shape):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.6).to(F64)


def trajectory(samples, dimensions):
    pytest.importorskip("finufft")
    return torch.rand(samples, dimensions, generator=torch.Generator().manual_seed(6), dtype=F64) - 0.5


def coil_maps(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=C128)


def kernel(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(11), dtype=F64)


def ring(n):
    angle = torch.arange(n, dtype=F64)
    return 0.1 * torch.stack([angle.cos(), angle.sin(), 0 * angle], 1)


@pytest.fixture(params=CASES, ids=str)
def physics(request):
    return CASES[request.param]()


def image(physics, dtype=C128, batch=2):
    return torch.randn(batch, *physics.image_shape, dtype=dtype)


def data(physics, dtype=C128, batch=2):
    return torch.randn(batch, *physics.data_shape, dtype=dtype)


def matrix(physics):
    """The operator's matrix from its action on every unit image."""
    n = torch.Size(physics.image_shape).numel()
    return physics.A(torch.eye(n, dtype=C128).unflatten(1, physics.image_shape)).flatten(1).mT


def close(a, b, rtol=1e-10):
    """Relative distance of whole tensors, in the norm."""
    assert a.shape == b.shape
    assert torch.linalg.vector_norm(a - b) <= rtol * torch.linalg.vector_norm(b)


def same(a, b):
    """To the last bit."""
    assert_close(a, b, rtol=0, atol=0)


def test_is_linear(physics):
    x1, x2 = image(physics), image(physics)
    a, b = 0.7 - 1.3j, 2.1j
    close(physics.A(a * x1 + b * x2), a * physics.A(x1) + b * physics.A(x2))
    y1, y2 = data(physics), data(physics)
    close(physics.A_adjoint(a * y1 + b * y2), a * physics.A_adjoint(y1) + b * physics.A_adjoint(y2))


def test_adjoint_of_complex_images(physics):
    x, y = image(physics), data(physics)
    left, right = torch.vdot(physics.A(x).flatten(), y.flatten()), torch.vdot(
        x.flatten(), physics.A_adjoint(y).flatten()
    )  # fmt: skip
    scale = torch.linalg.vector_norm(physics.A(x)) * torch.linalg.vector_norm(y)
    assert (left - right).abs() <= 1e-10 * scale


def test_adjoint_of_real_images(physics):
    x, y = image(physics, F64), data(physics, F64)
    ax, aty = physics.A(x), physics.A_adjoint(y)
    left = (ax.conj() * y).sum()
    right = (x * aty).sum()
    assert (left - right).abs() <= 1e-10 * torch.linalg.vector_norm(ax) * torch.linalg.vector_norm(y)


def test_normal_map_is_adjoint_after_forward(physics):
    for x in (image(physics), image(physics, F64)):
        close(physics.A_adjoint_A(x), physics.A_adjoint(physics.A(x)))


def test_deepinv_finds_it_adjoint(physics):
    assert physics.adjointness_test(image(physics)) < 1e-10


def test_adjoint_is_the_conjugate_transpose(physics):
    m = torch.Size(physics.data_shape).numel()
    adjoint = physics.A_adjoint(torch.eye(m, dtype=C128).unflatten(1, physics.data_shape)).flatten(1).mT
    close(adjoint, matrix(physics).mH)


def test_takes_other_tensors_of_its_geometry(physics):
    """It is from now on the operator that is built with them; those of another shape are refused."""
    x, y = image(physics), data(physics)
    for name, value in physics.geometry().items():
        if isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex()):
            built = type(physics)(**physics.geometry() | {name: 0.9 * value})
            physics.update_parameters(**{name: 0.9 * value})
            close(physics.A(x), built.A(x))
            close(physics.A_adjoint(y), built.A_adjoint(y))
            with pytest.raises(ValueError, match=f"{name}: found shape"):
                physics.update_parameters(**{name: torch.cat([value, value])})


def test_images_of_a_batch_have_the_operator_itself(physics):
    assert physics.of_images(torch.tensor([1, 0, 1]), 2) is physics


def test_column_norms_of_weights_for_each_image(physics):
    """Restricted to other data for each image it has each image's norms."""
    keep = (data(physics).real > 0).to(F64)
    norms = Restricted(physics, keep).column_norms()
    if physics.column_norms() is None:
        assert norms is None
    else:
        alone = [Restricted(physics, own).column_norms().reshape(physics.image_shape) for own in keep]
        assert_close(norms, torch.stack(alone), check_dtype=False)


def test_norm_is_the_largest_singular_value(physics):
    exact = float(torch.linalg.matrix_norm(matrix(physics), ord=2)) ** 2
    assert squared_norm(physics, image(physics)) == pytest.approx(exact, rel=1e-3)
    assert squared_norm(physics, image(physics), rtol=1e-9) >= exact * (1 - 1e-9)


def test_column_norms_are_those_of_the_matrix(physics):
    known = physics.column_norms()
    if known is None:
        pytest.skip("it does not know them")
    units = torch.eye(math.prod(physics.image_shape), dtype=C128).reshape(-1, *physics.image_shape)
    expected = torch.linalg.vector_norm(physics.A(units).flatten(1), dim=1)
    assert known.shape == physics.image_shape
    assert_close(known.flatten().to(F64), expected, rtol=1e-5, atol=1e-6 * float(expected.max()))
    weights = torch.rand(physics.data_shape, generator=torch.Generator().manual_seed(4), dtype=F64) - 0.3
    expected = torch.linalg.vector_norm((weights * physics.A(units)).flatten(1), dim=1)
    found = Restricted(physics, weights).column_norms()
    assert_close(found.flatten().to(F64), expected, rtol=1e-5, atol=1e-6 * float(expected.max()))


EACH = {
    "masks": lambda: CartesianMRI(torch.stack([sampling(1, 4, 6), sampling(1, 4, 6).flip(-1)])),
    "maps": lambda: CartesianMRI(sampling(4, 6), coil_maps(2, 3, 4, 6)),
    "masks and maps": lambda: CartesianMRI(torch.stack([sampling(1, 4, 6), mask_of_all()]), coil_maps(2, 3, 4, 6)),
    "maps, trajectory": lambda: NonCartesianMRI(trajectory(11, 2), (1, 5, 4), coil_maps(2, 3, 5, 4)),
    "restricted": lambda: Restricted(CartesianMRI(sampling(4, 6)), torch.stack([sampling(1, 4, 6), mask_of_all()])),
    "scaled": lambda: Scaled(CartesianMRI(sampling(4, 6), coil_maps(2, 3, 4, 6)), 2j),
    "noise": lambda: CartesianMRI(sampling(4, 6), noise_model=GaussianNoise(torch.tensor([0.1, 0.2]))),
}


def mask_of_all():
    return torch.ones(1, 4, 6, dtype=F64)


@pytest.mark.parametrize("make", EACH.values(), ids=EACH)
def test_images_of_a_batch_have_each_their_own_operator(make):
    """Of any images of the batch, again or in another order, the data, back-projections and levels are their own."""
    physics, which = make(), torch.tensor([1, 0, 0, 1, 1])
    x, y, theirs = image(physics), data(physics), physics.of_images(which, 2)
    close(theirs.A(x[which]), physics.A(x)[which])
    close(theirs.A_adjoint(y[which]), physics.A_adjoint(y)[which])
    close(theirs.back_project(y[which]), physics.back_project(y)[which])
    norms = physics.column_norms()
    close(theirs.column_norms(), norms[which] if norms.ndim > len(physics.image_shape) else norms)
    assert_close(Problem(y[which], theirs).noise_level(None), Problem(y, physics).noise_level(None)[which])
    with pytest.raises(ValueError, match=r"2 (levels )?for 3 images"):
        physics.of_images(which, 3)


def test_noise_of_each_image_leaves_the_tables_of_an_operator():
    physics = radar(cache_dir=None, noise_model=GaussianNoise(torch.tensor([0.1, 0.2])))
    x = image(physics)
    expected, tables = physics.A(x), physics._tables
    theirs = physics.of_images(torch.tensor([1, 1, 0]), 2)
    assert tables and theirs._tables == tables and theirs.noise_model.sigma.tolist() == pytest.approx([0.2, 0.2, 0.1])
    close(theirs.A(x), expected)
    assert physics.noise_model.sigma.tolist() == pytest.approx([0.1, 0.2])


def test_a_factor_changes_nothing_but_the_scale(physics):
    c = 0.3 - 2j
    scaled, y = Scaled(physics, c), data(physics)
    assert_close(scaled.back_project(y), complex(c).conjugate() * physics.back_project(y))
    for name, power, arguments in (("squared_norm", 2, ()), ("column_norms", 1, ()), ("estimate_noise", 0, (y,))):
        own, its = (getattr(p, name)(*arguments) for p in (physics, scaled))
        assert (own is None) == (its is None)
        if own is not None:
            assert_close(torch.as_tensor(its), abs(c) ** power * torch.as_tensor(own))
    assert scaled.window == physics.window and physics.frame(image(physics)).ndim == 1 + len(physics.image_shape)


def test_a_stated_noise_is_that_of_the_operator_inside(physics):
    inner = copy.deepcopy(physics)
    inner.noise_model = GaussianNoise(0.1)
    keep = torch.rand(inner.data_shape, generator=torch.Generator().manual_seed(2)) > 0.3
    part, x = Restricted(inner, keep), image(physics)
    assert part.noise_model is inner.noise_model
    assert torch.equal(part(x)[:, ~keep], part.A(x)[:, ~keep]), "what is not measured has no noise"
    own = GaussianNoise(0.3)
    assert Restricted(inner, keep, noise_model=own).noise_model is own


def test_what_is_kept_in_inference_mode_serves_training(physics):
    x, y = image(physics), data(physics)
    with torch.inference_mode():
        physics.A_adjoint_A(x), physics.prox_l2(x, y, 0.3)
    moving = y.clone().requires_grad_()
    physics.prox_l2(x, moving, 0.3).abs().sum().backward()
    assert bool(moving.grad.isfinite().all())


def test_noise_is_that_of_the_data_that_are_kept(physics):
    """Whatever stands where nothing was measured; of all data it is the operator's own."""
    y = data(physics)
    if physics.estimate_noise(y) is None:
        pytest.skip("it does not know it")
    keep = torch.rand(physics.data_shape, generator=torch.Generator().manual_seed(2)) > 0.3
    part = Restricted(physics, keep)
    found = part.estimate_noise(torch.where(keep, y, 1e3))
    assert_close(found, part.estimate_noise(torch.where(keep, y, 0)))
    assert bool(found.isfinite().all()) and bool((found < 10).all())
    assert_close(Restricted(physics, torch.ones_like(keep)).estimate_noise(y), physics.estimate_noise(y))


@pytest.mark.parametrize("scale", [2, 0.3, 1 - 2j, torch.tensor(1 - 2j), torch.tensor(0.5, dtype=F64)])
def test_a_scale_of_any_kind_has_its_adjoint(scale):
    physics = Scaled(dense(C128), scale)
    x, y = image(physics), data(physics)
    forward, back = torch.vdot(physics.A(x).flatten(), y.flatten()), physics.A_adjoint(y).flatten()
    assert_close(forward, torch.vdot(x.flatten(), back))


def test_derivative_is_the_map_itself(physics):
    x = image(physics, batch=1).requires_grad_()
    y = data(physics, batch=1).requires_grad_()
    (pulled,) = torch.autograd.grad(physics.A(x), x, y.detach())
    close(pulled, physics.A_adjoint(y).detach())
    (pushed,) = torch.autograd.grad(physics.A_adjoint(y), y, x.detach())
    close(pushed, physics.A(x).detach())
    _, tangent = torch.func.jvp(physics.A, (x.detach(),), (2j * x.detach(),))
    close(tangent, 2j * physics.A(x.detach()))


def test_gradient_with_respect_to_a_real_image_is_real(physics):
    x = image(physics, F64).requires_grad_()
    y = data(physics, physics.A(x).dtype)
    (g,) = torch.autograd.grad(physics.A(x), x, y)
    assert g.dtype == F64
    close(g, physics.A_adjoint(y).real)


@pytest.mark.parametrize("name", ["radar", "radar, pairs and support, nonuniform", "scaled, complex", "dense, complex"])
def test_first_and_second_derivatives_by_differences(name):
    physics = CASES[name]()
    row = image(physics, batch=1)[..., :1, :].requires_grad_()

    def energy(part):
        x = torch.nn.functional.pad(part, (0, 0, 0, physics.image_shape[-2] - 1))
        return physics.A(x).abs().square().sum() / 1e3

    assert torch.autograd.gradcheck(energy, row)
    assert torch.autograd.gradgradcheck(energy, row)
    assert torch.autograd.gradcheck(physics.A_adjoint, data(physics, batch=1).requires_grad_())


def test_images_of_a_batch_do_not_meet(physics):
    x, y = image(physics, batch=3), data(physics, batch=3)
    close(physics.A(x), torch.cat([physics.A(one[None]) for one in x]), 1e-14)
    close(physics.A_adjoint(y), torch.cat([physics.A_adjoint(one[None]) for one in y]), 1e-14)


def test_single_precision(physics):
    x, y = image(physics), data(physics)
    assert physics.A(x).dtype == physics.A_adjoint(y).dtype == C128
    single_x, single_y = physics.A(x.to(C64)), physics.A_adjoint(y.to(C64))
    assert single_x.dtype == single_y.dtype == C64
    close(single_x.to(C128), physics.A(x), 1e-5)
    close(single_y.to(C128), physics.A_adjoint(y), 1e-5)


def test_real_images_are_complex_images_without_imaginary_part(physics):
    x, y = image(physics, F64), data(physics, F64)
    close(physics.A(x).to(C128), physics.A(x.to(C128)))
    close(physics.A_adjoint(y).to(C128), physics.A_adjoint(y.to(C128)))


def test_wrong_shapes_are_refused_by_name(physics):
    name = type(physics).__name__
    for bad in (image(physics)[0], image(physics)[..., :-1], image(physics)[:, :, None]):
        with pytest.raises(ValueError, match=rf"{name}: image has shape .* expected \(batch, "):
            physics.A(bad)
    for bad in (data(physics)[0], data(physics)[..., :-1], data(physics)[:, None]):
        with pytest.raises(ValueError, match=rf"{name}: data has shape .* expected \(batch, "):
            physics.A_adjoint(bad)
    with pytest.raises(TypeError, match=f"{name}: data is of type ndarray, expected a tensor"):
        physics.A_adjoint(data(physics).numpy())


def test_groups_are_of_what_is_measured(physics):
    y = physics.A(image(physics))
    for name, groups in physics.groups().items():
        assert groups.shape == physics.data_shape and not groups.is_floating_point() and int(groups.max()) >= 0, name
        assert not y[:, groups < 0].any(), name


def test_geometry_rebuilds_it(physics):
    again = type(physics)(**physics.geometry())
    x = image(physics)
    assert (again.image_shape, again.data_shape) == (physics.image_shape, physics.data_shape)
    same(again.A(x), physics.A(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("used", [False, True])
def test_copies(physics, copied, used):
    x = image(physics)
    if used:
        physics.A(x)
    again = copied(physics)
    same(again.A(x), physics.A(x))


def test_a_copy_is_small(physics):
    physics.A(image(physics))
    arrays = sum(b.numel() * b.element_size() for b in physics.buffers())
    assert len(pickle.dumps(physics)) < arrays + 50_000


def test_state_dict_carries_the_geometry(physics):
    if isinstance(physics, Scaled):
        pytest.skip("its geometry is the inner operator's, and a number")
    if not any(isinstance(v, torch.Tensor) for v in physics.geometry().values()):
        pytest.skip("its geometry has no tensors")
    x, state = image(physics), {k: v.clone() for k, v in physics.state_dict().items()}
    expected = physics.A(x)
    other = copy.deepcopy(physics)
    for b in other.buffers():
        if b.is_floating_point() or b.is_complex():
            b.mul_(1.1)
    assert not torch.allclose(other.A(x), expected)
    other.load_state_dict(state)
    same(other.A(x), expected)


def test_casting_keeps_the_geometry_exact(physics):
    x = image(physics)
    expected = physics.A(x)
    for cast in (lambda p: p.to(torch.float32), lambda p: p.float(), lambda p: p.half()):
        moved = cast(copy.deepcopy(physics))
        assert [b.dtype for b in moved.buffers()] == [b.dtype for b in physics.buffers()]
        same(moved.A(x), expected)


def test_changes_nothing(physics):
    x, y = image(physics), data(physics)
    kept = x.clone(), y.clone(), {k: v.clone() for k, v in physics.state_dict().items()}
    scalars = {k: v for k, v in vars(physics).items() if isinstance(v, int | float | str | tuple | bool)}
    physics.A(x), physics.A_adjoint(y), physics.A_adjoint_A(x), physics.A_A_adjoint(y)
    if has_exact_prox(physics):
        physics.prox_l2(x, y, 0.1)
    same((x, y), kept[:2])
    same(physics.state_dict(), kept[2])
    assert scalars == {k: v for k, v in vars(physics).items() if k in scalars}


def test_results_are_new_tensors(physics):
    """Work space is reused inside; nothing handed out may change with the next call."""
    x1, x2 = image(physics), image(physics)
    first = physics.A(x1)
    kept = first.clone()
    physics.A(x2)
    same(first, kept)
    first = physics.A_adjoint(kept)
    kept = first.clone()
    physics.A_adjoint(data(physics))
    same(first, kept)


def test_is_a_deepinv_operator(physics):
    assert isinstance(physics, LinearPhysics)
    x = image(physics)
    assert torch.equal(physics(x), physics.A(x)), "without a noise model nothing is added"
    physics.set_noise_model(GaussianNoise(0.1))
    noise = physics(x) - physics.A(x)
    assert noise.abs().max() > 0
    same(physics.A(x), physics.A(x))


def test_how_images_are_fitted_is_told(physics):
    assert physics.x_update.startswith("exact" if has_exact_prox(physics) else "warm-started CG")


def test_threads_do_not_change_the_operator(physics):
    x = image(physics)
    expected, threads = physics.A(x), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        close(physics.A(x), expected, 1e-13)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("gamma", [1e-3, 10.0])
def test_exact_prox_is_optimal(physics, gamma):
    """``(x - z) / gamma + A^H (A x - y) = 0``."""
    if not has_exact_prox(physics):
        pytest.skip("its x-update is iterative")
    z, y = image(physics), data(physics)
    x = physics.prox_l2(z, y, gamma)
    gradient = (x - z) / gamma + physics.A_adjoint(physics.A(x) - y)
    assert torch.linalg.vector_norm(gradient) <= 1e-9 * torch.linalg.vector_norm(physics.A_adjoint(y))


def test_exact_prox_takes_a_gamma_for_each_image(physics):
    if not has_exact_prox(physics):
        pytest.skip("its x-update is iterative")
    gammas = torch.tensor([0.3, 40.0], dtype=F64)
    z, y = image(physics), data(physics)
    alone = [physics.prox_l2(*p, float(g)) for *p, g in zip(z.split(1), y.split(1), gammas, strict=True)]
    close(physics.prox_l2(z, y, gammas), torch.cat(alone))
    assert physics.prox_l2(z.to(C64), y.to(C64), gammas).dtype == C64


def test_geometry_changed_in_place_is_seen(physics):
    """Nothing computed from what it was before is used any longer."""
    x, y = image(physics), data(physics)
    used = [physics.A(x), physics.A_adjoint(y), physics.A_adjoint_A(x)]
    for b in physics.buffers():
        if b.is_floating_point() or b.is_complex():
            b.mul_(1.01)
    fresh = copy.deepcopy(physics)
    now = [physics.A(x), physics.A_adjoint(y), physics.A_adjoint_A(x)]
    for a, b in zip(now, [fresh.A(x), fresh.A_adjoint(y), fresh.A_adjoint_A(x)], strict=True):
        same(a, b)
    for name in ("kernel", "mask", "matrix"):
        if hasattr(physics, name):
            assert not torch.equal(now[0], used[0])


def test_a_changed_number_is_seen(physics):
    x, used = image(physics), physics.A(image(physics))
    for name in ("propagation_speed", "speed_of_sound", "gain"):
        if hasattr(physics, name):
            setattr(physics, name, 1.1 * getattr(physics, name))
    same(physics.A(x), copy.deepcopy(physics).A(x))
    assert used.shape == (2, *physics.data_shape)


def test_geometry_is_learned_or_refused(physics):
    """Whatever of it is asked for has a derivative, or is said to have none."""
    x = image(physics)
    floats = [n for n, b in physics.named_buffers() if b.is_floating_point() or b.is_complex()]
    for name in [n for n in floats if n.rpartition(".")[2] in geometry_of(physics)]:
        own = physics.get_buffer(name)
        other = substitute(physics, name, own.clone().requires_grad_())
        if name.rpartition(".")[2] in getattr(other, "physics", other).without_derivative:
            with pytest.raises(ValueError, match="no derivative"):
                other.A(x)
        else:
            assert other.A(x).requires_grad or name in UNUSED, name


def geometry_of(physics):
    """Names, those of the operators inside among them."""
    own = physics.geometry()
    return own.keys() | (geometry_of(own["physics"]) if "physics" in own else set())


#: Geometry that A does not depend on.
UNUSED = {"density"}


def test_an_empty_batch_has_empty_data(physics):
    x, y = image(physics, batch=0), data(physics, batch=0)
    assert physics.A(x).shape == y.shape and physics.A_adjoint(y).shape == x.shape
    assert physics.A_adjoint_A(x).shape == x.shape


@pytest.mark.parametrize("name", ["circular blur", "blur", "downsampling", "MRI, coils, weights", "dense, complex"])
def test_geometry_is_learned_step_by_step(name):
    """From its first use on, as often as it is asked for; beside a derivative in x."""
    physics, x = CASES[name](), image(CASES[name]()).requires_grad_()
    physics.A(x)
    own = next(b for b in physics.buffers() if b.ndim > 1).requires_grad_()
    for _ in range(2):
        gradient = torch.autograd.grad(physics.A(x).abs().square().sum(), own)[0]
        along = torch.randn_like(own)
        with torch.no_grad():
            ends = [physics_at(physics, own, h * along).A(x).abs().square().sum() for h in (1e-6, -1e-6)]
        found = (gradient.conj() * along).real.sum() if own.is_complex() else (gradient * along).sum()
        assert_close(found, (ends[0] - ends[1]) / 2e-6, rtol=1e-6, atol=1e-6)


def physics_at(physics, own, change):
    """A copy whose buffer ``own`` is another one."""
    other = copy.deepcopy(physics)
    place = [b is own for b in physics.buffers()].index(True)
    list(other.buffers())[place].add_(change)
    return other


def test_a_scale_is_learned():
    r""":math:`\partial \|c A x\|^2 / \partial c = 2 c \|A x\|^2`, beside a derivative in x."""
    physics, x = Scaled(dense(F64), 2.0), torch.randn(1, 1, 3, 4, dtype=F64, requires_grad=True)
    physics.scale = torch.tensor(2.0, dtype=F64, requires_grad=True)
    found = torch.autograd.grad(physics.A(x).square().sum(), physics.scale)[0]
    assert_close(found, 4 * dense(F64).A(x).square().sum())


def test_preconditioner_is_hermitian_and_positive(physics):
    gamma = torch.tensor([0.3, 40.0], dtype=F64).reshape(2, *[1] * len(physics.image_shape))
    u, v = image(physics), image(physics)
    dots = lambda a, b: (a.conj() * b).flatten(1).sum(1)  # noqa: E731
    near = lambda x: physics.precondition(x, gamma)  # noqa: E731
    assert_close(dots(u, near(v)), dots(near(u), v))
    assert (dots(u, near(u)).real > 0).all()


def test_on_another_device(physics):
    x, y = image(physics), data(physics)
    expected = physics.A(x), physics.A_adjoint(y), physics.A_adjoint_A(x), proximal_step(physics, x, y)
    with Elsewhere() as device:
        physics.to(device)
        x, y = x.to(device), y.to(device)
        found = physics.A(x), physics.A_adjoint(y), physics.A_adjoint_A(x), proximal_step(physics, x, y)
        for a, b in zip(found, expected, strict=True):
            assert a.device == device
            close(a.cpu(), b)


def proximal_step(physics, x, y):
    """In closed form, where there is one."""
    return physics.prox_l2(x, y, 0.7) if has_exact_prox(physics) else x


@pytest.mark.cuda
def test_on_the_accelerator(physics):
    x, y = image(physics), data(physics)
    ax, aty = physics.A(x), physics.A_adjoint(y)
    physics.to("cuda")
    close(physics.A(x.cuda()).cpu(), ax)
    close(physics.A_adjoint(y.cuda()).cpu(), aty)
    close(physics.A(x.to(C64).cuda()).cpu().to(C128), ax, 1e-5)


class Gain(Operator):
    """An operator of one's own, with a parameter as torch has them."""

    def __init__(self, gain):
        super().__init__((3,), (3,))
        self.gain = torch.nn.Parameter(gain)

    def geometry(self):
        return {"gain": self.gain}

    def _forward_map(self, x):
        return self._derived("square", x.dtype, lambda: self.gain.square()) * x

    _adjoint_map = _forward_map


def test_parameters_are_learned():
    gain, x = torch.tensor([0.5, 1.0, 2.0], dtype=F64), torch.ones(2, 3, dtype=F64).requires_grad_()
    physics = Gain(gain.clone())
    assert_close(torch.autograd.grad(physics.A(x).sum(), physics.gain)[0], 4 * gain)
    with torch.no_grad():
        physics.A(x)
        physics.gain.mul_(2)
        assert_close(physics.A(x), (2 * gain).square() * x)


def test_a_tensor_becomes_a_number():
    physics, x = Scaled(dense(C128), torch.tensor([2.0, 2.0])[:1]), image(dense(C128))
    physics.A(x)
    physics.scale = 3.0
    assert_close(physics.A(x), 3 * physics.physics.A(x))
