"""Solving: one problem, one loop, one file per algorithm."""

from .admm import ADMM
from .bmode import envelope, log_compress, scan_convert
from .conjugate_gradient import ConjugateGradient
from .constrained_admm import ConstrainedADMM
from .convergence import unmet_conditions
from .gcnr import GCNR, gcnr
from .half_quadratic import HalfQuadratic
from .loop import Progress
from .metrics import magnitude_psnr, magnitude_ssim, psnr, ssim
from .migration import BackProjection, Kirchhoff, Migration
from .primal_dual import PrimalDual
from .problem import Problem
from .proximal_gradient import FISTA, ProximalGradient
from .solver import Diverged, Solution, Solver, data_residual, objective
from .start import filled
from .stopping import Criterion, Discrepancy, FixedPointResidual, MagnitudeChange, ObjectiveGap, RelativeChange
from .threshold import universal_threshold

__all__ = [
    "ADMM", "FISTA", "GCNR", "BackProjection", "ConjugateGradient", "ConstrainedADMM", "Criterion", "Discrepancy",
    "Diverged", "FixedPointResidual", "HalfQuadratic", "Kirchhoff", "MagnitudeChange", "Migration", "ObjectiveGap",
    "PrimalDual", "Problem", "Progress", "ProximalGradient", "RelativeChange", "Solution", "Solver",
    "data_residual", "envelope", "filled", "gcnr", "log_compress", "magnitude_psnr", "magnitude_ssim", "objective",
    "psnr", "scan_convert", "ssim", "universal_threshold", "unmet_conditions",
]  # fmt: skip
