"""ISMRMRD raw data: Cartesian acquisitions, sorted into k-space by their counters.

k-space is ``(images, coils, [kz,] ky, kx)``, one image for each slice, contrast, phase, repetition and set,
DC in the middle. Averages of the same line are averaged. Lines for calibration alone are an array of their own,
``calibration``; scans of noise, navigators, feedback and further encoded spaces are left out. Inati et al., ISMRM
Raw data format, Magn. Reson. Med. 77:411 (2017).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from .arrays import Allowance, Arrays, decoding, to_tensor
from .errors import InputError, printable
from .hdf5 import link_names, reading
from .ismrmrd_header import find, parse, protocol, triple

#: Counters that tell images apart.
IMAGE = ("slice", "contrast", "phase", "repetition", "set")
#: Flags, counted from 1 as the standard does, of scans that are not part of an image.
NOISE, CALIBRATION, BOTH, REVERSE = 19, 20, 21, 22
OTHER = (23, 24, 26, 27, 28, 29, 30, 31)


class Encoding(NamedTuple):
    """Lengths of the encoded space (z, y, x), and the counters of DC."""

    shape: tuple[int, int, int]
    centre: tuple[int, int]


def is_ismrmrd(head: bytes, path: Path) -> bool:
    """An HDF5 file with a group that holds ``xml`` and ``data``."""
    return _group(head, path) is not None


def read_ismrmrd(path: Path) -> Arrays:
    """``kspace``, complex64, and ``calibration`` where there is some."""
    allowance = Allowance(path)
    with path.open("rb") as opened:
        group = _group(opened.read(1024), path)
    with reading(path) as file, decoding(path, "ISMRMRD"):
        table, xml = file[f"{group}/data"], np.ravel(file[f"{group}/xml"][()])[0]
        allowance.take("acquisitions", table.shape, 2 * table.dtype.itemsize)
        heads = table["head"]
        wanted = _wanted(heads)
        grid, lines = encoding(path, xml), _calibration(heads)
        sorted_ = {"kspace": sort(table, np.flatnonzero(wanted), heads, grid, allowance)}
        with contextlib.suppress(ValueError):  # there are none, or they lie on another grid
            sorted_["calibration"] = sort(table, np.flatnonzero(lines), heads, grid, allowance)
    arrays = {name: to_tensor(k[:, :, 0] if k.shape[2] == 1 else k) for name, k in sorted_.items()}
    left_out = int(len(heads) - wanted.sum() - lines.sum())
    return Arrays(arrays, protocol(xml) | {"batch_axis": 0, "coil_axis": 1, "scans left out": left_out})


def encoding(path: Path, xml: bytes | str) -> Encoding:
    """The grid on which the acquisitions lie.

    :raises InputError: if it is not Cartesian.
    """
    root = parse(xml)
    trajectory = find(root, "encoding/trajectory")
    if trajectory != "cartesian":
        raise InputError(f"{path}: k-space along a {printable(trajectory)} trajectory, expected a Cartesian one")
    x, y, z = (max(1, int(n)) for n in triple(root, "encoding/encodedSpace/matrixSize"))
    limits = "encoding/encodingLimits/kspace_encoding_step_"
    ky, kz = (int(find(root, f"{limits}{i}/center") or n // 2) for i, n in ((1, y), (2, z)))
    return Encoding((z, y, x), (kz, ky))


def sort(table: h5py.Dataset, rows: np.ndarray, heads: np.ndarray, grid: Encoding, allowance: Allowance) -> np.ndarray:
    """The wanted acquisitions on the grid ``(images, coils, kz, ky, kx)``, repeated lines averaged.

    :raises ValueError: if there are none, or one lies outside the grid.
    """
    if not len(rows):
        raise ValueError("no imaging scans")
    counters = np.stack([heads["idx"][name] for name in IMAGE], 1)
    _, image = np.unique(counters[rows], axis=0, return_inverse=True)
    coils = int(heads["active_channels"][rows].max())
    shape = (int(image.max()) + 1, coils, *grid.shape)
    allowance.take("kspace", shape, 16)
    kspace, count = np.zeros(shape, np.complex64), np.zeros((shape[0], *grid.shape[:2]), np.int64)
    for i, row in zip(image.ravel(), rows, strict=True):
        head = heads[row]
        kz, ky, first = _place(head, grid)
        line = np.asarray(table[row]["data"], "<f4").view("<c8").reshape(coils, -1)
        line = line[:, int(head["discard_pre"]) : line.shape[1] - int(head["discard_post"])]
        line = line[:, ::-1] if _flag(head["flags"], REVERSE) else line
        if first < 0 or first + line.shape[1] > grid.shape[2]:
            raise ValueError(f"a readout of {line.shape[1]} samples from {first}, the grid has {grid.shape[2]}")
        kspace[i, :, kz, ky, first : first + line.shape[1]] += line
        count[i, kz, ky] += 1
    return kspace / np.maximum(count, 1)[:, None, :, :, None].astype(np.float32)


def _place(head: Any, grid: Encoding) -> tuple[int, int, int]:
    """Where a readout begins: kz, ky, kx; whole ones fill the line, partial ones have their centre at DC."""
    (nz, ny, nx), (cz, cy) = grid
    kz = int(head["idx"]["kspace_encode_step_2"]) - cz + nz // 2
    ky = int(head["idx"]["kspace_encode_step_1"]) - cy + ny // 2
    if not (0 <= kz < nz and 0 <= ky < ny):
        raise ValueError(f"a line at ky {ky}, kz {kz}, outside the grid of {ny} x {nz}")
    kept = int(head["number_of_samples"]) - int(head["discard_pre"]) - int(head["discard_post"])
    first = 0 if kept == nx else nx // 2 - int(head["center_sample"]) + int(head["discard_pre"])
    return kz, ky, first


def _wanted(heads: np.ndarray) -> np.ndarray:
    flags = heads["flags"]
    calibration_only = _flag(flags, CALIBRATION) & ~_flag(flags, BOTH)
    return _of_the_grid(heads) & ~calibration_only


def _calibration(heads: np.ndarray) -> np.ndarray:
    """Lines for the coil maps alone, on the grid of the image."""
    flags = heads["flags"]
    return _of_the_grid(heads) & _flag(flags, CALIBRATION) & ~_flag(flags, BOTH)


def _of_the_grid(heads: np.ndarray) -> np.ndarray:
    """Acquisitions of the first encoded space that are no noise, navigator or the like."""
    others = np.any([_flag(heads["flags"], f) for f in (NOISE, *OTHER)], axis=0)
    return ~others & (heads["encoding_space_ref"] == 0)


def _flag(flags: Any, number: int) -> Any:
    return (np.asarray(flags, np.uint64) >> np.uint64(number - 1)) & np.uint64(1) == 1


def _group(head: bytes, path: Path) -> str | None:
    for name in link_names(head, path)[:16]:
        if {"xml", "data"} <= set(link_names(head, path, name)):
            return name
    return None
