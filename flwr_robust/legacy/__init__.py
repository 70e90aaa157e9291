"""The same rules for projects on `flwr.server.strategy`: FitRes, Parameters, failures."""

from flwr_robust.legacy.strategy import RobustFedAvg

__all__ = ["RobustFedAvg"]
