"""Hostile replies: quarantined with a reason, never fatal, and honest ones are not lost."""

from __future__ import annotations

import io
import re
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict

from flwr_robust import ARC, NNM, GeometricMedian, Krum, Mean, Median, TrimmedMean
from tests.flower_messages import FakeGrid, ask, error, record, reply, values

MODEL = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(2, np.float32), "count": np.array(3, np.int64)}


def honest(node_id):
    grown = {"w": np.full((2, 3), 1.0 + 0.01 * node_id, np.float32), "b": np.ones(2, np.float32)}
    return reply(node_id, {**grown, "count": np.array(4, np.int64)})


def npy(array, version=None, allow_pickle=False):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version, allow_pickle=allow_pickle)
    return stream.getvalue()


def with_w(array=None, **fields):
    """A reply whose "w" is this array, or an Array of these raw fields."""
    raw = {"dtype": "float32", "shape": (2, 3), "stype": "numpy.ndarray", "data": npy(MODEL["w"])} | fields
    made = Array(array) if array is not None else Array(**raw)
    return reply(66, ArrayRecord({"w": made, "b": Array(MODEL["b"]), "count": Array(MODEL["count"])}))


def replaced(old, new):
    data = npy(MODEL["w"])
    assert data.count(old) == 1
    return data.replace(old, new)


def nan(value):
    bad = MODEL["w"].copy()
    bad[1, 2] = value
    return bad


