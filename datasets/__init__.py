"""Files and scenes: measurement files, result files, checkpoints, synthetic volumes."""

from .checkpoint import FileCheckpoint
from .coils import ring_coils
from .errors import InputError
from .measurement import Measurement, load_measurement, save_measurement
from .result import Result, load_result, save_result
from .scenes import blobs

__all__ = [
    "FileCheckpoint", "InputError", "Measurement", "Result", "blobs", "load_measurement", "load_result", "ring_coils",
    "save_measurement", "save_result",
]  # fmt: skip
