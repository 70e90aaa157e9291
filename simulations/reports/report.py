"""The report of a sweep: what its page and its Markdown show."""

from __future__ import annotations

from dataclasses import dataclass

from simulations.reports.facts import Facts, make_facts
from simulations.reports.figures.pictures import Picture, draw_figures
from simulations.reports.sweeps import Sweep
from simulations.reports.table import Table, make_table, table_notes


@dataclass(frozen=True)
class Report:
    """A report."""

    title: str
    source: str
    paper: str
    claim: str
    """From the experiment file."""
    aim: str
    """What the small version is to show of the claim, where the file says it."""
    lite: bool
    facts: Facts
    tables: list[tuple[Table, list[str]]]
    """Tables, and what is to be said below them."""
    pictures: list[Picture]
    left_out: list[str]
    """Figures that could not be drawn, a sentence each."""

    @property
    def version(self) -> str:
        """The word for it."""
        return "lite" if self.lite else "full"

    @property
    def claims(self) -> dict[str, str]:
        """What the paper shows and what the small version is to show of it, under headings."""
        given = {"What the paper shows": self.claim, "What this small version should show": self.aim}
        return {heading: claim for heading, claim in given.items() if claim}

    @property
    def problems(self) -> list[str]:
        """What a reader must know, a sentence each."""
        return self.facts.problems + self.left_out

    @property
    def state(self) -> str:
        """How far it is, in a line."""
        return f"{self.version}; cells: {self.facts.summary['Cells']}; seeds: {self.facts.summary['Seeds']}"


def make_report(sweep: Sweep) -> Report:
    """Compute and draw all that a report shows."""
    full, sections = sweep.full, sweep.full.sections
    wanted = [(section, metric) for section in sections.table for metric in section.metric] if sweep.cells else []
    tables = [make_table(sweep, section, metric, sections.paper_numbers) for section, metric in wanted]
    figures = list(draw_figures(sweep, sections.figure)) if sweep.cells else []
    return Report(
        title=full.title or sweep.name,
        source=full.source,
        paper=full.paper,
        claim=full.claim,
        aim=sweep.experiment.claim if sweep.experiment.claim != full.claim else "",
        lite=sweep.lite,
        facts=make_facts(sweep),
        tables=[(table, table_notes(sweep, table)) for table in tables],
        pictures=[figure for figure in figures if isinstance(figure, Picture)],
        left_out=[figure for figure in figures if isinstance(figure, str)],
    )
