"""Metrics as Flower's older interface has them: plain dicts, with the number of examples beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from flwr.app import MetricRecord, RecordDict
from flwr.common import Metrics, MetricsAggregationFn

from flwr_robust.metrics import median_metrics
from flwr_robust.strategies.aggregation import attempt


def aggregate_metrics(function: MetricsAggregationFn | None, told: list[tuple[int, Metrics]]) -> Metrics:
    """Aggregate (num_examples, metrics) of nodes by a user's function, or by medians without one."""
    if not told:
        return {}
    if function is None:
        return medians([metrics for _, metrics in told])
    return dict(attempt(function, told) or {})


def medians(told: Sequence[Mapping[str, Any]]) -> Metrics:
    """Unweighted median of each number that most nodes tell."""
    contents = [
        RecordDict(
            {
                "metrics": MetricRecord(
                    {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
                )
            }
        )
        for metrics in told
    ]
    return cast(Metrics, dict(median_metrics(contents, weighted_by_key="")))
