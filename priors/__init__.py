"""Priors: what an image is like. One file, one export, one contract row each."""

from .analysis import Analysis
from .constraints import Box, NonNegative
from .convex_network import ConvexPotential, ImagePotential, PatchCovering, PixelPotential
from .denoiser import Denoiser, RealImaginary, Rescaled
from .dncnn import load_dncnn
from .group import GroupL1
from .k_support import KSupport
from .l1 import L1
from .learned_proximal import LearnedProximal, LearnedProximalNetwork, recover
from .magnitude import Magnitude
from .normalised import Normalised
from .prior import Prior
from .proximal_matching import ProximalMatching, match, staged_gammas
from .sum import Sum
from .tikhonov import Tikhonov
from .tv import TV
from .wavelet import WaveletL1
from .weakly_convex_ridge import WeaklyConvexRidge

__all__ = [
    "L1", "TV", "Analysis", "Box", "ConvexPotential", "Denoiser", "GroupL1", "ImagePotential", "KSupport",
    "LearnedProximal", "LearnedProximalNetwork", "Magnitude", "NonNegative", "Normalised", "PatchCovering",
    "PixelPotential", "Prior", "ProximalMatching", "RealImaginary", "Rescaled", "Sum", "Tikhonov", "WaveletL1",
    "WeaklyConvexRidge", "load_dncnn", "match", "recover", "staged_gammas",
]  # fmt: skip
