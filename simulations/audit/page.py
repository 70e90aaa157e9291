"""The page of an audit: table, advice and curves in one file that loads nothing."""

from __future__ import annotations

import io
import re
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from simulations.audit.plan import NONE
from simulations.audit.summary import Summary, rows
from simulations.reports.figures.style import line_style, new_sheet, tidy

PAGES = Environment(
    loader=PackageLoader("simulations.audit"),
    autoescape=select_autoescape(["html"]),
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


def write_page(summary: Summary, advice: str, path: Path) -> None:
    """Write the page."""
    headings, *lines = rows(summary)
    page = PAGES.get_template("audit.html").render(
        summary=summary,
        headings=headings,
        lines=lines,
        advice=advice,
        notes=list(summary.notes()),
        curves=[(attack, Markup(draw(summary, attack))) for attack in (NONE, *summary.plan.attacks)],  # noqa: S704
    )
    path.write_text(page, encoding="utf-8")


def draw(summary: Summary, attack: str) -> str:
    """Return the metric by round under one attack, a line a defence, as SVG."""
    figure = new_sheet(5.4, 3.0)
    axes = figure.add_subplot()
    tidy(axes)
    for number, defense in enumerate(summary.plan.defenses):
        line = summary.by_pair.get((attack, defense))
        curve = [] if line is None else line["curves"].get(summary.metric, [])
        points = [(place, value) for place, value in curve if value is not None]
        axes.plot([place for place, _ in points], [value for _, value in points], label=defense, **line_style([number]))
    axes.set(xlabel="Round", ylabel=summary.metric)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return re.sub(r"^.*?(?=<svg)", "", text, flags=re.S)
