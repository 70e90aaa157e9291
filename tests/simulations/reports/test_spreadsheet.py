"""`flwr-robust report --csv`: every number of a report comes back from the file."""

from __future__ import annotations

import csv
import tracemalloc

import numpy as np
import pytest
from typer.testing import CliRunner

from flwr_robust.record.fates import ReportError
from flwr_robust.record.report import CandidateReport, RoundReport
from simulations.cli import app
from simulations.reports.spreadsheet import export


def report(number, n=2, **changed):
    found = RoundReport(number, "Krum(f=1)", n, 1, **changed)
    found.add_accepted(list(range(1, n + 1)), norms=np.arange(n) + 0.5, weights=np.full(n, 1 / n))
    found.complete([(2**63, 'NaN, "inf"\nor so')], [], None)
    return found


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_nodes_and_candidates(tmp_path):
    path = tmp_path / "r.jsonl"
    candidate = CandidateReport("Median()", norm=2.0, cosine=0.5, left_out=[1, 2**63], seconds=0.1)
    report(1).append_to(path)
    report(2, candidates={"median": candidate}, step_norm=3.0).append_to(path)
    nodes, candidates = export(path, "x", tmp_path / "out")
    found = rows(nodes)
    assert [(row["round"], row["node"]) for row in found] == [
        (r, n) for r in ("1", "2") for n in ("1", "2", str(2**63))
    ]
    assert (found[1]["weight"], found[1]["norm"], found[1]["distance"]) == ("0.5", "1.5", "")
    assert (found[2]["status"], found[2]["reason"]) == ("quarantined", 'NaN, "inf"\nor so')
    (only,) = rows(candidates)
    assert (only["round"], only["candidate"], only["step_norm"], only["distance"]) == ("2", "median", "3.0", "")
    assert only["left_out"] == f"1 {2**63}"


def test_a_long_report_takes_the_memory_of_a_round(tmp_path):
    path = tmp_path / "r.jsonl"
    for number in range(200):
        report(number, n=100).append_to(path)
    assert path.stat().st_size > 2 * 10**6
    tracemalloc.start()
    export(path, "r", tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**6


def test_a_line_that_is_no_report(tmp_path):
    (tmp_path / "r.jsonl").write_text("{}\n")
    with pytest.raises(ReportError, match="line 1"):
        export(tmp_path / "r.jsonl", "r", tmp_path)


def test_the_command_writes_it_beside_the_picture(tmp_path):
    report(1).append_to(tmp_path / "r.jsonl")
    found = CliRunner().invoke(app, ["report", str(tmp_path / "r.jsonl"), "--csv"])
    assert found.exit_code == 0, found.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r-nodes.csv", "r-nodes.png", "r.jsonl"]
    assert len(rows(tmp_path / "r-nodes.csv")) == 3
