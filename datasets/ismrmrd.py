"""ISMRMRD raw data: acquisitions sorted into k-space by their counters, or along their trajectory.

Cartesian k-space is ``(images, coils, [kz,] ky, kx)``, one image for each slice, contrast, phase, repetition and set,
DC in the middle. Averages of the same line are averaged. Lines for calibration alone are an array of their own,
``calibration``, of the same shape: to each image those of its slice. Along a trajectory it is ``(images, coils,
readouts, samples)``, its positions ``trajectory`` ``(readouts, samples, dimensions)`` in the order of the image's axes,
the last one kx. Scans of noise alone are ``noise``, ``(coils, samples)`` at the level of the image's samples;
navigators, feedback and further encoded spaces are left out. Inati et al., ISMRM Raw data format, Magn. Reson. Med.
77:411 (2017).
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import h5py
import numpy as np

from .arrays import Allowance, Arrays, decoding, to_tensor
from .errors import InputError
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
    """``kspace``, complex64, and ``calibration``, ``trajectory`` and ``noise`` where there are some."""
    allowance = Allowance(path)
    with path.open("rb") as opened:
        group = _group(opened.read(1024), path)
    with reading(path) as file, decoding(path, "ISMRMRD"):
        table, xml = file[f"{group}/data"], np.ravel(file[f"{group}/xml"][()])[0]
        allowance.take("acquisitions", table.shape, 2 * table.dtype.itemsize)
        averaged: dict[str, Any] = {}
        heads, root = table["head"], parse(xml)
        wanted, lines, noise = _wanted(heads), _calibration(heads), _noise(heads)
        rows = np.flatnonzero(wanted)
        if find(root, "encoding/trajectory") == "cartesian":
            grid = encoding(root)
            kspace, count = sort(table, rows, _image_of(rows, heads), heads, grid, allowance)
            arrays, averaged = {"kspace": _flat(kspace)}, averages(count)
            with contextlib.suppress(ValueError):  # there are none, or they lie on another grid
                found = calibration(table, np.flatnonzero(lines), rows, heads, grid, allowance)
                arrays["calibration"] = _flat(found)
        else:
            arrays = along_trajectory(table, rows, heads, encoding(root).shape[0], allowance)
        if noise.any():
            arrays["noise"] = noise_scans(table, np.flatnonzero(noise), heads, rows, _bandwidth(root))
    left_out = int(len(heads) - (wanted | lines | noise).sum())
    facts = {"batch_axis": 0, "coil_axis": 1, "protocol axes": ["z", "y", "x"], "scans left out": left_out}
    return Arrays({name: to_tensor(values) for name, values in arrays.items()}, protocol(xml) | facts | averaged)


def _flat(kspace: np.ndarray) -> np.ndarray:
    """Without the axis of a volume where there is one plane."""
    return kspace[:, :, 0] if kspace.shape[2] == 1 else kspace


def encoding(root: ElementTree.Element) -> Encoding:
    """The grid of the encoded space."""
    x, y, z = (max(1, int(n)) for n in triple(root, "encoding/encodedSpace/matrixSize"))
    limits = "encoding/encodingLimits/kspace_encoding_step_"
    ky, kz = (int(find(root, f"{limits}{i}/center") or n // 2) for i, n in ((1, y), (2, z)))
    return Encoding((z, y, x), (kz, ky))


def sort(
    table: h5py.Dataset, rows: np.ndarray, image: np.ndarray, heads: np.ndarray, grid: Encoding, allowance: Allowance
) -> tuple[np.ndarray, np.ndarray]:
    """Acquisitions on the grid ``(images, coils, kz, ky, kx)``, repeated lines averaged, and how often each was taken.

    :param image: the number of the image of each.
    :raises ValueError: if one lies outside the grid.
    """
    coils = int(heads["active_channels"][rows].max())
    shape = (int(image.max()) + 1, coils, *grid.shape)
    allowance.take("kspace", shape, 16)
    kspace, count = np.zeros(shape, np.complex64), np.zeros((shape[0], *grid.shape[:2]), np.int64)
    for i, row in zip(image, rows, strict=True):
        head = heads[row]
        kz, ky, first = _place(head, grid)
        line = _kept(_samples(table, row, coils), head)
        if first < 0 or first + line.shape[1] > grid.shape[2]:
            raise ValueError(f"a readout of {line.shape[1]} samples from {first}, the grid has {grid.shape[2]}")
        kspace[i, :, kz, ky, first : first + line.shape[1]] += line
        count[i, kz, ky] += 1
    return kspace / np.maximum(count, 1)[:, None, :, :, None].astype(np.float32), count


def averages(count: np.ndarray) -> dict[str, Any]:
    """How often lines were taken, and the noise of their means, root mean square, in that of one sample."""
    taken = count[count > 0]
    if taken.max() == 1:
        return {}
    numbers = sorted({int(taken.min()), int(taken.max())})
    return {"averages": " to ".join(map(str, numbers)), "averaged noise": float(np.sqrt(np.mean(1 / taken)))}


def calibration(
    table: h5py.Dataset,
    rows: np.ndarray,
    imaging: np.ndarray,
    heads: np.ndarray,
    grid: Encoding,
    allowance: Allowance,
) -> np.ndarray:
    """Lines for calibration alone, for each image those of its slice, whichever repetition they were taken in.

    :raises ValueError: if there are none, or one lies outside the grid.
    """
    if not len(rows):
        raise ValueError("no lines for calibration alone")
    places = heads["idx"]["slice"]
    slices, owner = np.unique(places[rows], return_inverse=True)
    lines, _ = sort(table, rows, owner.ravel(), heads, grid, allowance)
    _, first = np.unique(_image_of(imaging, heads), return_index=True)
    wanted = places[imaging][first]
    known = np.isin(wanted, slices)
    allowance.take("calibration", (len(wanted), *lines.shape[1:]), 8)
    return np.where(known[:, None, None, None, None], lines[np.searchsorted(slices, wanted * known)], 0)


def along_trajectory(
    table: h5py.Dataset, rows: np.ndarray, heads: np.ndarray, planes: int, allowance: Allowance
) -> dict[str, np.ndarray]:
    """The wanted acquisitions one after the other, ``kspace`` and ``trajectory``.

    :param planes: of the encoded space; of one, a third column of positions (often weights) is left out.
    :raises InputError: if images differ in their trajectories, or have none.
    """
    image, coils = _image_of(rows, heads), int(heads["active_channels"][rows].max())
    dimensions = {int(n) for n in heads["trajectory_dimensions"][rows]}
    if len(dimensions) > 1 or not dimensions <= ({2, 3} if planes == 1 else {3}):
        found = f"found no Cartesian trajectory, planes {planes}, coordinates of each sample {sorted(dimensions)}"
        raise InputError(f"{allowance.path}: {found}, expected one for each axis in every acquisition")
    (columns,) = dimensions
    allowance.take("kspace", (len(rows), coils, int(heads["number_of_samples"][rows].max())), 16 * (1 + columns))
    lines, places = zip(*(_readout(table[row], heads[row], coils, columns) for row in rows), strict=True)
    lengths = {line.shape[1] for line in lines}
    each = [np.flatnonzero(image == i) for i in range(int(image.max()) + 1)]
    if len(lengths) > 1 or len({len(those) for those in each}) > 1:
        raise InputError(f"{allowance.path}: found readouts of several lengths or numbers, expected one in all images")
    lines, places = np.stack(lines), np.stack(places)
    if any(not np.array_equal(places[those], places[each[0]]) for those in each):
        raise InputError(f"{allowance.path}: found trajectories that differ between images, expected one")
    used = places[each[0]][..., : 2 if planes == 1 else columns][..., ::-1]
    return {"kspace": np.stack([lines[those].swapaxes(0, 1) for those in each]), "trajectory": used}


def _readout(record: Any, head: Any, coils: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples ``(coils, samples)`` and their positions ``(samples, columns)``."""
    places = np.asarray(record["traj"], "<f4").reshape(-1, columns)
    line = np.asarray(record["data"], "<f4").view("<c8").reshape(coils, -1)
    if len(places) != line.shape[1]:
        raise ValueError(f"{len(places)} positions for {line.shape[1]} samples")
    return _kept(line, head), _kept(places.T, head).T


