"""Attacks: what f malicious nodes send, given the honest updates of the round. NumPy only, no Flower.

>>> import numpy as np
>>> from clients import attacks
>>> attacks.SignFlip()(np.array([[1.0, 2.0], [3.0, 4.0]]), 1)
array([[-2., -3.]])
"""

from __future__ import annotations

from clients.attacks.base import Attack
from clients.attacks.byzmean import ByzMean
from clients.attacks.faults import Garbage, NonFinite, Scaled, Silent, WrongShape
from clients.attacks.labels import DynamicLabelFlip, LabelFlip, LabelPoison
from clients.attacks.mimic import Mimic
from clients.attacks.noise import Noise, Random
from clients.attacks.perturbations import MinMax, MinSum, TailoredTrimmedMean
from clients.attacks.registry import ALIASES, REGISTRY, from_spec
from clients.attacks.search import FACTORS, SearchError, line_search
from clients.attacks.shifts import ALittleIsEnough, FallOfEmpires, Lie, SignFlip
from clients.attacks.sight import Sight
from clients.attacks.tailored import PoolAttack, RandomEpsilon, Tailored

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
