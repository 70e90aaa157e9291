"""A table in the paper's own shape: places, numbers, what is best, and what the paper has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import Label, Over, PaperNumber, TableSection
from simulations.reports.best import block_of, find_best
from simulations.reports.paper import PaperNumbers, Printed
from simulations.reports.summary import Place, Summary, fixed, summarise
from simulations.reports.sweeps import Sweep

NOTHING = "–"  # noqa: RUF001


@dataclass(frozen=True)
class Entry:
    """What a place of a table shows.

    Attributes
    ----------
    text : str
        Mean and spread; a dash where no cell finished, nothing where the experiment asks for none.
    best : bool
        Whether it is the best, or as good as the best.
    paper : str
        The paper's own number; may be empty.
    of : str
        For a worst case, the label that it is of.
    complete : bool
        Whether all cells finished that it needs.
    """

    text: str
    best: bool = False
    paper: str = ""
    of: str = ""
    complete: bool = True

    @property
    def has_number(self) -> bool:
        """Whether any cell finished."""
        return self.text not in ("", NOTHING)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes
    ----------
    section : TableSection
        What it was made of.
    metric : Metric
        What it shows.
    row_axes, column_axes : tuple of str
        Axes down and across.
    rows, columns : tuple of mapping
        Labels of each row and column by axis.
    entries : tuple of tuple of Entry
        Row by row.
    hidden : mapping
        Axes that are neither down nor across: their only label, or what is taken over them.
    block_starts : frozenset of int
        Rows that begin a block.
    """

    section: TableSection
    metric: Metric
    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    entries: tuple[tuple[Entry, ...], ...]
    hidden: Place
    block_starts: frozenset[int]

    @property
    def all_entries(self) -> Iterable[Entry]:
        """The entries, row by row."""
        return itertools.chain.from_iterable(self.entries)

    @property
    def title(self) -> str:
        """The section's, or the metric."""
        over = [label.heading for label in self.hidden.values() if isinstance(label, Over)]
        heading = self.metric.title
        return self.section.title or (f"{over[0]} of {heading[0].lower()}{heading[1:]}" if over else heading)


def make_table(sweep: Sweep, section: TableSection, metric: Metric, paper_numbers: Sequence[PaperNumber] = ()) -> Table:
    """Fill a table with a sweep's numbers.

    Axes that the section does not name get rows of their own; those of a single label are neither down nor across.
    """
    named = (*section.rows, *section.columns)
    hidden: dict[str, Label | Over] = {axis: labels[0] for axis, labels in sweep.axes.items() if len(labels) == 1}
    hidden |= {axis: kind for axis, kind in reversed(section.over) if axis in sweep.axes and axis not in named}
    unnamed = [axis for axis in sweep.axes if axis not in named]
    row_axes = tuple(axis for axis in (*unnamed, *section.rows) if axis in sweep.axes and axis not in hidden)
    column_axes = tuple(axis for axis in section.columns if axis in sweep.axes and axis not in hidden)
    rows, columns = _places(sweep, section, row_axes), _places(sweep, section, column_axes)
    places = [{**hidden, **row, **column} for row in rows for column in columns]
    numbers = [(place, summarise(sweep, place, metric, section.without)) for place in places]
    best = find_best(sweep, numbers, metric, section, row_axes)
    paper = PaperNumbers(sweep, paper_numbers, metric, section)
    entries = (
        _entry(number, paper.find(place), is_best, metric, asked=sweep.has(fixed(place)))
        for (place, number), is_best in zip(numbers, best, strict=True)
    )
    filled = tuple(tuple(itertools.islice(entries, len(columns))) for _ in rows)
    starts = _block_starts(rows, row_axes, block_of(sweep, section, row_axes))
    return Table(section, metric, row_axes, column_axes, rows, columns, filled, hidden, starts)


def _places(sweep: Sweep, section: TableSection, axes: tuple[str, ...]) -> tuple[Place, ...]:
    """All combinations of labels for which there are cells; worst case and average after the labels of their axis."""
    labels: dict[str, list[Label | Over]] = {axis: [*sweep.axes[axis]] for axis in axes}
    for axis, kind in section.over:
        if axis in labels:
            labels[axis].append(kind)
    product = (dict(zip(labels, combination, strict=True)) for combination in itertools.product(*labels.values()))
    return tuple(place for place in product if _exists(sweep, place))


def _exists(sweep: Sweep, place: Place) -> bool:
    return sweep.has(fixed(place))


def _block_starts(rows: tuple[Place, ...], axes: tuple[str, ...], blocks: dict[Label, int]) -> frozenset[int]:
    """Rows in another block than the row before."""
    numbers = [blocks.get(row[axes[-1]], -1) for row in rows] if blocks else []
    return frozenset(place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1])


def _entry(number: Summary | None, paper: Printed | None, best: bool, metric: Metric, *, asked: bool) -> Entry:
    printed = "" if paper is None else metric.written(*paper)
    if number is None:
        return Entry(NOTHING if asked else "", paper=printed, complete=False)
    return Entry(metric.written(number.mean, number.spread), best, printed, number.of, number.complete)
