"""Priors: what an image is like. One file, one export, one contract row each."""

from .analysis import Analysis
from .constraints import Box, NonNegative
from .denoiser import Denoiser, RealImaginary, SingleLevel
from .dncnn import load_dncnn
from .group import GroupL1
from .k_support import KSupport
from .l1 import L1
from .magnitude import Magnitude
from .normalised import Normalised
from .prior import Prior
from .sum import Sum
from .tikhonov import Tikhonov
from .tv import TV
from .wavelet import InWavelets

__all__ = [
    "L1", "TV", "Analysis", "Box", "Denoiser", "GroupL1", "InWavelets", "KSupport", "Magnitude", "NonNegative",
    "Normalised", "Prior", "RealImaginary", "SingleLevel", "Sum", "Tikhonov", "load_dncnn",
]  # fmt: skip
