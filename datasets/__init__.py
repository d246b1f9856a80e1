"""Files and scenes: measurements, results, checkpoints, other programs' formats, synthetic volumes."""

from .arrays import Arrays
from .checkpoint import FileCheckpoint
from .coils import ring_coils
from .demodulation import analytic, demodulate
from .errors import InputError, printable
from .export import VoxelGrid, export
from .formats import read_arrays, recognise
from .measurement import Measurement, load_measurement, save_measurement
from .phantom import Cyst, speckle_phantom
from .result import Result, load_result, save_result
from .scenes import blobs
from .sources import Blobs, ImageFolder, Part, Slices, Source, Truths, Volumes, WithPhase
from .speckle import Haze, Tissue

__all__ = [
    "Arrays", "Blobs", "Cyst", "FileCheckpoint", "Haze", "ImageFolder", "InputError", "Measurement", "Part", "Result",
    "Slices", "Source", "Tissue", "Truths", "Volumes", "VoxelGrid", "WithPhase", "analytic", "blobs", "demodulate",
    "export", "load_measurement", "load_result", "printable", "read_arrays", "recognise", "ring_coils",
    "save_measurement", "save_result", "speckle_phantom",
]  # fmt: skip
