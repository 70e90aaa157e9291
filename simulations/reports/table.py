"""A table in the paper's own shape: places, numbers, what is best, and what the paper has."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from simulations.experiments.metrics import Metric
from simulations.experiments.sections import COLUMNS, ROWS, Label, Over, PaperNumber, TableSection
from simulations.reports.paper import PaperNumbers, Printed
from simulations.reports.summary import Place, Summary, fixed, labels_over, over_axis, summarise
from simulations.reports.sweeps import Sweep
from simulations.reports.wording import axis_name, label_text, lower, with_axes
from simulations.wording import listing

NOTHING = "–"  # noqa: RUF001
INCOMPLETE = "*"


@dataclass(frozen=True)
class Entry:
    """What a place of a table shows."""

    text: str
    """Mean and spread; a dash where no cell finished, nothing where the experiment plans none."""
    best: bool = False
    """Whether it is the best, or as good as the best."""
    paper: str = ""
    """The paper's own number; may be empty."""
    of: str = ""
    """For a worst case, the label that it is of."""
    complete: bool = True
    """Whether all cells finished that it needs."""

    @property
    def has_number(self) -> bool:
        """Whether any cell finished."""
        return self.text not in ("", NOTHING)

    @property
    def mark(self) -> str:
        """What stands behind the number."""
        return INCOMPLETE if self.has_number and not self.complete else ""

    @property
    def below(self) -> dict[str, str]:
        """The small lines below the number, by kind."""
        lines = {"of": self.of, "paper": self.paper and f"paper {self.paper}"}
        return {kind: line for kind, line in lines.items() if line}


@dataclass(frozen=True)
class Table:
    """A table."""

    section: TableSection
    metric: Metric
    row_axes: tuple[str, ...]
    column_axes: tuple[str, ...]
    """Axes down and across."""
    rows: tuple[Place, ...]
    columns: tuple[Place, ...]
    """Labels of each row and column by axis."""
    entries: tuple[tuple[Entry, ...], ...]
    hidden: Place
    """Axes that are neither down nor across: their only label, or what is taken over them."""
    block_starts: frozenset[int]
    """Rows that begin a block."""

    @property
    def all_entries(self) -> Iterator[Entry]:
        """The entries, row by row."""
        return itertools.chain.from_iterable(self.entries)

    @property
    def title(self) -> str:
        """The section's, or the metric."""
        over = [label.heading for label in self.hidden.values() if isinstance(label, Over)]
        heading = self.metric.title
        return self.section.title or (f"{over[0]} of {lower(heading)}" if over else heading)


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
    numbers = [summarise(sweep, place, metric, section.without) for place in places]
    blocks = _blocks(sweep, section, row_axes)
    best = _best(sweep, section, metric, blocks, places, numbers)
    paper = PaperNumbers(sweep, paper_numbers, metric, section)
    entries = (
        _entry(number, paper.find(place), is_best, metric, planned=sweep.has(fixed(place)))
        for place, number, is_best in zip(places, numbers, best, strict=True)
    )
    filled = tuple(tuple(itertools.islice(entries, len(columns))) for _ in rows)
    starts = _block_starts(rows, row_axes, blocks)
    return Table(section, metric, row_axes, column_axes, rows, columns, filled, hidden, starts)


def _places(sweep: Sweep, section: TableSection, axes: tuple[str, ...]) -> tuple[Place, ...]:
    """All combinations of labels for which there are cells; worst case and average after the labels of their axis."""
    labels: dict[str, list[Label | Over]] = {axis: [*sweep.axes[axis]] for axis in axes}
    for axis, kind in section.over:
        if axis in labels:
            labels[axis].append(kind)
    product = (dict(zip(labels, combination, strict=True)) for combination in itertools.product(*labels.values()))
    return tuple(place for place in product if sweep.has(fixed(place)))


def _entry(number: Summary | None, paper: Printed | None, best: bool, metric: Metric, *, planned: bool) -> Entry:
    printed = "" if paper is None else metric.written(*paper)
    if number is None:
        return Entry(NOTHING if planned else "", paper=printed, complete=False)
    return Entry(metric.written(number.mean, number.spread), best, printed, number.of, number.complete)


# ---------------------------------------------------------------- what is best


def _compared_axes(section: TableSection) -> tuple[str, ...]:
    """Return the axes in which places differ that are compared."""
    last = {ROWS: section.rows[-1:], COLUMNS: section.columns[-1:]}
    return tuple(axis for word in section.compare_along for axis in last.get(word, (word,)))


