"""Files and scenes: measurement files, result files, checkpoints, synthetic volumes."""

from .checkpoint import FileCheckpoint
from .coils import ring_coils
from .demodulation import analytic, demodulate
from .errors import InputError
from .measurement import Measurement, load_measurement, save_measurement
from .phantom import Cyst, speckle_phantom
from .result import Result, load_result, save_result
from .scenes import blobs

__all__ = [
    "Cyst", "FileCheckpoint", "InputError", "Measurement", "Result", "analytic", "blobs", "demodulate",
    "load_measurement", "load_result", "ring_coils", "save_measurement", "save_result", "speckle_phantom",
]  # fmt: skip
