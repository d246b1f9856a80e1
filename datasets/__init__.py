"""Files and scenes: measurements, results, checkpoints, other programs' formats, synthetic volumes."""

from .arrays import Arrays
from .checkpoint import FileCheckpoint
from .errors import InputError, printable
from .export import export
from .formats import read_arrays, recognise
from .measurement import Measurement, load_measurement, save_measurement
from .result import Result, load_result, save_result
from .scenes import blobs

__all__ = [
    "Arrays", "FileCheckpoint", "InputError", "Measurement", "Result", "blobs", "export", "load_measurement",
    "load_result", "printable", "read_arrays", "recognise", "save_measurement", "save_result",
]  # fmt: skip
