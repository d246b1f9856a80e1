"""Sources of clean images: the same piece for the same counters, and unusable folders refused in one line."""

import numpy as np
import pytest
import tifffile
import torch
from skimage.io import imsave
from torch.testing import assert_close

from resolvent.datasets import (
    Blobs,
    ImageFolder,
    InputError,
    Part,
    Slices,
    Truths,
    Volumes,
    WithPhase,
    blobs,
    save_measurement,
)
from resolvent.datasets.sources import counted, draw, split
from resolvent.operators import Dense


@pytest.fixture
def folder(tmp_path):
    """A gray, a colour and a 16-bit picture of different sizes, whose pixels say where they are."""
    rows, columns = np.mgrid[:20, :30]
    imsave(tmp_path / "a.png", (10 * rows + 1).astype(np.uint8), check_contrast=False)
    imsave(tmp_path / "b.png", np.stack([columns] * 3, -1).astype(np.uint8), check_contrast=False)
    imsave(tmp_path / "c.tif", (1000 * rows[:, :16]).astype(np.uint16), check_contrast=False)
    (tmp_path / ".hidden").write_text("not a picture")
    return tmp_path


def test_crops_are_pieces_of_the_pictures(folder):
    source = ImageFolder(folder, size=8)
    assert len(source) == 3
    for index, step in [(0, 10 / 255), (1, 1 / 255), (2, 1000 / 65535)]:
        piece = source.sample(index, counted(0, index))
        assert piece.shape == (1, 8, 8) and 0 <= piece.min() and piece.max() <= 1
        assert_close(piece.diff(dim=2 if index == 1 else 1).abs(), torch.full((1, *((8, 7), (7, 8))[index != 1]), step))


def test_every_place_and_orientation_comes_up(folder):
    source = ImageFolder(folder, size=8)
    seen = {tuple(source.sample(0, counted(s))[0, :, 0].mul(255).round().int().tolist()) for s in range(300)}
    assert len(seen) == 2 * (20 - 8 + 1)


def test_colour(folder):
    assert ImageFolder(folder, 8, channels=3).sample(0, counted(1)).shape == (3, 8, 8)


def test_a_place_in_a_batch_depends_on_its_counters_alone(folder):
    source, indices = ImageFolder(folder, 8), [0, 2]
    first, generator = draw(source, indices, 3, 5, 7)
    torch.rand(10)
    again, twin = draw(source, indices, 3, 5, 7)
    assert torch.equal(first, again) and torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=twin))
    others = [draw(source, indices, *c)[0] for c in [(4, 5, 7), (3, 6, 7), (3, 5, 8)]]
    assert not all(torch.equal(first, other) for other in others)


def test_held_out_images_are_not_learnt_from():
    learnt, held_out = split(Blobs(count=25))
    assert held_out == [0, 10, 20] and sorted(learnt + held_out) == list(range(25))


def test_arrays_of_two_axes_are_pictures(tmp_path):
    np.save(tmp_path / "a.npy", np.full((5, 6), -2.5))
    assert_close(ImageFolder(tmp_path, 4).sample(0, counted(0)), torch.full((1, 4, 4), -2.5))
    np.save(tmp_path / "a.npy", np.zeros((5, 6, 7)))
    with pytest.raises(InputError, match="found no picture, expected PNG, JPEG, WebP, BMP, TIFF or an array"):
        ImageFolder(tmp_path, 4)


def test_planes_of_a_volume_are_held_out_together(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((8, 9, 4)))
    learnt, held_out = split(Slices(tmp_path, 4))
    assert held_out == [0, 1, 2, 3] and sorted(learnt + held_out) == list(range(12))
    learnt, held_out = split(Slices(tmp_path / "0.npy", 4), every=2)
    assert (learnt, held_out) == ([1, 3], [0, 2])


