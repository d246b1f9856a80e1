"""Bilevel learning: the parameters of a reconstruction that make its images best."""

from .accelerated_maid import AcceleratedMAID
from .brent import Brent
from .discrepancy import DiscrepancyPrinciple
from .fixed_accuracy import FixedAccuracy
from .fixed_point import FixedPoint
from .grid import Grid
from .held_out import HeldOut
from .hoag import HOAG, geometric, polynomial
from .hypergradient import Constants, Hypergradient, hypergradient
from .implicit import implicit, implicit_solve
from .joint import Joint, Part
from .losses import Known, Measure, Posed, UpperLoss
from .lower_level import Energy, LowerLevel, LowerSolution
from .maid import MAID
from .method import Learned, Method, State
from .optuna_search import OptunaSearch
from .parameters import Parameters
from .reconstruction import Reconstruction
from .search import Search
from .sharpened import sharpened
from .supervised import MeanSquare, StructuralDissimilarity
from .sure import SURE, ProjectedSURE
from .upper_level import Bounds, Loss, SquaredError, UpperLevel

__all__ = [
    "HOAG", "MAID", "SURE", "AcceleratedMAID", "Bounds", "Brent", "Constants", "DiscrepancyPrinciple", "Energy",
    "FixedAccuracy", "FixedPoint", "Grid", "HeldOut", "Hypergradient", "Joint", "Known", "Learned", "Loss",
    "LowerLevel", "LowerSolution", "MeanSquare", "Measure", "Method", "OptunaSearch", "Parameters", "Part",
    "Posed", "ProjectedSURE", "Reconstruction", "Search", "SquaredError", "State", "StructuralDissimilarity",
    "UpperLevel", "UpperLoss", "geometric", "hypergradient", "implicit", "implicit_solve", "polynomial", "sharpened",
]  # fmt: skip
