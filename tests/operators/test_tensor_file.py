"""Tensors and a note in one file."""

from __future__ import annotations

import os
import tempfile

import pytest
import torch

from resolvent.operators.run_file import FORMAT, RunFile
from resolvent.operators.tensor_file import load_note, load_tensors, save_tensors

TENSORS = {
    "real": torch.arange(3.0, dtype=torch.float64),
    "complex": torch.randn(2, 3, dtype=torch.complex128),
    "half.complex": torch.randn(5, dtype=torch.complex64).conj(),
    "turned": torch.randn(3, 4).mT,
    "count": torch.tensor(7),
}


def test_tensors_come_back_bit_for_bit(tmp_path):
    save_tensors(tmp_path / "t", TENSORS, {"a": [1, "b"]})
    back, note = load_tensors(tmp_path / "t")
    assert note == load_note(tmp_path / "t") == {"a": [1, "b"]} and back.keys() == TENSORS.keys()
    assert all(torch.equal(back[k], t) and back[k].dtype == t.dtype for k, t in TENSORS.items())


@pytest.mark.parametrize("length", range(16))
def test_numbers_lie_where_their_kind_must(tmp_path, length):
    save_tensors(tmp_path / "t", {"x": torch.ones(3, dtype=torch.complex128)}, {"note": length * "-"})
    x = load_tensors(tmp_path / "t")[0]["x"]
    assert x.data_ptr() % x.element_size() == 0
    assert torch.equal(torch.tensor(2.0, dtype=torch.float64) * x, torch.full((3,), 2.0 + 0j, dtype=torch.complex128))


@pytest.mark.parametrize("content", [b"", 40 * b"\xff", None])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "t"
    save_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(ValueError, match=r".+"):
        load_tensors(path)


def test_what_cannot_be_written_leaves_the_file_before(tmp_path):
    save_tensors(tmp_path / "t", TENSORS)
    with pytest.raises(TypeError):
        save_tensors(tmp_path / "t", TENSORS, {"a": object()})
    assert load_note(tmp_path / "t") == {} and list(tmp_path.iterdir()) == [tmp_path / "t"]


@pytest.mark.parametrize(
    ("note", "found"),
    [
        ({"format": FORMAT + 1, "fingerprint": "mine"}, f"format {FORMAT + 1}, expected at most {FORMAT}"),
        ({"format": FORMAT, "fingerprint": "another"}, "other settings, data or version"),
        (None, "a damaged checkpoint"),
    ],
)
def test_a_run_takes_only_its_own_state(tmp_path, note, found):
    path, run = tmp_path / "t", RunFile(tmp_path / "t", "mine")
    assert run._take() is None
    run._keep(TENSORS, {"done": 3})
    tensors, kept = run._take() or ({}, {})
    assert kept["done"] == 3 and tensors.keys() == TENSORS.keys() and not run.due()
    path.write_bytes(b"?") if note is None else save_tensors(path, {}, note)
    with pytest.raises(ValueError, match=f"^{path}: found {found}"):
        run._take()


def test_tensors_are_written_to_the_partial_file_itself(tmp_path, monkeypatch):
    """By way of another one, which nobody would know by its name, that would stay if this process were killed."""
    made, make = [], tempfile.mkstemp

    def seen(**where):
        handle, name = make(**where)
        made.append(os.fstat(handle).st_ino)
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", seen)
    save_tensors(tmp_path / "t", TENSORS)
    assert made == [(tmp_path / "t").stat().st_ino]
