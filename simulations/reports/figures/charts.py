"""Curves over the rounds, lines over an axis, and bars: panels on a sheet with one legend."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from simulations.experiments.metrics import PER_CENT
from simulations.experiments.sections import BARS, CURVES, Label
from simulations.reports.figures.data import Chart, Panel
from simulations.reports.figures.style import WIDTH, bar_style, line_style, new_sheet, tidy
from simulations.reports.wording import axis_name, label_text
from simulations.wording import listing

ASPECT = 0.62  # height of a panel over its width
TEXT = 0.45  # inches a panel for its title and labels
CHARACTER = 0.072  # inches a character
HANDLE = 2.8  # length of a legend's lines, in font sizes
MARKED_POINTS = 6
BAND = 0.16  # opacity
GROUP = 0.8  # of the room for a group of bars
MANY = 14  # bars in a panel above which there is no room for their numbers
FAR = 20.0  # largest over smallest label from which an axis is logarithmic
UNLIKE = 6.0  # ratio of the panels' ranges from which each has a scale of its own
DECADES = 1e3  # largest over smallest number from which a scale is logarithmic


def draw_chart(chart: Chart, panels: Sequence[Panel]) -> Figure:
    """Draw some panels of a chart on a sheet, two beside each other."""
    columns = min(2, len(panels))
    width, rows = WIDTH / columns, math.ceil(len(panels) / columns)
    legend = {line.name: _handle(chart, number) for number, line in enumerate(chart.lines) if line.name}
    across = max(1, min(len(legend), int(WIDTH / (CHARACTER * max(map(len, legend), default=0) + 0.62))))
    height = rows * (ASPECT * width + TEXT) + 0.2 * math.ceil(len(legend) / across) + 0.35
    figure, alike = new_sheet(WIDTH, height), _alike(chart)
    sheet = figure.subplots(rows, columns, sharex=True, sharey=alike, squeeze=False)
    for axes in sheet.flat[len(panels) :]:
        axes.set_visible(False)
    for number, (axes, panel) in enumerate(zip(sheet.flat, panels, strict=False)):
        _draw(axes, chart, panel, width)
        axes.set_title(textwrap.fill(panel.title, int(width / CHARACTER)), loc="left")
        axes.tick_params(labelbottom=number + columns >= len(panels), labelleft=number % columns == 0 or not alike)
        _scale(axes, chart, chart.panels if alike else (panel,))
    figure.supxlabel("Round" if chart.section.kind == CURVES else axis_name(chart.section.x), fontsize=9)
    figure.supylabel(_heading(chart), fontsize=9)
    if legend:
        ncols = math.ceil(len(legend) / math.ceil(len(legend) / across))
        styles: dict[str, Any] = {"frameon": False, "handlelength": HANDLE, "columnspacing": 1.4}
        figure.legend(list(legend.values()), list(legend), loc="outside upper center", ncols=ncols, **styles)
    return figure


def _handle(chart: Chart, number: int) -> Line2D | Patch:
    line = chart.lines[number]
    if chart.section.kind == BARS:
        return Patch(**bar_style(line.style, baseline=line.baseline))
    return Line2D([], [], **line_style(line.style, baseline=line.baseline))


def _draw(axes: Axes, chart: Chart, panel: Panel, width: float) -> None:
    bars = chart.section.kind == BARS
    axes.grid(alpha=0.3, linewidth=0.6, axis="y" if bars else "both")
    if panel.numbers.empty:
        axes.text(0.5, 0.5, "no finished cell", transform=axes.transAxes, ha="center", va="center", color="0.4")
    elif bars:
        _draw_bars(axes, chart, panel, width)
    else:
        places = None if chart.section.kind == CURVES else _x_ticks(axes, chart.x_labels, width)
        _draw_lines(axes, chart, panel, places)
    tidy(axes)


def _draw_lines(axes: Axes, chart: Chart, panel: Panel, places: np.ndarray | None) -> None:
    """Draw means over the seeds, with bands of a standard deviation; markers do not hide those of other lines."""
    for number, line in enumerate(chart.lines):
        numbers = panel.numbers[panel.numbers["line"] == line.name]
        if numbers.empty:
            continue
        if places is not None:
            numbers = numbers.assign(x=places[numbers["x"].astype(int)])
        single, style = numbers["x"].nunique() == 1, line_style(line.style, baseline=line.baseline)
        if single and line.baseline:
            style |= {"marker": "_", "markersize": 14, "markeredgewidth": 1.3, "markeredgecolor": style["color"]}
        step = max(1, numbers["x"].nunique() // MARKED_POINTS)
        bars: dict[str, Any] = {"err_style": "bars"} if single else {"err_kws": {"alpha": BAND, "linewidth": 0}}
        evenly = (number * step // 4 % step, step) if places is None else None
        sns.lineplot(numbers, x="x", y="y", errorbar="sd", ax=axes, label=line.name, legend=False, markevery=evenly,
                     **bars, **style)  # fmt: skip


def _draw_bars(axes: Axes, chart: Chart, panel: Panel, width: float) -> None:
    """Draw bars in groups, with whiskers and, where there is room, numbers; a dash where no cell finished."""
    present = [line for line in chart.lines if line.name in set(panel.numbers["line"])]
    groups, thickness = np.arange(len(chart.x_labels)), GROUP / len(present)
    for number, line in enumerate(present):
        numbers = panel.numbers[panel.numbers["line"] == line.name]
        found = numbers.groupby("x")["y"].agg(["mean", "std"]).reindex(groups)
        places = groups + (number - (len(present) - 1) / 2) * thickness
        style = bar_style(line.style, baseline=line.baseline)
        axes.bar(places, found["mean"].fillna(0.0), 0.92 * thickness, label=line.name, **style)
        spread = found["std"].fillna(0.0)
        known = spread > 0
        whiskers: dict[str, Any] = {"fmt": "none", "ecolor": "0.15", "elinewidth": 0.9, "capsize": 2.5}
        axes.errorbar(places[known], found["mean"][known], spread[known], **whiskers)
        for place, mean, above in zip(places, found["mean"], spread, strict=True):
            if len(present) * len(groups) <= MANY:
                text = "–" if pd.isna(mean) else chart.metrics[0].written(float(mean))  # noqa: RUF001
                axes.annotate(text, (place, above + (0.0 if pd.isna(mean) else mean)), (0, 2), ha="center",
                              va="bottom", textcoords="offset points", fontsize=7)  # fmt: skip
    _name_ticks(axes, chart.x_labels, width)
    room = 1.5 if len(groups) == 1 else 0.5
    axes.set_xlim(-room, len(groups) - 1 + room)


def _x_ticks(axes: Axes, labels: tuple[Label, ...], width: float) -> np.ndarray:
    """Label the axis that goes to the right, and return where its labels are."""
    if not all(isinstance(label, int | float) and not isinstance(label, bool) for label in labels):
        _name_ticks(axes, labels, width)
        margin = 0.08 * len(labels)
        axes.set_xlim(-margin, len(labels) - 1 + margin)  # labels without a number keep their place
        return np.arange(len(labels), dtype=np.float64)
    places = np.array(labels, dtype=np.float64)
    if places.min() > 0 and places.max() >= FAR * places.min():
        axes.set_xscale("log")
    axes.set_xticks(places, [label_text(label) for label in labels])
    axes.minorticks_off()
    return places


def _name_ticks(axes: Axes, labels: tuple[Label, ...], width: float) -> None:
    """Write names below an axis: on several lines where they are too long for one, slanting where for these too."""
    room = max(4, int((width - 0.7) / len(labels) / CHARACTER))
    names = [label_text(label).replace(" = ", "\u00a0=\u00a0") for label in labels]
    wrapped = [textwrap.fill(name, room, break_long_words=False) for name in names]
    fits = all(len(line) <= room for name in wrapped for line in name.splitlines())
    axes.set_xticks(range(len(labels)), wrapped if fits else names)
    for text in axes.get_xticklabels() if not fits else ():
        text.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")


def _heading(chart: Chart) -> str:
    if len(chart.metrics) == 1:
        return chart.metrics[0].heading
    units = {metric.unit for metric in chart.metrics}
    short = listing([metric.short for metric in chart.metrics])
    unit = units.pop() if len(units) == 1 else ""
    return f"{short} ({unit})" if unit else short


# ---------------------------------------------------------------- the scale of the numbers


def _range(panels: Sequence[Panel]) -> tuple[float, float]:
    """Return the least and the largest number, with bands; of no number, 0 and 1."""
    numbers = pd.concat([panel.numbers.assign(panel=place) for place, panel in enumerate(panels)])
    if numbers.empty:
        return 0.0, 1.0
    found = numbers.groupby(["panel", "line", "x"])["y"].agg(["mean", "std"]).fillna(0.0)
    return float((found["mean"] - found["std"]).min()), float((found["mean"] + found["std"]).max())


def _alike(chart: Chart) -> bool:
    """Whether one scale suits all panels."""
    tops = [_range([panel])[1] for panel in chart.panels if not panel.numbers.empty]
    return _in_per_cent(chart) or min(tops) <= 0 or max(tops) <= UNLIKE * min(tops)


def _in_per_cent(chart: Chart) -> bool:
    return all(metric.in_per_cent for metric in chart.metrics)


def _scale(axes: Axes, chart: Chart, panels: Sequence[Panel]) -> None:
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
    axes.set_ylim(bottom, top)


def _is_log(chart: Chart) -> bool:
    means = chart.means["mean"]
    return not _in_per_cent(chart) and bool(means.min() > 0 and means.max() > DECADES * means.min())
