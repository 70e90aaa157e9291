"""Replies are sorted into usable and quarantined ones, each with a reason; nothing in them is fatal."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from flwr_robust.messages.replies import (
    Sent,
    median_metrics,
    only_metrics,
    read_evaluations,
    read_replies,
    with_content,
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


def sent():
    return Sent.of([ask(node) for node in NODES], record(MODEL))


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
    ((node, why),) = inbox.quarantined
    assert node == (bad.metadata.src_node_id if isinstance(bad, Message) else 1)
    assert re.search(reason, why)
    updates = inbox.updates(sent().model)
    rows = np.empty((3, updates.d), np.float32)
    updates.read(0, updates.d, rows)
    assert rows.tolist() == [[node] * 6 + [0, 0] for node in (1, 2, 3)]
    assert inbox.integers["count"] == 4


def test_names_of_records_and_further_ones_do_not_matter():
    content = RecordDict({"other-name": record(MODEL), "c": ConfigRecord({"x": 1}), "m": MetricRecord()})
    assert usable(read_replies([Message(content, reply_to=ask(1))], sent())) == [1]


def test_the_second_reply_of_a_node_does_not_count_even_after_an_error():
    second = reply(1, {**MODEL, "w": MODEL["w"] + 100})
    inbox = read_replies([honest(1), second, error(2), honest(2), honest(3)], sent())
    assert usable(inbox) == [1, 3]
    assert inbox.accepted[0].arrays["w"][0] == 1
    assert inbox.quarantined == [
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
    inbox = read_replies([stale, wrong_type, *right], Sent.of(current, record(MODEL)))
    assert usable(inbox) == [1, 2]
    assert [node for node, reason in inbox.quarantined if "another message" in reason] == [1, 2]


def test_an_error_that_the_superlink_writes_is_that_of_the_node_that_was_asked():
    messages = instructions()
    replies = [Message(honest(1).content, reply_to=messages[0])]
    for message in messages[1:3]:
        gone = Message(Error(3, "node unavailable"), reply_to=message)
        gone.metadata.__dict__["_src_node_id"] = 1 + 2**40
        replies.append(gone)
    inbox = read_replies(replies, Sent.of(messages, record(MODEL)))
    assert inbox.quarantined == [(2, "error reply: node unavailable"), (3, "error reply: node unavailable")]


def test_reasons_forge_no_lines_of_the_log():
    inbox = read_replies([error(1, "x\nINFO: all is well\x1b[2J")], sent())
    assert inbox.quarantined == [(1, "error reply: x?INFO: all is well?[2J")]


def test_accepted_replies_can_be_quarantined_later():
    inbox = read_replies([honest(1), honest(2), honest(3)], sent())
    inbox.quarantine({1: "too late"})
    assert (usable(inbox), inbox.quarantined) == ([1, 3], [(2, "too late")])


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
    assert re.search("has the|unreadable", inbox.quarantined[0][1])


def test_no_replies():
    inbox = read_replies([], Sent())
    assert (inbox.accepted, inbox.quarantined, inbox.updates(None).n) == ([], [], 0)


def test_replies_without_a_node_id_are_numbered():
    assert usable(read_replies([mock_reply(record(MODEL)) for _ in range(3)], Sent())) == [0, 1, 2]


def test_a_model_that_cannot_be_aggregated_is_refused():
    with pytest.raises(ValueError, match=r"cannot be aggregated: array 'w' has the dtype 'complex64'"):
        Sent.of([], with_w(np.zeros((2, 3), np.complex64)))


# ---------------------------------------------------------------- evaluation, and messages of our own


def test_evaluation_replies_that_are_not_used_are_logged(caplog):
    replies = [reply(1, {}, kind="evaluate"), error(2), reply(77, {}, kind="evaluate"), reply(1, {}, kind="evaluate")]
    with caplog.at_level(logging.WARNING, logger="flwr"):
        found = read_evaluations(replies, Sent.of([ask(node, kind="evaluate") for node in NODES]))
    assert found == [(1, replies[0])]
    for node, reason in ((2, "error reply: out of memory"), (77, "not asked"), (1, "a second reply")):
        assert re.search(f"the evaluation reply of node {node}: .*{reason}", caplog.text)


@pytest.mark.parametrize("original", [honest(2), mock_reply(record(MODEL))], ids=["message", "mock"])
def test_a_message_with_other_content_leaves_the_original_alone(original):
    content = RecordDict({"arrays": record({"w": np.ones(2)})})
    before = original.content
    made = with_content(original, 2, content)
    assert made.metadata.src_node_id == 2
    assert made.content is content
    assert original.content is before


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
    assert only_metrics(Message(two, reply_to=ask(1))) == MetricRecord()
    assert only_metrics(honest(1)) == MetricRecord({"num-examples": 10})
