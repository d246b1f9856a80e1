"""k-space along trajectories, as SigPy, BART and ISMRMRD store it, becomes measurements that fit their images."""

import numpy as np
import pytest
import torch
from commands import refused
from raw_scans import with_noise
from torch.testing import assert_close

from resolvent.apps.cli import INPUT, OK, USAGE, main
from resolvent.datasets import load_measurement, ring_coils
from resolvent.operators import NonCartesianMRI

pytest.importorskip("finufft")
SPATIAL, READOUTS, SAMPLES, COILS = (14, 12), 7, 10, 3


def spokes(dimensions=2):
    """Cycles per voxel, ``(readouts, samples, dimensions)``; neither axis is like the other."""
    angle = np.pi * np.arange(READOUTS)[:, None] / READOUTS
    radius = (np.arange(SAMPLES) - SAMPLES // 2) / SAMPLES
    columns = [radius * np.cos(angle), 0.9 * radius * np.sin(angle), 0 * radius * angle]
    return np.stack(columns[:dimensions], -1)


def scanned(trajectory=None):
    """An image, its maps and k-space ``(coils, readouts, samples)`` by the operator itself."""
    trajectory = spokes() if trajectory is None else trajectory
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, *SPATIAL, dtype=torch.complex64, generator=generator)
    maps = ring_coils(COILS, SPATIAL)
    physics = NonCartesianMRI(torch.from_numpy(trajectory.reshape(-1, 2)), (1, *SPATIAL), maps)
    return image, maps.numpy(), physics.A(image)[0].reshape(COILS, READOUTS, SAMPLES).numpy()


def imported(*argv):
    assert main(["import", "mri-trajectory", *map(str, argv)]) == OK
    return load_measurement(argv[argv.index("--out") + 1])


