"""Flower's older types as messages: parameters, results, failures, and the numbers of clients."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.common import Code, EvaluateRes, Parameters, Status, ndarrays_to_parameters

from flwr_robust.legacy.messages import instructions, node_number, replies_of, to_parameters, to_record
from flwr_robust.messages.arrays import Layout
from flwr_robust.messages.replies import Sent
from tests.flower_messages import record
from tests.legacy.fakes import OK, FakeClient, fit_res

ARRAYS = [np.zeros((2, 2), np.float32), np.array(3)]


@pytest.mark.parametrize("cid", ["phone", "-3", "1.5", "٣", str(2**64)])
def test_clients_without_a_number_have_a_digest(cid):
    number = node_number(FakeClient(cid))
    assert number == node_number(FakeClient(cid))
    assert 0 <= number < 2**64
    assert number != node_number(FakeClient("tablet"))


def test_clients_have_flowers_node_id_or_their_cid():
    client = FakeClient(7)
    assert node_number(client) == 7
    client.node_id = 9
    assert node_number(client) == 9


def test_parameters_are_arrays_by_place_and_back_without_a_copy():
    parameters = ndarrays_to_parameters(ARRAYS)
    made = to_record(parameters)
    assert [(name, array.dtype, array.shape) for name, array in made.items()] == [
        ("0", "float32", (2, 2)),
        ("1", "int64", ()),
    ]
    assert all(array.data is data for array, data in zip(made.values(), parameters.tensors, strict=True))
    assert all(a is b for a, b in zip(to_parameters(made).tensors, parameters.tensors, strict=True))


def test_what_is_declared_is_what_was_sent_or_stands_in_the_headers():
    layout = Layout.of(record({"0": ARRAYS[0], "1": ARRAYS[1]}))
    other = ndarrays_to_parameters([np.zeros(9), np.zeros(2, np.float16), np.ones(1)])
    declared = [(array.dtype, array.shape) for array in to_record(other, layout).values()]
    assert declared == [("float32", (2, 2)), ("int64", ()), ("float64", (1,))]
    (garbage,) = to_record(Parameters([b"garbage"], "numpy.ndarray")).values()
    assert (garbage.dtype, garbage.shape) == ("", ())


def replied(results=(), failures=(), clients=()):
    asked = Sent.of(instructions("train", clients)).asked
    made = replies_of("train", results, failures, asked)
    return {m.metadata.src_node_id: m.error.reason if m.has_error() else list(m.content.values()) for m in made}


def test_failures_are_error_replies():
    one, two, three, four = (FakeClient(number) for number in (1, 2, 3, 4))
    unable = fit_res(ARRAYS, status=Status(Code.FIT_NOT_IMPLEMENTED, "no fit"))
    found = replied([(one, fit_res(ARRAYS))], [(two, unable), ValueError("a"), KeyError("b")], [one, two, three, four])
    assert found[1] == [to_record(ndarrays_to_parameters(ARRAYS))]
    assert found[2] == "FIT_NOT_IMPLEMENTED: no fit"
    # As many exceptions as clients without a reply: they are theirs.
    assert found[3] == found[4] == "KeyError: 'b'; or ValueError: a"


def test_failures_of_unknown_nodes_are_logged(caplog):
    clients = [FakeClient(number) for number in (1, 2, 3)]
    with caplog.at_level(logging.WARNING, logger="flwr"):
        assert replied([(clients[0], fit_res(ARRAYS))], [ValueError("a")], clients).keys() == {1}
    assert "1 failures of unknown nodes: ValueError: a" in caplog.text


def test_parameters_that_cannot_be_read_are_an_error_and_evaluations_have_none():
    bad = fit_res(ARRAYS)
    bad.parameters.tensors = None
    assert replied([(FakeClient(1), bad), (FakeClient(2), EvaluateRes(OK, 1.0, 1, {}))]) == {
        1: "unreadable parameters: TypeError: 'NoneType' object is not iterable",
        2: [],
    }
