"""Priors: what an image is like. One file, one export, one contract row each."""

from .analysis import Analysis
from .bias_free_unet import BiasFreeUNet
from .blind_spot import BlindSpot, BlindSpotNetwork, blind_spot_loss
from .conditional import Conditional, ConditionalGaussian, ConditionalVelocity, Shifted
from .constraints import Box, NonNegative
from .convex_network import ConvexPotential, ConvolutionalPotential, ImagePotential, PatchCovering, PixelPotential
from .corruption import AsMeasured, Corruption, Gaussian, OnPath
from .denoiser import Denoiser, RealImaginary, SingleLevel
from .diffusion import DenoiserDiffusion, Diffusion, ScoreDiffusion, VelocityDiffusion
from .dncnn import load_dncnn
from .drunet import DRUNet
from .exposure import BalancedUNet, ExposurePrior, ProgressiveExposure, ShortExposure, longer_exposure
from .fields_of_experts import FieldsOfExperts
from .gaussian import GaussianPrior
from .gaussian_mixture import GaussianMixture
from .group import GroupL1
from .hyperparameters import Decades, Hyperparameters, Interval, Positive, Range, Whole
from .joint import Joint
from .k_support import KSupport
from .l1 import L1
from .latent_flow import Autoencoder, Prompt, PromptedVelocity, encode_prompt, load_latent_flow
from .learned_proximal import LearnedProximal, LearnedProximalNetwork, recover
from .losses import Batch, LogMeanSquare, MeanSquare, ScoreMatching, SelfSupervised, TrainingLoss, VelocityMatching
from .magnitude import Magnitude
from .magnitude_unet import MagnitudeUNet
from .mixed_precision import MixedPrecision
from .moving_average import MovingAverage
from .network import Network
from .noise2score import (
    GammaTweedie,
    GaussianTweedie,
    Noise2Score,
    PoissonTweedie,
    ResidualDenoising,
    residual_denoising_loss,
)
from .normalised import Normalised
from .patchwise import Patchwise
from .prior import Prior
from .proximal_matching import ProximalMatching, StagedMatching
from .residual_matching import LowResolution, ResidualMatching, downsampling
from .ridge_denoiser import RidgeDenoiser
from .schedule import (
    Cosine,
    ExponentialVariance,
    FlowMatching,
    Late,
    OrnsteinUhlenbeck,
    Schedule,
    VarianceExploding,
    VariancePreserving,
)
from .self_tuning import STN, DeltaSTN, SelfTuner
from .simplex import Simplex
from .smoothed import SmoothedL1, SmoothedTV
from .sum import Sum
from .tikhonov import Tikhonov
from .time_unet import TimeUNet
from .training import cosine, repeat, train
from .training_checkpoint import TrainingCheckpoint
from .tv import TV
from .wavelet import InWavelets
from .weakly_convex_ridge import WeaklyConvexRidge
from .weights_file import load_denoiser, save_weights

__all__ = [
    "L1", "STN", "TV", "Analysis", "AsMeasured", "Autoencoder", "BalancedUNet", "Batch", "BiasFreeUNet", "BlindSpot",
    "BlindSpotNetwork", "Box", "Conditional", "ConditionalGaussian", "ConditionalVelocity", "ConvexPotential",
    "ConvolutionalPotential", "Corruption", "Cosine", "DRUNet", "Decades", "DeltaSTN", "Denoiser", "DenoiserDiffusion",
    "Diffusion", "ExponentialVariance", "ExposurePrior", "FieldsOfExperts", "FlowMatching", "GammaTweedie", "Gaussian",
    "GaussianMixture", "GaussianPrior", "GaussianTweedie", "GroupL1", "Hyperparameters", "ImagePotential",
    "InWavelets", "Interval", "Joint", "KSupport", "Late", "LearnedProximal", "LearnedProximalNetwork",
    "LogMeanSquare", "LowResolution", "Magnitude", "MagnitudeUNet", "MeanSquare", "MixedPrecision", "MovingAverage",
    "Network", "Noise2Score", "NonNegative", "Normalised", "OnPath", "OrnsteinUhlenbeck", "PatchCovering", "Patchwise",
    "PixelPotential", "PoissonTweedie", "Positive", "Prior", "ProgressiveExposure", "Prompt", "PromptedVelocity",
    "ProximalMatching", "Range", "RealImaginary", "ResidualDenoising", "ResidualMatching", "RidgeDenoiser", "Schedule",
    "ScoreDiffusion", "ScoreMatching", "SelfSupervised", "SelfTuner", "Shifted", "ShortExposure", "Simplex",
    "SingleLevel", "SmoothedL1", "SmoothedTV", "StagedMatching", "Sum", "Tikhonov", "TimeUNet", "TrainingCheckpoint",
    "TrainingLoss", "VarianceExploding", "VariancePreserving", "VelocityDiffusion", "VelocityMatching",
    "WeaklyConvexRidge", "Whole", "blind_spot_loss", "cosine", "downsampling", "encode_prompt", "load_denoiser",
    "load_dncnn", "load_latent_flow", "longer_exposure", "recover", "repeat", "residual_denoising_loss",
    "save_weights", "train",
]  # fmt: skip
