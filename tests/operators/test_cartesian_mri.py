"""Cartesian MRI against plain transforms, deepinv's operators and closed forms."""

import math

import deepinv
import pytest
import torch
from deepinv.physics import MRI, MultiCoilMRI

from resolvent.operators import CartesianMRI, Restricted, Scaled, squared_norm
from resolvent.operators.noise import outermost
from resolvent.priors import L1
from resolvent.recon import FISTA

F64, C128 = torch.float64, torch.complex128


def sampling(*shape):
    return (torch.rand(shape, dtype=F64) < 0.5).to(F64)


def randn(*shape, dtype=C128):
    return torch.randn(shape, dtype=dtype)


def centred_transform(x, axes):
    shifted = torch.fft.fftn(torch.fft.ifftshift(x, dim=axes), dim=axes, norm="ortho")
    return torch.fft.fftshift(shifted, dim=axes)


def close(a, b, rtol=1e-12):
    assert a.shape == b.shape
    assert torch.linalg.vector_norm(a - b) <= rtol * torch.linalg.vector_norm(b)


@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (6, 9), (6, 4, 5), (3, 5, 7), (2, 4, 8)], ids=str)
def test_is_the_centred_transform_of_coil_images(shape):
    mask, maps, x = sampling(*shape), randn(3, *shape), randn(2, 1, *shape)
    axes = tuple(range(-len(shape), 0))
    close(CartesianMRI(mask, maps).A(x), mask * centred_transform(maps * x, axes))
    close(CartesianMRI(mask).A(x), mask * centred_transform(x, axes))


def test_a_constant_image_is_its_middle_sample():
    """A convention in one line: the zero frequency is sample N // 2."""
    k = CartesianMRI(torch.ones(6, 7)).A(torch.ones(1, 1, 6, 7, dtype=C128))
    expected = torch.zeros_like(k)
    expected[0, 0, 3, 3] = 42**0.5
    torch.testing.assert_close(k, expected)


def test_agrees_with_deepinv_through_two_channels():
    mask, maps, x = sampling(10, 12), randn(4, 10, 12), randn(2, 1, 10, 12)
    channels = torch.view_as_real(x[:, 0]).movedim(-1, 1)
    theirs = MultiCoilMRI(mask=mask[None, None], coil_maps=maps[None], img_size=(10, 12))
    y = theirs.A(channels)
    ours = CartesianMRI(mask, maps).A(x)
    close(torch.view_as_real(ours).movedim(-1, 1), y)
    close(torch.view_as_real(CartesianMRI(mask, maps).A_adjoint(ours)[:, 0]).movedim(-1, 1), theirs.A_adjoint(y))
    single = MRI(mask=mask[None, None], img_size=(10, 12)).A(channels)
    close(torch.view_as_real(CartesianMRI(mask).A(x)[:, 0]).movedim(-1, 1), single)


def test_masks_and_maps_of_each_image():
    masks, maps, x = sampling(3, 1, 6, 4), randn(3, 2, 6, 4), randn(3, 1, 6, 4)
    together = CartesianMRI(masks, maps)
    alone = [CartesianMRI(m[0], s) for m, s in zip(masks, maps, strict=True)]
    y = torch.cat([p.A(one[None]) for p, one in zip(alone, x, strict=True)])
    close(together.A(x), y)
    close(together.A_adjoint(y), torch.cat([p.A_adjoint(k[None]) for p, k in zip(alone, y, strict=True)]))
    close(together.A_adjoint_A(x), together.A_adjoint(together.A(x)))
    close(together.A(x[:1]), torch.cat([p.A(x[:1]) for p in alone]))
    for several in (together, CartesianMRI(masks), CartesianMRI(masks, maps[0])):
        close(several.A_adjoint_A(x[:1]), several.A_adjoint_A(x[:1].expand_as(x)))


