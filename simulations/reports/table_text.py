"""A table as Markdown and as HTML, and what must be known to read it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from html import escape

from simulations.experiments.sections import Label, Over
from simulations.reports.best import compared_axes
from simulations.reports.summary import Place, fixed, labels_over
from simulations.reports.sweeps import Sweep
from simulations.reports.table import NOTHING, Entry, Table
from simulations.reports.wording import axis_name, label_text, listing, plain, told, told_all

INCOMPLETE = "*"

# Widths of a character and of the space between columns: on a screen in pixels, on paper in points.
SCREEN, PAPER = (8.0, 18.0), (4.4, 8.0)
SCREEN_WIDTH, UPRIGHT, ACROSS = 1010.0, 520.0, 770.0
LEAST = 0.75  # how small letters may get before a table goes across a sheet
SMALL = 0.8  # of the lines below a number


def markdown(table: Table) -> str:
    """Return a table for Markdown, with a column for each axis that goes down."""
    heads = [axis_name(axis) for axis in table.row_axes] or [""]
    lines = [[*heads, *(plain(told_all(column)) or table.metric.title for column in table.columns)]]
    lines.append(["---"] * len(heads) + ["---:"] * len(table.columns))
    before: list[str] = []
    for place, entries in zip(table.rows, table.entries, strict=True):
        labels = [label_text(label) for label in place.values()] or [table.metric.title]
        same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(labels, before, strict=False))))
        shown = [""] * min(same, len(labels) - 1) + labels[min(same, len(labels) - 1) :]
        lines.append([*map(plain, shown), *map(_markdown_entry, entries)])
        before = labels
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown_entry(entry: Entry) -> str:
    text = f"**{entry.text}**" if entry.best else entry.text
    below = [entry.of and plain(entry.of), entry.paper and f"paper {entry.paper}"]
    return text + _mark(entry) + "".join(f"<br><sub>{line}</sub>" for line in below if line)


def html(table: Table) -> str:
    """Return a table for a page, in a box of its own; all axes that go down but the last are headings of blocks."""
    return "\n".join([_box(table), "<thead>", *_head(table), "</thead>", *_body(table), "</table></div>"])


def _box(table: Table) -> str:
    """Return the beginning: smaller letters where it is wide, and across a sheet of paper where that is not enough."""
    columns = [_characters(table, number) for number in range(len(table.columns))]
    labels = max((len(told_all({axis: row[axis] for axis in table.row_axes[-1:]})) for row in table.rows), default=0)
    screen, paper = (
        (sum(columns) + labels) * character + (len(columns) + 1) * space for character, space in (SCREEN, PAPER)
    )
    across = LEAST * paper > UPRIGHT
    classes = ["scroll", *(["compact"] if screen > SCREEN_WIDTH else []), *(["across"] if across else [])]
    fit = min(1.0, (ACROSS if across else UPRIGHT) / paper)
    return f'<div class="{" ".join(classes)}" style="--fit: {fit:.2f}" tabindex="0"><table>'


def _characters(table: Table, number: int) -> float:
    """Return how many characters wide a column is."""
    entries = [row[number] for row in table.entries]
    below = max(SMALL * max(len(entry.of), len("paper ") + len(entry.paper) if entry.paper else 0) for entry in entries)
    last = {axis: table.columns[number][axis] for axis in table.column_axes[-1:]}
    return max(below, max(len(entry.text) for entry in entries), len(told_all(last)))


def _head(table: Table) -> Iterator[str]:
    """One line for each axis that goes across."""
    corner = escape(axis_name(table.row_axes[-1])) if table.row_axes else ""
    depth = max(1, len(table.column_axes))
    for level in range(depth):
        first = f'<th scope="col" rowspan="{depth}">{corner}</th>' if level == 0 else ""
        yield "<tr>" + first + "".join(_column_heads(table, level)) + "</tr>"


def _column_heads(table: Table, level: int) -> Iterator[str]:
    if not table.column_axes:
        yield f'<th scope="col">{escape(table.metric.title)}</th>'
        return
    axes = table.column_axes
    outermost = level < len(axes) - 1
    for labels, group in itertools.groupby(table.columns, lambda place: _labels(place, axes[: level + 1])):
        span = f' colspan="{len(list(group))}"' if outermost else ""
        kind = ' class="over"' if any(isinstance(label, Over) for label in labels) else ""
        scope = "colgroup" if outermost else "col"
        yield f'<th scope="{scope}"{span}{kind}>{escape(told(axes[level], labels[-1]))}</th>'


def _body(table: Table) -> Iterator[str]:
    outer, last = table.row_axes[:-1], table.row_axes[-1:]
    lines = enumerate(zip(table.rows, table.entries, strict=True))
    for labels, group in itertools.groupby(lines, lambda line: _labels(line[1][0], outer)):
        yield "<tbody>"
        if labels:
            heading = escape(told_all(dict(zip(outer, labels, strict=True))))
            yield f'<tr class="block"><th colspan="{len(table.columns) + 1}"><span>{heading}</span></th></tr>'
        for number, (place, entries) in group:
            label = told(last[0], place[last[0]]) if last else table.metric.title
            classes = ["over"] if any(isinstance(label, Over) for label in place.values()) else []
            classes += ["start"] if number in table.block_starts else []
            kind = f' class="{" ".join(classes)}"' if classes else ""
            cells = "".join(map(_html_entry, entries, table.columns))
            yield f'<tr{kind}><th scope="row">{escape(label)}</th>{cells}</tr>'
        yield "</tbody>"


def _html_entry(entry: Entry, column: Place) -> str:
    classes = ["best"] if entry.best else []
    classes += ["over"] if any(isinstance(label, Over) for label in column.values()) else []
    text = escape(entry.text) + _mark(entry)
    below = [("of", entry.of), ("paper", entry.paper and f"paper {entry.paper}")]
    small = "".join(f'<small class="{name}">{escape(line)}</small>' for name, line in below if line)
    kind = f' class="{" ".join(classes)}"' if classes else ""
    return f"<td{kind}>{f'<b>{text}</b>' if entry.best else text}{small}</td>"


def _mark(entry: Entry) -> str:
    return "" if entry.complete or not entry.has_number else INCOMPLETE


def _labels(place: Place, axes: Sequence[str]) -> tuple[Label | Over, ...]:
    return tuple(place[axis] for axis in axes)


def table_notes(sweep: Sweep, table: Table) -> list[str]:
    """Return what a reader must know to read a table, in sentences."""
    found = [_numbers(sweep, table)]
    if fixed(table.hidden):
        found.append(f"For {told_all(fixed(table.hidden))}.")
    if any(entry.best for entry in table.all_entries):
        found.append(f"Bold: the best {_along(table)}.")
    found += _over(sweep, table)
    if any(entry.paper for entry in table.all_entries):
        setting = " for its own, larger setting" if sweep.lite else ""
        found.append(f"Below ours, small: what the paper prints{setting}.")
    if any(entry.text == NOTHING for entry in table.all_entries):
        found.append(f"{NOTHING}: no finished cell has it.")
    if any(not entry.complete and entry.has_number for entry in table.all_entries):
        found.append(f"{INCOMPLETE} some of its cells are missing.")
    return found


def _numbers(sweep: Sweep, table: Table) -> str:
    unit = {"%": "in per cent", "s": "in seconds"}.get(table.metric.unit, "")
    if len(sweep.seeds) < 2:
        return f"{table.metric.title}{', ' + unit if unit else ''}; one seed."
    over = f"over {len(sweep.seeds)} seeds"
    return f"{table.metric.title}{', ' + unit if unit else ''}: mean ± standard deviation (n - 1) {over}."


def _along(table: Table) -> str:
    within = " of each block" if table.block_starts else ", all else equal"
    return listing([axis_name(axis).lower() for axis in compared_axes(table.section)]) + within


def _over(sweep: Sweep, table: Table) -> list[str]:
    found = []
    for axis, over in ((table.section.worst_case, Over.WORST), (table.section.average, Over.MEAN)):
        if axis is None or axis not in sweep.axes:
            continue
        name = axis_name(axis).lower()
        taken = labels_over(sweep, {}, axis, table.section.without)
        left_out = [label for label in sweep.axes[axis] if label not in taken]
        but = f" (without {listing([label_text(label) for label in left_out])})" if left_out else ""
        if over is Over.WORST:
            spread = ", with its own spread" if len(sweep.seeds) > 1 else ""
            found.append(f"Worst case: the worst mean over the axis {name}{but}{spread}; its label is below it.")
        else:
            found.append(f"Average: over the axis {name}{but}.")
    return found
