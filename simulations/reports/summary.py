"""Means, worst cases and averages over the cells of a sweep."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import pandas as pd

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import Label, Over
from simulations.reports.cells import value_of
from simulations.reports.sweeps import Sweep

Place = Mapping[str, Label | Over]


@dataclass(frozen=True)
class Summary:
    """A number of a place."""

    mean: float
    """Mean over the seeds."""
    spread: float | None
    """Standard deviation over the seeds with n - 1 in the denominator; None for a single seed."""
    by_seed: pd.Series
    complete: bool
    """Whether all cells finished that it needs."""
    whole: bool = True
    """For a worst case or an average, whether each label has at least one finished cell."""
    of: str = ""
    """For a worst case, the label that it is of; empty where nobody attacks."""


def summarise(sweep: Sweep, place: Place, metric: Metric, without: Collection[Label] = ()) -> Summary | None:
    """Summarise a metric over the seeds; None if no cell of the place has it.

    The worst case over an axis is the label with the worst mean over the seeds, with that label's spread, as in
    NNM (Table 2) and ARC (Tables 4 and 5); an average is the mean of the labels' means, with the spread over
    the seeds of each seed's own average. Both leave out labels of `without`, and cells that nobody attacks, as LASA
    (Table 1) does, unless nobody attacks in any of them.
    """
    axis = over_axis(place)
    if axis is not None:
        return _over(sweep, place, metric, axis, without)
    labels = fixed(place)
    values = {cell.seed: value for cell in sweep.at(labels) if (value := value_of(cell, metric)) is not None}
    if not values:
        return None
    by_seed = pd.Series(values)
    return Summary(float(by_seed.mean()), _spread(by_seed), by_seed, len(by_seed) >= sweep.expected(labels))


def over_axis(place: Place) -> str | None:
    """Return the axis over which a place has a worst case or an average."""
    return next((axis for axis, label in place.items() if isinstance(label, Over)), None)


def fixed(place: Place) -> dict[str, Label]:
    """Return the labels of a place, worst cases and averages left out."""
    return {axis: label for axis, label in place.items() if not isinstance(label, Over)}


def labels_over(sweep: Sweep, place: Place, axis: str, without: Collection[Label] = ()) -> list[Label]:
    """Return the labels of an axis that a worst case or an average is taken over."""
    others = fixed({**place, axis: Over.WORST})
    present = [label for label in sweep.axes[axis] if label not in without and sweep.has({**others, axis: label})]
    attacked = [label for label in present if sweep.is_attacked({**others, axis: label})]
    return attacked or present


def _over(sweep: Sweep, place: Place, metric: Metric, axis: str, without: Collection[Label]) -> Summary | None:
    parts = {label: {**place, axis: label} for label in labels_over(sweep, place, axis, without)}
    found = {label: summarise(sweep, part, metric, without) for label, part in parts.items()}
    known = {label: summary for label, summary in found.items() if summary is not None}
    if not known:
        return None
    whole = len(known) == len(found) and all(summary.whole for summary in known.values())
    complete = whole and all(summary.complete for summary in known.values())
    if place[axis] is Over.WORST:
        label = metric.worst(known, key=lambda name: known[name].mean)
        of = str(label) if sweep.is_attacked(fixed(parts[label])) else ""
        return Summary(known[label].mean, known[label].spread, known[label].by_seed, complete, whole, of)
    by_seed = pd.concat([summary.by_seed for summary in known.values()], axis=1, join="inner").mean(axis=1)
    mean = pd.Series([summary.mean for summary in known.values()]).mean()
    return Summary(float(mean), _spread(by_seed), by_seed, complete, whole)


def _spread(by_seed: pd.Series) -> float | None:
    return float(by_seed.std()) if len(by_seed) > 1 else None