def _blocks(sweep: Sweep, section: TableSection, down: tuple[str, ...]) -> dict[Label, int]:
    """Return the number of the block that each label of the last axis down is in; without blocks nothing."""
    if section.block_size is None or not down:
        return {}
    labels = [label for label in sweep.axes[down[-1]] if label not in section.without]
    return {label: number // section.block_size for number, label in enumerate(labels)}


def _block_starts(rows: tuple[Place, ...], axes: tuple[str, ...], blocks: dict[Label, int]) -> frozenset[int]:
    """Rows in another block than the row before."""
    numbers = [blocks.get(row[axes[-1]], -1) for row in rows] if blocks else []
    return frozenset(place for place in range(1, len(numbers)) if numbers[place] != numbers[place - 1])


def _best(
    sweep: Sweep,
    section: TableSection,
    metric: Metric,
    blocks: dict[Label, int],
    places: Sequence[Place],
    numbers: Sequence[Summary | None],
) -> list[bool]:
    """Return for each place whether it is the best of those that differ in what is compared; what looks alike ties.

    What the section says to leave out does not compete, nor does what nobody attacks with what is attacked. Worst
    cases and averages are compared only if each label that they are taken over has a finished cell.
    """
    along = _compared_axes(section)
    frame = pd.DataFrame(
        {
            "group": [_group(place, along, blocks) for place in places],
            "over": [over_axis(place) is not None for place in places],
            "left_out": [any(label in section.without for label in place.values()) for place in places],
            "attacked": [sweep.is_attacked(fixed(place)) for place in places],
            "whole": [number is not None and number.whole for number in numbers],
            "score": [None if number is None else metric.score(number.mean) for number in numbers],
        }
    ).astype({"score": float})
    frame = frame[~frame["left_out"]]
    frame = frame[frame["attacked"] | ~frame.groupby("group")["attacked"].transform("any")]
    groups = frame.groupby("group")
    compared = (groups["score"].transform("count") > 1) & (~frame["over"] | groups["whole"].transform("all"))
    best = frame.index[compared & (frame["score"] == groups["score"].transform("max")) & bool(metric.better)]
    return [number in best for number in range(len(places))]


def _group(place: Place, along: Sequence[str], blocks: dict[Label, int]) -> str:
    """Return what places that are compared have in common."""
    others = [(axis, str(label)) for axis, label in place.items() if axis not in along]
    over = [(axis, label) for axis, label in place.items() if isinstance(label, Over)]
    block = next((blocks[label] for label in fixed(place).values() if label in blocks), None)
    return repr((others, over, block))


# ---------------------------------------------------------------- what must be known to read it


def table_notes(sweep: Sweep, table: Table) -> list[str]:
    """Return what a reader must know to read a table, in sentences."""
    found = [_numbers_note(sweep, table)]
    if fixed(table.hidden):
        found.append(f"For {with_axes(fixed(table.hidden))}.")
    if any(entry.best for entry in table.all_entries):
        axes = listing([axis_name(axis).lower() for axis in _compared_axes(table.section)])
        found.append(f"Bold: the best {axes}{' of each block' if table.block_starts else ', all else equal'}.")
    found += _over_notes(sweep, table)
    if any(entry.paper for entry in table.all_entries):
        setting = " for its own, larger setting" if sweep.lite else ""
        found.append(f"Below ours, small: what the paper prints{setting}.")
    if any(entry.text == NOTHING for entry in table.all_entries):
        found.append(f"{NOTHING}: no finished cell has it.")
    if any(entry.mark for entry in table.all_entries):
        found.append(f"{INCOMPLETE} some of its cells are missing.")
    return found


def _numbers_note(sweep: Sweep, table: Table) -> str:
    unit = {"%": ", in per cent", "s": ", in seconds"}.get(table.metric.unit, "")
    if len(sweep.seeds) < 2:
        return f"{table.metric.title}{unit}; one seed."
    return f"{table.metric.title}{unit}: mean ± standard deviation (n - 1) over {len(sweep.seeds)} seeds."


def _over_notes(sweep: Sweep, table: Table) -> Iterator[str]:
    for axis, over in table.section.over:
        if axis not in sweep.axes:
            continue
        taken = labels_over(sweep, {}, axis, table.section.without)
        left_out = [label_text(label) for label in sweep.axes[axis] if label not in taken]
        name = f"the axis {axis_name(axis).lower()}{f' (without {listing(left_out)})' if left_out else ''}"
        if over is Over.WORST:
            spread = ", with its own spread" if len(sweep.seeds) > 1 else ""
            yield f"Worst case: the worst mean over {name}{spread}; its label is below it."
        else:
            yield f"Average: over {name}."
