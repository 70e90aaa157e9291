"""Reports as files: Markdown with pictures beside it, and one HTML page for phones, screens and paper."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markdown_it import MarkdownIt
from markupsafe import Markup

from flwr_robust.record.fates import ReportError
from simulations.reports.report import Report, make_report
from simulations.reports.summary import Place, over_axis
from simulations.reports.sweeps import read_sweep
from simulations.reports.table import Entry, Table
from simulations.reports.wording import axis_name, label_text, with_axes
from simulations.wording import count

PAGE = "report.html"
Links = Mapping[str, list[tuple[str, Report]]]  # by paper: reports with the paths of their folders


def plain(value: Any) -> Any:
    """Keep a value from meaning something in Markdown, where jinja escapes for HTML alone."""
    if isinstance(value, Markup):
        return value
    text = escape(str(value), quote=False).replace("\n", " ")
    return Markup(re.sub(r"([\\|*_\[\]`])", r"\\\1", text))  # noqa: S704, nothing means anything any more


def code(text: str) -> Any:
    """Return a text in code type, if nothing in it ends that."""
    return plain(text) if re.search(r"[`|\\\n]", text) else Markup(f"`{text}`")  # noqa: S704


def grouped(places: Sequence[Place], axes: Sequence[str]) -> Iterator[tuple[Place, list[tuple[int, Place]]]]:
    """Yield the labels of some axes with the places that have them, neighbours together, and their numbers."""
    for _, group in itertools.groupby(enumerate(places), lambda item: [item[1][axis] for axis in axes]):
        members = list(group)
        yield {axis: members[0][1][axis] for axis in axes}, members


HTML = Environment(
    loader=PackageLoader("simulations.reports"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
HTML.globals |= {"axis_name": axis_name, "with_axes": with_axes, "grouped": grouped, "over_axis": over_axis}
MARKDOWN = HTML.overlay(finalize=plain)
MARKDOWN.filters["code"] = code


def report_page(report: Report) -> str:
    """Return the page of a sweep."""
    facts = MARKDOWN.get_template("facts.md").render(facts=report.facts)
    shown = Markup(MarkdownIt("js-default").render(facts))  # noqa: S704, all that was put in is escaped
    return HTML.get_template("report.html").render(report=report, facts=shown)


def report_markdown(report: Report) -> str:
    """Return the text of ``report.md``."""
    return _tidy(MARKDOWN.get_template("report.md").render(report=report, facts=report.facts, rows=_markdown_rows))


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


@dataclass
class Written:
    """What came of it."""

    reports: dict[Path, Report] = field(default_factory=dict)
    """By the folder that each was written to."""
    index: Path | None = None
    """The page over all of them, if there are several."""
    errors: list[str] = field(default_factory=list)
    """A sentence for each sweep without a report."""


def write_reports(sweeps: list[Path], top: Path, out: Path | None = None) -> Written:
    """Write a report for each sweep, and an index over several.

    Parameters
    ----------
    sweeps : list of Path
        Their folders.
    top : Path
        A folder that they are in, for the index.
    out : Path, optional
        Where to write instead: a folder for each sweep, named like it, and the index.
    """
    written = Written()
    for sweep in sweeps:
        folder = sweep if out is None else out / _name(sweep, top)
        try:
            report = make_report(read_sweep(sweep))
        except ReportError as error:
            written.errors.append(str(error))
            continue
        write_report(report, folder)
        written.reports[folder] = report
    if len(written.reports) > 1:
        written.index = _write_index(written.reports, top if out is None else out)
    return written


def write_report(report: Report, folder: Path) -> None:
    """Write a report's Markdown, pictures and page into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures:
        (folder / f"{picture.name}.png").write_bytes(picture.png)
    (folder / "report.md").write_text(report_markdown(report), encoding="utf-8")
    (folder / PAGE).write_text(report_page(report), encoding="utf-8")


def _name(sweep: Path, top: Path) -> str:
    """Return the path from the folder to a sweep; its own name where they are the same."""
    return sweep.resolve().name if sweep.resolve() == top.resolve() else os.path.relpath(sweep, top)


def _write_index(reports: dict[Path, Report], folder: Path) -> Path:
    papers: dict[str, list[tuple[str, Report]]] = defaultdict(list)
    for path, report in reports.items():
        papers[report.paper].append((Path(os.path.relpath(path, folder)).as_posix(), report))
    (folder / "index.md").write_text(index_markdown(papers), encoding="utf-8")
    (folder / "index.html").write_text(index_page(papers), encoding="utf-8")
    return folder / "index.html"
