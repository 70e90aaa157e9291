"""Write the reports of all sweeps at or below a folder."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from flwr_robust.record.fates import ReportError
from simulations.reports.pages import index_markdown, index_page, report_markdown, report_page
from simulations.reports.report import Report, make_report
from simulations.reports.sweeps import read_sweep

MARKDOWN, PAGE = "report.md", "report.html"
INDEX_MARKDOWN, INDEX_PAGE = "index.md", "index.html"


@dataclass
class Written:
    """What came of it.

    Attributes
    ----------
    reports : dict of Path to Report
        By the folder that each was written to.
    index : Path or None
        The page over all of them, if there are several.
    errors : list of str
        A sentence for each sweep without a report.
    """

    reports: dict[Path, Report] = field(default_factory=dict)
    index: Path | None = None
    errors: list[str] = field(default_factory=list)


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
    (folder / MARKDOWN).write_text(report_markdown(report), encoding="utf-8")
    (folder / PAGE).write_text(report_page(report), encoding="utf-8")


def _name(sweep: Path, top: Path) -> str:
    """Return the path from the folder to a sweep; its own name where they are the same."""
    return sweep.resolve().name if sweep.resolve() == top.resolve() else os.path.relpath(sweep, top)


def _write_index(reports: dict[Path, Report], folder: Path) -> Path:
    papers: dict[str, list[tuple[str, Report]]] = defaultdict(list)
    for path, report in reports.items():
        papers[report.paper].append((Path(os.path.relpath(path, folder)).as_posix(), report))
    (folder / INDEX_MARKDOWN).write_text(index_markdown(papers), encoding="utf-8")
    (folder / INDEX_PAGE).write_text(index_page(papers), encoding="utf-8")
    return folder / INDEX_PAGE
