"""What an experiment file says of its report: ``[table]``, ``[[figure]]`` and ``[[paper-numbers]]``.

They may look like this, for a grid of attacks, defences, alphas and seeds::

    [table]
    rows = ["alpha", "defense"]      # axes down and across; seeds become mean and standard deviation,
    columns = ["attack"]             # an axis in neither gets rows of its own
    metric = "max-accuracy"          # the default; a list gives several tables
    worst-case = "attack"            # adds the worst over an axis; is all that is shown, if the axis is in neither
    average = "attack"               # the same with the mean
    compare-along = "rows"           # the best is bold along rows, columns (the default) or an axis,
    block-size = 3                   # here of every three rows
    without = ["baseline"]           # labels that neither compete nor count in worst cases and averages

    [[figure]]
    kind = "curves"                  # over the rounds, with a band over the seeds
    y = ["measure/xi", "measure/A"]  # the default is accuracy
    lines = "defense"
    panels = ["alpha"]
    where = { attack = ["ALIE"] }    # these cells alone

    [[figure]]
    kind = "bars"                    # or lines: over the labels of an axis
    x = "alpha"
    y = "max-accuracy"
    lines = "defense"
    worst-case = "attack"

    [[figure]]
    kind = "heatmap"
    x = "attack"
    y = "alpha"
    value = "final-accuracy"
    best = "defense"                 # the best label of this axis alone, named in each block

    [[paper-numbers]]                # in per cent where the metric is shown so; without the axis of a worst case or
    where = { alpha = 0.1, defense = "Krum", attack = "ALIE" }      # an average, it is the worst case or the average
    value = 43.2
    spread = 1.3

Axes that the small version removes, or that have one label, are left out without a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CURVES, LINES, BARS, HEATMAP = "curves", "lines", "bars", "heatmap"
COLUMNS, ROWS = "columns", "rows"


@dataclass(frozen=True)
class TableSection:
    """A table: axes down and across, and what is compared.

    Attributes
    ----------
    rows, columns : tuple of str
        Axes; the last one changes fastest.
    metric : str
        See `simulations.experiments.metrics.total`.
    worst_case, average : str or None
        Axis over which the worst and the mean are added; where it is among neither rows nor columns, the table
        shows nothing else.
    compare_along : tuple of str
        ``columns`` or ``rows`` (the last axis across or down), or axes: the best of the places that differ in
        nothing else is bold.
    block_size : int or None
        How many labels of the last axis down belong together: the best of each block is bold.
    without : tuple
        Labels that neither compete for the best nor count in the worst case and the average.
    title : str
        Above it; by default the metric.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    metric: str = "max-accuracy"
    worst_case: str | None = None
    average: str | None = None
    compare_along: tuple[str, ...] = (COLUMNS,)
    block_size: int | None = None
    without: tuple[Any, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class FigureSection:
    """A figure.

    Attributes
    ----------
    kind : str
        ``curves`` over the rounds, ``lines`` over an axis, ``bars`` or ``heatmap``.
    x : str
        ``round``, or an axis.
    y : tuple of str
        Metrics; for a heatmap the axis that goes down.
    value : str
        A heatmap's metric.
    lines : tuple of str
        Axes that the lines, or the bars that stand together, differ in.
    panels : tuple of str
        Axes with a panel for each combination.
    best : str or None
        A heatmap's axis of which each block shows the best alone.
    worst_case, average : str or None
        Axis over which the worst or the mean is shown.
    where : mapping
        Labels (or lists of them) by axis, to which the figure is limited.
    without : tuple
        Labels that neither compete for the best nor count in the worst case and the average.
    title : str
        Above it.
    """

    kind: str
    x: str = "round"
    y: tuple[str, ...] = ("accuracy",)
    value: str = "max-accuracy"
    lines: tuple[str, ...] = ()
    panels: tuple[str, ...] = ()
    best: str | None = None
    worst_case: str | None = None
    average: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    without: tuple[Any, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class PaperNumber:
    """A number that the paper prints, in per cent where the metric is shown so.

    Attributes
    ----------
    where : mapping
        Labels by axis; ``worst-case`` and ``average`` are labels as well, and what is meant where the axis is left
        out over which a table has one of them.
    value, spread : float
        Mean and standard deviation; the latter may be None.
    metric : str or None
        For tables of this metric alone.
    """

    where: Mapping[str, Any]
    value: float
    spread: float | None = None
    metric: str | None = None


@dataclass(frozen=True)
class ReportSections:
    """All of them."""

    tables: tuple[TableSection, ...]
    figures: tuple[FigureSection, ...]
    paper_numbers: tuple[PaperNumber, ...]


def read_report_sections(raw: Mapping[str, Any]) -> ReportSections:
    """Return the sections of an experiment file that has no mistakes (`section_checks.check_report_sections`)."""
    return ReportSections(
        tables=tuple(table for section in listed(raw.get("table")) for table in _tables(section)),
        figures=tuple(_figure(section) for section in listed(raw.get("figure"))),
        paper_numbers=tuple(PaperNumber(**section) for section in listed(raw.get("paper-numbers"))),
    )


def listed(value: Any) -> tuple[Any, ...]:
    """Return a list's items; something else as the only item; nothing for None."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _tables(section: Mapping[str, Any]) -> list[TableSection]:
    """One table for each metric."""
    given = {key.replace("-", "_"): value for key, value in section.items()}
    for key in ("rows", "columns", "compare_along", "without"):
        if key in given:
            given[key] = listed(given[key])
    metrics = listed(given.pop("metric", "max-accuracy"))
    return [TableSection(**{"rows": (), "columns": (), "metric": metric, **given}) for metric in metrics]


def _figure(section: Mapping[str, Any]) -> FigureSection:
    given = {key.replace("-", "_"): value for key, value in section.items()}
    if given["kind"] in (LINES, BARS):
        given.setdefault("y", "max-accuracy")
    for key in ("y", "lines", "panels", "without"):
        if key in given:
            given[key] = listed(given[key])
    return FigureSection(**given)
