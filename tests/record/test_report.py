"""What a round's report says of each node, and the record that keeps the reports."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest

from flwr_robust.record.report import NodeReport, Record, RoundReport, read_reports
from flwr_robust.record.suspicion import Suspicion

BIG = 2**63 + 11  # Flower's node ids take 64 bits


def some_report(**changed):
    """A report of five nodes, of which one replied twice, one could not be used, and one did not reply."""
    report = RoundReport(3, "Krum(f=1)", 3, 1)
    norms = np.array([1.0, 2.0, 4.0])
    report.add_accepted([1, 2, BIG], norms=norms, weights=np.array([0.0, 0.25, 0.75]), clip_factors=norms / 4)
    report.complete([(7, "NaN"), (2, "a second reply")], excluded=[9], asked=[1, 2, BIG, 7, 8])
    for name, value in changed.items():
        setattr(report, name, value)
    return report


def test_each_node_is_accepted_or_quarantined():
    report = some_report()
    assert report.nodes == {
        1: NodeReport("accepted", weight=0.0, norm=1.0, clip_factor=0.25),
        2: NodeReport("accepted", weight=0.25, norm=2.0, clip_factor=0.5),
        BIG: NodeReport("accepted", weight=0.75, norm=4.0, clip_factor=1.0),
        7: NodeReport("quarantined", "NaN"),
    }
    assert report.extra == [(2, "a second reply")]
    assert report.quarantined == [(7, "NaN"), (2, "a second reply")]
    assert (report.excluded, report.unanswered) == ([9], [8])


def test_a_node_that_was_heard_did_reply():
    report = RoundReport(1, "Mean()", 0, 0)
    report.complete([], [], asked=[1, 2, 3], heard={1, 3})
    assert report.unanswered == [2]


def test_numbers_of_other_rows_than_nodes_are_left_out():
    report = RoundReport(1, "Bucketing > Mean", 2, 0)
    report.add_accepted([1, 2], norms=np.ones(2), clip_factors=np.ones(1), used=np.array([0.5, 1.0]))
    assert report.nodes[1] == NodeReport("accepted", norm=1.0, used=0.5)


@pytest.mark.parametrize(
    ("node", "left_out"),
    [
        (NodeReport("quarantined", "NaN"), 1.0),
        (NodeReport("accepted"), 0.0),
        (NodeReport("accepted", weight=0.25), 0.0),
        (NodeReport("accepted", weight=0.0), 1.0),
        (NodeReport("accepted", used=0.75), 0.25),
    ],
)
def test_how_far_a_node_was_left_out(node, left_out):
    assert node.left_out == left_out
    report = RoundReport(1, "Mean()", 1, 0, {5: node})
    assert report.left_out() == {5: left_out}
    # A skipped round has no weights.
    report.skipped = "too few"
    assert report.left_out() == ({} if node.accepted else {5: 1.0})


def test_a_round_in_numbers():
    bare = {"robust/num-accepted": 3, "robust/num-quarantined": 2, "robust/skipped": 0}
    bare |= {"robust/norm-median": 2.0, "robust/norm-max": 4.0, "robust/num-zero-weight": 1}
    bare |= {"robust/num-excluded": 1, "robust/num-unanswered": 1}
    assert some_report().metrics() == bare
    more = {"robust/clip-threshold": 4.0, "robust/num-clipped": 2, "robust/rule-drawn": 0, "robust/skipped": 1}
    assert some_report(threshold=4.0, rule_drawn=0, skipped="why").metrics() == bare | more
    nothing = {"robust/num-accepted": 0, "robust/num-quarantined": 0, "robust/skipped": 0}
    assert RoundReport(1, "Mean()", 0, 0).metrics() == nothing


def test_a_report_comes_back_from_its_line_of_json(tmp_path):
    path = tmp_path / "deep" / "report.jsonl"
    reports = [some_report(), some_report(round=4, skipped="why", threshold=1.5, drawn=["x"], rule_drawn=2)]
    for report in reports:
        report.append_to(path)
    with path.open("a") as file:
        file.write('{"round": 5, "cha')  # a run that is still writing
    assert list(read_reports(path)) == reports
    assert json.loads(path.read_text().splitlines()[0])["nodes"]["7"] == {
        "status": "quarantined",
        "reason": "NaN",
        "weight": None,
        "norm": None,
        "clip_factor": None,
        "used": None,
    }


@pytest.mark.parametrize("line", ["[]", "{}", '{"nodes": {"x": {}}}', '{"nodes": {}, "colour": 1}', "nonsense"])
def test_lines_that_are_no_reports_are_named(tmp_path, line):
    path = tmp_path / "report.jsonl"
    some_report().append_to(path)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"report.jsonl, line 2: "):
        list(read_reports(path))


# ---------------------------------------------------------------- the record


def test_a_report_is_kept_logged_and_written(tmp_path, caplog):
    record = Record(tmp_path / "report.jsonl", Suspicion(0.5))
    report = some_report(skipped="too few replies")
    with caplog.at_level(logging.WARNING, logger="flwr"):
        record.add(report, asked=None)
    assert record.reports == [report] == list(read_reports(tmp_path / "report.jsonl"))
    assert record.suspicions == {7: 0.5}
    for line in (
        "No reply from 8",
        "Round 3 is skipped and the global model stays: too few replies",
    ):
        assert line in caplog.text


def test_only_nodes_that_were_asked_gain_suspicion():
    record = Record(suspicion=Suspicion(0.5))
    record.add(some_report(), asked=[1, 2, 8])
    assert record.suspicions == {1: 0.5, 2: 0.0}
    assert Record().suspicions == {}


def test_a_changed_record_has_the_old_settings_where_no_others_are_given(tmp_path):
    record = Record(tmp_path / "report.jsonl", Suspicion(0.5, exclude_after=0.7))
    record.add(some_report(), asked=None)
    other = record.changed_by({"suspicion": 0.25, "report_path": None}, "ARC")
    assert record.changed_by({"threads": 2}, "ARC") is record
    assert (other.reports, other.suspicions) == ([], {})
    assert (repr(other.suspicion), other.report_path) == ("Suspicion(decay=0.25, exclude_after=0.7)", None)
    assert record.changed_by({"suspicion": None, "exclude_after": None}, "ARC").suspicion is None
    with pytest.raises(ValueError, match="ARC was given suspicion = 2"):
        record.changed_by({"suspicion": 2}, "ARC")


def test_rounds_are_counted():
    record = Record()
    for skipped in (None, "why", None):
        record.add(some_report(skipped=skipped), asked=None)
    assert (record.num_trained, record.num_skipped) == (2, 1)


def test_a_path_that_cannot_be_written_is_found_before_any_node_is_asked(tmp_path):
    Record(tmp_path / "new" / "report.jsonl").require_writable()
    assert (tmp_path / "new" / "report.jsonl").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"report_path = .* cannot be written"):
        Record(tmp_path / "file" / "report.jsonl").require_writable()


def test_suspicions_are_saved_beside_what_else_is_kept():
    record, resumed = (Record(suspicion=Suspicion(0.5)) for _ in range(2))
    record.add(some_report(), asked=None)
    assert resumed.load_state(record.state() | {"centre": np.ones(2)}).keys() == {"centre"}
    assert resumed.suspicions == record.suspicions
    with pytest.raises(ValueError, match=r"keeps none: give it suspicion=0\.9"):
        Record().load_state(record.state())
    record.reset()
    assert record.suspicions == {}
    assert Record().state() == {}
