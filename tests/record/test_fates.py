"""What became of each node: read back, arranged, counted, drawn, and shown by the console command."""

from __future__ import annotations

from pathlib import Path

import pytest

from flwr_robust.record.fates import Fate, Node, ReportError, fate_of, make_fates, read_runs
from flwr_robust.record.report import NodeReport, RoundReport, read_reports
from tests.record.runs import BIG, FATES, some_run

SHARES = {Fate.QUARANTINED: 1.0, Fate.ZERO_WEIGHT: 1.0, Fate.PARTLY_USED: 0.25, Fate.CLIPPED: 0.0, Fate.USED: 0.0}


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.name)
def test_each_fate_is_told_from_a_nodes_report(fate):
    assert fate_of(FATES[fate]) is fate
    assert FATES[fate].left_out == SHARES[fate]
    skipped = Fate.QUARANTINED if fate is Fate.QUARANTINED else Fate.SKIPPED
    assert fate_of(FATES[fate], skipped=True) is skipped


def test_weights_that_are_not_told_drop_nobody():
    assert fate_of(NodeReport("accepted")) is Fate.USED
    assert fate_of(NodeReport("accepted", used=0.0)) is Fate.ZERO_WEIGHT
    assert fate_of(NodeReport("accepted", used=1.0)) is Fate.USED


def test_a_report_comes_back_from_its_json_line(tmp_path):
    report = RoundReport(3, "Krum(f=1)", 2, 1, {BIG: FATES[Fate.USED], 7: FATES[Fate.QUARANTINED]}, [(7, "again")])
    report.skipped, report.excluded, report.threshold, report.drawn = "why", [5], 1.5, ["x"]
    report.append_to(tmp_path / "r.jsonl")
    with (tmp_path / "r.jsonl").open("a") as file:
        file.write('{"round": 4, "cha')  # a run that is still writing
    assert list(read_reports(tmp_path / "r.jsonl")) == [report]


@pytest.mark.parametrize("line", ["[]", "{}", '{"nodes": {"x": {}}}', '{"nodes": {}, "colour": 1}', "nonsense"])
def test_lines_that_are_no_reports_are_named(tmp_path, line):
    path = tmp_path / "r.jsonl"
    RoundReport(1, "Mean()", 0, 0).append_to(path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"r.jsonl, line 2: "):
        list(read_reports(path))


def slow_rate(reports, nodes):
    """Count updates one by one: those that were left out, over those that were decided on."""
    out, decided = 0.0, 0
    for report in reports:
        for node in nodes:
            if node in report.excluded:
                out, decided = out + 1, decided + 1
            elif node in report.nodes:
                told = report.nodes[node]
                if told.status == "quarantined":
                    out, decided = out + 1, decided + 1
                elif report.skipped is None:
                    decided += 1
                    out += (1 - told.used) if told.used is not None else (told.weight == 0)
    return out / decided if decided else None


@pytest.mark.parametrize("seed", range(20))
def test_rates_are_those_of_counting_updates(seed):
    reports, known = some_run(seed)
    run = make_fates(reports, Path("x.jsonl"), "x", known)
    bad = [node for node in known if known[node].malicious]
    good = [node for node in known if not known[node].malicious]
    assert (run.rates.tpr, run.rates.fpr) == pytest.approx((slow_rate(reports, bad), slow_rate(reports, good)))
    for report in reports:
        rates = run.rates_in(report.round)
        assert rates.tpr == pytest.approx(slow_rate([report], bad))
        assert rates.fpr == pytest.approx(slow_rate([report], good))


