"""`flwr-robust watch`: a report that grows is followed, in a terminal and without one."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from flwr_robust.record.fates import ReportError
from flwr_robust.record.report import CandidateReport, RoundReport
from simulations.cli import app
from simulations.reports.watch import Watched, follow, watch


def report(number, liar=7, **changed):
    found = RoundReport(number, "Krum(f=1)", 3, 1, threshold=1.5)
    found.add_accepted([5, 6, liar], norms=np.ones(3), weights=np.array([0.25, 0.75, 0.0]))
    found.complete([(9, "NaN [bold]x")], [], None)
    for name, value in changed.items():
        setattr(found, name, value)
    return found


def written(path, *numbers, **changed):
    for number in numbers:
        report(number, **changed).append_to(path)
    return path


def test_the_file_is_followed(tmp_path):
    path, steps = tmp_path / "report.jsonl", []

    def wait():
        steps.append(len(steps))
        if steps[-1] == 0:
            written(path, 1, 2)
        elif steps[-1] == 1:
            whole = written(tmp_path / "other.jsonl", 3).read_bytes()
            path.write_bytes(path.read_bytes() + whole[:50])
            steps.append(whole[50:])
        elif isinstance(steps[2], bytes) and len(steps) == 4:
            path.write_bytes(path.read_bytes() + steps[2])
        elif len(steps) == 5:
            path.unlink()
            written(path, 1)
        return len(steps) < 6

    found = [None if r is None else r.round for r in follow(path, wait)]
    assert found == [None, 1, 2, None, None, 3, None, 1, None]


def test_a_line_that_is_no_report(tmp_path):
    path = written(tmp_path / "r.jsonl", 1)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(ReportError, match=r"r.jsonl, line 2, is no report of a round"):
        list(follow(path, lambda: False))


def test_suspects_are_those_that_were_left_out_then_those_of_least_weight():
    watched = Watched()
    for number in (1, 2):
        watched.add(report(number))
    assert watched.suspects() == [7, 9, 5, 6]
    assert watched.suspicion.values[7] == pytest.approx(1 - 0.9**2)
    assert watched.quarantined[9] == 2
    watched.add(report(1, liar=8))  # another run
    assert 7 not in watched.suspects()


def test_plain_lines_without_a_terminal(tmp_path):
    candidates = {"median": CandidateReport("Median()", cosine=0.5), "krum": CandidateReport("Krum()", failed="why")}
    path = written(tmp_path / "r.jsonl", 1, 2)
    written(path, 3, candidates=candidates, skipped="too few")
    stream = io.StringIO()
    watch(path, Console(file=stream, width=40), once=True)
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "round 1: 3 used; 1 quarantined; threshold 1.5; weights 0.000 to 0.750; suspects 7 (0.10), 9 (0.10), 5 (0.00)"
    )
    assert "candidates median cos 0.5, krum failed" in lines[2]
    assert lines[2].endswith("skipped: too few")
    assert len(lines) == 3


def test_a_table_in_a_terminal(tmp_path):
    stream = io.StringIO()
    watch(
        written(tmp_path / "r.jsonl", *range(1, 31), skipped="few [red]replies"),
        Console(file=stream, force_terminal=True, width=120, color_system=None),
        once=True,
    )
    shown = stream.getvalue()
    assert "Krum(f=1)" in shown
    assert "few [red]replies" in shown
    assert "most suspicious of 4 nodes" in shown
    assert " 30 " in shown
    assert " 18 " not in shown.partition("most suspicious")[0].rpartition("Krum(f=1)")[2]


def test_the_command(tmp_path):
    found = CliRunner().invoke(app, ["watch", str(written(tmp_path / "r.jsonl", 1)), "--once"])
    assert found.exit_code == 0
    assert found.output.startswith("round 1: 3 used")
    (tmp_path / "bad.jsonl").write_text("nonsense\n")
    found = CliRunner().invoke(app, ["watch", str(tmp_path / "bad.jsonl"), "--once"])
    assert found.exit_code == 1
    assert "line 1, is no report" in found.output
