"""Solving: one problem, one loop, one file per algorithm."""

from .active import (
    Acquisition,
    ActiveSampling,
    Choice,
    PairwiseEntropy,
    ReleasedScore,
    Score,
    greedy_design,
    most_uncertain,
)
from .admm import ADMM
from .bmode import envelope, log_compress, scan_convert
from .calibrated_weight import CalibratedWeight, velocity_errors
from .coarse_to_fine import CoarseToFine, NoiseLeft
from .conjugate_gradient import ConjugateGradient
from .constrained_admm import ConstrainedADMM
from .convergence import unmet_conditions
from .daps import DAPS
from .diffpir import DiffPIR
from .dps import DPS
from .endmembers import vertices
from .exposure import ExposureDiffusion
from .flair import FLAIR
from .flower import Flower
from .gcnr import GCNR, gcnr
from .half_quadratic import HalfQuadratic
from .loop import Progress
from .mean_reverting import MeanReverting
from .metrics import magnitude_psnr, magnitude_ssim, psnr, ssim
from .migration import BackProjection, Kirchhoff, Migration
from .moment_matching import MomentMatching
from .orders import centre_first, equispaced, random_order, variable_density
from .pigdm import PiGDM
from .pnp_flow import PnPFlow
from .primal_dual import PrimalDual
from .problem import Problem
from .projection import Projection
from .proximal_gradient import FISTA, ProximalGradient
from .sampler import GuidedDiffusion, Posterior, Sampler, Unguided
from .solver import Diverged, Solution, Solver, data_residual, objective
from .speckle_statistics import autocorrelation_widths, ks_distance
from .start import filled
from .stopping import Criterion, Discrepancy, FixedPointResidual, MagnitudeChange, ObjectiveGap, RelativeChange
from .threshold import universal_threshold
from .unmixing import RobustUnmixing, Unmixed, spectral_angles

__all__ = [
    "ADMM", "DAPS", "DPS", "FISTA", "FLAIR", "GCNR", "Acquisition", "ActiveSampling", "BackProjection",
    "CalibratedWeight", "Choice", "CoarseToFine", "ConjugateGradient", "ConstrainedADMM", "Criterion", "DiffPIR",
    "Discrepancy", "Diverged", "ExposureDiffusion", "FixedPointResidual", "Flower", "GuidedDiffusion", "HalfQuadratic",
    "Kirchhoff", "MagnitudeChange", "MeanReverting", "Migration", "MomentMatching", "NoiseLeft", "ObjectiveGap",
    "PairwiseEntropy", "PiGDM", "PnPFlow", "Posterior", "PrimalDual", "Problem", "Progress", "Projection",
    "ProximalGradient", "RelativeChange", "ReleasedScore", "RobustUnmixing", "Sampler", "Score", "Solution", "Solver",
    "Unguided", "Unmixed", "autocorrelation_widths", "centre_first", "data_residual", "envelope", "equispaced",
    "filled", "gcnr", "greedy_design", "ks_distance", "log_compress", "magnitude_psnr", "magnitude_ssim",
    "most_uncertain", "objective", "psnr", "random_order", "scan_convert", "spectral_angles", "ssim",
    "universal_threshold", "unmet_conditions", "variable_density", "velocity_errors", "vertices",
]  # fmt: skip
