"""Attacks: what f malicious nodes send, given the honest updates of the round. NumPy only, no Flower.

>>> import numpy as np
>>> from clients import attacks
>>> attacks.SignFlip()(np.array([[1.0, 2.0], [3.0, 4.0]]), 1)
array([[-2., -3.]])
"""

from __future__ import annotations

from .backdoors import Backdoor, attack_success_rate
from .base import Attack
from .byzmean import ByzMean
from .deliveries import PGD, AlterMin, ModelReplacement, Neurotoxin
from .fang import FangKrum, FangTrimmedMean
from .faults import Garbage, NonFinite, Scaled, Silent, WrongShape
from .labels import DynamicLabelFlip, LabelFlip, LabelPoison
from .masking import Masking
from .mimic import Mimic
from .noise import Gaussian, Noise, Random
from .perturbations import MinMax, MinSum, TailoredTrimmedMean
from .rare import EdgeCase, SemanticLabelSwap
from .registry import ALIASES, REGISTRY, from_spec, look_up, register
from .search import FACTORS, SearchError, line_search
from .shifts import ALittleIsEnough, FallOfEmpires, Lie, SignFlip
from .sight import Sight
from .tailored import PoolAttack, RandomEpsilon, Tailored
from .triggers import DBA, BadNets, Blended
from .tuning import Optimal, Tunable

# The inner product manipulation of Xie, Koyejo and Gupta (2020), by its other name.
IPM = FallOfEmpires

__all__ = [
    "ALIASES",
    "DBA",
    "FACTORS",
    "IPM",
    "PGD",
    "REGISTRY",
    "ALittleIsEnough",
    "AlterMin",
    "Attack",
    "Backdoor",
    "BadNets",
    "Blended",
    "ByzMean",
    "DynamicLabelFlip",
    "EdgeCase",
    "FallOfEmpires",
    "FangKrum",
    "FangTrimmedMean",
    "Garbage",
    "Gaussian",
    "LabelFlip",
    "LabelPoison",
    "Lie",
    "Masking",
    "Mimic",
    "MinMax",
    "MinSum",
    "ModelReplacement",
    "Neurotoxin",
    "Noise",
    "NonFinite",
    "Optimal",
    "PoolAttack",
    "Random",
    "RandomEpsilon",
    "Scaled",
    "SearchError",
    "SemanticLabelSwap",
    "Sight",
    "SignFlip",
    "Silent",
    "Tailored",
    "TailoredTrimmedMean",
    "Tunable",
    "WrongShape",
    "attack_success_rate",
    "from_spec",
    "line_search",
    "look_up",
    "register",
]
