"""A report as Markdown, with its pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from urllib.parse import quote

from simulations.reports import table_text
from simulations.reports.facts import Facts
from simulations.reports.report import INDEX, Links, Report, by_paper
from simulations.reports.wording import plain


def markdown(report: Report) -> str:
    """Return the text of ``report.md``."""
    return "\n".join([*_header(report), *_results(report), *_facts(report.facts)]) + "\n"


def index_markdown(links: Links) -> str:
    """Return ``index.md``."""
    return "\n".join([f"# {INDEX}", *chain.from_iterable(_chapters(links))]) + "\n"


def _header(report: Report) -> Iterator[str]:
    yield f"# {plain(report.title)}"
    yield ""
    yield plain(" · ".join(filter(None, [report.paper, "lite" if report.lite else "full", report.source])))
    for heading, claim in report.claims:
        yield from ("", f"> {heading}: {plain(claim)}")
    yield ""
    yield from (f"- {name}: {plain(value)}" for name, value in report.facts.summary)
    for told in (*report.facts.problems, *report.left_out):
        yield f"- **{plain(told)}**"


def _results(report: Report) -> Iterator[str]:
    for table, notes in report.tables:
        yield from ("", f"## {plain(table.title)}", "", table_text.markdown(table), "", plain(" ".join(notes)))
    for picture in report.pictures:
        yield from ("", f"## {plain(picture.title)}", "", f"![{plain(picture.title)}]({picture.name}.png)", "")
        yield plain(picture.caption)


def _facts(facts: Facts) -> Iterator[str]:
    yield from ("", "## What was run")
    if facts.differences:
        yield from ("", "What differs from the paper:", "", *rows(("", "Paper", "Here"), _differences(facts)))
    if facts.axes:
        yield from ("", "Grid:", "", *(f"- {plain(axis)}: {plain(labels)}" for axis, labels in facts.axes))
    if facts.parameters:
        pairs = ", ".join(f"`{key} = {value}`" for key, value in facts.parameters)
        yield from ("", f"Parameters of all cells: {pairs}")
    if facts.versions:
        yield from ("", f"Versions: {plain(facts.versions)}")


def _differences(facts: Facts) -> list[tuple[str, ...]]:
    return [(f"`{change.key}`", plain(change.paper), plain(change.here)) for change in facts.differences]


def rows(heads: Sequence[str], body: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table of texts."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for line in body:
        yield f"| {' | '.join(line)} |"


def _chapters(links: Links) -> Iterator[Iterator[str]]:
    for paper, group in by_paper(links).items():
        body = [
            (f"[{plain(report.title)}]({quote(folder)}/report.md)", plain(report.source), plain(report.state))
            for folder, report in group
        ]
        yield chain(["", f"## {plain(paper or 'Others')}", ""], rows(("Experiment", "Source", "Cells"), body))
