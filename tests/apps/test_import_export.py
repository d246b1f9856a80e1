"""From a scanner's file to a measurement and an image, and out again."""

import h5py
import numpy as np
import pytest
import torch
from commands import refused
from raw_scans import with_noise
from torch.testing import assert_close

from resolvent.apps.cli import INPUT, OK, USAGE, main
from resolvent.datasets import (
    Result,
    blobs,
    export,
    load_measurement,
    load_result,
    read_arrays,
    save_measurement,
    save_result,
)
from resolvent.operators import NearFieldMIMO


def centred_fft(image):
    """Unitary, origins in the middle, over the last two axes."""
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(image, axes), axes=axes, norm="ortho"), axes)


def scan(images=1, coils=3, shape=(12, 10)):
    """Coil images, smooth maps of unit sum of squares, an image, half of its k-space lines."""
    rng = np.random.default_rng(0)
    image = rng.standard_normal((images, 1, *shape)) + 1j * rng.standard_normal((images, 1, *shape))
    maps = rng.standard_normal((coils, *shape)) + 1j * rng.standard_normal((coils, *shape))
    maps = (maps / np.sqrt((np.abs(maps) ** 2).sum(0))).astype(np.complex64)
    kspace = centred_fft(image * maps).astype(np.complex64)
    kspace[..., 1::2] = 0
    return image, maps, kspace


def imported(*argv):
    assert main(["import", "mri", *map(str, argv)]) == OK
    return load_measurement(argv[argv.index("--out") + 1])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_kspace_becomes_a_measurement(axis, tmp_path):
    """The data are those of the operator applied to the image that made them."""
    image, maps, kspace = scan()
    np.save(tmp_path / "k.npy", np.moveaxis(kspace[0], 0, axis))
    np.save(tmp_path / "maps.npy", maps)
    m = imported(tmp_path / "k.npy", "--maps", tmp_path / "maps.npy", "--out", tmp_path / "m.h5")
    assert type(m.physics).__name__ == "CartesianMRI" and torch.equal(m.y, torch.from_numpy(kspace))
    assert m.physics.mask.shape == (12, 10) and int(m.physics.mask.sum()) == 60
    expected = m.physics.A(torch.from_numpy(image).to(torch.complex64))
    assert torch.allclose(m.y, expected, atol=1e-5)


def test_a_single_coil_needs_no_maps(tmp_path):
    _, _, kspace = scan(coils=1)
    np.save(tmp_path / "k.npy", kspace[0, 0])
    m = imported(tmp_path / "k.npy", "--out", tmp_path / "m.h5", "--noise_std", "0.1")
    assert m.y.shape == (1, 1, 12, 10) and m.noise_std == pytest.approx(0.1)
    np.save(tmp_path / "volume.npy", np.ones((4, 5, 6), np.complex64))
    m = imported(tmp_path / "volume.npy", "--coil_axis", "none", "--out", tmp_path / "v.h5")
    assert m.y.shape == (1, 1, 4, 5, 6)


