"""Forward operators: images to measurements. One file, one export, one contract row each."""

from .blur import Blur, CircularBlur
from .calibration import sensitivity_maps
from .cartesian_mri import CartesianMRI
from .companding import Companded, compand, expand
from .decoded import Decoded
from .dense import Dense
from .downsampling import Downsampling
from .exposure import Exposure
from .finite_differences import FiniteDifferences
from .identity import Identity
from .linearised import Linearised
from .matched import matched
from .mixing import Mixing
from .near_field_mimo import SPEED_OF_LIGHT, NearFieldMIMO
from .non_cartesian_mri import NonCartesianMRI, density_compensation
from .norm import squared_norm
from .operator import Operator, has_exact_prox
from .restricted import Restricted
from .sampling import cartesian_lines
from .scaled import Scaled
from .superposition import Superposition
from .ultrasound import FullMatrixCapture, PlaneWaveIQ
from .variable_density import poisson_disc
from .wavelet import Wavelet

__all__ = [
    "SPEED_OF_LIGHT", "Blur", "CartesianMRI", "CircularBlur", "Companded", "Decoded", "Dense", "Downsampling",
    "Exposure", "FiniteDifferences", "FullMatrixCapture", "Identity", "Linearised", "Mixing", "NearFieldMIMO",
    "NonCartesianMRI", "Operator", "PlaneWaveIQ", "Restricted", "Scaled", "Superposition", "Wavelet",
    "cartesian_lines", "compand", "density_compensation", "expand", "has_exact_prox", "matched", "poisson_disc",
    "sensitivity_maps", "squared_norm",
]  # fmt: skip
