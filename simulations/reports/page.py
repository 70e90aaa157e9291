"""One HTML page a report: nothing to load, no script; for phones, screens and paper, light and dark."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from simulations.reports import table_text
from simulations.reports.facts import Facts
from simulations.reports.figures.layout import DPI
from simulations.reports.figures.pictures import Picture
from simulations.reports.report import INDEX, Links, Report, by_paper
from simulations.reports.wording import count

PHONE = "screen and (max-width: 600px)"
PIXELS = 96  # of a page, an inch


def page(report: Report) -> str:
    """Return the page of a sweep."""
    content = [
        *_header(report),
        *_tables(report),
        *(_figure(picture) for picture in report.pictures),
        *_facts(report.facts),
    ]
    return document(report.title, content, "Made by flwr-robust report from cells.jsonl and experiment.toml.")


def index_page(links: Links) -> str:
    """Return ``index.html``: a card for each report, by paper.

    Parameters
    ----------
    links : sequence of (str, Report)
        Each report with the path of its folder as seen from the page.
    """
    content = [f"<h1>{INDEX}</h1>", f'<p class="source">{count(len(links), "report")}</p>']
    for paper, group in by_paper(links).items():
        cards = (_card(folder, report) for folder, report in group)
        content += [f"<h2>{escape(paper or 'Others')}</h2>", '<ul class="cards">', *cards, "</ul>"]
    return document(INDEX, content, "Made by flwr-robust report.")


def document(title: str, content: Iterable[str], footer: str) -> str:
    """Return a page around its content."""
    folder = files("simulations.reports")
    template = Template((folder / "page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        style=(folder / "page.css").read_text(encoding="utf-8"),
        content="\n".join(content),
        footer=escape(footer),
    )


def heading(paper: str, lite: bool, title: str, source: str) -> Iterator[str]:
    """Yield the lines above a report: tags, title, source."""
    tags = [paper, "lite" if lite else "full"]
    yield "".join(f'<span class="tag">{escape(tag)}</span>' for tag in tags if tag)
    yield f"<h1>{escape(title)}</h1>"
    if source:
        yield f'<p class="source">{escape(source)}</p>'


def _header(report: Report) -> Iterator[str]:
    yield "<header>"
    yield from heading(report.paper, report.lite, report.title, report.source)
    for name, claim in report.claims:
        yield f'<div class="claim"><b>{escape(name)}</b>{escape(claim)}</div>'
    yield _definitions(report.facts.summary)
    if report.facts.problems or report.left_out:
        items = "".join(f"<li>{escape(told)}</li>" for told in (*report.facts.problems, *report.left_out))
        yield f'<ul class="problems">{items}</ul>'
    yield "</header>"


def _tables(report: Report) -> Iterator[str]:
    for table, notes in report.tables:
        yield f'<section class="section"><h2>{escape(table.title)}</h2>'
        yield table_text.html(table)
        yield f'<p class="note">{escape(" ".join(notes))}</p></section>'


def _figure(picture: Picture) -> str:
    return (
        f'<section class="section"><h2>{escape(picture.title)}</h2>\n<figure><div class="sheet"><picture>'
        f'<source media="{PHONE}" srcset="{_data(picture.narrow)}" {_size(picture.narrow)}>'
        f'<img src="{_data(picture.wide)}" {_size(picture.wide)} alt="{escape(picture.title)}">'
        f"</picture></div><figcaption>{escape(picture.caption)}</figcaption></figure></section>"
    )


def _facts(facts: Facts) -> Iterator[str]:
    yield "<section><h2>What was run</h2>"
    if facts.differences:
        yield "<h3>What differs from the paper</h3>"
        rows = [(change.key, change.paper, change.here) for change in facts.differences]
        yield _text_table(("", "Paper", "Here"), rows)
    if facts.axes:
        yield "<h3>Grid</h3>"
        yield _definitions(facts.axes)
    yield "<h3>Parameters of all cells</h3>"
    items = "".join(f"<li><code>{escape(key)} = {escape(value)}</code></li>" for key, value in facts.parameters)
    yield f'<ul class="parameters">{items}</ul>'
    if facts.versions:
        yield f'<p class="note">{escape(facts.versions)}</p>'
    yield "</section>"


def _definitions(pairs: Sequence[tuple[str, str]]) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f'<dl class="facts">{items}</dl>'


def _text_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row"><code>{escape(first)}</code></th>'
        + "".join(f"<td>{escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll texts" tabindex="0">{table}</div>'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{b64encode(png).decode()}"


def _size(png: bytes) -> str:
    """Width and height in pixels of a page, so that nothing jumps while it loads."""
    width, height = (round(int.from_bytes(png[start : start + 4], "big") * PIXELS / DPI) for start in (16, 20))
    return f'width="{width}" height="{height}"'


def _card(folder: str, report: Report) -> str:
    claim = f"<p>{escape(report.claim)}</p>" if report.claim else ""
    return (
        f'<li><a href="{escape(quote(folder))}/report.html"><b>{escape(report.title)}</b></a>'
        f'<p class="source">{escape(report.source)}</p>{claim}<p class="note">{escape(report.state)}</p></li>'
    )