def test_norm_of_masks_of_each_image():
    """The largest."""
    weights = torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1) * torch.ones(2, 1, 6, 4)
    physics, x = CartesianMRI(weights), randn(2, 1, 6, 4)
    assert squared_norm(physics, x) == pytest.approx(4, rel=1e-3)
    assert FISTA(L1(0.1), max_iter=2)(physics.A(x), physics).shape == x.shape


def test_normal_map_leaves_out_transforms_that_cancel(monkeypatch):
    lines = sampling(1, 8).expand(6, 8)
    physics, x = CartesianMRI(lines, randn(3, 6, 8)), randn(1, 1, 6, 8)
    expected, axes = physics.A_adjoint(physics.A(x)), []
    fftn = torch.fft.fftn
    monkeypatch.setattr(torch.fft, "fftn", lambda *a, dim, **k: (axes.append(dim), fftn(*a, dim=dim, **k))[1])
    close(physics.A_adjoint_A(x), expected)
    assert axes == [(-1,)]


@pytest.mark.parametrize("gamma", [0.3, torch.tensor([0.1, 20.0], dtype=F64)], ids=["one", "per image"])
def test_exact_prox_agrees_with_conjugate_gradients(gamma):
    physics, z, y = CartesianMRI(sampling(6, 5)), randn(2, 1, 6, 5), randn(2, 1, 6, 5)
    x = physics.prox_l2(z, y, gamma)
    weight = gamma if isinstance(gamma, float) else gamma.reshape(2, 1, 1, 1)
    close(x + weight * physics.A_adjoint_A(x), z + weight * physics.A_adjoint(y))


def test_column_norms():
    physics = CartesianMRI(sampling(4, 5), randn(3, 4, 5))
    columns = physics.A(torch.eye(20, dtype=C128).reshape(20, 1, 4, 5)).flatten(1)
    close(physics.column_norms().flatten(), torch.linalg.vector_norm(columns, dim=1))


@pytest.mark.parametrize(
    "mask, maps, message",
    [
        (torch.ones(4), None, "mask: found float32 \\(4,\\), expected real"),
        (torch.ones(2, 3, 4, 5), None, "mask: found float32 \\(2, 3, 4, 5\\), expected real"),
        (torch.ones(4, 5, dtype=C128), None, "mask: found complex128 \\(4, 5\\), expected real"),
        (
            torch.ones(4, 5),
            torch.ones(3, 5, 4),
            "sensitivity_maps: found shape \\(3, 5, 4\\), expected \\(coils, 4, 5\\)",
        ),
        (torch.ones(4, 5), torch.ones(4, 5), "sensitivity_maps: found shape \\(4, 5\\), expected \\(coils, 4, 5\\)"),
    ],
)
def test_shapes_that_do_not_fit(mask, maps, message):
    with pytest.raises(ValueError, match=message):
        CartesianMRI(mask, maps)


def test_runs_in_deepinvs_solvers():
    physics, x = CartesianMRI(sampling(8, 8)), randn(1, 1, 8, 8)
    y = physics.A(x)
    model = deepinv.optim.PGD(
        prior=deepinv.optim.Tikhonov(), data_fidelity=deepinv.optim.L2(), stepsize=0.5, lambda_reg=1e-9, max_iter=60
    )
    close(model(y, physics), physics.A_adjoint(y), 1e-6)


def test_masks_of_several_images_have_norms_of_their_own():
    mask = torch.stack([sampling(6, 5), torch.ones(6, 5)])[:, None]
    maps = randn(2, 3, 6, 5)
    for own in (None, maps[0], maps):
        together = CartesianMRI(mask, own)
        each = [CartesianMRI(m, own if own is None or own.ndim == 3 else own[i]) for i, m in enumerate(mask[:, 0])]
        close(together.column_norms(), torch.stack([p.column_norms() for p in each]))


def test_batched_by_torch():
    """Fully sampled, where no transform is left."""
    physics, x = CartesianMRI(torch.ones(4, 6)), randn(3, 1, 4, 6)
    close(torch.vmap(lambda one: physics.A_adjoint_A(one[None])[0])(x), physics.A_adjoint_A(x))
    close(torch.vmap(lambda one: physics.prox_l2(one[None], one[None], 0.3)[0])(x), physics.prox_l2(x, x, 0.3))


