"""The lines of a sweep's ``cells.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from simulations.config.catalog import NO_ATTACK
from simulations.experiments.metrics import BY_EVALUATION, TOTALS, Metric
from simulations.experiments.sections import Label

Labels = Mapping[str, Label]
Array = NDArray[np.float64]
# Numbers by round; NaN where there is none.
Series = Annotated[Array, BeforeValidator(lambda values: np.array(values or [], dtype=np.float64))]


class Cell(BaseModel):
    """A run of a sweep, as `simulations.sweep.record.make_record` writes it down."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    labels: dict[str, Any]
    parameters: dict[str, Any]
    versions: dict[str, str | None] = Field(default_factory=dict)
    lite: bool
    status: str
    error: str | None = None
    evaluated: Series = np.empty(0)
    """Rounds that were evaluated."""
    accuracy: Series = np.empty(0)
    loss: Series = np.empty(0)
    attack_success_rate: Series = np.empty(0)
    rounds: Series = np.empty(0)
    """All rounds that there are measures of."""
    measures: dict[str, Series] = Field(default_factory=dict)
    max_accuracy: float | None = None
    final_accuracy: float | None = None
    final_attack_success_rate: float | None = None
    tpr: float | None = None
    fpr: float | None = None
    wall_s: float | None = None

    @property
    def done(self) -> bool:
        """Whether it finished."""
        return self.status == "done"

    @property
    def attacked(self) -> bool:
        """Whether somebody attacks."""
        return self.parameters.get("attack") != NO_ATTACK and not self.is_baseline

    @property
    def is_baseline(self) -> bool:
        """Whether there are no malicious nodes."""
        return self.parameters.get("num-malicious") == 0

    @property
    def stands_beside_all(self) -> bool:
        """Whether it is a finished baseline that is the same under any attack: no attack's trigger was measured."""
        return self.done and self.is_baseline and self.final_attack_success_rate is None

    @property
    def seed(self) -> Label:
        """The seed of the run."""
        seed: Label = self.labels.get("seed", self.parameters.get("seed", 0))
        return seed


def read_cell(line: str) -> Cell | None:
    """Return a line's cell, or None where the line is torn or something else."""
    try:
        return Cell.model_validate_json(line)
    except ValidationError:
        return None


def value_of(cell: Cell, metric: Metric) -> float | None:
    """Return the metric of a cell as it is shown, or None if the run has no such number."""
    if metric.name in TOTALS:
        known = getattr(cell, metric.name.replace("-", "_").replace("wall_seconds", "wall_s"))
    else:
        _, values = series_of(cell, metric)
        typical = np.median if metric.median else np.mean
        known = float(typical(values)) / metric.scale if len(values) else None
    return None if known is None or not math.isfinite(known) else metric.scale * known


def series_of(cell: Cell, metric: Metric) -> tuple[Array, Array]:
    """Return rounds, and the metric in them as it is shown; rounds without a number are left out."""
    if metric.name in ("loss", *BY_EVALUATION):
        rounds, values = cell.evaluated, getattr(cell, metric.name.replace("-", "_"))
    else:
        rounds, values = cell.rounds, cell.measures.get(metric.name, np.empty(0))
    length = min(len(rounds), len(values))
    rounds, values = rounds[:length], values[:length]
    finite = np.isfinite(values)
    return rounds[finite], metric.scale * values[finite]
