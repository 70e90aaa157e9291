"""What curves, lines and bars show: panels, and in each of them series with means and spreads over the seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import CURVES, ChartSection, CurvesSection, Label
from simulations.reports.cells import series_of
from simulations.reports.figures.axes import Axes, axes_of, combinations, looks
from simulations.reports.summary import Place, fixed, summarise
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import told_all

Array = NDArray[np.float64]

SMOOTH_POINTS = 25  # the most of a smooth curve


@dataclass(frozen=True)
class Series:
    """A line, or the bars of one look.

    Attributes
    ----------
    name : str
        In the legend.
    look : tuple of int
        What chooses colour and dashes (`looks.line_look`); equal in all panels.
    x : array
        Rounds, or places among the labels of the axis.
    mean : array
        Means over the seeds; NaN where no cell finished.
    spread : array
        Standard deviations; NaN for a single seed.
    seeds : int
        The most seeds of a number.
    rank : int
        Its place in the legend.
    baseline : bool
        Whether nobody attacks, while others are attacked.
    """

    name: str
    look: tuple[int, ...]
    x: Array
    mean: Array
    spread: Array
    seeds: int
    rank: int
    baseline: bool = False


@dataclass(frozen=True)
class Panel:
    """A part of a figure: its labels, and what is drawn in it."""

    labels: Place
    series: tuple[Series, ...]

    @property
    def title(self) -> str:
        """The labels."""
        return told_all(self.labels)


@dataclass(frozen=True)
class Chart:
    """All that a figure of curves, lines or bars shows.

    Attributes
    ----------
    section : CurvesSection | ChartSection
        What it was made of.
    metrics : tuple of Metric
        What goes up.
    x_labels : tuple
        Labels of the axis that goes to the right; none for curves over the rounds.
    panels : tuple of Panel
        All that have cells, also unfinished ones.
    panel_axes : tuple of str
        Axes that panels differ in.
    window : int
        Over how many rounds each point is the mean.
    """

    section: CurvesSection | ChartSection
    metrics: tuple[Metric, ...]
    x_labels: tuple[Label, ...]
    panels: tuple[Panel, ...]
    panel_axes: tuple[str, ...]
    window: int = 1

    @property
    def series(self) -> list[Series]:
        """Those of all panels."""
        return [series for panel in self.panels for series in panel.series]

    @property
    def names(self) -> list[str]:
        """For the legend."""
        ranked = sorted(self.series, key=lambda series: series.rank)
        return [name for name in dict.fromkeys(series.name for series in ranked) if name]

    @property
    def seeds(self) -> int:
        """The most seeds of a number."""
        return max((series.seeds for series in self.series), default=0)


def make_chart(whole: Sweep, section: CurvesSection | ChartSection) -> Chart:
    """Compute what a figure of curves, lines or bars shows.

    Parameters
    ----------
    whole : Sweep
        All cells; the section may limit them.
    section : CurvesSection | ChartSection
        Of one of these kinds.
    """
    sweep = whole.limited(section.where)
    axes = axes_of(sweep, section)
    shown = section.y
    window = _window(sweep, shown) if section.kind == CURVES else 1
    panels = tuple(
        Panel(labels, tuple(_series(sweep, section, axes, labels, shown, window)))
        for labels in combinations(sweep, axes.panels)
    )
    x_labels = () if section.kind == CURVES else sweep.axes[section.x]
    return Chart(section, shown, x_labels, panels, axes.panels, window)


def _series(
    sweep: Sweep,
    section: CurvesSection | ChartSection,
    axes: Axes,
    labels: Place,
    shown: tuple[Metric, ...],
    window: int,
) -> Iterator[Series]:
    """Yield the series of a panel, those without any number left out."""
    chosen, order = looks(sweep, axes.lines), list(combinations(sweep, axes.lines))
    several = len(shown) > 1
    for line in combinations(sweep, axes.lines, labels):
        place: Place = {**axes.over, **labels, **line}
        baseline = not sweep.is_attacked(fixed({**labels, **line})) and sweep.is_attacked(fixed(labels))
        for number, metric in enumerate(shown):
            if section.kind == CURVES:
                x, mean, spread, seeds = _by_round(sweep, place, metric, window)
            else:
                x, mean, spread, seeds = _by_label(sweep, place, metric, section)
            if np.isfinite(mean).any():
                name = ", ".join(filter(None, [told_all(line), metric.short if several else ""]))
                look = chosen(line) + ((number,) if several else ())
                rank = order.index(line) * len(shown) + number
                yield Series(name, look, x, mean, spread, seeds, rank, baseline)


def _by_round(sweep: Sweep, place: Place, metric: Metric, window: int) -> tuple[Array, Array, Array, int]:
    """Numbers by round, for the rounds that all seeds have."""
    told = (dict(zip(*series_of(cell, metric), strict=True)) for cell in sweep.at(fixed(place)))
    series = [values for values in told if values]
    if not series:
        return np.empty(0), np.empty(0), np.empty(0), 0
    common = sorted(set(series[0]).intersection(*series[1:]))
    rounds, values = np.array(common), np.array([[values[number] for number in common] for values in series])
    if metric.smooth:
        starts = np.arange(0, len(common), window)
        sizes = np.diff([*starts, len(common)])
        rounds, values = (np.add.reduceat(part, starts, axis=-1) / sizes for part in (rounds, values))
    spread = values.std(axis=0, ddof=1) if len(series) > 1 else np.full(len(rounds), np.nan)
    return rounds, values.mean(axis=0), spread, len(series)


def _window(sweep: Sweep, shown: Iterable[Metric]) -> int:
    """Return over how many rounds each point of a smooth curve is the mean."""
    smooth = [metric for metric in shown if metric.smooth]
    longest = max((len(series_of(cell, metric)[0]) for cell in sweep.cells for metric in smooth), default=1)
    return math.ceil(longest / SMOOTH_POINTS)


def _by_label(
    sweep: Sweep, place: Place, metric: Metric, section: CurvesSection | ChartSection
) -> tuple[Array, Array, Array, int]:
    """Numbers by label of the axis that goes to the right."""
    labels = sweep.axes[section.x]
    found = [summarise(sweep, {**place, section.x: label}, metric, section.without) for label in labels]
    mean = [np.nan if one is None else one.mean for one in found]
    spread = [np.nan if one is None or one.spread is None else one.spread for one in found]
    seeds = max((one.seeds for one in found if one is not None), default=0)
    return np.arange(len(labels), dtype=np.float64), np.array(mean), np.array(spread), seeds
