"""Priors: what an image is like. One file, one export, one contract row each."""

from .analysis import Analysis
from .bias_free_unet import BiasFreeUNet
from .blind_spot import BlindSpotNetwork, blind_spot_loss
from .constraints import Box, NonNegative
from .convex_network import ConvexPotential, ImagePotential, PatchCovering, PixelPotential
from .corruption import Corruption, Gaussian
from .denoiser import Denoiser, RealImaginary, SingleLevel
from .dncnn import load_dncnn
from .drunet import DRUNet
from .fields_of_experts import FieldsOfExperts
from .group import GroupL1
from .k_support import KSupport
from .l1 import L1
from .learned_proximal import LearnedProximal, LearnedProximalNetwork, recover
from .losses import Batch, MeanSquare, SelfSupervised, TrainingLoss
from .magnitude import Magnitude
from .magnitude_unet import MagnitudeUNet
from .network import Network
from .noise2score import GammaNoise, GaussianNoise, Noise2Score, PoissonNoise, residual_denoising_loss
from .normalised import Normalised
from .prior import Prior
from .proximal_matching import ProximalMatching, match, staged_gammas
from .smoothed import SmoothedL1, SmoothedTV
from .sum import Sum
from .tikhonov import Tikhonov
from .training import cosine, train
from .training_checkpoint import TrainingCheckpoint
from .tv import TV
from .wavelet import InWavelets
from .weakly_convex_ridge import WeaklyConvexRidge
from .weights_file import load_denoiser, save_weights

__all__ = [
    "L1", "TV", "Analysis", "Batch", "BiasFreeUNet", "BlindSpotNetwork", "Box", "ConvexPotential", "Corruption",
    "DRUNet", "Denoiser", "FieldsOfExperts", "GammaNoise", "Gaussian", "GaussianNoise", "GroupL1", "ImagePotential",
    "InWavelets", "KSupport", "LearnedProximal", "LearnedProximalNetwork", "Magnitude", "MagnitudeUNet",
    "MeanSquare", "Network", "Noise2Score", "NonNegative", "Normalised", "PatchCovering", "PixelPotential",
    "PoissonNoise", "Prior", "ProximalMatching", "RealImaginary", "SelfSupervised", "SingleLevel", "SmoothedL1",
    "SmoothedTV", "Sum", "Tikhonov", "TrainingCheckpoint", "TrainingLoss", "WeaklyConvexRidge", "blind_spot_loss",
    "cosine", "load_denoiser", "load_dncnn", "match", "recover", "residual_denoising_loss", "save_weights",
    "staged_gammas", "train",
]  # fmt: skip
