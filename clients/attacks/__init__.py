"""Attacks: what f malicious nodes send, given the honest updates of the round. NumPy only, no Flower.

>>> import numpy as np
>>> from clients import attacks
>>> attacks.SignFlip()(np.array([[1.0, 2.0], [3.0, 4.0]]), 1)
array([[-2., -3.]])
"""

from __future__ import annotations

from .base import Attack
from .byzmean import ByzMean
from .faults import Garbage, NonFinite, Scaled, Silent, WrongShape
from .labels import DynamicLabelFlip, LabelFlip, LabelPoison
from .mimic import Mimic
from .noise import Noise, Random
from .perturbations import MinMax, MinSum, TailoredTrimmedMean
from .registry import ALIASES, REGISTRY, from_spec
from .search import FACTORS, SearchError, line_search
from .shifts import ALittleIsEnough, FallOfEmpires, Lie, SignFlip
from .sight import Sight
from .tailored import PoolAttack, RandomEpsilon, Tailored

__all__ = [
    "ALIASES",
    "FACTORS",
    "REGISTRY",
    "ALittleIsEnough",
    "Attack",
    "ByzMean",
    "DynamicLabelFlip",
    "FallOfEmpires",
    "Garbage",
    "LabelFlip",
    "LabelPoison",
    "Lie",
    "Mimic",
    "MinMax",
    "MinSum",
    "Noise",
    "NonFinite",
    "PoolAttack",
    "Random",
    "RandomEpsilon",
    "Scaled",
    "SearchError",
    "Sight",
    "SignFlip",
    "Silent",
    "Tailored",
    "TailoredTrimmedMean",
    "WrongShape",
    "from_spec",
    "line_search",
]
