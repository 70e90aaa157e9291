"""Every experiment file, full and lite: its sweep has a report, without a warning."""

import pytest

from simulations.experiments.experiment import FOLDER, experiment_names
from simulations.experiments.sections import HeatmapSection, ScatterSection
from simulations.reports.facts import make_facts
from simulations.reports.figures.data import make_chart
from simulations.reports.figures.heatmap import make_heatmap
from simulations.reports.figures.scatter import make_scatter
from simulations.reports.table import make_table, table_notes
from tests.simulations.reports.sweeps import made_sweep, plausible

WITH_NUMBERS = [name for name in experiment_names() if "paper-numbers" in (FOLDER / f"{name}.toml").read_text()]

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize("lite", [False, True], ids=["full", "lite"])
@pytest.mark.parametrize("name", experiment_names())
def test_every_experiment_has_a_report(tmp_path, name, lite):
    toml = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    sweep = made_sweep(tmp_path, toml, plausible, lite=lite)
    sections = sweep.full.sections
    assert make_facts(sweep).problems == []
    assert sections.table
    for section, metric in [(one, metric) for one in sections.table for metric in one.metric]:
        table = make_table(sweep, section, metric, sections.paper_numbers)
        assert any(entry.best for entry in table.all_entries) == (table.metric.better != 0)
        assert all(any(entry.has_number for entry in row) for row in table.entries)
        for column in zip(*table.entries, strict=True):
            assert any(entry.has_number for entry in column)
        assert table_notes(sweep, table)
    for section in sections.figure:
        if isinstance(section, HeatmapSection):
            assert all(panel.colours.notna().all(axis=None) for panel in make_heatmap(sweep, section).panels)
        elif isinstance(section, ScatterSection):
            assert all(panel.points for panel in make_scatter(sweep, section).panels)
        else:
            chart = make_chart(sweep, section)
            assert chart.panels
            assert not any(panel.numbers.empty for panel in chart.panels)


@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_the_papers_numbers_have_their_places_in_the_full_table(tmp_path, name):
    sweep = made_sweep(tmp_path, (FOLDER / f"{name}.toml").read_text(encoding="utf-8"), plausible)
    sections = sweep.full.sections
    tables = [
        make_table(sweep, section, metric, sections.paper_numbers)
        for section in sections.table
        for metric in section.metric
    ]
    shown = sum(bool(entry.paper) for table in tables for entry in table.all_entries)
    assert shown >= len(sections.paper_numbers)
