"""What a panel shows: lines over the rounds or over the labels of an axis, and bars."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulations.experiments.sections import CURVES, Label
from simulations.reports.figures.looks import BASELINE, BASELINE_BAR, bar_look, line_look
from simulations.reports.figures.series import Chart, Panel, Series
from simulations.reports.wording import label_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKED_POINTS = 6
FAR = 20.0  # largest over smallest label from which an axis is logarithmic
CHARACTER = 0.068  # inches a character of a tick's label
BAND = 0.16  # opacity
GROUP = 0.8  # of the room for a group
MANY = 14  # bars in a panel above which there is no room for their numbers
WHISKER: dict[str, Any] = {"fmt": "none", "ecolor": "0.15", "elinewidth": 0.9, "capsize": 2.5}


def draw_lines(axes: Axes, chart: Chart, panel: Panel, width: float) -> dict[str, Any]:
    """Draw the lines of a panel that is so many inches wide, and return them by name."""
    if chart.section.kind == CURVES:
        return {series.name: _curve(axes, series, number) for number, series in enumerate(panel.series)}
    places = _x_ticks(axes, chart, width)
    return {series.name: _line(axes, series, places) for series in panel.series}


def _look(series: Series) -> dict[str, Any]:
    return line_look(series.look) | (BASELINE if series.baseline else {})


def _curve(axes: Axes, series: Series, number: int) -> Any:
    """Draw a curve whose markers do not hide those of others."""
    step = max(1, len(series.x) // MARKED_POINTS)
    start = number * step // 4 % step
    (line,) = axes.plot(series.x, series.mean, label=series.name, markevery=(start, step), **_look(series))
    _band(axes, series.x, series.mean, series.spread, line.get_color())
    return line


def _line(axes: Axes, series: Series, places: NDArray[np.float64]) -> Any:
    known = np.isfinite(series.mean)
    x, mean, spread = places[known], series.mean[known], series.spread[known]
    look = _look(series)
    if len(x) == 1 and series.baseline:
        look |= {"marker": "_", "markersize": 14, "markeredgewidth": 1.3}  # a line through one point is not seen
    (line,) = axes.plot(x, mean, label=series.name, **look)
    _band(axes, x, mean, spread, line.get_color())
    return line


def _band(
    axes: Axes, x: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64], colour: Any
) -> None:
    """Draw a standard deviation around a line; where it has a single point, as a whisker."""
    if not np.isfinite(spread).any():
        return
    if len(x) == 1:
        axes.errorbar(x, mean, spread, fmt="none", ecolor=colour, elinewidth=0.9, capsize=2.5)
    else:
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=BAND, linewidth=0)


def _x_ticks(axes: Axes, chart: Chart, width: float) -> NDArray[np.float64]:
    """Label the axis that goes to the right, and return where its labels are."""
    labels = chart.x_labels
    if not all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels):
        name_ticks(axes, labels, width)
        margin = 0.08 * len(labels)
        axes.set_xlim(-margin, len(labels) - 1 + margin)  # labels without a number keep their place
        return np.arange(len(labels), dtype=np.float64)
    places = np.array(labels, dtype=np.float64)
    spread_out = bool(places.min() > 0 and places.max() >= FAR * places.min())
    if spread_out:
        axes.set_xscale("log")
    axes.set_xticks(places, [label_text(label) for label in labels])
    axes.minorticks_off()
    return places


def name_ticks(axes: Axes, labels: tuple[Label, ...], width: float) -> None:
    """Write names below an axis: on several lines where they are too long for one, slanting where for these too."""
    room = max(4, int((width - 0.7) / len(labels) / CHARACTER))
    names = [label_text(label).replace(" = ", "\u00a0=\u00a0") for label in labels]
    wrapped = [textwrap.fill(name, room, break_long_words=False) for name in names]
    fits = all(len(line) <= room for name in wrapped for line in name.splitlines())
    axes.set_xticks(range(len(labels)), wrapped if fits else names)
    for text in axes.get_xticklabels() if not fits else ():
        text.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


def draw_bars(axes: Axes, chart: Chart, panel: Panel, width: float, *, across: bool) -> dict[str, Any]:
    """Draw the bars of a panel that is so many inches wide, and return them by name."""
    handles: dict[str, Any] = {}
    thickness = GROUP / len(panel.series)
    for number, series in enumerate(panel.series):
        places = series.x + (number - (len(panel.series) - 1) / 2) * thickness
        draw = axes.barh if across else axes.bar
        lengths = np.nan_to_num(series.mean)
        handles[series.name] = draw(places, lengths, 0.92 * thickness, label=series.name, **_bar(series))
        _whiskers(axes, series, places, across=across)
        if len(panel.series) * len(series.x) <= MANY and not across:
            _numbers(axes, chart, series, places)
    if across:
        axes.set_yticks(range(len(chart.x_labels)), [label_text(label) for label in chart.x_labels])
        axes.set_ylim(len(chart.x_labels) - 0.5, -0.5)
    else:
        name_ticks(axes, chart.x_labels, width)
        axes.set_xlim(-0.5 - (len(chart.x_labels) == 1), len(chart.x_labels) - 0.5 + (len(chart.x_labels) == 1))
    return handles


def _bar(series: Series) -> dict[str, Any]:
    return bar_look(series.look) | (BASELINE_BAR if series.baseline else {})


def _whiskers(axes: Axes, series: Series, places: NDArray[np.float64], *, across: bool) -> None:
    known = np.isfinite(series.spread)
    if not known.any():
        return
    if across:
        axes.errorbar(series.mean[known], places[known], xerr=series.spread[known], **WHISKER)
    else:
        axes.errorbar(places[known], series.mean[known], series.spread[known], **WHISKER)


def _numbers(axes: Axes, chart: Chart, series: Series, places: NDArray[np.float64]) -> None:
    """Write the numbers above the bars and their whiskers; a dash where no cell finished."""
    for place, mean, spread in zip(places, series.mean, np.nan_to_num(series.spread), strict=True):
        known = bool(np.isfinite(mean))
        text = chart.metrics[0].written(float(mean)) if known else "–"  # noqa: RUF001
        axes.annotate(text, (place, mean + spread if known else 0.0), (0, 2), textcoords="offset points", ha="center",
                      va="bottom", fontsize=7)  # fmt: skip
