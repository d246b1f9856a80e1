"""What is written in a format, by its own library where there is one, is what is read."""

from itertools import product

import h5py
import numpy as np
import pytest
import scipy.io
import tifffile
import torch
from PIL import Image
from torch.testing import assert_close

from resolvent.datasets import InputError, VoxelGrid, export, read_arrays, recognise
from resolvent.datasets.kspace import (
    acceleration,
    batched,
    calibration_block,
    cropped,
    mixed,
    sampling_mask,
    whitening,
)


def random(*shape, dtype=np.complex64):
    rng = np.random.default_rng(0)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)


def read(path, name, array):
    """The file is known for what it is whatever its name, and holds ``array`` alone."""
    disguised = path.with_name("content_alone")
    path.rename(disguised)
    assert recognise(disguised).name == name
    (value,) = read_arrays(disguised).arrays.values()
    assert value.shape == array.shape and np.array_equal(value.numpy(), array)


@pytest.mark.parametrize("dtype", ["f4", "f8", "c8", "c16", "i2", "u2", "?", ">f4", ">c16", "f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(dtype, order, tmp_path):
    array = np.asarray(random(3, 4).astype(np.dtype(dtype)) if "c" in dtype else random(3, 4).real.astype(dtype))
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    read(tmp_path / "a.npy", "npy", array)


def test_unsigned_numbers_keep_their_values(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([65535], np.uint16), b=np.array([2**32 - 1], np.uint32))
    assert {k: v.item() for k, v in read_arrays(tmp_path / "a.npz").arrays.items()} == {"a": 65535, "b": 2**32 - 1}


def test_npz_leaves_text_out(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=random(3), note=np.array("hello"))
    found = read_arrays(tmp_path / "a.npz")
    assert list(found.arrays) == ["x"] and found.facts == {"left out": ["note"]}


@pytest.mark.parametrize("compress", [True, False])
def test_matlab5(compress, tmp_path):
    cells = np.empty((2, 2), dtype=object)
    cells[:] = [[np.full((1, 2), 1.0), np.full((2, 1), 2.0)], [np.full((1, 1), 3.0), np.array([["text"]])]]
    variables = {"z": random(3, 4, 2), "c": cells, "s": {"fs": 5e6, "deep": {"name": "probe"}}}
    scipy.io.savemat(tmp_path / "a.mat", variables, do_compression=compress)
    found = read_arrays(tmp_path / "a.mat")
    assert np.array_equal(found.arrays["z"].numpy(), variables["z"])
    # MATLAB counts down the columns first
    assert [float(found.arrays[f"c{{{i}}}"].flatten()[0]) for i in (1, 2, 3)] == [1, 3, 2]
    assert found.arrays["s.fs"].item() == 5e6 and found.facts["s.deep.name"] == "probe"


def test_pairs_of_integers_are_complex(tmp_path):
    pairs = np.zeros((3, 4), [("r", "<i2"), ("i", "<i2")])
    pairs["r"], pairs["i"] = np.arange(12).reshape(3, 4), -5
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["iq"], file["rf"] = pairs, np.ones(3, np.float32)
    found = read_arrays(tmp_path / "a.h5").arrays
    assert found["iq"].dtype == torch.complex64 and found["rf"].shape == (3,)
    assert np.array_equal(found["iq"].numpy(), pairs["r"] + 1j * pairs["i"])


def test_matlab73_is_turned_round(tmp_path):
    """As MATLAB itself writes: axes reversed, complex pairs, cells as references, 512 bytes in front."""
    z, inner = random(2, 3, 4, dtype=np.complex128), np.arange(6.0).reshape(2, 3)
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        pairs = np.zeros(z.T.shape, dtype=[("real", "<f8"), ("imag", "<f8")])
        pairs["real"], pairs["imag"] = z.T.real, z.T.imag
        file["z"], file["#refs#/a"], file["s/fs"] = pairs, inner.T, [[5e6]]
        file["c"] = np.array([[file["#refs#/a"].ref]], dtype=h5py.ref_dtype)
        file["name"] = np.array([[104], [105]], np.uint16)
        file["name"].attrs["MATLAB_class"] = np.bytes_("char")
        file["on"] = np.array([[1]], np.uint8)
        file["on"].attrs["MATLAB_class"] = np.bytes_("logical")
    with (tmp_path / "a.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    assert recognise(tmp_path / "a.mat").name == "MATLAB v7.3"
    found = read_arrays(tmp_path / "a.mat")
    assert np.array_equal(found.arrays["z"].numpy(), z) and np.array_equal(found.arrays["c{1}"].numpy(), inner)
    assert found.arrays["s.fs"].item() == 5e6 and found.arrays["on"].dtype == torch.bool
    assert found.facts["name"] == "hi" and set(found.arrays) == {"z", "c{1}", "s.fs", "on"}


@pytest.mark.parametrize("suffix", [".cfl", ".hdr"])
def test_bart_by_either_file(suffix, tmp_path):
    values = random(5, 4, 1, 3)
    (tmp_path / "a.hdr").write_text("# Dimensions\n5 4 1 3 1 1 1 1\n# Command\nphantom -k\n")
    values.ravel(order="F").tofile(tmp_path / "a.cfl")
    assert recognise(tmp_path / f"a{suffix}").name == "BART"
    found = read_arrays(tmp_path / f"a{suffix}")
    assert np.array_equal(found.arrays["array"].numpy(), values) and found.facts["coil_axis"] == 3


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image"])
def test_nifti(suffix, kind, tmp_path):
    nib = pytest.importorskip("nibabel")
    image = getattr(nib, kind)(random(3, 4, 5), np.diag([1.0, 2.0, 0.5, 1.0]))
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / f"a{suffix}")
    assert read_arrays(tmp_path / f"a{suffix}").facts["voxel size (m)"] == pytest.approx([1e-3, 2e-3, 0.5e-3])
    read(tmp_path / f"a{suffix}", "NIfTI", random(3, 4, 5))


def test_nifti_is_scaled_as_its_header_says(tmp_path):
    nib = pytest.importorskip("nibabel")
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -1)
    image.to_filename(tmp_path / "a.nii")
    stored = nib.load(tmp_path / "a.nii").get_fdata()
    assert np.array_equal(read_arrays(tmp_path / "a.nii").arrays["array"].numpy(), stored)


@pytest.mark.parametrize("levels, suffix", [("uint8", "png"), ("uint16", "png"), ("uint8", "tif"), ("uint16", "tif")])
def test_gray_images_keep_their_levels(levels, suffix, tmp_path):
    values = np.random.default_rng(0).integers(0, np.iinfo(levels).max, (5, 7), dtype=levels)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    read(tmp_path / f"a.{suffix}", {"png": "PNG", "tif": "TIFF"}[suffix], values)


@pytest.mark.parametrize("channels, suffix", [(3, "bmp"), *product([3, 4], ["png", "tif", "webp"])])
def test_colours_come_first_and_alpha_apart(channels, suffix, tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (5, 7, channels), dtype=np.uint8)
    exactly = {"lossless": True, "exact": True} if suffix == "webp" else {}
    Image.fromarray(values).save(tmp_path / f"a.{suffix}", **exactly)
    found = read_arrays(tmp_path / f"a.{suffix}").arrays
    assert np.array_equal(found["image"].numpy(), values[..., :3].transpose(2, 0, 1))
    assert ("alpha" in found) == (channels == 4)


def test_jpeg_is_turned_as_its_tag_says(tmp_path):
    values = np.zeros((16, 32, 3), np.uint8)
    values[:, :16] = 255
    tag = Image.Exif()
    tag[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.jpg", exif=tag)
    image = read_arrays(tmp_path / "a.jpg").arrays["image"]
    assert image.shape == (3, 32, 16) and float(image[:, 2].float().mean()) > 250 > 5 > float(
        image[:, -2].float().mean()
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned_as_png_is(orientation, tmp_path):
    values, tag = np.random.default_rng(0).integers(0, 255, (5, 7), dtype=np.uint8), Image.Exif()
    tag[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / "a.png", exif=tag)
    Image.fromarray(values).save(tmp_path / "a.tif", tiffinfo={0x0112: orientation})
    png, tiff = (read_arrays(tmp_path / name).arrays["image"] for name in ("a.png", "a.tif"))
    assert np.array_equal(png.numpy(), tiff.numpy())


def test_tiff_with_white_at_0_is_inverted(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (5, 7), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    read(tmp_path / "a.tif", "TIFF", 255 - values)


@pytest.mark.parametrize("kind, channels", [("palette", 1), ("separated", 4), ("cielab", 3), ("ycbcr", 3)])
def test_tiff_of_other_colours_is_refused(kind, channels, tmp_path):
    values = np.zeros((5, 7, channels), np.uint8).squeeze()
    table = {"colormap": np.zeros((3, 256), np.uint16)} if kind == "palette" else {}
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=kind, **table)
    with pytest.raises(InputError, match=f"TIFF of {kind} colours, expected gray or RGB"):
        read_arrays(tmp_path / "a.tif")


def test_tiff_stacks(tmp_path):
    values = random(4, 6, 5).real
    tifffile.imwrite(tmp_path / "a.tif", values, compression="zlib", photometric="minisblack")
    read(tmp_path / "a.tif", "TIFF", values)


def test_colours_of_16_bits_in_png_are_not_halved_in_silence(tmp_path):
    head = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + b"\0\0\0\x02" * 2 + b"\x10\x02\0\0\0"
    (tmp_path / "a.png").write_bytes(head + bytes(50))
    with pytest.raises(InputError, match=r"16 bits in several channels"):
        read_arrays(tmp_path / "a.png")


HEADER = """<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding><encodedSpace><matrixSize><x>8</x><y>6</y>
<z>1</z></matrixSize></encodedSpace><encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>4</maximum>
<center>2</center></kspace_encoding_step_1></encodingLimits><trajectory>cartesian</trajectory></encoding>
</ismrmrdHeader>"""


def acquisition(mrd, line, step, **changes):
    a = mrd.Acquisition.from_array(np.ascontiguousarray(line), center_sample=changes.pop("center_sample", 4))
    a.idx.kspace_encode_step_1 = step
    for flag in changes.pop("flags", ()):
        a.setFlag(flag)
    for name, value in changes.items():
        setattr(a.idx, name, value)
    return a


def written(mrd, path, acquisitions, header=HEADER):
    with mrd.Dataset(str(path), "dataset", create_if_needed=True) as file:
        file.write_xml_header(header.encode())
        for a in acquisitions:
            file.append_acquisition(a)


def test_ismrmrd_lines_go_where_their_counters_say(tmp_path):
    """Two slices of two coils in random order, DC in line 2 of 5 sampled ones goes to line 3 of 6; the rest is 0."""
    mrd = pytest.importorskip("ismrmrd")
    lines, order = random(2, 5, 2, 8), np.random.default_rng(1).permutation(10)
    scans = [acquisition(mrd, lines[i // 5, i % 5], i % 5, slice=i // 5) for i in order]
    noise = acquisition(mrd, random(2, 8), 0, flags=[mrd.ACQ_IS_NOISE_MEASUREMENT])
    feedback = acquisition(mrd, random(2, 8), 0, flags=[mrd.ACQ_IS_RTFEEDBACK_DATA])
    calibration = acquisition(mrd, lines[0, 0], 1, flags=[mrd.ACQ_IS_PARALLEL_CALIBRATION])
    elsewhere = acquisition(mrd, random(2, 4), 1)
    elsewhere.encoding_space_ref = 1
    written(mrd, tmp_path / "a.h5", [noise, *scans, calibration, elsewhere, feedback])
    assert recognise(tmp_path / "a.h5").name == "ISMRMRD"
    found = read_arrays(tmp_path / "a.h5")
    expected = np.zeros((2, 2, 6, 8), np.complex64)
    expected[:, :, 1:6] = lines.transpose(0, 2, 1, 3)
    assert np.array_equal(found.arrays["kspace"].numpy(), expected)
    reference = found.arrays["calibration"].numpy()
    assert np.array_equal(reference[0, :, 2], lines[0, 0]) and np.count_nonzero(reference) == lines[0, 0].size
    assert reference.shape == expected.shape
    assert np.array_equal(found.arrays["noise"].numpy(), np.array(noise.data))
    assert found.facts["scans left out"] == 2 and (found.facts["batch_axis"], found.facts["coil_axis"]) == (0, 1)


def test_ismrmrd_calibration_is_of_all_images_of_its_slice(tmp_path):
    """Taken once, in the first repetition and in another order of slices; slice 2 has none."""
    mrd = pytest.importorskip("ismrmrd")
    lines, flag = random(3, 2, 8), [mrd.ACQ_IS_PARALLEL_CALIBRATION]
    images = [acquisition(mrd, lines[s], 0, slice=s, repetition=r) for r in (0, 1) for s in (0, 1, 2)]
    own = [acquisition(mrd, 10 * lines[s], 3, slice=s, flags=flag) for s in (1, 0)]
    written(mrd, tmp_path / "a.h5", [*images, *own])
    found = read_arrays(tmp_path / "a.h5").arrays
    slices = [int(np.flatnonzero((lines == k[:, 1].numpy()).all((1, 2)))[0]) for k in found["kspace"]]
    assert sorted(slices) == [0, 0, 1, 1, 2, 2]
    for s, k in zip(slices, found["calibration"].numpy(), strict=True):
        assert np.array_equal(k[:, 4], 10 * lines[s] if s < 2 else 0 * lines[s])


def test_ismrmrd_averages_partial_and_reversed_lines(tmp_path):
    mrd = pytest.importorskip("ismrmrd")
    a, b = random(2, 2, 8)
    scans = [acquisition(mrd, a, 0, average=0), acquisition(mrd, b, 0, average=1),
             acquisition(mrd, a[:, ::-1], 1, flags=[mrd.ACQ_IS_REVERSE]),
             acquisition(mrd, a[:, 3:], 2, center_sample=1)]  # fmt: skip
    written(mrd, tmp_path / "a.h5", scans)
    found = read_arrays(tmp_path / "a.h5")
    kspace = found.arrays["kspace"][0].numpy()
    assert found.facts["averages"] == "1 to 2"
    assert found.facts["averaged noise"] == pytest.approx(np.sqrt((1 / 2 + 1 + 1) / 3))
    assert np.allclose(kspace[:, 1], (a + b) / 2)
    assert np.array_equal(kspace[:, 2], a)
    assert np.array_equal(kspace[:, 3, 3:], a[:, 3:]) and not kspace[:, 3, :3].any()


def test_ismrmrd_noise_is_as_strong_as_in_the_image(tmp_path):
    """Its variance is proportional to the bandwidth, 1 / dwell time, of which the receiver passes 0.8."""
    mrd = pytest.importorskip("ismrmrd")
    share = "<relativeReceiverNoiseBandwidth>0.8</relativeReceiverNoiseBandwidth>"
    system = f"<acquisitionSystemInformation>{share}</acquisitionSystemInformation>"
    scans = [acquisition(mrd, random(2, 8), 2), *(acquisition(mrd, random(2, n), 0) for n in (5, 6))]
    for scan, dwell in zip(scans, (2.0, 5.0, 5.0), strict=True):
        scan.sample_time_us = dwell
    for scan in scans[1:]:
        scan.setFlag(mrd.ACQ_IS_NOISE_MEASUREMENT)
    written(mrd, tmp_path / "a.h5", scans, HEADER.replace("<encoding>", system + "<encoding>", 1))
    expected = np.concatenate([np.array(scan.data) for scan in scans[1:]], 1) * np.sqrt(5 / (2 * 0.8))
    assert np.allclose(read_arrays(tmp_path / "a.h5").arrays["noise"].numpy(), expected, rtol=1e-6)


RADIAL = HEADER.replace("cartesian", "radial")


def spoke(mrd, line, positions, **changes):
    a = mrd.Acquisition.from_array(line, np.ascontiguousarray(positions, np.float32))
    for name, value in changes.items():
        setattr(a.idx, name, value)
    return a


@pytest.mark.parametrize("weights", [False, True])
def test_ismrmrd_along_a_trajectory(weights, tmp_path):
    """Two images of three spokes; positions in the order of the image's axes, a column of weights left out."""
    mrd = pytest.importorskip("ismrmrd")
    lines, places = random(2, 3, 2, 8), random(3, 8, 2 + weights).real
    scans = [spoke(mrd, lines[i, j], places[j], repetition=i) for i in (0, 1) for j in range(3)]
    written(mrd, tmp_path / "a.h5", scans, RADIAL)
    found = read_arrays(tmp_path / "a.h5")
    assert np.array_equal(found.arrays["kspace"].numpy(), lines.transpose(0, 2, 1, 3))
    assert np.array_equal(found.arrays["trajectory"].numpy(), places[..., 1::-1])


TRAJECTORIES = {
    "differ": (lambda j, i: (8, j + 10 * i), "differ between images"),
    "lengths": (lambda j, i: (8 - j, j), "several lengths"),
}


@pytest.mark.parametrize("case", TRAJECTORIES)
def test_ismrmrd_trajectories_that_are_not_one(case, tmp_path):
    mrd = pytest.importorskip("ismrmrd")
    kind, message = TRAJECTORIES[case]
    scans = []
    for i in (0, 1):
        for j in (0, 1):
            samples, value = kind(j, i)
            scans.append(spoke(mrd, random(2, samples), np.full((samples, 2), value), repetition=i))
    written(mrd, tmp_path / "a.h5", scans, RADIAL)
    with pytest.raises(InputError, match=message):
        read_arrays(tmp_path / "a.h5")


@pytest.mark.parametrize("change", [("cartesian", "radial"), ("<y>6</y>", "<y>2</y>")])
def test_ismrmrd_off_the_grid(change, tmp_path):
    mrd = pytest.importorskip("ismrmrd")
    written(mrd, tmp_path / "a.h5", [acquisition(mrd, random(2, 8), 4)], HEADER.replace(*change))
    with pytest.raises(InputError, match=r"a.h5: found no Cartesian trajectory|outside the grid"):
        read_arrays(tmp_path / "a.h5")


def test_fastmri(tmp_path):
    kspace = random(3, 4, 8, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"], file["reconstruction_rss"] = kspace, np.abs(kspace[:, 0])
        file["ismrmrd_header"], file["mask"] = HEADER, np.ones(6, np.float32)
        file.attrs["acquisition"] = "AXT2"
    assert recognise(tmp_path / "a.h5").name == "fastMRI"
    found = read_arrays(tmp_path / "a.h5")
    assert np.array_equal(found.arrays["kspace"].numpy(), kspace) and found.arrays["mask"].shape == (6,)
    assert found.facts["acquisition"] == "AXT2" and found.facts["encoded matrix"] == [8, 6, 1]


EXPORTS = [".h5", ".npy", ".nii", ".nii.gz", ".cfl"]


@pytest.mark.parametrize("suffix", EXPORTS)
@pytest.mark.parametrize("shape", [(5, 6), (4, 5, 6)])
def test_complex_images_come_back_as_they_were(suffix, shape, tmp_path):
    if "nii" in suffix:
        pytest.importorskip("nibabel")
    image = torch.from_numpy(random(*shape))
    grid = VoxelGrid([1e-3, 2e-3, 3e-3][: len(shape)], [-0.2, 0.0, 0.3][: len(shape)])
    export(tmp_path / f"a{suffix}", image[None], grid)
    found = read_arrays(tmp_path / f"a{suffix}")
    (back,) = found.arrays.values()
    assert torch.equal(back, image)
    if "nii" in suffix:
        assert found.facts["voxel size (m)"][: len(shape)] == pytest.approx(grid.voxel_size)
        assert found.facts["first voxel (m)"][: len(shape)] == pytest.approx(grid.first_voxel)
    assert not list(tmp_path.glob(".*"))


def test_png_of_three_real_channels_is_in_colour(tmp_path):
    """As the picture was, but for one value in a thousand that ringing made too bright, and what lies below 0."""
    picture = torch.linspace(0, 1, 3 * 40 * 50).reshape(3, 40, 50)
    ringing = picture.clone()
    ringing[0, 0, 0], ringing[1, 0, 1] = -0.5, 40.0
    export(tmp_path / "a.png", ringing)
    levels = read_arrays(tmp_path / "a.png").arrays["image"]
    assert levels.dtype == torch.uint8 and levels.shape == (3, 40, 50)
    wrong = (levels / 255 - picture).abs() > 0.004
    assert int(wrong.sum()) == 1 and levels[1, 0, 1] == 255 and levels[0, 0, 0] == 0
    export(tmp_path / "b.png", picture[None])
    assert read_arrays(tmp_path / "b.png").arrays["image"].ndim == 2


def test_png_of_an_image_that_is_not_finite_shows_the_rest(tmp_path):
    image = torch.rand(8, 9, dtype=torch.complex64)
    image[2, 3] = torch.nan
    export(tmp_path / "a.png", image)
    assert read_arrays(tmp_path / "a.png").arrays["image"].max() == 65535


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (3, 5, 7), (1, 4, 5, 7)])
@pytest.mark.parametrize("kind", [torch.float32, torch.complex64])
def test_tiff_keeps_real_values(kind, shape, tmp_path):
    image = torch.from_numpy(random(*shape)) if kind.is_complex else torch.from_numpy(random(*shape).real.copy())
    export(tmp_path / "a.tif", image)
    found, expected = read_arrays(tmp_path / "a.tif").arrays["image"], image.abs() if kind.is_complex else image
    assert_close(found, expected[0] if shape[0] == 1 else expected)


def test_png_shows_the_magnitude_between_two_values(tmp_path):
    image = torch.tensor([[0, 1j, -2], [3, 4, 5]]).to(torch.complex64)
    export(tmp_path / "a.png", image)
    levels = read_arrays(tmp_path / "a.png").arrays["image"]
    assert levels.tolist() == [[0, 13107, 26214], [39321, 52428, 65535]]
    export(tmp_path / "b.png", image, window=(1, 3))
    assert read_arrays(tmp_path / "b.png").arrays["image"].tolist() == [[0, 0, 32768], [65535, 65535, 65535]]


def test_png_of_a_volume_has_its_three_projections(tmp_path):
    volume = torch.zeros(2, 3, 4)
    volume[1, 2, 3] = 1
    export(tmp_path / "a.png", volume)
    levels = read_arrays(tmp_path / "a.png").arrays["image"]
    assert levels.shape == (3, 3 + 4 + 4)
    assert [tuple(i) for i in levels.nonzero().tolist()] == [(1, 2), (1, 6), (2, 10)]


@pytest.mark.parametrize("name", ["a.bmp", "a", ".png"])
def test_export_knows_its_suffixes(name, tmp_path):
    with pytest.raises(InputError, match="suffix is"):
        export(tmp_path / name, torch.ones(2, 2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("box", [(24, 24), (7, 12), (1, 1), (0, 0)])
def test_the_calibration_block_is_the_full_box_in_the_middle(box):
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[::3, ::5] = True
    mask[20, 25] = box != (0, 0)
    low = [n // 2 - b // 2 for n, b in zip(mask.shape, box, strict=True)]
    mask[low[0] - 1 : low[0] + box[0] + 1, low[1] - 1 : low[1] + box[1] + 1] = False
    mask[low[0] : low[0] + box[0], low[1] : low[1] + box[1]] = True
    assert calibration_block(mask) == box


def test_whitened_noise_has_the_identity_for_covariance():
    mixing = torch.from_numpy(random(3, 3, dtype=np.complex128))
    noise = mixing @ torch.from_numpy(random(3, 4000, dtype=np.complex128))
    white = mixed(whitening(noise), noise, 0)
    assert_close(white @ white.mH / 4000, torch.eye(3, dtype=torch.complex128), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="independent in every coil"):
        whitening(noise[[0, 1, 1]])
    with pytest.raises(ValueError, match="expected more"):
        whitening(noise[:, :2])


def centred_image(kspace):
    shifted = np.fft.ifftshift(kspace.numpy(), (2, 3))
    return np.fft.fftshift(np.fft.ifftn(shifted, axes=(2, 3), norm="ortho"), (2, 3))


@pytest.mark.parametrize("lengths", [(8, 5), (4, 9), (3, 6)])
def test_cropped_kspace_is_that_of_the_middle_of_the_image(lengths):
    """Odd and even lengths: the origin stays at n // 2."""
    kspace = torch.from_numpy(random(2, 3, 8, 9, dtype=np.complex128))
    image, small = centred_image(kspace), centred_image(cropped(kspace, lengths))
    starts = [n // 2 - m // 2 for n, m in zip((8, 9), lengths, strict=True)]
    middle = image[:, :, starts[0] : starts[0] + lengths[0], starts[1] : starts[1] + lengths[1]]
    assert np.allclose(small, middle, rtol=1e-12)


def test_sampling_of_several_images():
    kspace = torch.zeros(2, 3, 4, 4, dtype=torch.complex64)
    kspace[:, 1, ::2] = 1j
    assert sampling_mask(kspace).shape == (4, 4) and acceleration(sampling_mask(kspace)) == 2
    kspace[1, 0, 1] = 1
    assert sampling_mask(kspace).shape == (2, 1, 4, 4)


@pytest.mark.parametrize("coil_axis, batch_axis", [(0, None), (2, None), (1, 0), (0, 3), (None, 0), (None, None)])
def test_axes_are_sorted(coil_axis, batch_axis):
    expected = torch.from_numpy(random(2 if batch_axis is not None else 1, 3 if coil_axis is not None else 1, 4, 5))
    kspace = expected.movedim((0, 1), (0, 1))
    if batch_axis is None:
        kspace = kspace[0] if coil_axis is None else kspace[0].movedim(0, coil_axis)
        kspace = kspace[0] if coil_axis is None else kspace
    elif coil_axis is None:
        kspace = kspace[:, 0].movedim(0, batch_axis)
    else:
        kspace = kspace.movedim((0, 1), (batch_axis, coil_axis))
    assert torch.equal(batched(kspace, coil_axis, batch_axis), expected)


def test_the_real_measurements_are_read(shared_data):
    kspace = read_arrays(shared_data / "mri" / "sigpy_cartesian_ksp.npy").arrays["array"]
    mask = sampling_mask(batched(kspace, 0, None))
    assert acceleration(mask) == pytest.approx(8.04, abs=0.01) and calibration_block(mask) == (24, 24)
    kernels = read_arrays(shared_data / "blur" / "Levin09.mat").arrays
    assert [len(kernels[f"kernels{{{i}}}"]) for i in range(1, 9)] == [19, 17, 15, 27, 13, 21, 23, 23]
    assert all(float(k.sum()) == pytest.approx(1, abs=1e-3) for k in kernels.values())
    pins = read_arrays(shared_data / "ultrasound" / "synaptus_ArraySteelPins.mat").arrays
    assert pins["data{32}"].shape == (1750, 32)
