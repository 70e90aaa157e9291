"""Byzantine-robust aggregation rules and pre-aggregations: (n, d) arrays or tensors in, (d,) out.

Examples
--------
>>> import numpy as np
>>> from flwr_robust import rules
>>> X = np.array([[1.0, 1.0], [1.1, 0.9], [0.9, 1.1], [1e6, -1e6], [1.0, 1.0]])
>>> rules.chain(rules.ARC(f=1), rules.NNM(f=1), rules.TrimmedMean(f=1))(X).round(3)
array([1., 1.])
"""

from flwr_robust.passes import NonFiniteRowsError
from flwr_robust.rules.base import CoordinateRule, LinearRule, PreAggregation, Rule
from flwr_robust.rules.bulyan import Bulyan
from flwr_robust.rules.centered_clipping import CenteredClipping
from flwr_robust.rules.chains import Chain, chain
from flwr_robust.rules.clipping import ARC, StaticClipping
from flwr_robust.rules.coordinatewise import Median, TrimmedMean
from flwr_robust.rules.dnc import DnC
from flwr_robust.rules.faba import FABA
from flwr_robust.rules.geometric_median import GeometricMedian
from flwr_robust.rules.krum import Krum, MultiKrum
from flwr_robust.rules.lasa import LASA
from flwr_robust.rules.lfighter import LFighter
from flwr_robust.rules.mda import MDA
from flwr_robust.rules.meamed import MeaMed
from flwr_robust.rules.mean import Mean
from flwr_robust.rules.mixing import NNM, Bucketing
from flwr_robust.rules.mixtailor import MixTailor
from flwr_robust.rules.registry import REGISTRY, from_spec, parse_args
from flwr_robust.rules.signguard import SignGuard
from flwr_robust.rules.sparsefed import SparseFed
from flwr_robust.rules.theory import empirical_kappa, kappa

__all__ = [
    "ARC",
    "FABA",
    "LASA",
    "MDA",
    "NNM",
    "REGISTRY",
    "Bucketing",
    "Bulyan",
    "CenteredClipping",
    "Chain",
    "CoordinateRule",
    "DnC",
    "GeometricMedian",
    "Krum",
    "LFighter",
    "LinearRule",
    "MeaMed",
    "Mean",
    "Median",
    "MixTailor",
    "MultiKrum",
    "NonFiniteRowsError",
    "PreAggregation",
    "Rule",
    "SignGuard",
    "SparseFed",
    "StaticClipping",
    "TrimmedMean",
    "chain",
    "empirical_kappa",
    "from_spec",
    "kappa",
    "parse_args",
]
