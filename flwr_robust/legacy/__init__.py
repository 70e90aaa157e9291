"""The same rules for projects on `flwr.server.strategy`: FitRes, Parameters, failures."""

from flwr_robust.legacy.named import Bulyan as Bulyan
from flwr_robust.legacy.named import FedMedian as FedMedian
from flwr_robust.legacy.named import FedTrimmedAvg as FedTrimmedAvg
from flwr_robust.legacy.named import Krum as Krum
from flwr_robust.legacy.observe import Observe as Observe
from flwr_robust.legacy.strategy import RobustFedAvg as RobustFedAvg
