"""Traces of linear arrays from files."""

import numpy as np
import pytest
import torch
from commands import refused
from scipy.io import loadmat, savemat

from resolvent.apps.cli import INPUT, OK, USAGE, main
from resolvent.datasets import analytic, demodulate, load_measurement, load_result
from resolvent.operators import FullMatrixCapture, PlaneWaveIQ
from resolvent.recon import envelope, log_compress

SCAN = ["--sampling_frequency", "4e6", "--pitch", "3e-4", "--x_range", "[-1e-3,1e-3]", "--z_range", "[0.005,0.006]",
        "--pixel", "5e-4"]  # fmt: skip


def imported(*argv):
    assert main(["import", "ultrasound", *map(str, argv)]) == OK
    return load_measurement(argv[argv.index("--out") + 1])


def test_what_carrier_and_bandwidth_give_away(tmp_path, capsys):
    """IQ data without their carrier, a bandwidth for them, hertz that were megahertz; analytic signals pass."""
    t = np.arange(200) / 4e6
    rf = np.cos(2 * np.pi * 1e6 * t) * np.exp(-(((t - 25e-6) / 3e-6) ** 2)) * np.ones((1, 4, 1))
    iq = demodulate(rf, 4e6, 1e6, 5e5).numpy()
    for name, values in {"rf": rf, "iq": iq, "analytic": analytic(rf).numpy(), "short": rf[..., :10]}.items():
        np.save(tmp_path / f"{name}.npy", values)

    def command(name, *more):
        return ["import", "ultrasound", str(tmp_path / f"{name}.npy"), *SCAN, "--out", str(tmp_path / "m.h5"), *more]

    refused(capsys, command("iq"), USAGE, "--carrier_frequency: found none for complex traces")
    refused(capsys, command("iq", "--carrier_frequency", "1e6", "--bandwidth", "5e5"), USAGE, "--bandwidth: found 5")
    refused(
        capsys,
        command("short", "--carrier_frequency", "1e6", "--bandwidth", "5e5"),
        USAGE,
        "found traces of 10 samples",
    )
    for name, *more in (["iq", "--carrier_frequency", "1e6"], ["analytic"],
                        ["rf", "--carrier_frequency", "1e6", "--bandwidth", "5e5"]):  # fmt: skip
        assert main(command(name, *more)) == OK and "note" not in capsys.readouterr().out
    assert main(command("rf", "--carrier_frequency", "1", "--bandwidth", "5e5")) == OK
    assert "note: 0% of the traces' energy" in capsys.readouterr().out


def test_slips_of_units_that_leave_no_echo_in_the_traces(tmp_path, capsys):
    """Samples at 4 MHz over 25 us hear 19 mm deep at 1540 m/s: the pixels to 6 mm, a tenth of those to 200 mm."""
    np.save(tmp_path / "rf.npy", np.random.default_rng(0).standard_normal((1, 4, 100)))
    command = ["import", "ultrasound", str(tmp_path / "rf.npy"), *SCAN, "--out", str(tmp_path / "m.h5")]
    assert main(command) == OK and "note" not in capsys.readouterr().out
    assert main([*command, "--z_range", "[0.005,0.2]"]) == OK
    assert "of the pixels have no echo that the traces record" in capsys.readouterr().out
    (tmp_path / "m.h5").unlink()
    for slip in (
        ["--speed_of_sound", "1.54"],
        ["--pitch", "300"],
        ["--start_time", "5"],
        ["--pitch", "300", "--f_number", "1"],
    ):
        refused(capsys, [*command, *slip], USAGE, "found no pixel whose echo the traces record, expected metres")
    assert not (tmp_path / "m.h5").exists()


@pytest.mark.parametrize("axes", ["element,sample,part", "part,element,sample"])
def test_iq_data_in_two_parts(axes, tmp_path):
    """As two arrays, or along an axis of their own: the same complex traces."""
    rng = np.random.default_rng(0)
    iq = rng.standard_normal((4, 50)) + 1j * rng.standard_normal((4, 50))
    np.save(tmp_path / "p.npy", np.stack([iq.real, iq.imag], axes.split(",").index("part")))
    np.savez(tmp_path / "two.npz", i=iq.real, q=iq.imag)
    carrier = ["--carrier_frequency", "1e6", *SCAN, "--out", tmp_path / "m.h5"]
    split = imported(tmp_path / "p.npy", "--axes", axes, *carrier)
    two = imported(tmp_path / "two.npz", "--array", "i", "--imaginary", "q", "--axes", "element,sample", *carrier)
    for m in (split, two):
        assert torch.equal(m.y[0, 0, 0], torch.from_numpy(iq))


