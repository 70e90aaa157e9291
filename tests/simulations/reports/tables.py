"""Tables of made-up sweeps, as texts."""

import textwrap

from simulations.reports.table import make_table
from tests.simulations.reports.sweeps import made_sweep


def made_table(folder, toml, result, sections, **options):
    """Return the first table of a sweep."""
    sweep = made_sweep(folder, toml + textwrap.dedent(sections), result, **options)
    read = sweep.full.sections
    return make_table(sweep, read.table[0], read.table[0].metric[0], read.paper_numbers)


def texts(table):
    return [[entry.text for entry in row] for row in table.entries]


def bold(table):
    return [[entry.best for entry in row] for row in table.entries]


def papers(table):
    return [[entry.paper for entry in row] for row in table.entries]
