"""Figures of made-up sweeps, as matplotlib's objects."""

import textwrap

from simulations.reports.figures.charts import draw_chart
from simulations.reports.figures.data import make_chart
from simulations.reports.figures.heatmap import draw_heatmap, make_heatmap
from tests.simulations.reports.sweeps import made_sweep


def figure_of(folder, toml, result, section, **options):
    """Return a sweep and its only figure's section."""
    sweep = made_sweep(folder, toml + "[[figure]]\n" + textwrap.dedent(section), result, **options)
    return sweep, sweep.full.sections.figure[0]


def chart_of(folder, toml, result, section, **options):
    """Return the sheet of curves, lines or bars."""
    chart = make_chart(*figure_of(folder, toml, result, section, **options))
    return draw_chart(chart, chart.panels)


def heatmap_of(folder, toml, result, section, **options):
    """Return a heatmap and its sheet."""
    shown = make_heatmap(*figure_of(folder, toml, result, section, **options))
    return shown, draw_heatmap(shown, shown.panels)


def panels(figure):
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]
