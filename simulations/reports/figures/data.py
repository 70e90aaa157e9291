"""What curves, lines and bars show: panels, and in each of them a number for each line, place and seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import ChartSection, CurvesSection, Label
from simulations.reports.cells import series_of
from simulations.reports.figures.axes import axes_of, combinations, styles
from simulations.reports.summary import Place, fixed, summarise
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import with_axes

SMOOTH_POINTS = 25  # the most of a smooth curve
Section = CurvesSection | ChartSection


@dataclass(frozen=True)
class Line:
    """A line, or the bars of one style."""

    name: str
    style: tuple[int, ...]
    """What chooses colour and dashes (`style.line_style`)."""
    baseline: bool
    """Whether nobody attacks, while others are attacked."""


@dataclass(frozen=True)
class Panel:
    """A part of a figure: its labels, and its numbers, with the columns line, x and y and a row for each seed."""

    labels: Place
    numbers: pd.DataFrame

    @property
    def title(self) -> str:
        """The labels."""
        return with_axes(self.labels)


@dataclass(frozen=True)
class Chart:
    """All that a figure of curves, lines or bars shows."""

    section: Section
    lines: list[Line]
    """Those that have numbers, in the order of the legend."""
    x_labels: tuple[Label, ...]
    """Labels of the axis that goes to the right; none for curves over the rounds."""
    panels: list[Panel]
    """All that have cells, also unfinished ones."""
    panel_axes: tuple[str, ...]
    """Axes that panels differ in."""
    window: int
    """Over how many rounds each point is the mean."""

    @property
    def metrics(self) -> Sequence[Metric]:
        """What goes up."""
        return self.section.y

    @property
    def means(self) -> pd.DataFrame:
        """Mean, standard deviation and number of seeds of each panel, line and place."""
        numbers = pd.concat([panel.numbers.assign(panel=number) for number, panel in enumerate(self.panels)])
        return numbers.groupby(["panel", "line", "x"])["y"].agg(["mean", "std", "count"])


def make_chart(whole: Sweep, section: Section) -> Chart:
    """Compute what a figure of curves, lines or bars shows."""
    sweep = whole.limited(section.where)
    axes = axes_of(sweep, section)
    style, several = styles(sweep, axes.lines), len(section.y) > 1
    window = _window(sweep, section.y)
    panels = [(labels, list[pd.DataFrame]()) for labels in combinations(sweep, axes.panels)]
    lines = []
    for line in combinations(sweep, axes.lines):
        for number, metric in enumerate(section.y):
            name = ", ".join(filter(None, [with_axes(line), metric.short if several else ""]))
            baseline = False
            for labels, found in panels:
                numbers = _numbers(sweep, {**axes.over, **labels, **line}, metric, section, window)
                if not numbers.empty:
                    found.append(numbers.assign(line=name))
                    place = fixed({**labels, **line})
                    baseline |= not sweep.is_attacked(place) and sweep.is_attacked(fixed(labels))
            lines.append(Line(name, style(line) + ((number,) if several else ()), baseline))
    empty = pd.DataFrame({"x": [], "y": [], "line": []})
    made = [Panel(labels, pd.concat(found) if found else empty) for labels, found in panels]
    drawn = {name for panel in made for name in panel.numbers["line"]}
    x_labels = () if isinstance(section, CurvesSection) else sweep.axes[section.x]
    return Chart(section, [line for line in lines if line.name in drawn], x_labels, made, axes.panels, window)


def _numbers(sweep: Sweep, place: Place, metric: Metric, section: Section, window: int) -> pd.DataFrame:
    """Return the numbers of a line, one for each seed, by round or by label."""
    if isinstance(section, CurvesSection):
        return _by_round(sweep, place, metric, window)
    found = {
        number: summary.by_seed
        for number, label in enumerate(sweep.axes[section.x])
        if (summary := summarise(sweep, {**place, section.x: label}, metric, section.without)) is not None
    }
    return pd.DataFrame({"x": [float(x) for x, values in found.items() for _ in values],
                         "y": [value for values in found.values() for value in values]})  # fmt: skip


def _by_round(sweep: Sweep, place: Place, metric: Metric, window: int) -> pd.DataFrame:
    """Return the numbers of the rounds that all seeds have."""
    series = [pd.Series(values, index=rounds) for cell in sweep.at(fixed(place))
              for rounds, values in [series_of(cell, metric)] if len(values)]  # fmt: skip
    if not series:
        return pd.DataFrame({"x": [], "y": []})
    wide = pd.concat(series, axis=1, join="inner").rename_axis("x").reset_index()
    if metric.smooth:
        wide = wide.groupby(np.arange(len(wide)) // window).mean()
    return wide.melt("x", value_name="y")[["x", "y"]]


def _window(sweep: Sweep, shown: Sequence[Metric]) -> int:
    """Return over how many rounds each point of a smooth curve is the mean."""
    smooth = [metric for metric in shown if metric.smooth]
    longest = max((len(series_of(cell, metric)[0]) for cell in sweep.cells for metric in smooth), default=1)
    return max(1, math.ceil(longest / SMOOTH_POINTS))
