"""Priors: what an image is like. One file, one export, one contract row each."""

from .constraints import Box, NonNegative
from .denoiser import Denoiser, RealImaginary, SingleLevel
from .dncnn import load_dncnn
from .group import GroupL1
from .l1 import L1
from .magnitude import Magnitude
from .normalised import Normalised
from .prior import Prior
from .tikhonov import Tikhonov
from .tv import TV

__all__ = [
    "L1", "TV", "Box", "Denoiser", "GroupL1", "Magnitude", "NonNegative", "Normalised", "Prior",
    "RealImaginary", "SingleLevel", "Tikhonov", "load_dncnn",
]  # fmt: skip
