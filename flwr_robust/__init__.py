"""Byzantine-robust aggregation for Flower: strategies that stand up to nodes that lie.

Examples
--------
>>> from flwr_robust import ARC, NNM, TrimmedMean
>>> strategy = ARC(NNM(TrimmedMean(num_malicious_nodes=2, fraction_evaluate=0.5)))
>>> strategy.rule
chain(ARC(f=2), NNM(f=2), TrimmedMean(f=2))
"""

import typing as _typing
from types import ModuleType as _ModuleType

from flwr_robust import rules as rules
from flwr_robust.messages.replies import ConfigurationError as ConfigurationError
from flwr_robust.record.report import CandidateReport as CandidateReport
from flwr_robust.record.report import NodeReport as NodeReport
from flwr_robust.record.report import RoundReport as RoundReport
from flwr_robust.strategies.named import ARC as ARC
from flwr_robust.strategies.named import CAF as CAF
from flwr_robust.strategies.named import CGE as CGE
from flwr_robust.strategies.named import CRFL as CRFL
from flwr_robust.strategies.named import FABA as FABA
from flwr_robust.strategies.named import FLAME as FLAME
from flwr_robust.strategies.named import FLANDERS as FLANDERS
from flwr_robust.strategies.named import LASA as LASA
from flwr_robust.strategies.named import MDA as MDA
from flwr_robust.strategies.named import NNA as NNA
from flwr_robust.strategies.named import NNM as NNM
from flwr_robust.strategies.named import RFA as RFA
from flwr_robust.strategies.named import RLR as RLR
from flwr_robust.strategies.named import SLSGD as SLSGD
from flwr_robust.strategies.named import SMEA as SMEA
from flwr_robust.strategies.named import Aksel as Aksel
from flwr_robust.strategies.named import Auror as Auror
from flwr_robust.strategies.named import AutoGM as AutoGM
from flwr_robust.strategies.named import Bucketing as Bucketing
from flwr_robust.strategies.named import Bulyan as Bulyan
from flwr_robust.strategies.named import CenteredClipping as CenteredClipping
from flwr_robust.strategies.named import ClippedClustering as ClippedClustering
from flwr_robust.strategies.named import CrossRound as CrossRound
from flwr_robust.strategies.named import DnC as DnC
from flwr_robust.strategies.named import FedMedian as FedMedian
from flwr_robust.strategies.named import FedTrimmedAvg as FedTrimmedAvg
from flwr_robust.strategies.named import FLDetector as FLDetector
from flwr_robust.strategies.named import FLTrust as FLTrust
from flwr_robust.strategies.named import FoolsGold as FoolsGold
from flwr_robust.strategies.named import GeometricMedian as GeometricMedian
from flwr_robust.strategies.named import GeometricMedianOfMeans as GeometricMedianOfMeans
from flwr_robust.strategies.named import Krum as Krum
from flwr_robust.strategies.named import LFighter as LFighter
from flwr_robust.strategies.named import MeaMed as MeaMed
from flwr_robust.strategies.named import Mean as Mean
from flwr_robust.strategies.named import MeanOfMedians as MeanOfMedians
from flwr_robust.strategies.named import Median as Median
from flwr_robust.strategies.named import Medoid as Medoid
from flwr_robust.strategies.named import MixTailor as MixTailor
from flwr_robust.strategies.named import MoNNA as MoNNA
from flwr_robust.strategies.named import MultiKrum as MultiKrum
from flwr_robust.strategies.named import NormClipping as NormClipping
from flwr_robust.strategies.named import ResidualReweighting as ResidualReweighting
from flwr_robust.strategies.named import SignGuard as SignGuard
from flwr_robust.strategies.named import SimilarityFilter as SimilarityFilter
from flwr_robust.strategies.named import SimpleClustering as SimpleClustering
from flwr_robust.strategies.named import SparseFed as SparseFed
from flwr_robust.strategies.named import StaticClipping as StaticClipping
from flwr_robust.strategies.named import ThreeSigma as ThreeSigma
from flwr_robust.strategies.named import TrimmedMean as TrimmedMean
from flwr_robust.strategies.named import strategy_of as _strategy_of
from flwr_robust.strategies.observe import Observe as Observe
from flwr_robust.strategies.robust import RobustStrategy as RobustStrategy

__version__ = "0.1.0"

__all__ = ["rules", *(name for name, of in globals().items() if name[0] != "_" and not isinstance(of, _ModuleType))]

if not _typing.TYPE_CHECKING:  # which would take any name

    def __getattr__(name: str) -> type:
        """Return the strategy of a rule of the registry that has no class of its own."""
        kind = vars(rules).get(name)
        if kind not in rules.registry.REGISTRY.values() or not issubclass(kind, rules.Rule):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return _strategy_of(kind)
