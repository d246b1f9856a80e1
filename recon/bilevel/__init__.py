"""Bilevel learning: the parameters of a reconstruction that make its images best."""

from .hypergradient import Constants, Hypergradient, hypergradient
from .implicit import implicit, implicit_solve
from .lower_level import Energy, LowerLevel, LowerSolution
from .maid import MAID
from .method import Learned, Method, State
from .parameters import Parameters, substitute
from .reconstruction import Reconstruction
from .upper_level import Loss, SquaredError, UpperLevel

__all__ = [
    "MAID", "Constants", "Energy", "Hypergradient", "Learned", "Loss", "LowerLevel", "LowerSolution", "Method",
    "Parameters", "Reconstruction", "SquaredError", "State", "UpperLevel", "hypergradient", "implicit",
    "implicit_solve", "substitute",
]  # fmt: skip
