"""Byzantine-robust aggregation rules and pre-aggregations: (n, d) arrays or tensors in, (d,) out.

Examples
--------
>>> import numpy as np
>>> from flwr_robust import rules
>>> X = np.array([[1.0, 1.0], [1.1, 0.9], [0.9, 1.1], [1e6, -1e6], [1.0, 1.0]])
>>> rules.chain(rules.ARC(f=1), rules.NNM(f=1), rules.TrimmedMean(f=1))(X).round(3)
array([1., 1.])
"""

from types import ModuleType as _ModuleType

from flwr_robust.engine.passes import Needs as Needs
from flwr_robust.engine.passes import NonFiniteRowsError as NonFiniteRowsError
from flwr_robust.engine.rows import Geometry as Geometry
from flwr_robust.engine.rows import Rows as Rows
from flwr_robust.rules.aksel import Aksel as Aksel
from flwr_robust.rules.arc import ARC as ARC
from flwr_robust.rules.auror import Auror as Auror
from flwr_robust.rules.autogm import AutoGM as AutoGM
from flwr_robust.rules.base import Chain as Chain
from flwr_robust.rules.base import CoordinateRule as CoordinateRule
from flwr_robust.rules.base import LinearRule as LinearRule
from flwr_robust.rules.base import PreAggregation as PreAggregation
from flwr_robust.rules.base import Rule as Rule
from flwr_robust.rules.base import chain as chain
from flwr_robust.rules.bucketing import Bucketing as Bucketing
from flwr_robust.rules.bulyan import Bulyan as Bulyan
from flwr_robust.rules.caf import CAF as CAF
from flwr_robust.rules.centered_clipping import CenteredClipping as CenteredClipping
from flwr_robust.rules.cge import CGE as CGE
from flwr_robust.rules.clipped_clustering import ClippedClustering as ClippedClustering
from flwr_robust.rules.crfl import CRFL as CRFL
from flwr_robust.rules.cross_round import CrossRound as CrossRound
from flwr_robust.rules.dnc import DnC as DnC
from flwr_robust.rules.faba import FABA as FABA
from flwr_robust.rules.flame import FLAME as FLAME
from flwr_robust.rules.flanders import FLANDERS as FLANDERS
from flwr_robust.rules.fldetector import FLDetector as FLDetector
from flwr_robust.rules.fltrust import FLTrust as FLTrust
from flwr_robust.rules.foolsgold import FoolsGold as FoolsGold
from flwr_robust.rules.function import Function as Function
from flwr_robust.rules.geometric_median import GeometricMedian as GeometricMedian
from flwr_robust.rules.geometric_median_of_means import GeometricMedianOfMeans as GeometricMedianOfMeans
from flwr_robust.rules.krum import Krum as Krum
from flwr_robust.rules.lasa import LASA as LASA
from flwr_robust.rules.lfighter import LFighter as LFighter
from flwr_robust.rules.mda import MDA as MDA
from flwr_robust.rules.meamed import MeaMed as MeaMed
from flwr_robust.rules.mean import Mean as Mean
from flwr_robust.rules.median import Median as Median
from flwr_robust.rules.medoid import Medoid as Medoid
from flwr_robust.rules.mixtailor import MixTailor as MixTailor
from flwr_robust.rules.monna import MoNNA as MoNNA
from flwr_robust.rules.multi_krum import MultiKrum as MultiKrum
from flwr_robust.rules.nna import NNA as NNA
from flwr_robust.rules.nnm import NNM as NNM
from flwr_robust.rules.norm_clipping import NormClipping as NormClipping
from flwr_robust.rules.registry import REGISTRY as REGISTRY
from flwr_robust.rules.registry import collect as _collect
from flwr_robust.rules.registry import from_spec as from_spec
from flwr_robust.rules.registry import parse_args as parse_args
from flwr_robust.rules.registry import register as register
from flwr_robust.rules.residual_reweighting import ResidualReweighting as ResidualReweighting
from flwr_robust.rules.rfa import RFA as RFA
from flwr_robust.rules.rlr import RLR as RLR
from flwr_robust.rules.run import GaveUpError as GaveUpError
from flwr_robust.rules.run import Trace as Trace
from flwr_robust.rules.signguard import SignGuard as SignGuard
from flwr_robust.rules.similarity_filter import SimilarityFilter as SimilarityFilter
from flwr_robust.rules.simple_clustering import SimpleClustering as SimpleClustering
from flwr_robust.rules.slsgd import SLSGD as SLSGD
from flwr_robust.rules.smea import SMEA as SMEA
from flwr_robust.rules.sparsefed import SparseFed as SparseFed
from flwr_robust.rules.static_clipping import StaticClipping as StaticClipping
from flwr_robust.rules.theory import empirical_kappa as empirical_kappa
from flwr_robust.rules.theory import kappa as kappa
from flwr_robust.rules.theory import rho as rho
from flwr_robust.rules.three_sigma import ThreeSigma as ThreeSigma
from flwr_robust.rules.trimmed_mean import TrimmedMean as TrimmedMean

# ByzPy's name.
MeanOfMedians = MeaMed

_collect(globals())

__all__ = [name for name, of in globals().items() if name[0] != "_" and not isinstance(of, _ModuleType)]