def test_takes_parameters_as_deepinv_passes_them():
    physics, x = CartesianMRI(torch.ones(4, 6)), randn(1, 1, 4, 6)
    mask = sampling(4, 6)
    close(physics.A(x, mask=mask), CartesianMRI(mask).A(x))
    close(physics.A_adjoint(x), CartesianMRI(mask).A_adjoint(x))
    around = Scaled(CartesianMRI(torch.ones(4, 6)), 2.0)
    close(around.A(x, mask=mask), 2 * CartesianMRI(mask).A(x))
    with pytest.raises(ValueError, match=r"mask: found shape \(4, 8\), expected \(4, 6\)"):
        physics.A(x, mask=torch.ones(4, 8))


def test_noise_is_estimated_where_an_image_has_nothing():
    """Smooth images of noise levels 0.1 and 0.3, sampled at random."""
    rows, columns = torch.linspace(-1, 1, 64, dtype=F64)[:, None], torch.linspace(-1, 1, 48, dtype=F64)
    smooth = torch.exp(-8 * (rows.square() + columns.square())) * (1 + 1j * rows)
    physics = CartesianMRI(sampling(64, 48), randn(4, 1, 1).expand(4, 64, 48))
    clean = physics.A(smooth.expand(2, 1, 64, 48))
    noise = torch.tensor([0.1, 0.3], dtype=F64)
    y = clean + physics.mask * noise[:, None, None, None] * randn(*clean.shape)
    torch.testing.assert_close(physics.estimate_noise(y), noise, rtol=0.05, atol=0)
    middle = torch.zeros(64, 48)
    middle[20:44, 14:34] = 1
    found = Restricted(CartesianMRI(torch.ones(64, 48), randn(4, 1, 1).expand(4, 64, 48)), middle).estimate_noise(
        noise[:, None, None, None] * randn(2, 4, 64, 48)
    )
    torch.testing.assert_close(found, noise, rtol=0.2, atol=0)
    padded = torch.nn.functional.pad(y, (24, 24, 32, 32))
    found = CartesianMRI(torch.ones(128, 96), randn(4, 1, 1).expand(4, 128, 96)).estimate_noise(padded)
    torch.testing.assert_close(found, noise, rtol=0.1, atol=0)


def test_channels_are_measured_one_by_one():
    mask, x = sampling(6, 5), randn(2, 3, 6, 5)
    close(CartesianMRI(mask, channels=3).A(x), torch.cat([CartesianMRI(mask).A(c) for c in x.split(1, 1)], 1))
    with pytest.raises(ValueError, match="channels: found 2, expected at least 1, and 1 with sensitivity_maps"):
        CartesianMRI(mask, randn(3, 6, 5), channels=2)


def test_groups_are_columns_and_readouts():
    mask = torch.ones(4, 6)
    mask[:, 2] = 0
    groups = CartesianMRI(mask, torch.ones(3, 4, 6)).groups()
    assert list(groups) == ["columns"] and groups["columns"].shape == (3, 4, 6)
    assert groups["columns"][1, 2].tolist() == [0, 1, -1, 3, 4, 5]
    solid = CartesianMRI(torch.ones(2, 3, 4)).groups()
    assert list(solid) == ["readouts", "columns"] and solid["columns"][0, 1, 2].tolist() == [0, 1, 2, 3]
    assert solid["readouts"][0, 1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    each = CartesianMRI(torch.ones(2, 1, 4, 6)).groups()["columns"]
    assert each.shape == (1, 4, 6)


def test_the_outermost_tenth_of_any_number():
    radius = torch.rand(1001)
    assert torch.equal(outermost(radius), radius >= radius.quantile(0.9))
    n = 2**24 + 10
    assert int(outermost(torch.arange(float(n), dtype=F64)).sum()) == n - math.ceil(0.9 * (n - 1))
