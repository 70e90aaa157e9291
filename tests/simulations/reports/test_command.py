"""The report of single runs: pictures beside the results, and a table of what became of the nodes."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from flwr_robust.record.report import NodeReport, RoundReport
from simulations.cli import app
from tests.record.runs import BIG, some_run
from tests.simulations.recorded import recorded


def shown(*arguments):
    return CliRunner().invoke(app, ["report", *map(str, arguments)], env={"COLUMNS": "240"})


def test_the_command_draws_beside_the_results_and_prints_the_rates(tmp_path):
    results = recorded(tmp_path)
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    result = shown(tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / f"{results.stem}-nodes.png").exists()
    (row,) = [line for line in result.output.splitlines() if "MultiKrum" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == [results.stem, "MultiKrum(f=2)", "4", "0", "0", "100.0 %", "0.0 %"]
    assert "Left out:" in result.output


def test_the_command_writes_where_it_is_told_and_overwrites_no_other_run(tmp_path):
    for folder in ("a", "b"):
        for report in some_run(1, rounds=2)[0]:
            report.append_to(tmp_path / folder / "mine.jsonl")
    result = shown(tmp_path / "a", tmp_path / "b" / "mine.jsonl", "--out", tmp_path / "pictures")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["mine-nodes-2.png", "mine-nodes.png"]
    assert list(tmp_path.rglob("a/*.png")) == []


def test_rules_without_weights_are_marked(tmp_path):
    nodes = {1: NodeReport("accepted", norm=1.0), 2: NodeReport("quarantined", "NaN")}
    RoundReport(1, "Median()", 1, 1, nodes).append_to(tmp_path / "median.jsonl")
    assert "by quarantine alone" in shown(tmp_path / "median.jsonl").output


def test_the_command_refuses_what_is_no_run(tmp_path):
    result = shown(tmp_path / "nowhere.jsonl")
    assert result.exit_code == 1
    assert "nowhere.jsonl cannot be read" in result.output
    assert json.loads(recorded(tmp_path).read_text().splitlines()[0])["partition_of"][str(BIG)] == 2
