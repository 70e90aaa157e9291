"""Scatters: two numbers of each label of an axis against each other, say what a defence costs and what it prevents."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from simulations.experiments.metrics import PER_CENT, Metric
from simulations.experiments.sections import Label, ScatterSection
from simulations.reports.figures.axes import axes_of, combinations, styles
from simulations.reports.figures.style import WIDTH, line_style, new_sheet, tidy
from simulations.reports.summary import Place, fixed, summarise
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import label_text, with_axes

ASPECT = 0.8  # height of a panel over its width
TEXT = 0.45  # inches a panel for its title and labels
CHARACTER = 0.072  # inches a character
MARGIN = 5.0  # per cent beyond 0 and 100, for markers
BASELINE: dict[str, Any] = {"color": "0.25", "marker": "*", "markersize": 9}


@dataclass(frozen=True)
class Point:
    """A label's place: means over the seeds, their spreads, and the number of seeds."""

    label: str
    x: float
    y: float
    spread: tuple[float, float]
    seeds: int


@dataclass(frozen=True)
class Cloud:
    """A panel: its labels, and its points in the order of the legend."""

    labels: Place
    points: list[Point]

    @property
    def title(self) -> str:
        """The labels."""
        return with_axes(self.labels)


@dataclass(frozen=True)
class Scatter:
    """What a scatter shows."""

    section: ScatterSection
    styles: dict[str, dict[str, Any]]
    """Of the markers, by label, in the order of the legend."""
    panels: list[Cloud]
    panel_axes: tuple[str, ...]
    seeds: int


def make_scatter(whole: Sweep, section: ScatterSection) -> Scatter:
    """Compute what a scatter shows."""
    sweep = whole.limited(section.where)
    axes, style = axes_of(sweep, section), styles(sweep, (section.points,))
    panels, shown, baselines = [], set[str](), set[str]()
    for labels in combinations(sweep, axes.panels):
        points = []
        for label in sweep.axes[section.points]:
            place = {**labels, section.points: label}
            if (point := _point(sweep, place, label, section)) is not None:
                points.append(point)
                shown.add(point.label)
                if not sweep.is_attacked(fixed(place)) and sweep.is_attacked(fixed(labels)):
                    baselines.add(point.label)
        panels.append(Cloud(labels, points))
    order = {label_text(label): label for label in sweep.axes[section.points] if label_text(label) in shown}
    markers = {
        text: BASELINE if text in baselines else _marker(style({section.points: label}))
        for text, label in order.items()
    }
    seeds = max((point.seeds for panel in panels for point in panel.points), default=0)
    return Scatter(section, markers, panels, axes.panels, seeds)


def _point(sweep: Sweep, place: Place, label: Label, section: ScatterSection) -> Point | None:
    found = [summarise(sweep, place, metric, section.without) for metric in (section.x, section.y)]
    x, y = found
    if x is None or y is None:
        return None
    return Point(label_text(label), x.mean, y.mean, (x.spread or 0.0, y.spread or 0.0), len(x.by_seed))


def _marker(style: Sequence[int]) -> dict[str, Any]:
    chosen = line_style(style)
    return {name: chosen[name] for name in ("color", "marker")} | {"markersize": 7, "alpha": 0.8}


def draw_scatter(shown: Scatter, panels: Sequence[Cloud]) -> Figure:
    """Draw panels of a scatter, two beside each other, with one legend."""
    columns = min(2, len(panels))
    width, rows = WIDTH / columns, math.ceil(len(panels) / columns)
    longest = max(map(len, shown.styles), default=1)
    across = max(1, min(len(shown.styles), int(WIDTH / (CHARACTER * longest + 0.4))))
    height = rows * (min(ASPECT * width, 3.4) + TEXT) + 0.2 * math.ceil(len(shown.styles) / across) + 0.35
    figure = new_sheet(WIDTH, height)
    sheet = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in sheet.flat[len(panels) :]:
        axes.set_visible(False)
    for number, (axes, panel) in enumerate(zip(sheet.flat, panels, strict=False)):
        _draw(axes, shown, panel)
        axes.set_title(textwrap.fill(panel.title, int(width / CHARACTER)), loc="left")
        axes.tick_params(labelbottom=number + columns >= len(panels), labelleft=number % columns == 0)
    figure.supxlabel(shown.section.x.heading, fontsize=9)
    figure.supylabel(shown.section.y.heading, fontsize=9)
    handles = [Line2D([], [], linestyle="none", **style) for style in shown.styles.values()]
    figure.legend(handles, list(shown.styles), loc="outside upper center", ncols=across, frameon=False)
    return figure


def _draw(axes: Axes, shown: Scatter, panel: Cloud) -> None:
    axes.grid(alpha=0.3, linewidth=0.6)
    for point in panel.points:
        style = shown.styles[point.label]
        if any(point.spread):
            across, up = point.spread
            axes.errorbar(point.x, point.y, up, across, color=style["color"], elinewidth=0.8, alpha=0.6)
        axes.plot(point.x, point.y, linestyle="none", markeredgecolor="white", markeredgewidth=0.5, **style)
    _scale(axes.set_xlim, shown.section.x)
    _scale(axes.set_ylim, shown.section.y)
    tidy(axes)


def _scale(set_limits: Any, metric: Metric) -> None:
    if metric.in_per_cent:
        set_limits(-MARGIN, PER_CENT + MARGIN)