HOSTILE = {
    "error": (error(66), "error reply: out of memory"),
    "nothing asked": (honest(99), "not asked"),
    "no content": (Message(RecordDict(), reply_to=ask(66)), "0 ArrayRecords"),
    "two records": (
        Message(RecordDict({"a": record(MODEL), "b": record(MODEL)}), reply_to=ask(66)),
        "2 ArrayRecords",
    ),
    "empty record": (reply(66, ArrayRecord()), "arrays missing"),
    "missing key": (reply(66, {"w": MODEL["w"], "b": MODEL["b"]}), r"missing: \['count'\]"),
    "extra key": (reply(66, {**MODEL, "backdoor": MODEL["b"]}), r"not asked for: \['backdoor'\]"),
    "shape": (with_w(np.zeros((3, 2), np.float32)), r"declared as float32 \(3, 2\)"),
    "dtype": (with_w(np.zeros((2, 3), np.float64)), "declared as float64"),
    "half": (with_w(np.zeros((2, 3), np.float16)), "declared as float16"),
    "bool": (with_w(np.zeros((2, 3), bool)), "declared as bool"),
    "complex": (with_w(np.zeros((2, 3), np.complex64)), "declared as complex64"),
    "terabyte declared": (with_w(shape=(10**6, 10**6)), "declared as float32"),
    "terabyte in the header": (with_w(data=replaced(b"(2, 3), }", b"(1000000, 1000000), }")), "in its bytes"),
    "other stype": (with_w(stype="pickle"), "serialised as 'pickle'"),
    "no npy": (with_w(data=b"\x00" * 152), "no .npy"),
    "no bytes": (with_w(data=b""), "no .npy"),
    "truncated": (with_w(data=npy(MODEL["w"])[:-1]), "bytes, not"),
    "padded": (with_w(data=npy(MODEL["w"]) + b"0"), "bytes, not"),
    "header lies": (with_w(data=npy(np.zeros((3, 2), np.float32))), r"holds float32 \(3, 2\)"),
    "header dtype": (with_w(data=npy(np.zeros((2, 3), np.int32))), "holds int32"),
    "byte order": (with_w(data=npy(np.zeros((2, 3), ">f4"))), "holds >f4"),
    "objects": (with_w(data=npy(np.full((2, 3), None), allow_pickle=True)), "holds object"),
    "header is code": (with_w(data=replaced(b"'<f4'", b"id(0)")), "no .npy"),
    "header overlong": (with_w(data=b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{}"), "no .npy"),
    "version": (with_w(data=npy(MODEL["w"]).replace(b"NUMPY\x01", b"NUMPY\x09")), "no .npy"),
    "nan": (with_w(nan(np.nan)), "NaN or infinity"),
    "infinity": (with_w(nan(np.inf)), "NaN or infinity"),
}
STRATEGIES = {
    "mean": lambda: Mean(),
    "median": lambda: Median(),
    "krum": lambda: Krum(num_malicious_nodes=1),
    "arc+nnm+gm": lambda: ARC(NNM(GeometricMedian(num_malicious_nodes=1))),
}


def prepared(strategy):
    grid = FakeGrid([1, 2, 3, 4, 66], lambda *_: None)
    list(strategy.configure_train(1, record(MODEL), ConfigRecord(), grid))
    return strategy


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_reply_is_quarantined_and_the_others_are_used(kind, name):
    hostile, reason = HOSTILE[kind]
    strategy = prepared(STRATEGIES[name]())
    arrays, metrics = strategy.aggregate_train(1, [honest(1), hostile, honest(2), honest(3), honest(4)])
    expected, _ = prepared(STRATEGIES[name]()).aggregate_train(1, [honest(i) for i in (1, 2, 3, 4)])
    for key, value in values(arrays).items():
        assert np.array_equal(value, values(expected)[key])
    node = hostile.metadata.src_node_id
    report = strategy.reports[-1]
    assert [i for i, fate in report.nodes.items() if fate.status == "quarantined"] == [node]
    assert re.search(reason, report.nodes[node].reason)
    assert (metrics["robust/num-accepted"], metrics["robust/num-quarantined"]) == (4, 1)


def test_the_second_reply_of_a_node_does_not_count():
    strategy = prepared(Mean())
    second = reply(1, {**MODEL, "w": MODEL["w"] + 100})
    arrays, metrics = strategy.aggregate_train(1, [honest(1), second, honest(2)])
    assert np.allclose(values(arrays)["w"], 1.015)
    report = strategy.reports[-1]
    assert report.nodes[1].status == "accepted"
    assert report.extra == [(1, "a second reply of the same node")]
    assert metrics["robust/num-quarantined"] == 1


def asked(strategy, kind="train"):
    """The strategy's messages to nodes 1 to 5, with ids as a grid writes them when it sends."""
    grid = FakeGrid([1, 2, 3, 4, 5], lambda *_: None)
    configure = strategy.configure_train if kind == "train" else strategy.configure_evaluate
    messages = sorted(configure(1, record(MODEL), ConfigRecord(), grid), key=lambda m: m.metadata.dst_node_id)
    for message in messages:
        message.metadata.__dict__["_message_id"] = f"message-{message.metadata.dst_node_id}"
    return messages


def test_replies_to_other_messages_are_quarantined_and_do_not_count_as_the_nodes_own():
    strategy = prepared(Mean())
    content = honest(1).content
    stale = Message(content, reply_to=asked(strategy)[0])
    current = asked(strategy)
    for message in current:
        message.metadata.__dict__["_message_id"] += " of round 2"
    wrong_type = Message(content, reply_to=asked(prepared(Mean()), "evaluate")[1])
    wrong_type.metadata.__dict__["_reply_to_message_id"] = current[1].metadata.message_id
    right = [Message(content, reply_to=message) for message in current[:2]]
    _, metrics = strategy.aggregate_train(2, [stale, wrong_type, *right])
    report = strategy.reports[-1]
    assert (metrics["robust/num-accepted"], metrics["robust/num-quarantined"]) == (2, 2)
    assert {node for node, fate in report.nodes.items() if fate.status == "accepted"} == {1, 2}
    assert [node for node, reason in report.extra if "another message" in reason] == [1, 2]


def test_an_error_that_the_superlink_writes_is_the_fate_of_the_node_that_was_asked():
    strategy = prepared(Mean())
    messages = asked(strategy)
    replies = [Message(honest(1).content, reply_to=messages[0])]
    for message in messages[1:3]:
        gone = Message(Error(3, "node unavailable"), reply_to=message)
        gone.metadata.__dict__["_src_node_id"] = 1 + 2**40
        replies.append(gone)
    strategy.aggregate_train(1, replies)
    fates = {node: fate.reason for node, fate in strategy.reports[-1].nodes.items()}
    assert fates == {1: None, 2: "error reply: node unavailable", 3: "error reply: node unavailable"}


def test_after_an_error_a_node_has_had_its_say():
    strategy = prepared(Mean())
    strategy.aggregate_train(1, [error(1), honest(1), honest(2)])
    assert [fate.status for fate in strategy.reports[-1].nodes.values()] == ["accepted", "quarantined"]
    assert strategy.reports[-1].extra == [(1, "a second reply of the same node")]


def test_reasons_forge_no_lines_of_the_log():
    strategy = prepared(Mean())
    strategy.aggregate_train(1, [error(1, "x\nINFO: all is well\x1b[2J"), honest(2)])
    assert strategy.reports[-1].nodes[1].reason == "error reply: x?INFO: all is well?[2J"


def test_without_a_sent_model_the_majority_sets_the_order_of_the_arrays():
    def arrays(*names):
        return {name: np.ones(2, np.float32) for name in names}

    replies = [reply(1, arrays("b", "a")), reply(2, arrays("a", "b")), reply(3, arrays("a", "b"))]
    made, metrics = Median().aggregate_train(1, replies)
    assert list(made) == ["a", "b"]
    assert metrics["robust/num-accepted"] == 3


@pytest.mark.parametrize(
    "fields", [{"shape": (-1,)}, {"shape": (-(10**5000),)}, {"dtype": "(1000000,1000000)f4"}, {"dtype": "(" * 10**5}]
)
def test_without_a_sent_model_declarations_that_no_array_can_have(fields):
    """Nobody else says what is right: the layout must not come from such a reply."""
    bad = reply(
        1,
        ArrayRecord(
            {"w": Array(**({"dtype": "float32", "shape": (2,), "stype": "numpy.ndarray", "data": b""} | fields))}
        ),
    )
    strategy = Median()
    arrays, metrics = strategy.aggregate_train(1, [bad])
    assert arrays is None
    assert metrics["robust/skipped"] == 1
    assert re.search("has the|unreadable", strategy.reports[-1].nodes[1].reason)


@pytest.mark.parametrize("told", [-1, 0, float("nan"), [1, 2], 10**30])
def test_a_wrong_number_of_examples_does_not_cost_the_update(told):
    strategy = Mean()
    replies = [reply(i, {"w": np.full(2, float(i), np.float32)}, {"num-examples": told}) for i in (1, 2, 3)]
    replies[0] = Message(RecordDict({"arrays": record({"w": np.ones(2, np.float32)})}), reply_to=ask(1))
    arrays, _ = strategy.aggregate_train(1, replies)
    assert np.allclose(values(arrays)["w"], 2.0)


def test_legal_variants_are_accepted():
    fortran = Array(np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)))
    second = Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=npy(MODEL["b"], version=(2, 0)))
    other_order = ArrayRecord({"count": Array(MODEL["count"]), "b": second, "w": fortran})
    content = RecordDict({"other-name": other_order, "c": ConfigRecord({"x": 1}), "m": MetricRecord()})
    strategy = prepared(Mean())
    arrays, metrics = strategy.aggregate_train(1, [Message(content, reply_to=ask(1))])
    assert metrics["robust/num-accepted"] == 1
    assert np.array_equal(values(arrays)["w"], np.arange(6).reshape(2, 3))
    assert list(arrays) == list(MODEL)