@pytest.mark.parametrize("peak, expected", [(None, [-1.0, 0.04, 0.5]), (2000.0, [-0.5, 0.02, 0.25])])
def test_real_values_keep_their_sign(peak, expected, tmp_path):
    np.save(tmp_path / "ct.npy", np.resize(np.array([-1000, 40, 500], np.int16), (4, 4, 4)))
    found = Volumes(tmp_path, 4, peak).sample(0, counted(0)).unique()
    assert_close(found, torch.tensor(expected))
    np.save(tmp_path / "ct.npy", np.full((4, 4, 4), -3j, np.complex64))
    assert_close(Volumes(tmp_path, 4).sample(0, counted(0)), torch.ones(1, 4, 4, 4))
    with pytest.raises(ValueError, match="peak: found -1"):
        Volumes(tmp_path, 4, -1)


def test_blobs_are_magnitudes():
    source = Blobs((6, 5, 7), count=3, first_seed=11)
    assert_close(source.sample(2, counted(0)), blobs((6, 5, 7), 13, "random").abs()[0])


def test_parts_share_no_image():
    whole = Blobs((6, 6, 6), count=5)
    first, second = Part(whole, 0), Part(whole, 1)
    assert (len(first), len(second)) == (3, 2) and first.origin() != second.origin()
    ours = [part.sample(i, counted(0)) for part in (first, second) for i in range(len(part))]
    theirs = [whole.sample(i, counted(0)) for i in (0, 2, 4, 1, 3)]
    assert all(map(torch.equal, ours, theirs))
    with pytest.raises(ValueError, match="index, of: found 2, 2"):
        Part(whole, 2)


def test_volumes_and_truths(tmp_path):
    volume = 5 * np.random.default_rng(0).random((9, 8, 7))
    np.savez(tmp_path / "v.npz", volume=volume, note=np.arange(3))
    piece = Volumes(tmp_path / "v.npz", (9, 8, 7)).sample(0, counted(0))
    assert_close(piece.sum(), torch.tensor(volume / volume.max()).sum().float()) and piece.shape == (1, 9, 8, 7)
    truth = torch.polar(torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4))
    save_measurement(tmp_path / "m.h5", torch.rand(2, 3), Dense(torch.rand(3, 16), (1, 4, 4)), truth)
    source = Truths([str(tmp_path / "m.h5")], size=4)
    assert len(source) == 2 and source.sample(1, counted(0)).max() == 1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_are_planes_of_the_volume_at_its_peak(axis, tmp_path):
    volume = np.random.default_rng(0).random((12, 8, 10))
    np.savez(tmp_path / "v.npz", volume=volume)
    source = Slices(tmp_path / "v.npz", [n for i, n in enumerate((12, 8, 10)) if i != axis][::-1], axis, (0.25, 0.75))
    first = round(0.25 * volume.shape[axis])
    assert len(source) == round(0.75 * volume.shape[axis]) - first and len(source.origin()) == 2
    plane = torch.tensor(volume.take(first, axis).T / volume.max())
    assert_close(source.sample(0, counted(0)).sort().values.sum(), plane.sum().float())
    assert_close(source.images[0][0], plane.float())


def test_coarser_slices_are_means(tmp_path):
    np.savez(tmp_path / "v.npz", volume=np.arange(2 * 4 * 6).reshape(2, 4, 6))
    source = Slices(tmp_path / "v.npz", (3, 2), 0, coarser=2)
    assert_close(source.images[1][0] * 47, torch.tensor([[27.5, 39.5], [29.5, 41.5], [31.5, 43.5]]))
    with pytest.raises(ValueError, match=r"between, coarser: found 2, \(0.5, 0.5\), 1"):
        Slices(tmp_path / "v.npz", 2, 2, (0.5, 0.5))


