"""The lines of a sweep's ``cells.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulations.config.catalog import NO_ATTACK
from simulations.experiments.metrics import TOTALS as RUN_METRICS
from simulations.experiments.metrics import Metric
from simulations.experiments.sections import Label

Labels = Mapping[str, Label]
Array = NDArray[np.float64]

TOTALS = {
    "max-accuracy": "max_accuracy",
    "final-accuracy": "final_accuracy",
    "tpr": "tpr",
    "fpr": "fpr",
    "wall-seconds": "wall_s",
}


@dataclass(frozen=True)
class Cell:
    """A run of a sweep.

    Attributes
    ----------
    labels : mapping
        What it is called on each axis of the grid.
    parameters, versions : mapping
        Run-config keys; versions of the packages.
    lite, done : bool
        Whether it belongs to the small version of the experiment; whether it finished.
    error : str or None
        Why it failed.
    evaluated, accuracy, loss : array
        Rounds that were evaluated, with accuracies from 0 to 1 and losses.
    rounds : array
        All rounds that `measures` tell of.
    measures : mapping of str to array
        Other numbers by round; NaN where there is none.
    totals : mapping
        ``max-accuracy``, ``final-accuracy``, ``tpr``, ``fpr``, ``wall-seconds``, where they are known.
    """

    labels: Labels
    parameters: Mapping[str, Any]
    versions: Mapping[str, str | None]
    lite: bool
    done: bool
    error: str | None
    evaluated: Array
    accuracy: Array
    loss: Array
    rounds: Array
    measures: Mapping[str, Array]
    totals: Mapping[str, float]

    @property
    def attacked(self) -> bool:
        """Whether somebody attacks."""
        return self.parameters.get("attack") != NO_ATTACK and not self.is_baseline

    @property
    def is_baseline(self) -> bool:
        """Whether there are no malicious nodes."""
        return self.parameters.get("num-malicious") == 0

    @property
    def seed(self) -> Label:
        """The seed of the run."""
        seed: Label = self.labels.get("seed", self.parameters.get("seed", 0))
        return seed


def read_cell(line: str) -> Cell | None:
    """Return a line's cell, or None where the line is torn or something else."""
    try:
        values = json.loads(line)
        totals = {name: values.get(key) for name, key in TOTALS.items()}
        return Cell(
            labels=dict(values["labels"]),
            parameters=dict(values["parameters"]),
            versions=dict(values.get("versions") or {}),
            lite=bool(values["lite"]),
            done=values["status"] == "done",
            error=values.get("error"),
            evaluated=_numbers(values.get("evaluated")),
            accuracy=_numbers(values.get("accuracy")),
            loss=_numbers(values.get("loss")),
            rounds=_numbers(values.get("rounds")),
            measures={name: _numbers(series) for name, series in (values.get("measures") or {}).items()},
            totals={name: float(value) for name, value in totals.items() if value is not None},
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def value_of(cell: Cell, metric: Metric) -> float | None:
    """Return the metric of a cell as it is shown, or None if the run did not tell."""
    if metric.name in RUN_METRICS:
        known = cell.totals.get(metric.name)
    else:
        _, values = series_of(cell, metric)
        typical = np.median if metric.median else np.mean
        known = float(typical(values)) / metric.scale if len(values) else None
    return None if known is None or not math.isfinite(known) else metric.scale * known


def series_of(cell: Cell, metric: Metric) -> tuple[Array, Array]:
    """Return rounds, and the metric in them as it is shown; rounds without a number are left out."""
    if metric.name in ("accuracy", "loss"):
        rounds, values = cell.evaluated, cell.accuracy if metric.name == "accuracy" else cell.loss
    else:
        rounds, values = cell.rounds, cell.measures.get(metric.name, np.empty(0))
    length = min(len(rounds), len(values))
    rounds, values = rounds[:length], values[:length]
    finite = np.isfinite(values)
    return rounds[finite], metric.scale * values[finite]


def _numbers(values: Sequence[float | None] | None) -> Array:
    return np.array([np.nan if value is None else float(value) for value in values or []], dtype=np.float64)
