"""Files keep what was put into them, and a failure leaves none."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise

from resolvent.apps.cli import main
from resolvent.datasets import (
    FileCheckpoint,
    InputError,
    Result,
    blobs,
    export,
    load_measurement,
    load_result,
    save_measurement,
    save_result,
)
from resolvent.operators import CartesianMRI, Dense, NearFieldMIMO, Scaled
from resolvent.operators.files import atomic, remove_partials
from resolvent.priors import TV, Magnitude
from resolvent.recon import ADMM, FISTA, RelativeChange


def array(**changes):
    arm = torch.linspace(-0.1, 0.1, 3, dtype=torch.float64)
    arguments = {
        "transmitters": torch.stack([arm, -arm, 0 * arm], 1), "receivers": torch.stack([arm, arm, 0 * arm], 1),
        "frequencies": torch.linspace(4e9, 8e9, 4), "x": arm, "y": arm[:2], "z": 0.3 + arm,
    }  # fmt: skip
    return NearFieldMIMO(**(arguments | changes))


OPERATORS = {
    "radar": array,
    "radar, pairs": lambda: array(pairs=[[0, 1], [2, 2]], propagation_speed=1e8, spreading=False),
    "radar, support": lambda: array(support=torch.arange(18).reshape(3, 2, 3) % 2 == 0, memory_budget=12345678),
    "radar, irregular": lambda: array(frequencies=[4e9, 5e9, 7e9]),
    "scaled": lambda: Scaled(array(), 0.5),
    "scaled twice, complex": lambda: Scaled(Scaled(array(), 2 - 1j), 3.0),
    "dense": lambda: Dense(torch.randn(6, 8, dtype=torch.complex128), (1, 2, 4), (2, 3)),
    "dense, real": lambda: Dense(torch.randn(5, 8), (1, 8)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_a_measurement_comes_back_as_it_was(name, tmp_path):
    physics = OPERATORS[name]()
    x = torch.randn(2, *physics.image_shape, dtype=torch.complex128)
    y = physics.A(x)
    save_measurement(tmp_path / "m.h5", y, physics, truth=x, noise_std=0.25, meta={"scanner": "A", "n": [1, 2]})
    m = load_measurement(tmp_path / "m.h5")
    assert type(m.physics) is type(physics)
    assert torch.equal(m.y, y) and torch.equal(m.truth, x)
    assert torch.equal(m.physics.A(x), y) and torch.equal(m.physics.A_adjoint(y), physics.A_adjoint(y))
    assert (m.noise_std, m.meta) == (0.25, {"scanner": "A", "n": [1, 2]})
    assert float(m.physics.noise_model.sigma) == 0.25
    assert list(tmp_path.iterdir()) == [tmp_path / "m.h5"]


def test_the_noise_that_the_operator_states_is_written(tmp_path):
    path, physics = tmp_path / "m.h5", array()
    y = physics.A(torch.ones(2, 1, 3, 2, 3))
    physics.noise_model = GaussianNoise(0.5)
    save_measurement(path, y, physics)
    assert load_measurement(path).noise_std == 0.5
    save_measurement(path, y, physics, noise_std=0.25)
    assert load_measurement(path).noise_std == 0.25
    physics.noise_model = GaussianNoise(torch.tensor([0.5, 2.0]))
    with pytest.raises(InputError, match="found 2 noise levels, expected one; state it as noise_std"):
        save_measurement(path, y, physics)
    assert load_measurement(path).noise_std == 0.25


def test_what_is_not_known_stays_unknown(tmp_path):
    physics = array()
    save_measurement(tmp_path / "m.h5", physics.A(torch.ones(1, 1, 3, 2, 3)), physics)
    m = load_measurement(tmp_path / "m.h5")
    assert (m.truth, m.noise_std, m.meta) == (None, None, {})


@pytest.mark.parametrize("shape", [(1, 1, 4, 3, 3), (1, 4, 3, 3), (4, 3, 3)])
def test_leading_axes_of_one_may_be_missing(shape, tmp_path):
    save_measurement(tmp_path / "m.h5", torch.ones(shape) + 0j, array())
    assert load_measurement(tmp_path / "m.h5").y.shape == (1, 1, 4, 3, 3)


def test_complex_pairs_as_matlab_writes_them(tmp_path):
    physics = array()
    save_measurement(tmp_path / "m.h5", torch.zeros(1, 1, 4, 3, 3) + 0j, physics)
    values = np.arange(36.0).reshape(1, 1, 4, 3, 3) + 1j
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file["data"]
        pairs = np.zeros(values.shape, dtype=[("real", "f8"), ("imag", "f8")])
        pairs["real"], pairs["imag"] = values.real, values.imag
        file["data"] = pairs
        file.attrs["version"] = np.array([1])
    assert np.array_equal(load_measurement(tmp_path / "m.h5").y.numpy(), values)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"y": torch.ones(1, 1, 4, 3, 2)}, "data has shape"),
        ({"y": torch.ones(1, 1, 4, 3, 3)}, "data are float32, expected complex numbers of NearFieldMIMO"),
        (
            {"y": torch.ones(1, 1, 4, 4), "physics": CartesianMRI(torch.ones(4, 4))},
            "data are float32, expected complex numbers of CartesianMRI",
        ),
        ({"y": torch.full((1, 1, 4, 3, 3), torch.nan)}, "data has 36 NaN"),
        ({"truth": torch.ones(1, 1, 1)}, "truth has shape"),
        ({"noise_std": -1.0}, "noise_std is -1"),
        ({"meta": {"f": object()}}, "meta holds what JSON cannot"),
        ({"meta": "by me"}, "meta holds what JSON cannot"),
    ],
)
def test_what_does_not_fit_is_not_written(changes, message, tmp_path):
    arguments = {"y": torch.ones(1, 1, 4, 3, 3) + 0j, "physics": array()} | changes
    with pytest.raises(InputError, match=message):
        save_measurement(tmp_path / "m.h5", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_result_comes_back_as_it_was(tmp_path):
    image = torch.randn(2, 1, 3, 4, dtype=torch.complex64)
    history = {"relative_change": torch.rand(5, 2, dtype=torch.float64)}
    result = Result(
        image, history, {"seed": 3, "status": ["converged"]}, truth=2 * image, axes={"x": torch.arange(3.0)}
    )
    save_result(tmp_path / "r.h5", result)
    back = load_result(tmp_path / "r.h5")
    assert torch.equal(back.image, image) and torch.equal(back.truth, 2 * image)
    assert torch.equal(back.history["relative_change"], history["relative_change"])
    assert back.record == result.record and torch.equal(back.axes["x"], torch.arange(3.0))
    with pytest.raises(InputError, match="'format' is 'resolvent-result', expected 'resolvent-measurement'"):
        load_measurement(tmp_path / "r.h5")


def test_the_atomic_writer_keeps_the_old_file_on_failure(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    with atomic(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("algorithm", [FISTA, ADMM])
def test_a_run_goes_on_from_a_file_bit_for_bit(algorithm, tmp_path):
    physics = array()
    y = physics.A(torch.randn(2, *physics.image_shape, dtype=torch.complex128))
    solver = algorithm(Magnitude(TV(0.1, iterations=3)), max_iter=12, stop=RelativeChange(0))
    whole = solver.solve(y, physics)
    path = tmp_path / "kept.safetensors"
    solver.solve(y, physics, checkpoint=FileCheckpoint(path, "run", 1e9), callback=lambda p: p.iteration < 5)
    (tmp_path / ".kept.safetensors.killed.partial").touch()
    checkpoint = FileCheckpoint(path, "run", 1e9)
    assert list(tmp_path.iterdir()) == [path]
    gone_on = solver.solve(y, physics, checkpoint=checkpoint)
    assert checkpoint.resumed_from == 5
    assert torch.equal(gone_on.image, whole.image)
    assert torch.equal(gone_on.history["relative_change"], whole.history["relative_change"])
    other = FileCheckpoint(path, "another run", 1e9)
    assert torch.equal(solver.solve(y, physics, checkpoint=other).image, whole.image) and other.resumed_from == 0


@pytest.mark.parametrize("content", [b"", b"rubbish", json.dumps({}).encode()])
def test_a_damaged_checkpoint_is_not_taken_up(content, tmp_path):
    path = tmp_path / "kept"
    path.write_bytes(content)
    physics = array()
    y = physics.A(torch.ones(1, *physics.image_shape))
    solver = FISTA(TV(0.1), max_iter=3)
    resumed = solver.solve(y, physics, checkpoint=FileCheckpoint(path, "run"))
    assert torch.equal(resumed.image, solver.solve(y, physics).image)


@pytest.mark.parametrize("phase", ["random", "smooth", "constant"])
def test_scenes(phase):
    scene = blobs((12, 14, 20), 3, phase)
    magnitude = scene.abs()
    assert scene.shape == (1, 1, 12, 14, 20) and scene.dtype == torch.complex64
    assert torch.equal(scene, blobs((12, 14, 20), 3, phase)) and not torch.equal(scene, blobs((12, 14, 20), 4, phase))
    assert float(magnitude.max()) == pytest.approx(1, abs=1e-6) and float(magnitude.min()) >= 0
    assert 0 < float((magnitude > 0.5).float().mean()) < 0.2
    assert (phase == "constant") == bool((scene.imag == 0).all())


def test_what_a_living_process_writes_stays(tmp_path):
    """And what a dead one has left goes, whatever is in the name."""
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        for number in (gone.pid, living.pid):
            (tmp_path / f".scan[1].h5.{number}.abc.partial").touch()
        remove_partials(tmp_path / "scan[1].h5")
        assert [p.name for p in tmp_path.iterdir()] == [f".scan[1].h5.{living.pid}.abc.partial"]
    finally:
        living.communicate(b"\n")
    remove_partials(tmp_path / "scan[1].h5")
    assert not list(tmp_path.iterdir())


def test_a_link_is_written_through_and_a_device_never_over(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "far" / "file.h5")
    save_result(tmp_path / "link.h5", Result(torch.ones(1, 1, 2, 2)))
    assert (tmp_path / "link.h5").is_symlink() and (tmp_path / "far" / "file.h5").is_file()
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError, match="a device or a pipe"):
        save_result(tmp_path / "pipe.h5", Result(torch.ones(1, 1, 2, 2)))
    assert (tmp_path / "pipe.h5").is_fifo()


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    """Whatever the library of the format does in closing, the last byte is written by us, or none is kept."""

    def full(self, data):
        with self.open("wb") as file:
            file.write(bytes(data)[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    for path in (tmp_path / "r.h5", tmp_path / "image.cfl"):
        with pytest.raises(InputError, match="No space left"):
            if path.suffix == ".h5":
                save_result(path, Result(torch.ones(1, 1, 64, 64)))
            else:
                export(path, torch.ones(64, 64, dtype=torch.complex64))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("order", ["xz", "zx"])
def test_voxels_of_a_flat_image_have_their_sides(order, tmp_path):
    """Depth along the first axis, as an ultrasound image has it, in whatever order the axes were named."""
    nib = pytest.importorskip("nibabel")
    steps = {"x": 4e-4 * torch.arange(3.0), "z": 5e-5 * torch.arange(5.0)}
    save_result(tmp_path / "r.h5", Result(torch.ones(1, 1, 5, 3), axes={name: steps[name] for name in order}))
    assert main(["export", str(tmp_path / "r.h5"), "--out", str(tmp_path / "r.nii")]) == 0
    assert nib.load(tmp_path / "r.nii").header.get_zooms()[:2] == pytest.approx((0.05, 0.4))