def test_rates_of_a_run_that_can_be_counted_by_hand():
    ids = [10, 11, 12, 13]
    known = {node: Node(node, place, place >= 2) for place, node in enumerate(ids)}
    used, zero, bad = FATES[Fate.USED], FATES[Fate.ZERO_WEIGHT], FATES[Fate.QUARANTINED]
    reports = [
        RoundReport(1, "Krum(f=2)", 4, 2, {10: used, 11: used, 12: zero, 13: bad}),
        RoundReport(2, "Krum(f=2)", 3, 2, {10: zero, 11: used, 12: used}, excluded=[13]),
        RoundReport(3, "Krum(f=2)", 1, 2, {10: NodeReport("accepted"), 12: bad}, skipped="too few"),
    ]
    run = make_fates(reports, Path("x.jsonl"), "x", known)
    assert (run.rates.tpr, run.rates.fpr) == (4 / 5, 1 / 4)
    assert (run.rates_in(2).tpr, run.rates_in(2).fpr) == (1 / 2, 1 / 2)
    assert (run.rates_in(3).tpr, run.rates_in(3).fpr) == (1.0, None)
    assert run.skipped == (3,)
    assert [node.node_id for node in run.quarantined] == [12, 13]
    assert run.fates.tolist() == [
        [Fate.USED, Fate.ZERO_WEIGHT, Fate.SKIPPED],
        [Fate.USED, Fate.USED, Fate.NOT_SELECTED],
        [Fate.ZERO_WEIGHT, Fate.USED, Fate.QUARANTINED],
        [Fate.QUARANTINED, Fate.EXCLUDED, Fate.NOT_SELECTED],
    ]


def test_malicious_nodes_are_grouped_below_and_unknown_ones_come_last():
    known = {50: Node(50, 1, False), 20: Node(20, 2, True), 90: Node(90, 0, False)}
    reports = [RoundReport(1, "Mean()", 2, 0, {3: FATES[Fate.QUARANTINED], 20: FATES[Fate.USED]})]
    run = make_fates(reports, Path("x.jsonl"), "x", known)
    assert [node.node_id for node in run.nodes] == [90, 50, 20, 3]
    # An intruder that nothing is known of counts neither as malicious nor as honest.
    assert (run.rates.tpr, run.rates.fpr) == (0.0, None)
    assert [node.label for node in run.nodes] == ["0", "1", "2", "3"]
    assert Node(BIG).label == "9223372…"


def test_nodes_go_by_their_partitions_and_those_without_one_come_first():
    known = {1: Node(1, 0, False), 2: Node(2, 3, False), 9: Node(9, None, False)}
    run = make_fates([RoundReport(1, "Mean()", 0, 0, {3: FATES[Fate.USED]})], Path("x.jsonl"), "x", known)
    assert [node.node_id for node in run.nodes] == [9, 1, 2, 3]


def test_runs_that_one_report_path_was_given_to_are_told_apart(tmp_path):
    path = tmp_path / "mine.jsonl"
    for rounds in (3, 2):
        for report in some_run(rounds, rounds=rounds)[0]:
            report.append_to(path)
    runs = read_runs(path)
    assert [(run.name, run.rounds) for run in runs] == [("mine", (1, 2, 3)), ("mine-2", (1, 2))]
    assert all(run.rates.tpr is None and run.rates.fpr is None for run in runs)


def test_rules_without_weights_are_known(tmp_path):
    path = tmp_path / "median.jsonl"
    nodes = {1: NodeReport("accepted", norm=1.0), 2: NodeReport("quarantined", "NaN")}
    RoundReport(1, "Median()", 1, 1, nodes).append_to(path)
    (run,) = read_runs(path, {1: Node(1, 0, False), 2: Node(2, 1, True)})
    assert not run.has_weights
    assert (run.rates.tpr, run.rates.fpr) == (1.0, 0.0)


def test_files_without_runs_are_refused_with_a_reason(tmp_path):
    with pytest.raises(ReportError, match=r"nowhere.jsonl cannot be read"):
        read_runs(tmp_path / "nowhere.jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(ReportError, match=r"other.jsonl, line 1: this is no report"):
        read_runs(tmp_path / "other.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(ReportError, match="no complete round yet"):
        read_runs(tmp_path / "empty.jsonl")
