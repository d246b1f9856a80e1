"""Priors: what an image is like. One file, one export, one contract row each."""

from .analysis import Analysis
from .bias_free_unet import BiasFreeUNet
from .constraints import Box, NonNegative
from .corruption import Corruption, Gaussian
from .denoiser import Denoiser, RealImaginary, SingleLevel
from .dncnn import load_dncnn
from .drunet import DRUNet
from .group import GroupL1
from .k_support import KSupport
from .l1 import L1
from .losses import Batch, MeanSquare, SelfSupervised, TrainingLoss
from .magnitude import Magnitude
from .magnitude_unet import MagnitudeUNet
from .network import Network
from .normalised import Normalised
from .prior import Prior
from .sum import Sum
from .tikhonov import Tikhonov
from .training import cosine, train
from .training_checkpoint import TrainingCheckpoint
from .tv import TV
from .wavelet import InWavelets
from .weights_file import load_denoiser, save_weights

__all__ = [
    "L1", "TV", "Analysis", "Batch", "BiasFreeUNet", "Box", "Corruption", "DRUNet", "Denoiser", "Gaussian",
    "GroupL1", "InWavelets", "KSupport", "Magnitude", "MagnitudeUNet", "MeanSquare", "Network", "NonNegative",
    "Normalised", "Prior", "RealImaginary", "SelfSupervised", "SingleLevel", "Sum", "Tikhonov",
    "TrainingCheckpoint", "TrainingLoss", "cosine", "load_denoiser", "load_dncnn", "save_weights", "train",
]  # fmt: skip
