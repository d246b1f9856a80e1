"""Hyperspectral cubes from files, whose materials are found or given, and their unmixing."""

import numpy as np
import pytest
import torch
from commands import refused
from scipy.io import savemat
from torch.testing import assert_close

from resolvent.apps.cli import INPUT, OK, USAGE, main
from resolvent.datasets import load_measurement, load_result

ROWS, COLUMNS, BANDS = 6, 7, 12


@pytest.fixture
def scene(tmp_path):
    """Shares of three materials, the first pixels pure, and their spectra; the cube by rows and by columns."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(3, 0.5), ROWS * COLUMNS).T
    shares[:, :3] = np.eye(3)
    spectra = rng.uniform(0.1, 1, (BANDS, 3))
    cube = (spectra @ shares).reshape(BANDS, ROWS, COLUMNS)
    np.save(tmp_path / "cube.npy", cube)
    np.save(tmp_path / "turned.npy", cube.transpose(2, 1, 0))
    savemat(tmp_path / "list.mat", {"Y": cube.transpose(0, 2, 1).reshape(BANDS, -1), "M": spectra.T, "n": 3.0})
    return tmp_path, shares.reshape(3, ROWS, COLUMNS), spectra


def imported(folder, name, *options):
    out = folder / "scan.h5"
    assert main(["import", "spectra", str(folder / name), *options, "--out", str(out)]) == OK
    return load_measurement(out)


LIST = ["--array", "Y", "--axes", "band,pixel", "--lengths", f"[{ROWS},{COLUMNS}]", "--columns_first"]


@pytest.mark.parametrize(
    "name, options",
    [("cube.npy", []), ("turned.npy", ["--axes", "column,row,band"]), ("list.mat", LIST)],
    ids=["cube", "turned", "columns first"],
)
def test_shares_come_out_of_every_order_of_axes(scene, name, options):
    folder, shares, spectra = scene
    m = imported(folder, name, *options, "--materials", "3")
    assert m.y.shape == (1, BANDS, ROWS, COLUMNS)
    distance = np.abs(m.physics.endmembers.numpy()[:, :, None] - spectra[:, None]).max(0)
    assert distance.min(0).max() < 1e-5, "pure pixels are there"
    out = folder / "shares.h5"
    assert main(["reconstruct", str(folder / "scan.h5"), "--out", str(out)]) == OK
    order = torch.from_numpy(distance.argmin(0))
    assert_close(load_result(out).image[0, order], torch.from_numpy(shares).float(), rtol=0, atol=0.02)
    assert "In colour" in (folder / "shares.html").read_text()


@pytest.mark.parametrize("options", [[], ["--normalise"]], ids=["as they are", "of length one"])
def test_given_materials(scene, options):
    folder, _, spectra = scene
    m = imported(folder, "list.mat", *LIST, "--endmembers", "M", *options)
    lengths = np.linalg.norm(spectra, axis=0) if options else 1
    assert_close(m.physics.endmembers, torch.from_numpy(spectra / lengths).float())
    if options:
        assert_close(m.y.norm(dim=1), torch.ones(1, ROWS, COLUMNS))


REFUSED = {
    "no materials": ([], USAGE, "--materials: found none, expected one of the two"),
    "both": (["--materials", "3", "--endmembers", "M"], USAGE, "--materials: found it beside --endmembers"),
    "too many": (["--materials", "13"], USAGE, "--materials: found 13, expected 2 to 12: 12 bands, 42 pixels"),
    "axes": (["--axes", "band,row", "--materials", "3"], USAGE, "--axes: found band,row for shape (12, 42)"),
    "lengths": (["--lengths", "[6,6]", "--materials", "3"], USAGE, "--lengths: found (6, 6) for 42 pixels"),
    "endmembers": (["--endmembers", "n"], INPUT, "found endmembers of shape (1, 1), expected finite real ones of 12"),
    "array": (["--endmembers", "K"], USAGE, "--endmembers: found 'K', expected one of Y, M, n"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(scene, case, capsys):
    options, code, message = REFUSED[case]
    command = ["import", "spectra", str(scene[0] / "list.mat"), *LIST, *options, "--out", str(scene[0] / "o.h5")]
    refused(capsys, command, code, message)
    assert not (scene[0] / "o.h5").exists()


def test_what_is_no_cube(scene, capsys):
    folder = scene[0]
    command = ["import", "spectra", str(folder / "cube.npy"), "--materials", "3", "--out", str(folder / "o.h5")]
    refused(
        capsys, [*command, "--lengths", "[6,7]"], USAGE, "--lengths: found it, or --columns_first, for axes of rows"
    )
    np.save(folder / "cube.npy", np.full((3, 4, 5), np.nan))
    refused(capsys, command, INPUT, "expected finite real ones")