def test_elements_one_by_one(traces, tmp_path, capsys):
    np.save(tmp_path / "t.npy", traces[0])
    scan = [w for w in SCAN if w not in ("--pitch", "3e-4")]
    argv = [tmp_path / "t.npy", "--axes", "element,sample", *scan, "--out", tmp_path / "m.h5"]
    m = imported(*argv, "--elements", "[-1e-3,-4e-4,0,9e-4]")
    assert m.physics.elements.tolist() == [-1e-3, -4e-4, 0, 9e-4]
    command = ["import", "ultrasound", *map(str, argv)]
    refused(capsys, command, USAGE, "--pitch: found none, expected one of the two")
    refused(capsys, [*command, "--elements", "[0]", "--pitch", "1"], USAGE, "--pitch: found it beside --elements")
    refused(capsys, [*command, "--elements", "[0,1]"], USAGE, "--elements: found 2 positions, expected 4")
    refused(capsys, [*command[:4], "element,part", *command[5:], "--pitch", "1"], USAGE, "found part for an axis of")


@pytest.fixture
def traces():
    """3 transmissions, 4 elements, 50 samples."""
    return np.random.default_rng(0).standard_normal((3, 4, 50)).astype(np.float32)


@pytest.mark.parametrize("axes", [("transmission", "element", "sample"), ("sample", "element", "transmission")])
def test_plane_waves(axes, traces, tmp_path):
    order = [("transmission", "element", "sample").index(a) for a in axes]
    np.save(tmp_path / "rf.npy", traces.transpose(order))
    m = imported(
        tmp_path / "rf.npy", *SCAN, "--axes", ",".join(axes), "--angles", "[-10,0,10]", "--carrier_frequency", "1e6",
        "--bandwidth", "1e6", "--start_time", "6e-6", "--f_number", "1.5", "--out", tmp_path / "u.h5",
    )  # fmt: skip
    assert isinstance(m.physics, PlaneWaveIQ) and m.physics.image_shape == (1, 3, 5)
    assert torch.allclose(m.y[0, 0], demodulate(traces, 4e6, 1e6, 1e6, 6e-6), atol=1e-6)
    assert m.physics.angles.tolist() == pytest.approx([-np.pi / 18, 0, np.pi / 18])
    assert m.physics.elements.tolist() == pytest.approx([-4.5e-4, -1.5e-4, 1.5e-4, 4.5e-4])
    assert m.physics.x.tolist() == pytest.approx([-1e-3, -5e-4, 0, 5e-4, 1e-3])
    assert (m.physics.f_number, m.physics.start_time, m.physics.carrier_frequency) == (1.5, 6e-6, 1e6)


def test_transmissions_may_start_and_lie_elsewhere(traces, tmp_path):
    """Each wave's own time of the first sample, for demodulation too; three elements of four fire; oblong pixels."""
    np.save(tmp_path / "rf.npy", traces)
    starts, out = [6e-6, 5e-6, 4.25e-6], tmp_path / "u.h5"
    carrier = ["--carrier_frequency", "1e6", "--bandwidth", "1e6", "--start_time", str(starts)]
    m = imported(tmp_path / "rf.npy", *SCAN, "--angles", "[-10,0,10]", *carrier, "--out", out)
    assert m.physics.start_time.tolist() == starts
    for wave, trace, start in zip(m.y[0, 0], traces, starts, strict=True):
        assert torch.allclose(wave, demodulate(trace, 4e6, 1e6, 1e6, start), atol=1e-6)
    kind = ["--kind", "full-matrix", "--transmitters", "[-4e-4,0,1e-4]", "--pixel", "[5e-4,2e-4]"]
    m = imported(tmp_path / "rf.npy", *SCAN, *kind, "--out", out)
    assert m.physics.transmitters.tolist() == [-4e-4, 0, 1e-4] and m.physics.data_shape == (1, 3, 4, 50)
    assert m.physics.x.diff().tolist() == pytest.approx([5e-4] * 4)
    assert m.physics.z.diff().tolist() == pytest.approx([2e-4] * (len(m.physics.z) - 1)) and len(m.physics.z) > 3


def test_cells_are_transmissions_and_analytic_without_a_carrier(traces, tmp_path):
    cells = np.empty((1, 4), object)
    cells[0, :] = [traces[0].T + i for i in range(4)]
    savemat(tmp_path / "f.mat", {"data": cells, "fs": 4e6})
    m = imported(tmp_path / "f.mat", *SCAN, "--array", "data", "--axes", "transmission,sample,element", "--kind",
                 "full-matrix", "--out", tmp_path / "u.h5")  # fmt: skip
    assert isinstance(m.physics, FullMatrixCapture) and m.physics.carrier_frequency == 0
    expected = analytic(np.stack([traces[0] + i for i in range(4)]))
    assert torch.allclose(m.y[0, 0], expected.to(m.y), atol=1e-5)


def test_frames_are_a_batch_and_iq_data_stay(traces, tmp_path):
    iq = (traces + 1j * traces[::-1]).astype(np.complex64)
    np.save(tmp_path / "iq.npy", iq)
    argv = [tmp_path / "iq.npy", *SCAN, "--axes", "frame,element,sample", "--carrier_frequency", "1e6"]
    m = imported(*argv, "--out", tmp_path / "u.h5")
    assert torch.equal(m.y, torch.from_numpy(iq)[:, None, None])
    assert torch.equal(imported(*argv, "--frame", "1", "--out", tmp_path / "v.h5").y, m.y[1:2])


