"""What became of the nodes of simulated runs: found by any path, with what the results say of the nodes."""

from __future__ import annotations

import pytest

from flwr_robust.record.fates import ReportError
from flwr_robust.record.report import NodeReport, RoundReport
from simulations.run.fates import find_runs, read_runs
from simulations.run.results import reports_path
from tests.simulations.recorded import recorded


@pytest.mark.parametrize("which", ["results", "reports", "folder", "reports' folder"])
def test_a_simulations_run_is_found_by_any_of_its_paths(tmp_path, which):
    results = recorded(tmp_path)
    paths = {"results": results, "reports": reports_path(results), "folder": tmp_path, "reports' folder": None}
    (run,), passed_over = find_runs([paths[which] or reports_path(results).parent])
    assert passed_over == []
    assert run.name == results.stem
    assert run.path == results
    assert [(node.partition, node.malicious) for node in run.nodes] == [(p, p >= 3) for p in range(5)]
    assert (run.rates.tpr, run.rates.fpr) == (1.0, 0.0)


def test_where_nobody_attacks_all_are_honest(tmp_path):
    (run,) = read_runs(recorded(tmp_path, attack="none"))
    assert not any(node.malicious for node in run.nodes)
    assert (run.rates.tpr, run.rates.fpr) == (None, 2 / 5)


def test_a_run_that_is_done_again_starts_its_reports_anew(tmp_path):
    recorded(tmp_path)
    (run,) = read_runs(recorded(tmp_path))
    assert run.rounds == (1, 2, 3, 4)


def test_paths_without_runs_are_refused_with_a_reason(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere.jsonl cannot be read"):
        find_runs([tmp_path / "nowhere.jsonl"])
    with pytest.raises(ReportError, match=r"holds no runs: give a folder"):
        find_runs([tmp_path])
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ReportError, match=r"holds no runs.*other.jsonl, line 1: this is no report"):
        find_runs([tmp_path])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ReportError, match="no complete round yet"):
        find_runs([tmp_path / "empty.jsonl"])
    results = recorded(tmp_path)
    runs, passed_over = find_runs([tmp_path])
    assert len(runs) == 1
    assert len(passed_over) == 2
    reports_path(results).unlink()
    with pytest.raises(ReportError, match="has no reports beside it"):
        find_runs([results])


def test_folders_are_searched_to_the_bottom(tmp_path):
    report = RoundReport(1, "Mean()", 1, 0, {7: NodeReport("accepted", weight=1.0)})
    for folder in ("one", "one/two", "three"):
        report.append_to(tmp_path / folder / "run.jsonl")
    runs, passed_over = find_runs([tmp_path])
    assert len(runs) == 3
    assert not passed_over
