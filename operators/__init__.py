"""Forward operators: images to measurements. One file, one export, one contract row each."""

from .dense import Dense
from .finite_differences import FiniteDifferences
from .near_field_mimo import SPEED_OF_LIGHT, NearFieldMIMO
from .norm import squared_norm
from .operator import Operator
from .scaled import Scaled, has_exact_prox
from .wavelet import Wavelet

__all__ = [
    "SPEED_OF_LIGHT", "Dense", "FiniteDifferences", "NearFieldMIMO", "Operator", "Scaled", "Wavelet",
    "has_exact_prox", "squared_norm",
]  # fmt: skip