def test_normalised_data_make_an_image_of_peak_one(tmp_path):
    _, _, kspace = scan(coils=1)
    np.save(tmp_path / "k.npy", 1e-6 * kspace[0, 0])
    m = imported(tmp_path / "k.npy", "--out", tmp_path / "m.h5", "--normalise", "true", "--noise_std", "1e-7")
    assert float(m.physics.A_adjoint(m.y).abs().max()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(m.y * m.meta["scale"], torch.from_numpy(1e-6 * kspace), rtol=1e-5)
    assert m.noise_std * m.meta["scale"] == pytest.approx(1e-7)


def test_a_mask_along_the_last_axis_takes_samples_away(tmp_path):
    _, maps, kspace = scan()
    np.savez(tmp_path / "k.npz", kspace=kspace[0], other=kspace[0])
    np.save(tmp_path / "mask.npy", np.arange(10) % 4 == 0)
    np.save(tmp_path / "maps.npy", maps)
    m = imported(tmp_path / "k.npz", "--array", "other", "--mask", tmp_path / "mask.npy", "--maps",
                 tmp_path / "maps.npy", "--out", tmp_path / "m.h5")  # fmt: skip
    assert int(m.physics.mask.sum()) == 36 and not m.y[..., 2].any() and bool(m.y[..., 4].any())


@pytest.mark.parametrize("chosen", [None, 1])
def test_fastmri_needs_the_path_alone(chosen, tmp_path):
    image, _, kspace = scan(images=3, coils=1)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kspace"], file["reconstruction_esc"] = kspace[:, 0], np.abs(image[:, 0])
    options = [] if chosen is None else ["--slice", chosen]
    m = imported(tmp_path / "f.h5", *options, "--out", tmp_path / "m.h5")
    assert torch.equal(m.y, torch.from_numpy(kspace if chosen is None else kspace[1:2]))


def test_oversampling_is_cropped_and_the_truth_is_kept(tmp_path, capsys):
    """Readout twice too long, every other line left out by a mask: image, data and truth fit each other."""
    image, maps, _ = scan(shape=(12, 10))
    image[:, :, :3] = image[:, :, 9:] = 0
    np.save(tmp_path / "k.npy", centred_fft(image * maps)[0].astype(np.complex64))
    np.save(tmp_path / "mask.npy", np.arange(10) % 2 == 0)
    np.save(tmp_path / "maps.npy", maps[:, 3:9])
    m = imported(tmp_path / "k.npy", "--mask", tmp_path / "mask.npy", "--maps", tmp_path / "maps.npy", "--crop",
                 "[6,10]", "--truth", "true", "--normalise", "true", "--out", tmp_path / "m.h5")  # fmt: skip
    assert m.physics.mask.shape == (6, 10) and int(m.physics.mask.sum()) == 30
    assert_close(m.truth * m.meta["scale"], torch.from_numpy(image[:, :, 3:9]).to(torch.complex64))
    assert_close(m.physics.A(m.truth), m.y, atol=1e-5, rtol=1e-5)
    crop = ["import", "mri", str(tmp_path / "k.npy"), "--mask", str(tmp_path / "mask.npy"), "--out",
            str(tmp_path / "n.h5"), "--crop"]  # fmt: skip
    refused(capsys, [*crop, "[6,5]"], USAGE, "--crop: found 5 of 10 on an axis along which samples are missing")
    refused(capsys, [*crop, "[6]"], USAGE, "--crop: found [6], expected 2 lengths of at most [12, 10]")
    refused(capsys, [*crop, "[13,10]"], USAGE, "expected 2 lengths of at most [12, 10]")


def test_the_truth_of_a_single_coil(tmp_path, capsys):
    image, _, _ = scan(coils=1)
    kspace = centred_fft(image[0, 0])
    kspace[:, 0] = 0
    np.save(tmp_path / "k.npy", kspace)
    np.save(tmp_path / "mask.npy", np.arange(10) % 2 == 1)
    m = imported(tmp_path / "k.npy", "--mask", tmp_path / "mask.npy", "--truth", "true", "--out", tmp_path / "m.h5")
    assert "10% of k-space are zero in the file, and so in the truth's" in capsys.readouterr().out
    expected = np.fft.fftshift(np.fft.ifftn(np.fft.ifftshift(kspace), norm="ortho"))
    assert_close(m.truth[0, 0], torch.from_numpy(expected))


def test_coils_are_prewhitened_by_the_scans_of_noise(tmp_path, capsys):
    """Image and data still fit, and noise of the covariance of the file's becomes white of the level stated."""
    mrd = pytest.importorskip("ismrmrd")
    image, maps, _ = scan(coils=2, shape=(8, 8))
    mixing = np.array([[2.0, 0.0], [1.5j, 0.5]])
    with_noise(mrd, tmp_path / "a.h5", centred_fft(image * maps)[0].transpose(1, 0, 2), mixing)
    np.save(tmp_path / "maps.npy", maps)
    options = [tmp_path / "a.h5", "--maps", tmp_path / "maps.npy", "--out", tmp_path / "m.h5"]
    imported(*options)
    said = capsys.readouterr().out
    assert "--prewhiten" in said and "--crop [8, 4]" in said
    m = imported(*options, "--prewhiten", "true")
    assert m.noise_std == 1 and "--prewhiten" not in capsys.readouterr().out
    assert_close(m.physics.A(torch.from_numpy(image).to(torch.complex64)), m.y, rtol=1e-4, atol=1e-4)
    whitening = np.linalg.lstsq(maps.reshape(2, -1).T, m.physics.sensitivity_maps.reshape(2, -1).T.numpy(), rcond=None)
    white = whitening[0].T @ mixing
    assert np.allclose(white @ white.conj().T, np.eye(2), atol=0.1)
    np.save(tmp_path / "k.npy", centred_fft(image * maps)[0])
    refused(capsys, ["import", "mri", str(tmp_path / "k.npy"), "--prewhiten", "true", "--out", str(tmp_path / "n.h5")],
            INPUT, "found no scans of noise among array")  # fmt: skip


def test_png_in_decibels(tmp_path, capsys):
    """Half of 40 dB below the peak is half as bright."""
    image = torch.tensor([[1.0, 0.1], [0.01, 1e-6]], dtype=torch.complex64)[None, None]
    save_result(tmp_path / "r.h5", Result(image))
    export_it = ["export", str(tmp_path / "r.h5"), "--decibels", "40", "--out"]
    assert main([*export_it, str(tmp_path / "a.png")]) == OK
    found = read_arrays(tmp_path / "a.png").arrays["image"]
    assert_close(found / 65535, torch.tensor([[1.0, 0.5], [0.0, 0.0]]), atol=1e-4, rtol=0)
    refused(capsys, [*export_it, str(tmp_path / "a.npy")], USAGE, "--decibels: found 40 for")
    refused(capsys, [*export_it, str(tmp_path / "a.png"), "--window", "[0,1]"], USAGE, "found 40 beside --window")


WRONG = {
    "which array": (["two.npz"], USAGE, "--array: found none, expected one of a, b"),
    "no such array": (["k.npy", "--array", "x"], USAGE, "--array: found 'x', expected one of array"),
    "no such axis": (["k.npy", "--coil_axis", "7"], USAGE, "--coil_axis: found 7"),
    "no such slice": (["k.npy", "--slice", "3"], USAGE, "--slice: found 3, expected 0 to 0"),
    "not complex": (["real.npy", "--array", "array"], INPUT, "expected complex k-space"),
    "mask": (["k.npy", "--mask", "real.npy"], INPUT, "expected a mask of shape (12, 10) or (10,)"),
    "maps": (["k.npy", "--maps", "real.npy"], INPUT, "expected one set of sensitivity maps"),
    "not finite": (["nan.npy"], INPUT, "NaN or infinite"),
    "too many axes": (["many.npy", "--coil_axis", "0"], INPUT, "expected two or three others"),
    "no file": (["nowhere.npy"], INPUT, "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_imports_are_one_line(case, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, _, kspace = scan()
    np.save("k.npy", kspace[0])
    np.save("nan.npy", np.full((12, 10), np.nan, np.complex64))
    np.save("real.npy", np.ones((3, 3)))
    np.save("many.npy", np.ones((2, 3, 4, 5, 6), np.complex64))
    np.savez("two.npz", a=kspace, b=kspace)
    argv, code, message = WRONG[case]
    assert main(["import", "mri", *argv, "--out", "m.h5"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "m.h5").exists()


def test_real_kspace_is_imported_and_reconstructed(shared_data, tmp_path, capsys):
    pytest.importorskip("sigpy")
    m = imported(shared_data / "mri" / "sigpy_cartesian_ksp.npy", "--out", tmp_path / "m.h5")
    assert m.y.shape == (1, 8, 230, 180) and "acceleration 8.04" in capsys.readouterr().out
    # A^H A is a contraction, and the operator explains what was measured
    assert float(torch.linalg.vector_norm(m.physics.A_adjoint(m.y))) <= float(torch.linalg.vector_norm(m.y))


def test_a_result_is_exported_with_its_grid(tmp_path, capsys):
    pytest.importorskip("nibabel")
    image = torch.randn(2, 1, 3, 4, 5, dtype=torch.complex64)
    axes = {name: n * torch.arange(float(k)) * 1e-3 for name, n, k in zip("xyz", (1, 2, 3), (3, 4, 5), strict=True)}
    axes["z"] += 0.4
    save_result(tmp_path / "r.h5", Result(image, truth=2 * image, axes=axes))
    assert main(["export", str(tmp_path / "r.h5"), "--out", str(tmp_path / "a.nii.gz"), "--image", "1"]) == OK
    found = read_arrays(tmp_path / "a.nii.gz")
    assert torch.equal(found.arrays["array"], image[1, 0])
    assert found.facts["voxel size (m)"] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert found.facts["first voxel (m)"] == pytest.approx([0, 0, 0.4])
    assert main(["export", str(tmp_path / "r.h5"), "--out", str(tmp_path / "t.npy"), "--truth"]) == OK
    assert torch.equal(read_arrays(tmp_path / "t.npy").arrays["array"], 2 * image[0, 0])
    assert main(["export", str(tmp_path / "r.h5"), "--out", str(tmp_path / "p.png"), "--window", "[0,1]"]) == OK
    assert main(["export", str(tmp_path / "r.h5"), "--out", str(tmp_path / "q.png"), "--image", "2"]) == USAGE
    assert "--image: found 2, expected 0 to 1" in capsys.readouterr().err


def test_axes_that_fall_or_are_uneven(tmp_path, capsys):
    """Other programs take axes to ascend: the image is turned with them, in the report too."""
    pytest.importorskip("nibabel")
    image, z = torch.randn(1, 1, 3, 4, 5, dtype=torch.complex64), torch.tensor([0.6, 0.5, 0.4, 0.3, 0.2])
    axes = {"x": torch.tensor([0.0, 0.1, 0.5]), "y": torch.arange(4) * 0.1, "z": z}
    save_result(tmp_path / "r.h5", Result(image, axes=axes))
    assert main(["export", str(tmp_path / "r.h5"), "--out", str(tmp_path / "a.nii")]) == OK
    assert (
        "note: the voxels along x are not evenly spaced" in (said := capsys.readouterr().out) and "along z" not in said
    )
    found = read_arrays(tmp_path / "a.nii")
    assert torch.equal(found.arrays["array"], image[0, 0].flip(2))
    assert found.facts["voxel size (m)"] == pytest.approx([0.25, 0.1, 0.1])
    assert found.facts["first voxel (m)"] == pytest.approx([0, 0, 0.2])
    upright = load_result(tmp_path / "r.h5").upright()
    assert torch.equal(upright.image, image.flip(4)) and torch.equal(upright.axes["z"], z.flip(0))
    flat = Result(
        torch.arange(6.0).reshape(1, 1, 2, 3), axes={"x": torch.tensor([2.0, 1.0, 0.0]), "z": torch.arange(2.0)}
    )
    assert torch.equal(flat.upright().image, flat.image.flip(3)), "of a flat image x lies across"


def test_a_measurements_truth_is_exported(tmp_path, capsys):
    arm = torch.linspace(-0.1, 0.1, 3)
    antennas = torch.stack([arm, -arm, 0 * arm], 1)
    physics = NearFieldMIMO(antennas, antennas.flip(1), torch.linspace(4e9, 8e9, 3), arm, arm, 0.3 + arm)
    truth = blobs((3, 3, 3), 0)
    save_measurement(tmp_path / "m.h5", physics.A(truth), physics, truth)
    assert main(["export", str(tmp_path / "m.h5"), "--out", str(tmp_path / "t.h5")]) == OK
    found = read_arrays(tmp_path / "t.h5")
    assert torch.equal(found.arrays["image"], truth[0, 0]) and "0.1" in str(found.facts["image.voxel_size"])
    save_measurement(tmp_path / "n.h5", physics.A(truth), physics)
    assert main(["export", str(tmp_path / "n.h5"), "--out", str(tmp_path / "t.h5")]) == INPUT
    assert "has no truth" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, message",
    [
        (np.ones((2, 12, 10)), "found no complex array among array, expected k-space"),
        (np.zeros((2, 12, 10), np.complex64), "found only zeros, expected k-space"),
        (np.full((2, 12, 10), np.nan + 0j), "found 240 NaN or infinite values, expected k-space"),
        (np.ones((3, 4, 32, 32), np.complex64), "no maps can be estimated of 3 coils x 4 x 32 x 32 samples"),
    ],
)
def test_what_is_no_kspace_is_named(content, message, tmp_path, capsys):
    np.save(tmp_path / "k.npy", content)
    assert main(["import", "mri", str(tmp_path / "k.npy"), "--out", str(tmp_path / "m.h5")]) == INPUT
    assert f"{tmp_path / 'k.npy'}: {message}" in capsys.readouterr().err
    assert not (tmp_path / "m.h5").exists()


def test_neither_half_of_a_bart_file_is_written_over(tmp_path, capsys):
    _, _, kspace = scan(coils=1)
    export(tmp_path / "k.cfl", torch.from_numpy(kspace[0, 0]))
    before = (tmp_path / "k.cfl").read_bytes()
    refused(
        capsys,
        ["import", "mri", str(tmp_path / "k.hdr"), "--out", str(tmp_path / "k.cfl")],
        INPUT,
        "expected another --out",
    )
    assert (tmp_path / "k.cfl").read_bytes() == before


def test_maps_that_are_not_finite_are_not_written(tmp_path, capsys):
    _, maps, kspace = scan()
    maps[0, 0, 0] = np.nan
    np.save(tmp_path / "k.npy", kspace[0])
    np.save(tmp_path / "maps.npy", maps)
    command = [
        "import",
        "mri",
        str(tmp_path / "k.npy"),
        "--maps",
        str(tmp_path / "maps.npy"),
        "--out",
        str(tmp_path / "m.h5"),
    ]
    refused(capsys, command, INPUT, "found maps that are zero, or not finite, expected others")
    assert not (tmp_path / "m.h5").exists()


def test_what_is_wrong_with_one_file_keeps_none_of_the_others(tmp_path, capsys):
    for name in "ac":
        assert main(["simulate", "mri", "--size", "32", "--coils", "1", "--out", str(tmp_path / f"{name}.h5")]) == OK
    (tmp_path / "b.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:900])
    files = [str(tmp_path / f"{name}.h5") for name in "abc"]
    capsys.readouterr()
    assert main(["reconstruct", *files, "--out", str(tmp_path / "out"), "--report", "false"]) == INPUT
    said = capsys.readouterr()
    assert "failed: file" in said.out and "files: 1 of 3 failed" in said.err and said.err.count("\n") == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.h5", "c.h5"]
    assert main(["info", *files]) == INPUT
    said = capsys.readouterr()
    assert said.out.count("CartesianMRI") == 2 and "files: 1 of 3 are unsound" in said.err


def test_a_report_is_made_up_for(tmp_path):
    source, image = str(tmp_path / "a.h5"), tmp_path / "out.h5"
    assert main(["simulate", "mri", "--size", "32", "--coils", "1", "--out", source]) == OK
    assert main(["reconstruct", source, "--out", str(image), "--report", "false"]) == OK
    made = image.stat().st_mtime_ns
    assert main(["reconstruct", source, "--out", str(image)]) == OK
    assert image.with_suffix(".html").exists() and image.stat().st_mtime_ns == made


def test_names_that_are_too_long_are_said_so(tmp_path, capsys):
    long = str(tmp_path / ("x" * 300 + ".h5"))
    refused(capsys, ["reconstruct", long, "--out", str(tmp_path / "o")], INPUT, "found a name that is too long")


def as_bart(path, values, *axes):
    """``values`` at BART's ``axes``."""
    shape = [1] * (max(axes) + 1)
    for n, axis in zip(values.shape, axes, strict=True):
        shape[axis] = n
    order = np.argsort(axes)
    export(path, torch.from_numpy(np.ascontiguousarray(values.transpose(order).reshape(shape))))
    (path.with_suffix(".hdr")).write_text("# Dimensions\n" + " ".join(map(str, shape)) + "\n")
    return path


def test_axes_of_bart_are_its_own(tmp_path):
    """Coils on axis 3, also of one; frames behind the maps; maps as ecalib writes them."""
    _, maps, kspace = scan(images=2)
    source, kept = as_bart(tmp_path / "k.cfl", kspace, 10, 3, 0, 1), as_bart(tmp_path / "maps.cfl", maps, 3, 0, 1)
    m = imported(source, "--maps", kept, "--out", tmp_path / "m.h5")
    assert torch.equal(m.y, torch.from_numpy(kspace))
    assert_close(m.physics.sensitivity_maps, torch.from_numpy(maps))
    volume = np.ones((6, 12, 10), np.complex64)
    assert imported(as_bart(tmp_path / "v.cfl", volume, 0, 1, 2), "--out", tmp_path / "v.h5").y.shape == (
        1,
        1,
        6,
        12,
        10,
    )


def test_two_sets_of_maps_are_refused(tmp_path, capsys):
    _, maps, kspace = scan()
    source = as_bart(tmp_path / "k.cfl", kspace[0], 3, 0, 1)
    two = as_bart(tmp_path / "maps.cfl", np.stack([maps, maps]), 4, 3, 0, 1)
    command = ["import", "mri", str(source), "--maps", str(two), "--out", str(tmp_path / "m.h5")]
    refused(capsys, command, INPUT, "arrays of shape (12, 10, 1, 3, 2), expected one set of sensitivity maps")


def test_an_axis_of_images_is_named(tmp_path, capsys):
    _, maps, kspace = scan(images=4)
    np.save(tmp_path / "k.npy", np.moveaxis(kspace, 0, 2))
    np.save(tmp_path / "maps.npy", maps)
    command = [tmp_path / "k.npy", "--maps", tmp_path / "maps.npy", "--batch_axis", "2", "--out", tmp_path / "m.h5"]
    assert torch.equal(imported(*command).y, torch.from_numpy(kspace))
    for option, axis, message in (
        ("--batch_axis", "9", "--batch_axis: found 9, expected an axis of shape (3, 12, 4, 10)"),
        ("--coil_axis", "2", "--batch_axis: found 2, the axis of the coils, expected another"),
    ):
        more = [str(c) for c in command[:-2]] + [option, axis, "--out", str(tmp_path / "n.h5")]
        refused(capsys, ["import", "mri", *more], USAGE, message)


def test_masks_of_rows_and_of_each_image(tmp_path, capsys):
    _, maps, kspace = scan(images=2)
    np.save(tmp_path / "maps.npy", maps)
    np.save(tmp_path / "k.npy", kspace)
    command = [tmp_path / "k.npy", "--maps", tmp_path / "maps.npy", "--batch_axis", "0", "--coil_axis", "1"]
    rows, each = np.arange(12)[:, None] % 2, np.random.default_rng(0).integers(0, 2, (2, 12, 10))
    for name, mask in (("rows", rows), ("each", each)):
        np.save(tmp_path / "mask.npy", mask)
        m = imported(*command, "--mask", tmp_path / "mask.npy", "--out", tmp_path / f"{name}.h5")
        assert torch.equal(
            m.y, torch.from_numpy(kspace * np.broadcast_to(mask if name == "rows" else mask[:, None], kspace.shape))
        )
    for mask, message in (
        (np.zeros(10), "found no sample of k-space that it keeps, expected some"),
        (np.full(10, np.nan), "found other values than 0 and 1, expected a sampling mask"),
        (np.ones(7), "expected a mask of shape (12, 10) or (10,), or (12, 1) along the first axis"),
    ):
        np.save(tmp_path / "wrong.npy", mask)
        more = ["--mask", str(tmp_path / "wrong.npy"), "--out", str(tmp_path / "wrong.h5")]
        refused(capsys, ["import", "mri", *map(str, command), *more], INPUT, message)


def test_frames_and_slices_of_bart_are_all_images(tmp_path, capsys):
    """Axes from the sixth on are no places: their product is the batch, the last of them fastest."""
    _, maps, kspace = scan(images=6)
    source = as_bart(tmp_path / "k.cfl", kspace.reshape(2, 3, *kspace.shape[1:]), 10, 13, 3, 0, 1)
    kept = as_bart(tmp_path / "maps.cfl", maps, 3, 0, 1)
    assert torch.equal(imported(source, "--maps", kept, "--out", tmp_path / "m.h5").y, torch.from_numpy(kspace))
    command = ["import", "mri", str(source), "--maps", str(kept), "--batch_axis", "10", "--out", str(tmp_path / "n.h5")]
    refused(capsys, command, USAGE, "images along axis 13")


def test_what_looks_wrong_is_said(tmp_path, capsys):
    image, maps, _ = scan()
    fall = np.exp(-0.1 * ((np.arange(12)[:, None] - 6) ** 2 + (np.arange(10) - 5) ** 2))
    full = (centred_fft(image * maps) * fall).astype(np.complex64)
    every_other = np.arange(12)[:, None] % 2 * np.ones((12, 10))
    one_more = every_other.copy()
    one_more[0] = 1
    np.save(tmp_path / "maps.npy", maps)

    def told(kspace, mask):
        np.save(tmp_path / "k.npy", kspace)
        np.save(tmp_path / "mask.npy", mask)
        options = ["--maps", tmp_path / "maps.npy", "--batch_axis", "0", "--coil_axis", "1", "--out", tmp_path / "m.h5"]
        imported(tmp_path / "k.npy", "--mask", tmp_path / "mask.npy", *options)
        return capsys.readouterr().out

    assert "note" not in told(full, every_other) + told(full, one_more) + told(full * every_other, every_other)
    assert "keeps 10 samples at which every coil is 0" in told(full * every_other, one_more)
    assert "fftshift" in told(np.fft.ifftshift(full, (-2, -1)), every_other)


@pytest.mark.parametrize("axis, formula", [(-1, "1j * a[..., 1]"), (0, "a[0] + 1j * a[1]")])
def test_real_and_imaginary_parts_are_recognised(axis, formula, tmp_path, capsys):
    _, _, kspace = scan()
    np.save(tmp_path / "k.npy", np.stack([kspace.real, kspace.imag], axis))
    refused(capsys, ["import", "mri", str(tmp_path / "k.npy"), "--out", str(tmp_path / "m.h5")], INPUT, formula)


def test_the_readout_of_fastmri_is_its_rows(tmp_path, capsys):
    space = "<{0}Space><matrixSize><x>{1}</x><y>10</y><z>1</z></matrixSize><fieldOfView_mm><x>{2}</x><y>200</y>" \
        "<z>5</z></fieldOfView_mm></{0}Space>"  # fmt: skip
    spaces = space.format("encoded", 12, 400) + space.format("recon", 6, 200)
    header = f'<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>{spaces}</encoding></ismrmrdHeader>'
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = scan(images=2, coils=1)[2][:, 0], header
    imported(tmp_path / "f.h5", "--out", tmp_path / "m.h5")
    assert "--crop [6, 10] keeps" in capsys.readouterr().out


def test_maps_of_another_norm_are_said(tmp_path, capsys):
    _, maps, kspace = scan()
    np.save(tmp_path / "k.npy", kspace[0])
    for factor, said in ((1, False), (3, True)):
        np.save(tmp_path / "maps.npy", factor * maps)
        imported(tmp_path / "k.npy", "--maps", tmp_path / "maps.npy", "--out", tmp_path / "m.h5")
        assert ("squares sum to about 9, not 1" in capsys.readouterr().out) == said


def test_averages_have_less_noise(tmp_path):
    """Each line of noise alone taken four times: prewhitened it is 1/2, as is stated."""
    mrd = pytest.importorskip("ismrmrd")
    rng = np.random.default_rng(0)
    lines = (rng.standard_normal((256, 2, 64)) + 1j * rng.standard_normal((256, 2, 64))) / np.sqrt(2)
    with_noise(mrd, tmp_path / "a.h5", lines, np.eye(2), repeats=64)
    np.save(tmp_path / "maps.npy", scan(coils=2, shape=(64, 64))[1])
    m = imported(tmp_path / "a.h5", "--maps", tmp_path / "maps.npy", "--prewhiten", "true", "--out", tmp_path / "m.h5")
    assert m.noise_std == pytest.approx(0.5) and m.meta["averages"] == "4"
    assert float(m.y.abs().square().mean().sqrt()) == pytest.approx(0.5, rel=0.05)


def test_where_no_coil_sees_anything_the_image_is_zero(tmp_path):
    """Total variation would fill it in; the data do not notice."""
    _, maps, kspace = scan()
    maps[:, :5] = 0
    np.save(tmp_path / "k.npy", kspace[0])
    np.save(tmp_path / "maps.npy", maps)
    imported(tmp_path / "k.npy", "--maps", tmp_path / "maps.npy", "--noise_std", "0.1", "--out", tmp_path / "m.h5")
    method = ["--report", "false", "--prior", "TV"]
    assert main(["reconstruct", str(tmp_path / "m.h5"), "--out", str(tmp_path / "r.h5"), *method]) == OK
    found = load_result(tmp_path / "r.h5").image
    assert not found[:, :, :5].any() and bool(found[:, :, 5:].any())
