"""The figures of a report: drawn for a screen and for a phone, with a caption."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simulations.experiments.sections import BARS, CURVES, CurvesSection, FigureSection, HeatmapSection
from simulations.reports.figures.charts import draw_chart
from simulations.reports.figures.heatmap import Heatmap, draw_heatmap, make_heatmap
from simulations.reports.figures.layout import png, style
from simulations.reports.figures.series import Chart, make_chart
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import axis_name, count, listing, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes
    ----------
    name : str
        Of its file, without the ending.
    title, caption : str
        Above and below it.
    wide, narrow : bytes
        PNGs for a screen or a sheet, and for a phone.
    """

    name: str
    title: str
    caption: str
    wide: bytes
    narrow: bytes


def draw_figures(sweep: Sweep, sections: tuple[FigureSection, ...]) -> Iterator[Picture | str]:
    """Yield each figure, or a sentence on why there is none."""
    for number, section in enumerate(sections, 1):
        why = _impossible(sweep, section)
        drawn = None if why else _draw(sweep, section, f"figure-{number}-{section.kind}")
        yield drawn or f"Figure {number} ({section.kind}) is left out: {why or 'no finished cell has what it shows'}."


def _draw(sweep: Sweep, section: FigureSection, name: str) -> Picture | None:
    if isinstance(section, HeatmapSection):
        blocks = make_heatmap(sweep, section)
        if not blocks.panels:
            return None
        title, caption = section.title or _heatmap_title(blocks), _heatmap_caption(blocks)
        return Picture(name, title, caption, _png(draw_heatmap, blocks), _png(draw_heatmap, blocks, narrow=True))
    chart = make_chart(sweep, section)
    if not chart.series:
        return None
    title, caption = section.title or _chart_title(chart), _chart_caption(chart)
    return Picture(name, title, caption, _png(draw_chart, chart), _png(draw_chart, chart, narrow=True))


def _png(draw: Callable[..., Figure], shown: object, **options: bool) -> bytes:
    with style():
        return png(draw(shown, **options))


def _impossible(sweep: Sweep, section: FigureSection) -> str:
    """Say why a sweep has not what a figure needs; empty if it has."""
    needed = [] if isinstance(section, CurvesSection) else [section.x]
    needed += [section.y] if isinstance(section, HeatmapSection) else []
    gone = [axis for axis in needed if axis not in sweep.axes]
    if gone:
        return f"here {gone[0]} is not varied"
    for axis, labels in section.where.items():
        if axis in sweep.axes and not set(labels) & set(sweep.axes[axis]):
            return f"no cell has {axis} = {', '.join(map(str, labels))}"
    return ""


def _chart_title(shown: Chart) -> str:
    x = "round" if shown.section.kind == CURVES else axis_name(shown.section.x).lower()
    return _titled(shown.section, f"{_named(shown)} by {x}")


def _named(shown: Chart) -> str:
    if len(shown.metrics) == 1:
        return shown.metrics[0].title
    names = listing([metric.short for metric in shown.metrics])
    return names[:1].upper() + names[1:] if names[:1].isascii() else names  # a symbol stays as it is


def _heatmap_title(shown: Heatmap) -> str:
    by = f"{axis_name(shown.section.y).lower()} and {axis_name(shown.section.x).lower()}"
    return _titled(shown.section, f"{shown.metric.title} by {by}")


def _titled(section: FigureSection, title: str) -> str:
    over = _over(section)
    return f"{over}: {title[0].lower()}{title[1:]}" if over else title


def _over(section: FigureSection) -> str:
    return next((f"{kind.heading} over {axis_name(axis).lower()}" for axis, kind in section.over), "")


def _chart_caption(shown: Chart) -> str:
    spread = "Whiskers" if shown.section.kind == BARS else "Bands"
    sentences = [f"{spread}: one standard deviation over {count(shown.seeds, 'seed')}." if shown.seeds > 1 else
                 "One seed, so no spread is shown."]  # fmt: skip
    if shown.section.kind == BARS and any(np.isnan(series.mean).any() for series in shown.series):
        sentences.append("No bar: no finished cell has it.")
    if shown.window > 1:
        sentences.append(f"Each point is the mean over {shown.window} rounds.")
    return " ".join(sentences + _common(shown.section, shown.panel_axes))


def _heatmap_caption(shown: Heatmap) -> str:
    sentences = []
    if shown.rules:
        axis = axis_name(shown.section.best or "").lower()
        heading = shown.metric.heading[0].lower() + shown.metric.heading[1:]
        sentences.append(f"Each block names the best {axis}, which colours it, and its {heading}.")
    sentences.append(f"Means over {count(shown.seeds, 'seed')}." if shown.seeds > 1 else "One seed.")
    return " ".join(sentences + _common(shown.section, shown.panel_axes))


def _common(section: FigureSection, panel_axes: tuple[str, ...]) -> list[str]:
    found = []
    if section.where:
        wanted = [told(axis, label) for axis, labels in section.where.items() for label in labels]
        found.append(f"Only {listing(wanted)}.")
    if section.title and _over(section):
        found.append(f"{_over(section)}.")
    if panel_axes:
        names = listing([axis_name(axis).lower() for axis in panel_axes])
        found.append(f"Panels by {names}.")
    return found
