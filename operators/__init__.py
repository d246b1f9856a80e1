"""Forward operators: images to measurements. One file, one export, one contract row each."""

from .dense import Dense
from .near_field_mimo import SPEED_OF_LIGHT, NearFieldMIMO
from .norm import squared_norm
from .operator import Operator
from .scaled import Scaled, has_exact_prox
from .ultrasound import FullMatrixCapture, PlaneWaveIQ

__all__ = [
    "SPEED_OF_LIGHT", "Dense", "FullMatrixCapture", "NearFieldMIMO", "Operator", "PlaneWaveIQ", "Scaled",
    "has_exact_prox", "squared_norm",
]  # fmt: skip
