"""The figures of a report as pictures, each with a title and a caption; one of many panels on several sheets."""

from __future__ import annotations

import itertools
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from simulations.experiments.sections import BARS, CURVES, FigureSection, HeatmapSection, ScatterSection
from simulations.reports.figures.axes import axes_needed
from simulations.reports.figures.charts import draw_chart
from simulations.reports.figures.data import Chart, Panel, make_chart
from simulations.reports.figures.heatmap import Blocks, Heatmap, draw_heatmap, make_heatmap
from simulations.reports.figures.scatter import Cloud, Scatter, draw_scatter, make_scatter
from simulations.reports.figures.style import FONT, png
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import axis_name, lower, with_axes, with_axis
from simulations.wording import count, listing

AnyPanel = TypeVar("AnyPanel", Panel, Blocks, Cloud)

MOST_PANELS = 8  # of a sheet: what a page has room for
PIXELS = 96  # of a page, an inch


@dataclass(frozen=True)
class Picture:
    """A picture."""

    name: str
    title: str
    caption: str
    """Above and below it."""
    png: bytes
    size: tuple[float, float]
    """Width and height in inches."""

    @property
    def address(self) -> str:
        """The file as an address, for a page that loads nothing."""
        return f"data:image/png;base64,{b64encode(self.png).decode()}"

    @property
    def width(self) -> int:
        """In pixels of a page."""
        return round(PIXELS * self.size[0])

    @property
    def height(self) -> int:
        """In pixels of a page."""
        return round(PIXELS * self.size[1])


def draw_figures(sweep: Sweep, sections: Sequence[FigureSection]) -> Iterator[Picture | str]:
    """Yield the pictures of each figure, or a sentence on why there is none."""
    for number, section in enumerate(sections, 1):
        why = _impossible(sweep, section)
        drawn = [] if why else list(_draw(sweep, section, f"figure-{number}-{section.kind}"))
        yield from drawn
        if not drawn:
            yield f"Figure {number} ({section.kind}) is left out: {why or 'no finished cell has what it shows'}."


def _draw(sweep: Sweep, section: FigureSection, name: str) -> Iterator[Picture]:
    if isinstance(section, HeatmapSection):
        blocks = make_heatmap(sweep, section)
        title, caption = section.title or _heatmap_title(blocks), _heatmap_caption(blocks)
        yield from _pictures(name, title, caption, blocks.panels, lambda panels: draw_heatmap(blocks, panels))
        return
    if isinstance(section, ScatterSection):
        points = make_scatter(sweep, section)
        if points.styles:
            title, caption = section.title or _scatter_title(section), _scatter_caption(points)
            yield from _pictures(name, title, caption, points.panels, lambda panels: draw_scatter(points, panels))
        return
    chart = make_chart(sweep, section)
    if chart.lines:
        title, caption = section.title or _chart_title(chart), _chart_caption(chart)
        yield from _pictures(name, title, caption, chart.panels, lambda panels: draw_chart(chart, panels))


def _pictures(
    name: str, title: str, caption: str, panels: list[AnyPanel], draw: Callable[[list[AnyPanel]], Figure]
) -> Iterator[Picture]:
    for number, (label, some) in enumerate(_sheets(panels), 1):
        with rc_context(FONT):
            figure = draw(some)
            content = png(figure)
        width, height = figure.get_size_inches()
        suffix = "" if number == 1 else f"-{number}"
        yield Picture(name + suffix, f"{title}: {label}" if label else title, caption, content, (width, height))


def _sheets(panels: list[AnyPanel]) -> list[tuple[str, list[AnyPanel]]]:
    """Share panels out among sheets: those that agree in their first axis go on one."""
    if len(panels) <= MOST_PANELS:
        return [("", panels)] if panels else []
    axis, *others = panels[0].labels
    if not others:
        parts = [panels[start : start + MOST_PANELS] for start in range(0, len(panels), MOST_PANELS)]
        return [(f"part {number} of {len(parts)}", part) for number, part in enumerate(parts, 1)]
    groups = itertools.groupby(panels, lambda panel: panel.labels[axis])
    return [(with_axis(axis, label), list(group)) for label, group in groups]


