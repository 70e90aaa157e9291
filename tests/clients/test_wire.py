"""Updates out of records, and records that carry another update."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from clients import attacks
from clients.wire import SentModel, UnusableReplyError, is_train, replace_arrays
from tests.clients.apps import W
from tests.clients.fake_nodes import (
    arrays_of,
    attacked,
    by_node,
    floats,
    instructions,
    model,
    trained,
    update,
    with_statistics,
)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(dtype):
    arrays = model(dtype)
    grid, adversary = attacked(attacks.FallOfEmpires(3), [2])
    reply = by_node(adversary.send_and_receive(instructions(range(1, 7), arrays=arrays)))[2]
    assert {array.dtype for key, array in reply.content["model"].items() if key != "seen"} == {np.dtype(dtype).name}
    given = by_node(grid.given)
    expected = -2 * np.mean([update(given[node], arrays) for node in (1, 3, 4, 5, 6)], axis=0)
    tolerance = {np.float16: 5e-3, np.float32: 1e-6, np.float64: 1e-14}[dtype]
    np.testing.assert_allclose(update(reply, arrays), expected, atol=tolerance)


@pytest.mark.parametrize("statistics", [True, False])
def test_running_statistics_are_attacked_or_left_alone(statistics):
    grid, adversary = attacked(attacks.SignFlip(), [2], statistics=statistics)
    replies = by_node(adversary.send_and_receive(instructions(range(1, 7), arrays=with_statistics())))
    given = by_node(grid.given)
    forged, own = (arrays_of(which[2]) for which in (replies, given))
    for key in ("bn.running_mean", "bn.running_var"):
        attacked_it = forged[key].numpy().tolist() != own[key].numpy().tolist()
        assert attacked_it == statistics
        if statistics:
            sent = with_statistics()[key].numpy()
            honest = np.mean([arrays_of(given[node])[key].numpy() - sent for node in (1, 3, 4, 5, 6)], axis=0)
            np.testing.assert_allclose(forged[key].numpy(), sent - honest, atol=1e-6)
    expected = -np.mean([update(given[node]) for node in (1, 3, 4, 5, 6)], axis=0)
    np.testing.assert_allclose(update(replies[2]), expected, atol=1e-6)
    assert forged["seen"].numpy() == own["seen"].numpy()
    assert (floats(replies[1].content) == floats(given[1].content)).all()


def test_nodes_with_models_of_their_own():
    mine = ArrayRecord({key: Array(np.asarray(value.numpy() + 2)) for key, value in model().items()})
    grid, adversary = attacked(attacks.SignFlip(), [2])
    messages = instructions([1, 3]) + instructions([2], arrays=mine)
    replies = by_node(adversary.send_and_receive(messages))
    given = by_node(grid.given)
    np.testing.assert_allclose(update(replies[2], mine), -(update(given[1]) + update(given[3])) / 2, atol=1e-6)


def test_apps_may_overwrite_the_message():
    def in_place(message):
        reply = trained(message)
        message.content["arrays"] = ArrayRecord([np.zeros(3)])
        return reply

    content = [RecordDict({"arrays": model()}) for _ in range(3)]
    messages = [Message(c, node, "train") for node, c in zip((1, 2, 3), content, strict=True)]
    _, adversary = attacked(attacks.SignFlip(), [2], in_place)
    replies = adversary.send_and_receive(messages)
    np.testing.assert_allclose(update(replies[1]), -(update(replies[0]) + update(replies[2])) / 2, atol=1e-6)


def undeclared(values):
    """An array as NumPyClient projects send it: what it is stands in the header of its bytes alone."""
    return Array(dtype="", shape=(), stype="numpy.ndarray", data=Array(values).data)


def test_arrays_that_declare_nothing_are_read_and_written_by_their_header():
    sent = SentModel(RecordDict({"parameters": ArrayRecord({"0": undeclared(np.ones((2, 1))), "1": undeclared(W)})}))
    assert sent.layers == [("0", (2, 1)), ("1", (1, 2))]
    reply = RecordDict({"parameters": ArrayRecord({"0": undeclared(np.full((2, 1), 3.0)), "1": undeclared(W)})})
    assert sent.update_of(reply).tolist() == [2, 2, 0, 0]
    forged = sent.rewrite(reply, np.array([5.0, 6, 0, 1]))["parameters"]
    assert forged["0"].numpy().tolist() == [[6], [7]]
    assert forged["1"].numpy().dtype == W.dtype
    assert (forged["1"].dtype, forged["1"].shape) == ("", ())
    garbage = RecordDict(
        {"parameters": ArrayRecord({"0": Array("", (), "numpy.ndarray", b"no npy"), "1": reply["parameters"]["1"]})}
    )
    with pytest.raises(UnusableReplyError, match="the array '0' cannot be decoded"):
        sent.update_of(garbage)
    with pytest.raises(UnusableReplyError, match=r"no float array '0' of shape \(2, 1\)"):
        sent.rewrite(garbage, np.zeros(4))


def test_arrays_are_replaced_but_those_that_cannot_be_decoded():
    content = RecordDict({"a": ArrayRecord({"w": Array(W), "bad": Array("float32", (2,), "numpy.ndarray", b"no npy")})})
    content["metrics"] = MetricRecord({"loss": 1.0})
    doubled = replace_arrays(content, lambda values: 2 * values)
    assert np.array_equal(doubled["a"]["w"].numpy(), 2 * W)
    assert doubled["a"]["bad"].data == b"no npy"
    assert doubled["metrics"] is content["metrics"]
    spoilt = replace_arrays(content, lambda values: b"xyz")["a"]["w"]
    assert (spoilt.dtype, spoilt.shape, spoilt.data) == ("float32", (1, 2), b"xyz")


def test_train_messages_of_any_action():
    kinds = ("train", "train.warm", "evaluate", "query.train")
    assert [is_train(instructions([1], kind)[0]) for kind in kinds] == [True, True, False, False]
