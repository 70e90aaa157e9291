"""The report of a sweep: all that its page and its Markdown tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulations.reports.facts import Facts, make_facts
from simulations.reports.figures.pictures import Picture, draw_figures
from simulations.reports.sweeps import Sweep
from simulations.reports.table import Table, make_table
from simulations.reports.table_text import table_notes


@dataclass(frozen=True)
class Report:
    """A report.

    Attributes
    ----------
    name : str
        The sweep's.
    title, source, paper, claim : str
        From the experiment file.
    aim : str
        What the small version is to show of the claim, where the file says it.
    lite : bool
        Whether it is of the small version.
    facts : Facts
        What was run.
    tables : list of (Table, list of str)
        Tables, and what is to be said below them.
    pictures : list of Picture
        Figures.
    left_out : list of str
        Figures that could not be drawn, a sentence each.
    """

    name: str
    title: str
    source: str
    paper: str
    claim: str
    aim: str
    lite: bool
    facts: Facts
    tables: list[tuple[Table, list[str]]]
    pictures: list[Picture]
    left_out: list[str]

    @property
    def claims(self) -> list[tuple[str, str]]:
        """What the paper shows and what the small version is to show of it, under headings."""
        given = (("What the paper shows", self.claim), ("What this small version should show", self.aim))
        return [(heading, claim) for heading, claim in given if claim]

    @property
    def state(self) -> str:
        """How far it is, in a line."""
        facts = dict(self.facts.summary)
        return f"{'lite' if self.lite else 'full'}; cells: {facts['Cells']}; seeds: {facts['Seeds']}"


INDEX = "Experiments"  # the title of the page over several reports
Links = Sequence[tuple[str, "Report"]]  # reports with the paths of their folders as an index has them


def make_report(sweep: Sweep) -> Report:
    """Compute and draw all that a report tells."""
    sections = sweep.full.sections
    tables = [
        make_table(sweep, section, metric, sections.paper_numbers)
        for section in (sections.table if sweep.cells else ())
        for metric in section.metric
    ]
    figures = list(draw_figures(sweep, sections.figure)) if sweep.cells else []
    return Report(
        name=sweep.name,
        title=sweep.full.title or sweep.name,
        source=sweep.full.source,
        paper=sweep.full.paper,
        claim=sweep.full.claim,
        aim=sweep.experiment.claim if sweep.experiment.claim != sweep.full.claim else "",
        lite=sweep.lite,
        facts=make_facts(sweep),
        tables=[(table, table_notes(sweep, table)) for table in tables],
        pictures=[figure for figure in figures if isinstance(figure, Picture)],
        left_out=[figure for figure in figures if isinstance(figure, str)],
    )


def by_paper(links: Links) -> Mapping[str, list[tuple[str, Report]]]:
    """Return reports by the paper that they are of."""
    found: dict[str, list[tuple[str, Report]]] = defaultdict(list)
    for folder, report in links:
        found[report.paper].append((folder, report))
    return found
