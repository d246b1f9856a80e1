"""Solving: one problem, one loop, one file per algorithm."""

from .admm import ADMM
from .conjugate_gradient import ConjugateGradient
from .constrained_admm import ConstrainedADMM
from .loop import Progress
from .metrics import magnitude_psnr, magnitude_ssim
from .migration import BackProjection, Kirchhoff, Migration
from .primal_dual import PrimalDual
from .problem import Problem
from .proximal_gradient import FISTA, ProximalGradient
from .solver import Diverged, Solution, Solver, data_residual, objective
from .stopping import Criterion, Discrepancy, FixedPointResidual, MagnitudeChange, ObjectiveGap, RelativeChange
from .threshold import universal_threshold

__all__ = [
    "ADMM", "FISTA", "BackProjection", "ConjugateGradient", "ConstrainedADMM", "Criterion", "Discrepancy",
    "Diverged", "FixedPointResidual", "Kirchhoff", "MagnitudeChange", "Migration", "ObjectiveGap", "PrimalDual",
    "Problem", "Progress", "ProximalGradient", "RelativeChange", "Solution", "Solver", "data_residual",
    "magnitude_psnr", "magnitude_ssim", "objective", "universal_threshold",
]  # fmt: skip