def _impossible(sweep: Sweep, section: FigureSection) -> str:
    """Say why a sweep has not what a figure needs; empty if it has."""
    gone = [axis for axis in axes_needed(section) if axis not in sweep.axes]
    if gone:
        return f"here {gone[0]} is not varied"
    for axis, labels in section.where.items():
        if axis in sweep.axes and not set(labels) & set(sweep.axes[axis]):
            return f"no cell has {axis} = {', '.join(map(str, labels))}"
    return ""


def _chart_title(shown: Chart) -> str:
    x = "round" if shown.section.kind == CURVES else axis_name(shown.section.x).lower()
    if len(shown.metrics) == 1:
        return _titled(shown.section, f"{shown.metrics[0].title} by {x}")
    names = listing([metric.short for metric in shown.metrics])
    first = names[:1].upper() if names[:1].isascii() else names[:1]  # a symbol stays as it is
    return _titled(shown.section, f"{first}{names[1:]} by {x}")


def _heatmap_title(shown: Heatmap) -> str:
    by = f"{axis_name(shown.section.y).lower()} and {axis_name(shown.section.x).lower()}"
    return _titled(shown.section, f"{shown.metric.title} by {by}")


def _scatter_title(section: ScatterSection) -> str:
    return f"{section.y.title} against {lower(section.x.title)}, by {axis_name(section.points).lower()}"


def _scatter_caption(shown: Scatter) -> str:
    spread = f"Whiskers: one standard deviation over {count(shown.seeds, 'seed')}." if shown.seeds > 1 else "One seed."
    return " ".join([spread, *_common(shown.section, shown.panel_axes)])


def _titled(section: FigureSection, title: str) -> str:
    over = _over(section)
    return f"{over}: {lower(title)}" if over else title


def _over(section: FigureSection) -> str:
    return next((f"{kind.heading} over {axis_name(axis).lower()}" for axis, kind in section.over), "")


def _chart_caption(shown: Chart) -> str:
    spread, seeds = "Whiskers" if shown.section.kind == BARS else "Bands", int(shown.means["count"].max())
    sentences = [
        f"{spread}: one standard deviation over {count(seeds, 'seed')}."
        if seeds > 1
        else "One seed, so no spread is shown."
    ]
    places = pd.MultiIndex.from_product(
        [range(len(shown.panels)), [line.name for line in shown.lines], range(len(shown.x_labels))]
    )
    if shown.section.kind == BARS and not places.isin(shown.means.index).all():
        sentences.append("No bar: no finished cell has it.")
    if shown.window > 1:
        sentences.append(f"Each point is the mean over {shown.window} rounds.")
    return " ".join(sentences + _common(shown.section, shown.panel_axes))


def _heatmap_caption(shown: Heatmap) -> str:
    sentences = []
    if shown.rules:
        axis = axis_name(shown.section.best or "").lower()
        sentences.append(f"Each block names the best {axis}, which colours it, and its {lower(shown.metric.heading)}.")
    sentences.append(f"Means over {count(shown.seeds, 'seed')}." if shown.seeds > 1 else "One seed.")
    return " ".join(sentences + _common(shown.section, shown.panel_axes))


def _common(section: FigureSection, panel_axes: tuple[str, ...]) -> list[str]:
    found = []
    if section.where:
        wanted = [with_axes({axis: label}) for axis, labels in section.where.items() for label in labels]
        found.append(f"Only {listing(wanted)}.")
    if section.title and _over(section):
        found.append(f"{_over(section)}.")
    if panel_axes:
        found.append(f"Panels by {listing([axis_name(axis).lower() for axis in panel_axes])}.")
    return found
