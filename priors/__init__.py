"""Priors: what an image is like. One file, one export, one contract row each."""

from .analysis import Analysis
from .blind_spot import BlindSpotNetwork, blind_spot_loss
from .constraints import Box, NonNegative
from .convex_network import ConvexPotential, ImagePotential, PatchCovering, PixelPotential
from .denoiser import Denoiser, RealImaginary, Rescaled
from .dncnn import load_dncnn
from .group import GroupL1
from .k_support import KSupport
from .l1 import L1
from .learned_proximal import LearnedProximal, LearnedProximalNetwork, recover
from .magnitude import Magnitude
from .noise2score import GammaNoise, GaussianNoise, Noise2Score, PoissonNoise, residual_denoising_loss
from .normalised import Normalised
from .prior import Prior
from .proximal_matching import ProximalMatching, match, staged_gammas
from .sum import Sum
from .tikhonov import Tikhonov
from .tv import TV
from .wavelet import WaveletL1
from .weakly_convex_ridge import WeaklyConvexRidge

__all__ = [
    "L1", "TV", "Analysis", "BlindSpotNetwork", "Box", "ConvexPotential", "Denoiser", "GammaNoise", "GaussianNoise",
    "GroupL1", "ImagePotential", "KSupport", "LearnedProximal", "LearnedProximalNetwork", "Magnitude", "Noise2Score",
    "NonNegative", "Normalised", "PatchCovering", "PixelPotential", "PoissonNoise", "Prior", "ProximalMatching",
    "RealImaginary", "Rescaled", "Sum", "Tikhonov", "WaveletL1", "WeaklyConvexRidge", "blind_spot_loss", "load_dncnn",
    "match", "recover", "residual_denoising_loss", "staged_gammas",
]  # fmt: skip
