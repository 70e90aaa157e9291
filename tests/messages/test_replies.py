"""Replies are sorted into usable and quarantined ones, each with a reason; nothing in them is fatal."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from flwr_robust.messages.replies import (
    ConfigurationError,
    MedianMetrics,
    Question,
    Sent,
    log_quarantined,
    median_metrics,
    read_evaluations,
    read_replies,
)
from tests.flower_messages import ask, error, mock_reply, record, reply
from tests.messages.unusable import MODEL, RECORDS, with_w

NODES = [1, 2, 3, 4, 66]


def instructions(kind="train", suffix=""):
    """Messages to the nodes, with ids as a grid writes them when it sends."""
    made = [ask(node, record(MODEL), kind) for node in NODES]
    for message in made:
        message.metadata.__dict__["_message_id"] = f"to {message.metadata.dst_node_id}{suffix}"
    return made


def asked(messages):
    return [Question.of(message, with_records=True) for message in messages]


def sent(model=MODEL):
    return Sent(asked([ask(node, record(model)) for node in NODES]), record(model))


def fates(inbox):
    return [(reply.node_id, reply.reason) for reply in inbox.quarantined]


def honest(node):
    return reply(node, {**MODEL, "w": np.full((2, 3), node, np.float32), "count": np.array(4, np.int64)})


def usable(inbox):
    return [accepted.node_id for accepted in inbox.accepted]


OTHERS = {
    "error": (error(66), "error reply: out of memory"),
    "nothing asked": (honest(99), "not asked"),
    "no content": (Message(RecordDict(), reply_to=ask(66)), "0 ArrayRecords"),
    "two records": (Message(RecordDict({"a": record(MODEL), "b": record(MODEL)}), reply_to=ask(66)), "2 ArrayRecords"),
    "no message": (object(), "unreadable: AttributeError"),
}
HOSTILE = OTHERS | {kind: (reply(66, made), reason) for kind, (made, reason) in RECORDS.items()}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_unusable_reply_is_quarantined_and_the_others_are_used(kind):
    bad, reason = HOSTILE[kind]
    inbox = read_replies([honest(1), bad, honest(2), honest(3)], sent())
    assert usable(inbox) == inbox.nodes == [1, 2, 3]
    ((node, why),) = fates(inbox)
    assert node == (bad.metadata.src_node_id if isinstance(bad, Message) else 1)
    assert re.search(reason, why)
    updates = inbox.updates()
    rows = np.empty((3, updates.d), np.float32)
    updates.read(0, updates.d, rows)
    assert rows.tolist() == [[node] * 6 + [0, 0] for node in (1, 2, 3)]
    assert inbox.apart(np.empty(0)).fixed["count"] == 4


def test_names_of_records_and_further_ones_do_not_matter():
    content = RecordDict({"other-name": record(MODEL), "c": ConfigRecord({"x": 1}), "m": MetricRecord()})
    assert usable(read_replies([Message(content, reply_to=ask(1))], sent())) == [1]


def test_the_second_reply_of_a_node_does_not_count_even_after_an_error():
    second = reply(1, {**MODEL, "w": MODEL["w"] + 100})
    inbox = read_replies([honest(1), second, error(2), honest(2), honest(3)], sent())
    assert usable(inbox) == [1, 3]
    assert inbox.accepted[0].arrays["w"][0] == 1
    assert fates(inbox) == [
        (1, "a second reply of the same node"),
        (2, "error reply: out of memory"),
        (2, "a second reply of the same node"),
    ]


def test_replies_to_other_messages_are_quarantined_and_do_not_count_as_the_nodes_own():
    current, earlier, evaluation = instructions(suffix=" in round 2"), instructions(), instructions("evaluate")
    content = honest(1).content
    stale = Message(content, reply_to=earlier[0])
    wrong_type = Message(content, reply_to=evaluation[1])
    wrong_type.metadata.__dict__["_reply_to_message_id"] = current[1].metadata.message_id
    right = [Message(content, reply_to=message) for message in current[:2]]
    inbox = read_replies([stale, wrong_type, *right], Sent(asked(current), record(MODEL)))
    assert usable(inbox) == [1, 2]
    assert [node for node, reason in fates(inbox) if "another message" in reason] == [1, 2]


def test_an_error_that_the_superlink_writes_is_that_of_the_node_that_was_asked():
    messages = instructions()
    replies = [Message(honest(1).content, reply_to=messages[0])]
    for message in messages[1:3]:
        gone = Message(Error(3, "node unavailable"), reply_to=message)
        gone.metadata.__dict__["_src_node_id"] = 1 + 2**40
        replies.append(gone)
    inbox = read_replies(replies, Sent(asked(messages), record(MODEL)))
    assert fates(inbox) == [(2, "error reply: node unavailable"), (3, "error reply: node unavailable")]


def test_an_error_in_anothers_name_blames_its_sender_alone():
    messages = instructions()
    forged = Message(Error(0, "out of memory"), reply_to=messages[0])
    forged.metadata.__dict__["_src_node_id"] = 66
    honest_ones = [Message(honest(m.metadata.dst_node_id).content, reply_to=m) for m in messages[:3]]
    inbox = read_replies([forged, *honest_ones], Sent(asked(messages), record(MODEL)))
    assert usable(inbox) == [1, 2, 3]
    assert fates(inbox) == [(66, "this answers another message than the one of this round")]


def test_reasons_forge_no_lines_of_the_log():
    inbox = read_replies([error(1, "x\nINFO: all is well\x1b[2J")], sent())
    assert fates(inbox) == [(1, "error reply: x?INFO: all is well?[2J")]


def test_accepted_replies_can_be_quarantined_later():
    inbox = read_replies([honest(1), honest(2), honest(3)], sent())
    inbox.quarantine({1: "too late"})
    assert (usable(inbox), fates(inbox), inbox.proved) == ([1, 3], [(2, "too late")], 1)


def test_an_error_proves_nothing_and_bytes_that_are_no_array_do():
    inbox = read_replies([error(1), reply(2, RECORDS["no npy"][0]), honest(3)], sent())
    assert inbox.proved == 1


# ---------------------------------------------------------------- what is honest


def test_replies_are_taken_by_node_id():
    assert usable(read_replies([honest(3), honest(1), honest(2)], sent())) == [1, 2, 3]


def rows_of(inbox):
    updates = inbox.updates()
    rows = np.empty((updates.n, updates.d), updates.dtype)
    updates.read(0, updates.d, rows)
    return rows


def test_each_update_is_the_difference_from_what_its_node_was_sent():
    models = {node: {"w": np.full(2, 10.0 * node, np.float32)} for node in (1, 2, 3)}
    questions = asked([ask(node, record(model)) for node, model in models.items()])
    current = {"w": np.full(2, 100.0, np.float32)}
    replies = [reply(node, {"w": model["w"] + 1}) for node, model in models.items()]
    inbox = read_replies(replies, Sent(questions, record(current)))
    assert rows_of(inbox).tolist() == [[1, 1]] * 3
    arrays = inbox.step(np.ones(2, np.float32), 1.0, inbox.apart(np.empty(0)))
    assert arrays["w"].numpy().tolist() == [101, 101]


def test_an_array_that_was_never_sent_has_the_base_zero():
    replies = [reply(node, {"w": np.full(2, 5, np.float32), "new": np.full(1, 7, np.float32)}) for node in (1, 2)]
    inbox = read_replies(replies, sent({"w": np.full(2, 4, np.float32)}))
    assert rows_of(inbox).tolist() == [[1, 1, 7]] * 2
    assert rows_of(read_replies(replies, sent({}))).tolist() == [[5, 5, 7]] * 2


def test_a_record_answers_to_the_one_of_its_name_or_that_has_its_arrays():
    content = RecordDict({"model": record({"w": np.ones(1)}), "control": record({"c": np.ones(1)})})
    question = Question.of(Message(content, dst_node_id=1, message_type="train"), with_records=True)
    assert list(question.record_for("control", ["w"])) == ["c"]
    assert list(question.record_for("arrays", ["c"])) == ["c"]
    assert question.record_for("arrays", ["other"]) is None


def test_a_subset_of_the_arrays_is_a_layout():
    part = {"w": np.ones((2, 3), np.float32)}
    inbox = read_replies([reply(node, part) for node in (1, 2)] + [honest(3)], sent())
    assert usable(inbox) == [1, 2]
    assert list(inbox.step(np.ones(6, np.float32), 1.0, inbox.apart(np.empty(0)))) == ["w"]


def test_values_that_were_not_finite_when_sent_are_aggregated_apart():
    mask = np.array([0, -np.inf, -np.inf, np.inf], np.float32)
    came = [np.float32([1, -np.inf, np.nan, 1]), np.float32([2, -np.inf, 5, 9]), np.float32([3, np.inf, 4, 7])]
    inbox = read_replies([reply(n, {"m": value}) for n, value in zip((1, 2, 3), came, strict=True)], sent({"m": mask}))
    assert rows_of(inbox).tolist() == [[1, 0, 0, 0], [2, 0, 0, 0], [3, 0, 0, 0]]
    arrays = inbox.step(np.float32([2, 0, 0, 0]), 1.0, inbox.apart(np.empty(0)))
    assert arrays["m"].numpy().tolist() == [2, -np.inf, 5, 7]


def test_running_statistics_are_rows_of_their_own():
    model = {"bn.weight": np.ones(2, np.float32), "bn.running_var": np.ones(2, np.float32)}
    inbox = read_replies([reply(n, {k: v * n for k, v in model.items()}) for n in (1, 2, 3)], sent(model))
    assert rows_of(inbox).tolist() == [[0, 0], [1, 1], [2, 2]]
    statistics = inbox.statistics()
    rows = np.empty((3, 2), np.float32)
    statistics.read(0, 2, rows)
    assert rows.tolist() == [[1, 1], [2, 2], [3, 3]]


@pytest.mark.parametrize(
    ("made", "kind", "advice"),
    [
        ({"w": np.ones(5, np.float32)}, None, None),
        ({"w": np.array([1 + 1j])}, "dtype", "floats of 16 to 64 bits"),
        ({"0": np.frombuffer(b'{"learner": 1}', np.uint8)}, "not arrays", "FedXgbBagging"),
        ({**MODEL, "count": np.array(0.5)}, "dtype", "whole numbers"),
    ],
)
def test_what_more_than_half_do_alike_is_a_matter_of_the_project(made, kind, advice):
    replies = [reply(node, made) for node in (1, 2, 3)] + [honest(4), error(66)]
    inbox = read_replies(replies, sent())
    if kind is None:
        inbox.require_sense(lambda n: 1, 1)
        return
    with pytest.raises(ConfigurationError, match=f"3 of 5 replies of round 1 .*{kind}.*{advice}") as caught:
        inbox.require_sense(lambda n: 1, 1)
    assert "The model that was sent has 'w' float32 (2, 3)" in str(caught.value)
    # No more than f nodes, or half of them, are malicious perhaps.
    inbox.require_sense(lambda n: 3, 1)


def test_no_layout_of_most_is_a_matter_of_the_project_too():
    replies = [reply(node, {"w": np.ones(node, np.float32)}) for node in (1, 2, 3, 4)]
    inbox = read_replies(replies, sent())
    with pytest.raises(ConfigurationError, match="no layout is that of most replies; this one has 'w' float32"):
        inbox.require_sense(lambda n: 1, 2)


def test_errors_and_many_replies_of_one_node_never_are():
    read_replies([error(node) for node in NODES], sent()).require_sense(lambda n: 0, 1)
    bad = [reply(66, RECORDS["no npy"][0]) for _ in range(9)]
    read_replies([honest(1), honest(2), *bad], sent()).require_sense(lambda n: 0, 1)


# ---------------------------------------------------------------- without a model that was sent


def test_the_most_common_layout_is_the_reference_in_the_most_common_order():
    def arrays(*names, size=2):
        return {name: np.ones(size, np.float32) for name in names}

    odd = [reply(node, arrays("a", "b", size=9)) for node in (1, 2)]
    replies = [*odd, reply(3, arrays("b", "a")), reply(4, arrays("a", "b")), reply(5, arrays("a", "b"))]
    inbox = read_replies(replies, Sent())
    assert usable(inbox) == [3, 4, 5]
    assert [name for name, *_ in inbox.layout.entries] == ["a", "b"]


@pytest.mark.parametrize(
    "fields", [{"shape": (-1,)}, {"shape": (-(10**5000),)}, {"dtype": "(1000000,1000000)f4"}, {"dtype": "(" * 10**5}]
)
def test_the_layout_is_not_that_of_a_declaration_that_no_array_can_have(fields):
    raw = {"dtype": "float32", "shape": (2,), "stype": "numpy.ndarray", "data": b""} | fields
    inbox = read_replies([reply(1, ArrayRecord({"w": Array(**raw)}))], Sent())
    assert (usable(inbox), inbox.layout.entries) == ([], ())
    assert re.search("has the|unreadable", inbox.quarantined[0].reason)


def test_no_replies():
    inbox = read_replies([], Sent())
    assert (inbox.accepted, inbox.quarantined, inbox.updates().n) == ([], [], 0)


def test_replies_without_a_node_id_are_numbered():
    assert usable(read_replies([mock_reply(record(MODEL)) for _ in range(3)], Sent())) == [0, 1, 2]


def test_a_reason_is_logged_once_for_all_nodes_that_share_it(caplog):
    with caplog.at_level(logging.WARNING, logger="flwr"):
        log_quarantined(read_replies([error(3), error(1), error(2, "other")], sent()).quarantined)
    assert "Quarantined the reply of node 1, 3: error reply: out of memory" in caplog.text
    assert "Quarantined the reply of node 2: error reply: other" in caplog.text


def test_a_model_that_cannot_be_aggregated_is_refused():
    with pytest.raises(ValueError, match=r"cannot be aggregated: array 'w' has the dtype 'complex64'"):
        Sent([], with_w(np.zeros((2, 3), np.complex64)))


# ---------------------------------------------------------------- evaluation, and messages of our own


def test_evaluation_replies_that_are_not_used_are_logged(caplog):
    replies = [reply(1, {}, kind="evaluate"), error(2), reply(77, {}, kind="evaluate"), reply(1, {}, kind="evaluate")]
    with caplog.at_level(logging.WARNING, logger="flwr"):
        found = read_evaluations(replies, Sent(Question.of(ask(node, kind="evaluate")) for node in NODES))
    assert found == [(1, replies[0])]
    for node, reason in ((2, "error reply: out of memory"), (77, "not asked"), (1, "a second reply")):
        assert re.search(f"the evaluation reply of node {node}: .*{reason}", caplog.text)


# ---------------------------------------------------------------- metrics


def contents(*metrics):
    return [RecordDict({"metrics": MetricRecord(of_node)}) for of_node in metrics]


def test_metrics_of_malicious_nodes_do_not_move_the_median():
    found = median_metrics(
        contents(
            {"num-examples": 1, "loss": 1.0, "parts": [1.0, 2.0]},
            {"num-examples": -5, "loss": 2.0, "parts": [3.0, 4.0]},
            {"num-examples": 10**18, "loss": 3.0, "parts": [5.0, 6.0], "extra": 1.0},
            {"num-examples": float("nan"), "loss": float("nan"), "parts": [1.0]},
            {"loss": [1e300], "parts": 7.0},
        ),
        "num-examples",
    )
    assert found == MetricRecord({"loss": 2.0, "parts": [3.0, 4.0]})


def test_the_median_of_huge_metrics_is_a_number():
    assert median_metrics(contents({"loss": 1.6e308}, {"loss": 1.6e308}), "n") == MetricRecord({"loss": 1.6e308})
    assert median_metrics(contents({"loss": 10**400}, {"loss": 1}, {"loss": 3}), "n") == MetricRecord({"loss": 2.0})


def test_records_with_other_than_one_metric_record_do_not_count():
    two = RecordDict({"a": MetricRecord({"loss": 9.0}), "b": MetricRecord({"loss": 9.0})})
    assert median_metrics([two, RecordDict(), *contents({"loss": 1.0})], "n") == MetricRecord()
    assert median_metrics([two, *contents({"loss": 1.0}, {"loss": 2.0})], "n") == MetricRecord({"loss": 1.5})


def test_what_is_left_out_of_the_metrics_is_named_once(caplog):
    metrics = MedianMetrics()
    of_node = {"loss": 1.0, "bad": float("nan"), "x" * 300: 2.0, "long": [0.0] * 10_001, "a\nb": 3.0}
    with caplog.at_level(logging.INFO, logger="flwr"):
        for _ in range(3):
            found = metrics(contents(of_node, of_node), "num-examples")
    assert found == MetricRecord({"loss": 1.0, "x" * 200: 2.0, "a?b": 3.0})
    assert len(re.findall("Metrics left out.*: bad, long", caplog.text)) == 1
    assert len(re.findall("unweighted", caplog.text)) == 1
