"""What a round's report says of each node, and the record that keeps the reports."""

from __future__ import annotations

import json
import logging
import resource
from contextlib import contextmanager
from pathlib import Path

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
        "spread": False,
        "distance": None,
        "cosine": None,
        "norm_rank": None,
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


def reports_of(rounds):
    return [some_report(round=number) for number in rounds]


@pytest.mark.parametrize(("keep", "kept"), [(1, [5]), (3, [3, 4, 5]), (9, [1, 2, 3, 4, 5]), (None, [1, 2, 3, 4, 5])])
def test_the_last_reports_are_kept_in_memory_and_all_in_the_file(keep, kept, tmp_path):
    path = tmp_path / "report.jsonl"
    record = Record(path, keep_reports=keep)
    first = record.reports
    for report in reports_of(range(1, 6)):
        record.add(report, asked=None)
    assert [report.round for report in record.reports] == kept
    assert first is record.reports
    assert [report.round for report in read_reports(path)] == [1, 2, 3, 4, 5]
    assert record.changed_by({}, "ARC").keep_reports == keep
    assert record.changed_by({"keep_reports": 7}, "ARC").keep_reports == 7


def test_a_hundred_are_kept_unless_told_otherwise():
    record = Record()
    for report in reports_of(range(150)):
        record.add(report, asked=None)
    assert [report.round for report in record.reports] == list(range(50, 150))


@pytest.mark.parametrize("keep", [0, -1, 2.0, True, "all"])
def test_wrong_numbers_of_reports(keep):
    with pytest.raises(ValueError, match=r"ARC was given keep_reports = .*; give a whole number above 0, or None"):
        Record().changed_by({"keep_reports": keep}, "ARC")


# ---------------------------------------------------------------- functions of users


def test_a_function_gets_each_finished_report(tmp_path):
    path, seen = tmp_path / "report.jsonl", []
    record = Record(path, on_report=lambda report: seen.append((report, len(list(read_reports(path))))))
    for report in reports_of([1, 2]):
        record.add(report, asked=None)
    assert seen == [(record.reports[0], 1), (record.reports[1], 2)]
    assert record.changed_by({}, "ARC") is record
    assert record.changed_by({"keep_reports": 7}, "ARC").on_report is record.on_report


def test_what_a_function_raises_is_logged(caplog):
    record = Record(on_report=lambda report: 1 // 0)
    with caplog.at_level(logging.WARNING, logger="flwr"):
        for report in reports_of([1, 2]):
            record.add(report, asked=None)
    assert caplog.text.count("on_report failed on the report of round") == 2
    assert len(record.reports) == 2


def test_what_is_no_function():
    with pytest.raises(ValueError, match=r"ARC was given on_report = 'log'; give a function that takes a RoundReport"):
        Record().changed_by({"on_report": "log"}, "ARC")


# ---------------------------------------------------------------- disks


@contextmanager
def room_for(size):
    """Let no file of this process become larger, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_can_be_written_is_left_as_it_was(tmp_path):
    path = tmp_path / "deep" / "report.jsonl"
    Record(path).require_writable()
    assert path.read_bytes() == b""
    some_report().append_to(path)
    before = path.read_bytes()
    Record(path).require_writable()
    assert path.read_bytes() == before
    Record().require_writable()


def test_a_folder_that_cannot_be_made_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "report.jsonl", tmp_path):
        with pytest.raises(ValueError, match=r"report_path = .* cannot be written \(.*give a file in a folder"):
            Record(path).require_writable()


def test_a_disk_without_room_is_told_at_once_and_the_file_stays(tmp_path):
    path = tmp_path / "report.jsonl"
    some_report().append_to(path)
    before = path.read_bytes()
    record = Record(path)
    with room_for(len(before) + 1000), pytest.raises(ValueError, match=r"cannot be written .*and has room"):
        record.require_writable()
    assert path.read_bytes() == before
    # There is room again.
    record.require_writable()
    with room_for(len(before) + 1000):
        record.require_writable()


def test_a_disk_that_is_full_later_costs_a_line(tmp_path, caplog):
    path = tmp_path / "report.jsonl"
    record = Record(path)
    record.require_writable()
    with room_for(3000), caplog.at_level(logging.WARNING, logger="flwr"):
        for report in reports_of(range(10)):
            record.add(report, asked=None)
    written = [report.round for report in read_reports(path)]
    assert written == list(range(len(written)))
    assert 1 < len(written) < 10
    assert len(record.reports) == 10
    assert caplog.text.count(f"is not in {path}: ") == 10 - len(written)
    record.add(some_report(round=99), asked=None)
    assert [report.round for report in read_reports(path)] == [*written, 99]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_device_that_is_full_ends_nothing(caplog):
    record = Record("/dev/full")
    record.require_writable()
    with caplog.at_level(logging.WARNING, logger="flwr"):
        record.add(some_report(), asked=None)
    assert "The report of round 3 is not in /dev/full: [Errno 28] No space left on device" in caplog.text


def test_a_line_that_a_killed_run_left_is_cut_off(tmp_path):
    path = tmp_path / "report.jsonl"
    some_report().append_to(path)
    with path.open("a") as file:
        file.write('{"round": 5, "cha')
    record = Record(path)
    record.require_writable()
    record.add(some_report(round=6), asked=None)
    assert [report.round for report in read_reports(path)] == [3, 6]


# ---------------------------------------------------------------- suspicions


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