SIZE = np.array(SPATIAL)
#: k-space from (coils, readouts, samples), positions from cycles per voxel, options.
LAYOUTS = {
    "SigPy": (lambda k: k, lambda t: SIZE * t, []),
    "cycles per voxel": (lambda k: k, lambda t: t, []),
    "radians": (lambda k: k, lambda t: 2 * np.pi * t, []),
    "radians, few": (lambda k: k, lambda t: 2 * np.pi * t, ["--unit", "rad/voxel"]),
    "coils last, one list": (lambda k: k.transpose(1, 2, 0).reshape(-1, COILS), lambda t: t.reshape(-1, 2), []),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_units(layout, tmp_path):
    """The data are those of the operator applied to the image that made them."""
    arranged, converted, options = LAYOUTS[layout]
    positions = spokes() * (0.1 if "few" in layout else 1)
    image, maps, kspace = scanned(positions)
    for name, values in {"k": arranged(kspace), "t": converted(positions), "maps": maps}.items():
        np.save(tmp_path / f"{name}.npy", values)
    m = imported(tmp_path / "k.npy", "--trajectory", tmp_path / "t.npy", "--maps", tmp_path / "maps.npy", *options,
                 "--size", "[14,12]", "--out", tmp_path / "m.h5")  # fmt: skip
    assert type(m.physics).__name__ == "NonCartesianMRI" and m.physics.image_shape == (1, *SPATIAL)
    assert_close(m.physics.A(image), m.y, rtol=1e-4, atol=1e-4)


def test_bart_and_its_image_size(tmp_path):
    """(3, samples, readouts), third coordinate 0, beside (1, samples, readouts, coils)."""
    kspace = scanned()[2]
    for name, values in {
        "t": (SIZE.max() * spokes(3)).transpose(2, 1, 0), "k": kspace.transpose(2, 1, 0)[None],
    }.items():  # fmt: skip
        full = np.asfortranarray(values.astype(np.complex64))
        full.ravel(order="F").tofile(tmp_path / f"{name}.cfl")
        (tmp_path / f"{name}.hdr").write_text(f"# Dimensions\n{' '.join(map(str, values.shape))}\n")
    np.save(tmp_path / "maps.npy", ring_coils(COILS, (14, 14)).numpy())
    m = imported(tmp_path / "k.cfl", "--trajectory", tmp_path / "t.hdr", "--maps", tmp_path / "maps.npy", "--out",
                 tmp_path / "m.h5")  # fmt: skip
    assert m.physics.image_shape == (1, 14, 14)
    expected = spokes().transpose(1, 0, 2).reshape(-1, 2)
    assert_close(m.physics.trajectory, torch.from_numpy(expected), rtol=0, atol=1e-6)
    assert torch.equal(m.y, torch.from_numpy(kspace).transpose(1, 2).reshape(1, COILS, -1))


def test_a_single_coil_of_bart_and_its_axes(tmp_path, capsys):
    """The coils' axis, of length one and last, is not written; `info` of either file says what it holds."""
    kspace = scanned()[2][:1]
    for name, values in {
        "t": (SIZE.max() * spokes(3)).transpose(2, 1, 0), "k": kspace.transpose(2, 1, 0)[None, ..., 0],
    }.items():  # fmt: skip
        np.asfortranarray(values.astype(np.complex64)).ravel(order="F").tofile(tmp_path / f"{name}.cfl")
        (tmp_path / f"{name}.hdr").write_text(f"# Dimensions\n{' '.join(map(str, values.shape))}\n")
        assert main(["info", str(tmp_path / f"{name}.cfl")]) == OK
    m = imported(tmp_path / "k.cfl", "--trajectory", tmp_path / "t.hdr", "--out", tmp_path / "m.h5")
    assert m.physics.sensitivity_maps is None
    assert torch.equal(m.y, torch.from_numpy(kspace).transpose(1, 2).reshape(1, 1, -1))


def test_maps_are_estimated_from_the_gridded_image(tmp_path, capsys):
    """Those of a disc, where it is, to a twentieth; prewhitened and normalised by the file's own scans of noise."""
    mrd = pytest.importorskip("ismrmrd")
    pytest.importorskip("sigpy")
    n, readouts = 48, 80
    angle = np.pi * np.arange(readouts)[:, None] / readouts
    radius = (np.arange(2 * n) - n) / (2 * n)
    trajectory = np.stack([radius * np.sin(angle), radius * np.cos(angle)], -1)
    maps = ring_coils(2, (n, n))
    y, x = torch.meshgrid(*2 * (torch.linspace(-1, 1, n),), indexing="ij")
    disc = ((y / 0.7) ** 2 + (x / 0.5) ** 2 < 1).to(torch.complex64)[None, None]
    physics = NonCartesianMRI(torch.from_numpy(trajectory.reshape(-1, 2)), (1, n, n), maps)
    lines = physics.A(disc)[0].reshape(2, readouts, 2 * n).transpose(0, 1).numpy()
    with_noise(mrd, tmp_path / "a.h5", lines, 1e-3 * np.eye(2), trajectory[..., ::-1])
    m = imported(tmp_path / "a.h5", "--size", "[48,48]", "--prewhiten", "true", "--normalise", "true", "--out",
                 tmp_path / "m.h5")  # fmt: skip
    refused(
        capsys, ["import", "mri", str(tmp_path / "a.h5"), "--out", str(tmp_path / "n.h5")], INPUT, "along a trajectory"
    )
    assert m.noise_std == pytest.approx(1 / m.meta["scale"]) and m.meta["scale"] > 100
    assert float(torch.linalg.vector_norm(m.physics.back_project(m.y))) > 0
    inside = disc[0, 0].bool()
    found, expected = m.physics.sensitivity_maps[0][:, inside], maps[:, inside]
    found, expected = found[1] / found[0], expected[1] / expected[0]
    assert float((found - expected).abs().median()) < 0.05


def test_single_coils_need_no_maps(tmp_path):
    _, _, kspace = scanned()
    np.save(tmp_path / "k.npy", kspace[:1])
    np.save(tmp_path / "t.npy", spokes())
    m = imported(tmp_path / "k.npy", "--trajectory", tmp_path / "t.npy", "--size", "[14,12]", "--out",
                 tmp_path / "m.h5", "--noise_std", "0.1")  # fmt: skip
    assert m.y.shape == (1, 1, 70) and m.physics.sensitivity_maps is None and m.noise_std == pytest.approx(0.1)
    frames = np.stack([kspace[0], 2 * kspace[0]])
    np.save(tmp_path / "k.npy", frames)
    m = imported(tmp_path / "k.npy", "--trajectory", tmp_path / "t.npy", "--size", "[14,12]", "--out",
                 tmp_path / "m.h5", "--batch_axis", "0", "--coil_axis", "none")  # fmt: skip
    assert torch.equal(m.y, torch.from_numpy(frames).reshape(2, 1, 70))


WRONG = {
    "no positions": (["k.npy"], USAGE, "--trajectory: found none"),
    "no size": (["k.npy", "--trajectory", "t.npy"], USAGE, "--size: found none, expected the voxels along 2 axes"),
    "size of a volume": (["k.npy", "--trajectory", "t.npy", "--size", "[8,8,8]"], USAGE, "along 2 axes"),
    "unit": (["k.npy", "--trajectory", "far.npy", "--unit", "1/voxel", "--size", "[8,8]"], USAGE, "reach 7 cycles"),
    "too small": (["k.npy", "--trajectory", "far.npy", "--size", "[8,8]"], USAGE, "positions in 1/fov reach 0.875"),
    "other samples": (["k.npy", "--trajectory", "short.npy", "--size", "[8,8]"], INPUT,
                      "k-space of shape (3, 7, 10) and positions (7, 9)"),
    "no pairs": (["k.npy", "--trajectory", "k.npy", "--size", "[8,8]"], INPUT, "expected finite positions"),
    "not finite": (["k.npy", "--trajectory", "nan.npy", "--size", "[8,8]"], INPUT, "values that are not finite"),
    "axis": (["k.npy", "--trajectory", "t.npy", "--size", "[8,8]", "--coil_axis", "5"], USAGE, "--coil_axis: found 5"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_imports_are_one_line(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"k": scanned()[2], "t": spokes(), "far": 14 * spokes(), "short": spokes()[:, 1:]}
    files["nan"] = np.where(spokes() == 0, np.nan, spokes())
    for name, values in files.items():
        np.save(f"{name}.npy", values)
    argv, code, message = WRONG[case]
    refused(capsys, ["import", "mri-trajectory", *argv, "--out", "m.h5"], code, message)
    assert not (tmp_path / "m.h5").exists()