def test_without_a_sent_model_the_majority_is_the_reference():
    odd = [reply(i, {"w": np.zeros(9, np.float32)}) for i in (1, 2)]
    even = [reply(i, {"w": np.full(2, 1.0, np.float32)}) for i in (3, 4, 5)]
    strategy = Median()
    arrays, metrics = strategy.aggregate_train(1, [*odd, *even])
    assert np.array_equal(values(arrays)["w"], [1.0, 1.0])
    assert metrics["robust/num-quarantined"] == 2


def test_float64_values_beyond_float32_are_quarantined():
    strategy = TrimmedMean(num_malicious_nodes=1)
    sent = [1.0, 2.0, 3.0, 1e39, -1e308]
    arrays, metrics = strategy.aggregate_train(1, [reply(i, {"w": np.array([v])}) for i, v in enumerate(sent)])
    assert values(arrays)["w"] == 2.0
    assert metrics["robust/num-quarantined"] == 2
    assert "beyond float32" in strategy.reports[-1].nodes[3].reason


def test_all_replies_hostile():
    strategy = prepared(Median())
    arrays, metrics = strategy.aggregate_train(1, [HOSTILE["nan"][0]])
    assert np.array_equal(values(arrays)["w"], MODEL["w"])
    assert metrics["robust/skipped"] == 1


def test_a_reply_that_is_no_message_at_all():
    strategy = Mean()
    arrays, metrics = strategy.aggregate_train(1, [object(), reply(5, {"w": np.ones(2, np.float32)})])
    assert np.array_equal(values(arrays)["w"], [1.0, 1.0])
    assert "unreadable: AttributeError" in strategy.reports[-1].nodes[0].reason
    assert metrics["robust/num-quarantined"] == 1


def test_a_reply_that_declares_a_terabyte_costs_no_memory():
    hostile = [with_w(data=replaced(b"(2, 3), }", b"(1000000, 1000000), }")), with_w(shape=(10**6, 10**6))]
    strategy = prepared(Median())
    tracemalloc.start()
    strategy.aggregate_train(1, [*hostile, honest(1)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**21
