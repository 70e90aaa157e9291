"""Means, worst cases and averages over the cells of a sweep."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import Label, Over
from simulations.reports.cells import value_of
from simulations.reports.sweeps import Sweep

Place = Mapping[str, Label | Over]


@dataclass(frozen=True)
class Summary:
    """A number of a place.

    Attributes
    ----------
    mean : float
        Mean over the seeds.
    spread : float or None
        Standard deviation over the seeds with n - 1 in the denominator; None for a single seed.
    seeds : int
        How many there are.
    complete : bool
        Whether all cells finished that it needs.
    whole : bool
        For a worst case or an average, whether each label has at least one finished cell.
    of : str
        For a worst case, the label that it is of; empty where nobody attacks.
    by_seed : mapping
        The number of each seed.
    """

    mean: float
    spread: float | None
    seeds: int
    complete: bool
    whole: bool = True
    of: str = ""
    by_seed: Mapping[Label, float] = field(default_factory=dict, repr=False)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation (n - 1 in the denominator); None for a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def summarise(sweep: Sweep, place: Place, metric: Metric, without: Collection[Label] = ()) -> Summary | None:
    """Summarise a metric over the seeds.

    The worst case over an axis is the label with the worst mean over the seeds, with that label's spread, as in
    NNM (Table 2) and ARC (Tables 4 and 5); an average is the mean of the labels' means, with the spread over
    the seeds of each seed's own average. Both leave out cells that nobody attacks, as LASA (Table 1) does, unless
    nobody attacks in any of them.

    Parameters
    ----------
    sweep : Sweep
        Its cells.
    place : mapping
        Labels by axis, or `Over`.
    metric : Metric
        What to summarise.
    without : collection, optional
        Labels that do not count in the worst case and the average.

    Returns
    -------
    None if no cell of the place tells the metric.
    """
    axis = next((axis for axis, label in place.items() if isinstance(label, Over)), None)
    if axis is not None:
        return _over(sweep, place, metric, axis, without)
    labels = fixed(place)
    by_seed = {cell.seed: value for cell in sweep.at(labels) if (value := value_of(cell, metric)) is not None}
    if not by_seed:
        return None
    mean, spread = mean_and_spread(list(by_seed.values()))
    return Summary(mean, spread, len(by_seed), len(by_seed) >= sweep.expected(labels), by_seed=by_seed)


def fixed(place: Place) -> dict[str, Label]:
    """Return the labels of a place, worst cases and averages left out."""
    return {axis: label for axis, label in place.items() if not isinstance(label, Over)}


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
        worst = known[label]
        of = str(label) if sweep.is_attacked(fixed(parts[label])) else ""
        return Summary(worst.mean, worst.spread, worst.seeds, complete, whole, of, worst.by_seed)
    seeds = set.intersection(*(set(summary.by_seed) for summary in known.values()))
    of_seeds = {seed: statistics.fmean(summary.by_seed[seed] for summary in known.values()) for seed in seeds}
    spread = statistics.stdev(of_seeds.values()) if len(of_seeds) > 1 else None
    mean = statistics.fmean(summary.mean for summary in known.values())
    return Summary(mean, spread, len(of_seeds), complete, whole, by_seed=of_seeds)


def labels_over(sweep: Sweep, place: Place, axis: str, without: Collection[Label] = ()) -> list[Label]:
    """Return the labels of an axis that a worst case or an average is taken over."""
    others = fixed({**place, axis: Over.WORST})
    present = [label for label in sweep.axes[axis] if label not in without and sweep.has({**others, axis: label})]
    attacked = [label for label in present if sweep.is_attacked({**others, axis: label})]
    return attacked or present
