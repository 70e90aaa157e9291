"""Metrics of nodes that may lie: an unweighted median of what most of them report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isfinite
from statistics import median_high, median_low
from typing import Any

from flwr.app import MetricRecord, RecordDict

Value = float | list[float]


def median_metrics(contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """Median of each metric over the nodes; `weighted_by_key` is read by nobody and left out.

    A metric counts if more than half of the nodes report it, in the kind (a number, or a list of one
    length) that most of them use; values that are not finite are dropped. Unlike a weighted mean,
    fewer than half of the nodes cannot move it beyond what the others report.

    Parameters
    ----------
    contents : list of RecordDict
        Contents of the accepted replies; records with other than one MetricRecord have no say.
    weighted_by_key : str
        Flower's name of the weight, ``"num-examples"``.
    """
    records = [only[0] for content in contents if len(only := list(content.metric_records.values())) == 1]
    counts = Counter(key for record in records for key in record if key != weighted_by_key)
    result = MetricRecord()
    for key in sorted(key for key, count in counts.items() if 2 * count > len(contents)):
        value = _median([record[key] for record in records if key in record])
        if value is not None:
            result[key] = value
    return result


def _median(values: Sequence[Any]) -> Value | None:
    kinds = Counter(_kind(value) for value in values)
    kind, count = kinds.most_common(1)[0]
    if kind is None or 2 * count <= len(values):
        return None
    same = [value for value in values if _kind(value) == kind]
    if kind == -1:
        return _middle(same)
    return [_middle(column) for column in zip(*same, strict=True)]


def _middle(values: Sequence[float]) -> float:
    """Median; halved before they are added, since the sum of the middle two may be more than a float holds."""
    return float(median_low(values)) / 2 + float(median_high(values)) / 2


def _kind(value: Any) -> int | None:
    """-1 for a finite number, the length for a list of them, None for anything else."""
    if isinstance(value, list):
        return len(value) if all(_kind(item) == -1 for item in value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return -1 if isfinite(float(value)) else None
    except OverflowError:
        return None