WAVES = ["--angles", "[0,1,2]"]
WRONG = {
    "axes": (["--axes", "element,depth,sample"], USAGE, "--axes: found 'element,depth,sample'"),
    "too few axes": (["--axes", "element,sample"], USAGE, "expected as many axes as those of shape (3, 4, 50)"),
    "frame": (["--frame", "2"], USAGE, "--frame: found 2, expected 0 to 0"),
    "angles": (["--angles", "[0,1]"], USAGE, "--angles: found 2 transmissions, expected as many as the data have, 3"),
    "no full matrix": (["--kind", "full-matrix"], USAGE, "--transmitters: found 4 transmissions"),
    "bandwidth": ([*WAVES, "--carrier_frequency", "1e6"], USAGE, "--bandwidth: found none, expected hertz"),
    "too wide": ([*WAVES, "--carrier_frequency", "1e6", "--bandwidth", "9e6"], USAGE, "--bandwidth: found 9e+06 Hz"),
    "starts": ([*WAVES, "--start_time", "[0,1]"], USAGE, "--start_time: found shape (2,), expected finite"),
    "transmitters": (["--transmitters", "[0,1,2]"], USAGE, "--transmitters: found them of plane waves"),
    "depths": (["--z_range", "[2,1]"], USAGE, "--z_range: found 2 to 1 in steps of 0.0005"),
    "array": (["--array", "x"], USAGE, "--array: found 'x', expected one of array"),
    "speed": (["--speed_of_sound", "0"], USAGE, "--speed_of_sound: found 0, expected a number above 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_one_line(case, traces, tmp_path, capsys):
    np.save(tmp_path / "rf.npy", traces)
    options, code, message = WRONG[case]
    argv = [str(tmp_path / "rf.npy"), *SCAN, *options, "--out", str(tmp_path / "u.h5")]
    assert main(["import", "ultrasound", *argv]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "u.h5").exists()


def test_wrong_files_are_one_line(tmp_path, capsys):
    np.save(tmp_path / "nan.npy", np.full((1, 4, 50), np.nan))
    cells = np.empty((1, 2), object)
    cells[0, :] = [np.ones((4, 5)), np.ones((4, 6))]
    savemat(tmp_path / "cells.mat", {"data": cells})
    for name, options in {"nowhere.npy": [], "nan.npy": [], "cells.mat": ["--array", "data"]}.items():
        argv = [str(tmp_path / name), *SCAN, *options, "--out", str(tmp_path / "u.h5")]
        assert main(["import", "ultrasound", *argv]) == INPUT
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "u.h5").exists()


@pytest.mark.slow
def test_disk_is_the_published_bmode(shared_data, tmp_path):
    folder = shared_data / "ultrasound"
    m = imported(
        folder / "PWI_disk.mat", "--array", "RF", "--axes", "sample,element,frame", "--frame", "0",
        "--sampling_frequency", 20e6 / 3, "--carrier_frequency", "5e6", "--bandwidth", "7.5e5", "--pitch", "0.298e-3",
        "--start_time", "9.95e-6", "--speed_of_sound", "1480", "--f_number", "1.1",
        "--x_range", "[-0.0125,0.0125]", "--z_range", "[0.01,0.035]", "--pixel", "1e-4", "--out", tmp_path / "u.h5",
    )  # fmt: skip
    assert m.y.shape == (1, 1, 1, 128, 334) and m.y.dtype == torch.complex64
    assert main(["reconstruct", str(tmp_path / "u.h5"), "--out", str(tmp_path / "i.h5"), "--report", "false"]) == OK
    image = log_compress(envelope(load_result(tmp_path / "i.h5").image), 30)[0, 0]
    published = torch.from_numpy(loadmat(folder / "bmode_PWI_disk.mat")["I"][..., 0] / 255).to(image)
    assert float(torch.corrcoef(torch.stack([image.flatten(), published.flatten()]))[0, 1]) > 0.98


def test_cells_of_a_full_matrix_capture(shared_data, tmp_path):
    """The brighter steel pin is where it is known to be."""
    m = imported(
        shared_data / "ultrasound" / "synaptus_ArraySteelPins.mat", "--array", "data",
        "--axes", "transmission,sample,element", "--kind", "full-matrix", "--sampling_frequency", "50e6",
        "--pitch", "1e-3", "--start_time", "40e-6", "--speed_of_sound", "1480", "--pixel", "2e-4",
        "--x_range", "[-0.0125,-0.0065]", "--z_range", "[0.041,0.045]", "--out", tmp_path / "u.h5",
    )  # fmt: skip
    assert m.y.shape == (1, 1, 32, 32, 1750)
    image = m.physics.A_adjoint(m.y).abs()[0, 0]
    row, column = divmod(int(image.argmax()), image.shape[1])
    assert (float(m.physics.x[column]), float(m.physics.z[row])) == pytest.approx((-9.5e-3, 43.1e-3), abs=2.1e-4)
