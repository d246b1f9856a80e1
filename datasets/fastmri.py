"""fastMRI's HDF5: k-space of all slices, a reference image, the scanner's protocol as XML.

k-space is ``(slices, [coils,] rows, columns)``, DC in the middle, transformed by the unitary centred FFT.
Zbontar et al., fastMRI: an open dataset and benchmarks for accelerated MRI, arXiv:1811.08839.
"""

from __future__ import annotations

from pathlib import Path

from .arrays import Allowance, Arrays, decoding
from .hdf5 import is_numeric, link_names, read_tensor, reading, text
from .ismrmrd_header import protocol


def is_fastmri(head: bytes, path: Path) -> bool:
    """An HDF5 file with ``kspace`` beside ``ismrmrd_header`` or a reconstruction."""
    names = link_names(head, path)
    return "kspace" in names and any(n == "ismrmrd_header" or n.startswith("reconstruction_") for n in names)


def read_fastmri(path: Path) -> Arrays:
    """``kspace``, and of ``reconstruction_rss``, ``reconstruction_esc``, ``mask`` and others what is there."""
    allowance = Allowance(path)
    with reading(path) as file, decoding(path, "fastMRI"):
        datasets = {n: file[n] for n in file if is_numeric(file[n])}
        if "kspace" not in datasets or datasets["kspace"].ndim not in (3, 4):
            raise ValueError("kspace is not numbers (slices, [coils,] rows, columns)")
        arrays = {n: read_tensor(path, item, allowance) for n, item in datasets.items()}
        facts = {n: text(value) for n, value in file.attrs.items()}
        if "ismrmrd_header" in file:
            facts |= protocol(file["ismrmrd_header"][()]) | {"protocol axes": ["x", "y"]}
    axes = {"batch_axis": 0, "coil_axis": 1} if arrays["kspace"].ndim == 4 else {"batch_axis": 0, "coil_axis": None}
    return Arrays(arrays, facts | axes)