def noise_scans(
    table: h5py.Dataset, rows: np.ndarray, heads: np.ndarray, imaging: np.ndarray, bandwidth: float
) -> np.ndarray:
    """All samples of noise side by side, as strong as in the ``imaging`` samples: its variance goes as 1 / dwell time.

    :param bandwidth: of the receiver, as a share of 1 / dwell time in the scans of noise.
    """
    coils = int(heads["active_channels"][rows].max())
    dwell = heads["sample_time_us"].astype(np.float64)
    theirs, ours = float(dwell[rows[0]]), float(dwell[imaging[0]])
    level = np.sqrt(theirs / (ours * bandwidth)) if theirs > 0 and ours > 0 else 1.0
    return np.concatenate([_samples(table, row, coils) for row in rows], 1) * np.complex64(level)


def _bandwidth(root: ElementTree.Element) -> float:
    share = float(find(root, "acquisitionSystemInformation/relativeReceiverNoiseBandwidth") or 1.0)
    return share if share > 0 else 1.0


def _image_of(rows: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """The number of the image to which each acquisition belongs."""
    if not len(rows):
        raise ValueError("no imaging scans")
    counters = np.stack([heads["idx"][name] for name in IMAGE], 1)
    return np.unique(counters[rows], axis=0, return_inverse=True)[1].ravel()


def _samples(table: h5py.Dataset, row: int, coils: int) -> np.ndarray:
    return np.asarray(table[row]["data"], "<f4").view("<c8").reshape(coils, -1)


def _kept(line: np.ndarray, head: Any) -> np.ndarray:
    """Of samples along the last axis those not to be discarded, in the order of the axis."""
    line = line[:, int(head["discard_pre"]) : line.shape[1] - int(head["discard_post"])]
    return line[:, ::-1] if _flag(head["flags"], REVERSE) else line


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


def _noise(heads: np.ndarray) -> np.ndarray:
    return _flag(heads["flags"], NOISE)


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
