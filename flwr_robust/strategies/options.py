"""The keyword arguments that every strategy here takes beside its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

from flwr.app import MetricRecord, RecordDict

from flwr_robust.metrics import median_metrics

Init = TypeVar("Init", bound=Callable[..., None])
MetricsFunction = Callable[[list[RecordDict], str], MetricRecord]


class FedAvgOptions(TypedDict, total=False):
    """Keyword arguments of Flower's `FedAvg`, with its defaults."""

    fraction_train: float
    fraction_evaluate: float
    min_train_nodes: int
    min_evaluate_nodes: int
    min_available_nodes: int
    weighted_by_key: str
    arrayrecord_key: str
    configrecord_key: str
    train_metrics_aggr_fn: MetricsFunction | None
    evaluate_metrics_aggr_fn: MetricsFunction | None


class RecordOptions(TypedDict, total=False):
    """Keyword arguments of our strategies and wrappers: what is kept of the nodes' fates.

    report_path : str or Path, optional
        File that gets one JSON line a round.
    suspicion : float, optional
        Keeps an exponentially weighted record of the quarantines and zero weights of each node, with this
        decay in (0, 1): see `flwr_robust.suspicion.Suspicion`. Off by default.
    exclude_after : float, optional
        In (0, 1]: nodes whose suspicion is above it are asked to train no more; at most num_malicious_nodes
        of the connected nodes, the most suspicious first, and never so many that the rule lacks replies.
        They are still asked to evaluate. Off by default.
    """

    report_path: str | Path | None
    suspicion: float | None
    exclude_after: float | None


class Options(FedAvgOptions, RecordOptions, total=False):
    """`FedAvgOptions`, `RecordOptions`, and what else our strategies add.

    server_learning_rate : float, default 1.0
        The new model is ``global + server_learning_rate * aggregate``.
    threads : int, optional
        Threads that aggregate. By default ``FLWR_ROBUST_THREADS`` from the environment, else the cores that the
        process may run on. The aggregate is the same up to rounding.
    """

    server_learning_rate: float
    threads: int | None


def fedavg_options(options: Options) -> FedAvgOptions:
    """Return what `FedAvg` takes of the options, with medians as the default for metrics."""
    ours = Options.__annotations__.keys() - FedAvgOptions.__annotations__.keys()
    chosen = cast(FedAvgOptions, {key: value for key, value in options.items() if key not in ours})
    chosen["train_metrics_aggr_fn"] = chosen.get("train_metrics_aggr_fn") or median_metrics
    chosen["evaluate_metrics_aggr_fn"] = chosen.get("evaluate_metrics_aggr_fn") or median_metrics
    return chosen


def flowers_order(*own: str) -> Callable[[Init], Init]:
    """Let a constructor that takes keywords alone be called by position too, as Flower's twin can be.

    Parameters
    ----------
    *own : str
        The twin's own parameters, which stand behind FedAvg's numbers of nodes in its signature.
    """
    names = list(FedAvgOptions.__annotations__)
    names[5:5] = own

    def decorate(init: Init) -> Init:
        @wraps(init)
        def by_position(self: Any, *positional: Any, **keywords: Any) -> None:
            if len(positional) > len(names):
                raise TypeError(f"{type(self).__name__} takes at most {len(names)} positional arguments.")
            given = dict(zip(names, positional, strict=False))
            twice = sorted(given.keys() & keywords.keys())
            if twice:
                raise TypeError(f"{type(self).__name__} was given {', '.join(twice)} by position and by name.")
            init(self, **given, **keywords)

        return cast(Init, by_position)

    return decorate
