"""Curves over the rounds, lines over an axis, and bars: panels on a sheet with one legend."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simulations.experiments.metrics import PER_CENT
from simulations.experiments.sections import BARS, CURVES
from simulations.reports.figures.layout import (
    ALONE,
    ASPECT,
    BAR,
    add_legend,
    arrange,
    legend_height,
    new_figure,
    panel_width,
    tidy,
)
from simulations.reports.figures.marks import draw_bars, draw_lines
from simulations.reports.figures.series import Chart, Panel
from simulations.reports.wording import axis_name, listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPACE_FOR_TEXT = 0.45  # inches a panel for its title and labels
TITLE_CHARACTER = 0.075  # inches a character of a panel's title
MANY_BARS = 24  # from which bars go across on a narrow sheet
UNLIKE = 6.0  # ratio of the panels' ranges from which each has a scale of its own
DECADES = 1e3  # largest over smallest number from which a scale is logarithmic


def draw_chart(chart: Chart, *, narrow: bool = False) -> Figure:
    """Draw curves, lines or bars.

    Parameters
    ----------
    chart : Chart
        With at least one number.
    narrow : bool
        Whether panels go one below the other, for a phone.
    """
    places = arrange([panel.labels for panel in chart.panels], narrow=narrow)
    bars = max(len(panel.series) for panel in chart.panels) * len(chart.x_labels)
    width = panel_width(places.columns, bars, narrow=narrow)
    total = width * places.columns
    names = chart.names
    across = chart.section.kind == BARS and narrow and bars > MANY_BARS
    panel_height = BAR * bars + 0.1 * len(chart.x_labels) if across else ASPECT * min(width, ALONE)
    height = places.rows * (panel_height + SPACE_FOR_TEXT) + legend_height(names, total) + 0.25
    figure = new_figure(total, height)
    alike = _alike(chart)
    sheet = figure.subplots(places.rows, places.columns, sharex=True, sharey=alike or across, squeeze=False)
    for axes in sheet.flat:
        axes.set_visible(False)
    handles: dict[str, Any] = {}
    for panel, spot in zip(chart.panels, places.spots, strict=True):
        axes = sheet[spot.row, spot.column]
        axes.set_visible(True)
        handles = _draw(axes, chart, panel, width, across=across) | handles
        axes.set_title(textwrap.fill(panel.title, int(width / TITLE_CHARACTER)), loc="left")
        if narrow:
            axes.set_ylabel(_heading(chart) if not across else axis_name(chart.section.x))
        axes.tick_params(labelbottom=narrow or places.is_lowest(spot), labelleft=spot.column == 0 or not alike)
        if not across:
            _scale(axes, chart, (panel,) if not alike else chart.panels)
    if across:
        _scale(sheet[0, 0], chart, chart.panels, across=True)
    _name_axes(figure, chart, narrow=narrow, across=across)
    add_legend(figure, {name: handles[name] for name in names}, total)
    return figure


def _draw(axes: Axes, chart: Chart, panel: Panel, width: float, *, across: bool) -> dict[str, Any]:
    tidy(axes)
    bars = chart.section.kind == BARS
    axes.grid(alpha=0.3, linewidth=0.6, axis=("x" if across else "y") if bars else "both")
    if not panel.series:
        axes.text(0.5, 0.5, "no finished cell", transform=axes.transAxes, ha="center", va="center", color="0.4")
        return {}
    if bars:
        return draw_bars(axes, chart, panel, width, across=across)
    return draw_lines(axes, chart, panel, width)


def _name_axes(figure: Figure, chart: Chart, *, narrow: bool, across: bool) -> None:
    """Name both axes once for all panels; on a phone, which shows one at a time, each panel has its own name."""
    x = "Round" if chart.section.kind == CURVES else axis_name(chart.section.x)
    y = _heading(chart)
    figure.supxlabel(y if across else x, fontsize=9)
    if not narrow:
        figure.supylabel(y, fontsize=9)


def _heading(chart: Chart) -> str:
    if len(chart.metrics) == 1:
        return chart.metrics[0].heading
    units = {metric.unit for metric in chart.metrics}
    short = listing([metric.short for metric in chart.metrics])
    unit = units.pop() if len(units) == 1 else ""
    return f"{short} ({unit})" if unit else short


def _range(panels: tuple[Panel, ...]) -> tuple[float, float]:
    """Return the least and the largest number, with bands; of no number, 0 and 1."""
    series = [series for panel in panels for series in panel.series]
    if not series:
        return 0.0, 1.0
    low = [np.nanmin(one.mean - np.nan_to_num(one.spread)) for one in series]
    high = [np.nanmax(one.mean + np.nan_to_num(one.spread)) for one in series]
    return float(min(low)), float(max(high))


def _alike(chart: Chart) -> bool:
    """Whether one scale suits all panels."""
    tops = [_range((panel,))[1] for panel in chart.panels if panel.series]
    return _in_per_cent(chart) or min(tops) <= 0 or max(tops) <= UNLIKE * min(tops)


def _in_per_cent(chart: Chart) -> bool:
    return all(metric.in_per_cent for metric in chart.metrics)


def _scale(axes: Axes, chart: Chart, panels: tuple[Panel, ...], *, across: bool = False) -> None:
    """Choose where the scale of the numbers begins and ends: per cent within 0 and 100, bars from 0."""
    bars = chart.section.kind == BARS
    if not bars and _is_log(chart):
        axes.set_yscale("log")
        return
    low, high = _range(panels)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    bottom, top = (min(0.0, low - margin), high + 2 * margin) if bars else (low - margin, high + margin)
    if _in_per_cent(chart):
        bottom, top = max(bottom, 0.0 if bars else -1.0), min(top, PER_CENT + (6.0 if bars else 1.0))
    if across:
        axes.set_xlim(bottom, top)
    else:
        axes.set_ylim(bottom, top)


def _is_log(chart: Chart) -> bool:
    values: NDArray[np.float64] = np.concatenate([series.mean for series in chart.series])
    values = values[np.isfinite(values)]
    return not _in_per_cent(chart) and bool(values.min() > 0 and values.max() > DECADES * values.min())