def test_a_phase_leaves_the_magnitude_to_its_gain(tmp_path):
    np.savez(tmp_path / "v.npz", volume=1 + np.random.default_rng(0).random((16, 16, 4)))
    plain = Slices(tmp_path / "v.npz", 16)
    source = WithPhase(plain, strength=0.7, gain=(0.5, 0.9))
    pieces = torch.stack([source.sample(1, counted(i)) for i in range(60)])
    images = torch.complex(*pieces[:, :2].unbind(1))
    gains = images.abs().amax((1, 2)) / plain.images[1].max()
    assert pieces.shape == (60, 2, 16, 16) and 0.5 <= gains.min() < 0.55 and 0.85 < gains.max() <= 0.9
    flat = images.abs().sort(-1).values.sort(-2).values / gains[:, None, None]
    assert_close(flat.sum((1, 2)), plain.images[1].sum().expand(60))
    turns = (images[:, 1:] * images[:, :-1].conj()).angle()
    assert 0.01 < turns.abs().mean() < 0.25 and images.mean((1, 2)).angle().abs().std() > 0.5
    still = WithPhase(plain, 0.0, gain=(1, 1)).sample(0, counted(0))
    assert_close(torch.complex(*still).angle().std(), torch.tensor(0.0), atol=1e-5, rtol=0)
    assert source.origin() != WithPhase(plain, 0.5).origin() and len(source) == 4
    with pytest.raises(ValueError, match="strength, grid, gain: found -1"):
        WithPhase(plain, -1)


def test_origin_tells_contents_apart(folder):
    before = ImageFolder(folder, 8).origin()
    imsave(folder / "a.png", np.zeros((9, 9), np.uint8), check_contrast=False)
    after = ImageFolder(folder, 8).origin()
    assert before[0] != after[0] and before[1:] == after[1:]


def corrupt(folder):
    whole = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])


def emptied(folder):
    for name in ("a.png", "b.png", "c.tif"):
        (folder / name).unlink()


@pytest.mark.parametrize(
    "spoil, size, message",
    [
        (corrupt, 8, "a.png: "),
        (emptied, 8, "found no file in this folder, expected at least one"),
        (lambda f: (f / "d.txt").write_text("words"), 8, "d.txt: of no known format"),
        (lambda f: np.save(f / "d.npy", np.zeros(3)), 8, "d.npy: "),
        (lambda f: None, 18, r"c.tif: found an image of 20 x 16, expected at least 18 x 18"),
    ],
    ids=["corrupt", "empty", "text", "no picture", "small"],
)
def test_folders_that_cannot_be_used(folder, spoil, size, message):
    spoil(folder)
    with pytest.raises(InputError, match=message) as error:
        ImageFolder(folder, size)
    assert "\n" not in str(error.value)


def test_a_single_image_cannot_be_held_out(folder):
    for name in ("b.png", "c.tif"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="data: found 1 image, expected at least 2"):
        split(ImageFolder(folder, 8))


def test_no_such_folder_volume_or_truth(tmp_path):
    with pytest.raises(InputError, match="found nothing there, expected a folder"):
        ImageFolder(tmp_path / "nowhere")
    np.savez(tmp_path / "v.npz", flat=np.zeros((3, 3)))
    with pytest.raises(InputError, match=r"v\.npz: found no array of three axes"):
        Volumes(tmp_path)
    save_measurement(tmp_path / "m.h5", torch.rand(1, 3), Dense(torch.rand(3, 16), (1, 4, 4)))
    with pytest.raises(InputError, match=r"m\.h5: found no truth"):
        Truths(str(tmp_path / "m.h5"))


def test_a_stack_is_no_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 40, 50), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"a\.tif: found a stack of 3 pages, expected one picture in a file"):
        ImageFolder(tmp_path, 16)


def test_white_is_that_of_the_stored_integers(tmp_path):
    for kind in (np.uint8, np.uint16, np.uint32):
        tifffile.imwrite(tmp_path / "a.tif", np.full((20, 20), np.iinfo(kind).max, kind))
        crop = ImageFolder(tmp_path, 16).sample(0, torch.Generator())
        assert torch.equal(crop, torch.ones(1, 16, 16))
        tifffile.imwrite(tmp_path / "a.tif", np.full((20, 20, 3), np.iinfo(kind).max, kind), photometric="rgb")
        assert_close(ImageFolder(tmp_path, 16).sample(0, torch.Generator()), torch.ones(1, 16, 16))
    tifffile.imwrite(tmp_path / "a.tif", np.full((20, 20), 7, np.int32))
    assert torch.equal(ImageFolder(tmp_path, 16).sample(0, torch.Generator()), torch.full((1, 16, 16), 7.0))
