"""A report as files: Markdown with pictures beside it, and one HTML page for phones, screens and paper."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from simulations.experiments.sections import Over
from simulations.reports.report import Report
from simulations.reports.summary import Place
from simulations.reports.table import Entry, Table
from simulations.reports.wording import axis_name, label_text, with_axes, with_axis
from simulations.wording import count

Links = Mapping[str, list[tuple[str, Report]]]  # by paper: reports with the paths of their folders

# Widths of a character and of the space between columns: on a screen in pixels, on paper in points.
SCREEN, PAPER = (8.0, 18.0), (4.4, 8.0)
SCREEN_WIDTH, UPRIGHT, ACROSS = 1010.0, 520.0, 770.0
LEAST = 0.75  # how small letters may get before a table goes across a sheet
SMALL = 0.8  # of the lines below a number


def plain(value: Any) -> Any:
    """Keep a value from meaning something in Markdown, where jinja escapes for HTML alone."""
    if isinstance(value, Markup):
        return value
    text = escape(str(value), quote=False).replace("\n", " ")
    return Markup(re.sub(r"([\\|*_\[\]`])", r"\\\1", text))  # noqa: S704, nothing means anything any more


def code(text: str) -> Any:
    """Return a text in code type, if nothing in it ends that."""
    return plain(text) if re.search(r"[`|\\\n]", text) else Markup(f"`{text}`")  # noqa: S704


HTML = Environment(
    loader=PackageLoader("simulations.reports"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
MARKDOWN = HTML.overlay(finalize=plain)
MARKDOWN.filters["code"] = code


def report_page(report: Report) -> str:
    """Return the page of a sweep."""
    facts = MARKDOWN.get_template("facts.md").render(facts=report.facts)
    shown = Markup(MarkdownIt("js-default").render(facts))  # noqa: S704, all that was put in is escaped
    return HTML.get_template("report.html").render(report=report, facts=shown, layout=layout)


def report_markdown(report: Report) -> str:
    """Return the text of ``report.md``."""
    names = {"axis_name": axis_name, "with_axes": with_axes, "rows": _markdown_rows}
    return _tidy(MARKDOWN.get_template("report.md").render(report=report, facts=report.facts, **names))


def index_page(papers: Links) -> str:
    """Return ``index.html``: a card for each report, by paper."""
    number = count(sum(map(len, papers.values())), "report")
    return HTML.get_template("index.html").render(papers=papers, number=number)


def index_markdown(papers: Links) -> str:
    """Return ``index.md``."""
    return _tidy(MARKDOWN.get_template("index.md").render(papers=papers))


def _tidy(text: str) -> str:
    """Leave one empty line where a template leaves several."""
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _markdown_rows(table: Table) -> Iterator[tuple[list[str], tuple[Entry, ...]]]:
    """Yield the labels and the entries of each row; labels that stand above as well are left out."""
    before: list[str] = []
    for place, entries in zip(table.rows, table.entries, strict=True):
        labels = [label_text(label) for label in place.values()] or [table.metric.title]
        same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(labels, before, strict=False))))
        yield [""] * min(same, len(labels) - 1) + labels[min(same, len(labels) - 1) :], entries
        before = labels


# ---------------------------------------------------------------- a table on a page


@dataclass(frozen=True)
class Head:
    """A heading above columns."""

    text: str
    span: int
    is_over: bool


@dataclass(frozen=True)
class Row:
    """A row: its label, its entries, each with whether its column is a worst case or an average, and its looks."""

    label: str
    entries: list[tuple[Entry, bool]]
    classes: list[str]


@dataclass(frozen=True)
class Block:
    """Rows below a heading, which names the labels of all axes that go down but the last."""

    heading: str
    rows: list[Row]


@dataclass(frozen=True)
class Layout:
    """A table as a page shows it: headings level by level, blocks of rows, and how it fits a screen and a sheet."""

    corner: str
    head: list[list[Head]]
    body: list[Block]
    classes: list[str]
    fit: float


def layout(table: Table) -> Layout:
    """Lay a table out: smaller letters where it is wide, and across a sheet of paper where that is not enough."""
    columns = [_characters(table, number) for number in range(len(table.columns))]
    labels = max((len(with_axes(_only(row, table.row_axes[-1:]))) for row in table.rows), default=0)
    screen, paper = (
        (sum(columns) + labels) * character + (len(columns) + 1) * space for character, space in (SCREEN, PAPER)
    )
    across = LEAST * paper > UPRIGHT
    only = Head(table.metric.title, 1, is_over=False)
    return Layout(
        corner=axis_name(table.row_axes[-1]) if table.row_axes else "",
        head=[_heads(table, level) for level in range(len(table.column_axes))] or [[only]],
        body=_body(table),
        classes=["scroll", *["compact"] * (screen > SCREEN_WIDTH), *["across"] * across],
        fit=min(1.0, (ACROSS if across else UPRIGHT) / paper),
    )


def _heads(table: Table, level: int) -> list[Head]:
    axes = table.column_axes[: level + 1]
    groups = itertools.groupby(table.columns, lambda place: _only(place, axes))
    last = level == len(table.column_axes) - 1
    found = []
    for place, group in groups:
        spans = [1 for _ in group] if last else [len(list(group))]
        found += [Head(with_axis(axes[-1], place[axes[-1]]), span, _has_over(place)) for span in spans]
    return found


def _body(table: Table) -> list[Block]:
    outer, last = table.row_axes[:-1], table.row_axes[-1:]
    rows = enumerate(zip(table.rows, table.entries, strict=True))
    over = [_has_over(column) for column in table.columns]
    blocks = []
    for heading, group in itertools.groupby(rows, lambda row: _only(row[1][0], outer)):
        made = [
            Row(
                label=with_axes(_only(place, last)) or table.metric.title,
                entries=list(zip(entries, over, strict=True)),
                classes=["over"] * _has_over(place) + ["start"] * (number in table.block_starts),
            )
            for number, (place, entries) in group
        ]
        blocks.append(Block(with_axes(heading), made))
    return blocks


def _only(place: Place, axes: Sequence[str]) -> Place:
    return {axis: place[axis] for axis in axes}


def _has_over(place: Place) -> bool:
    return any(isinstance(label, Over) for label in place.values())


def _characters(table: Table, number: int) -> float:
    """Return how many characters wide a column is."""
    entries = [row[number] for row in table.entries]
    below = [SMALL * len(line) for entry in entries for line in entry.below.values()]
    head = len(with_axes(_only(table.columns[number], table.column_axes[-1:])))
    return max(head, *(len(entry.text) for entry in entries), *below)
