"""Forward operators: images to measurements. One file, one export, one contract row each."""

from .blur import Blur, CircularBlur
from .calibration import sensitivity_maps
from .cartesian_mri import CartesianMRI
from .decoded import Decoded
from .dense import Dense
from .finite_differences import FiniteDifferences
from .near_field_mimo import SPEED_OF_LIGHT, NearFieldMIMO
from .non_cartesian_mri import NonCartesianMRI, density_compensation
from .norm import squared_norm
from .operator import Operator
from .restricted import Restricted
from .sampling import cartesian_lines, poisson_disc
from .scaled import Scaled, has_exact_prox
from .ultrasound import FullMatrixCapture, PlaneWaveIQ
from .wavelet import Wavelet

__all__ = [
    "SPEED_OF_LIGHT", "Blur", "CartesianMRI", "CircularBlur", "Decoded", "Dense", "FiniteDifferences",
    "FullMatrixCapture", "NearFieldMIMO", "NonCartesianMRI", "Operator", "PlaneWaveIQ", "Restricted", "Scaled",
    "Wavelet", "cartesian_lines", "density_compensation", "has_exact_prox", "poisson_disc", "sensitivity_maps",
    "squared_norm",
]  # fmt: skip
