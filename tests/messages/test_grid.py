"""The guarding grid: what was sent to whom, and replies that decode one by one, by Flower's own code."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Error, Message, MetricRecord, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from flwr_robust.messages.grid import KEPT, LEAST_LIMIT, GuardedGrid
from flwr_robust.messages.replies import UNREADABLE
from tests.flower_messages import FakeGrid, ask, record, reply, trainer

MODEL = {"w": np.arange(6, dtype=np.float32), "b": np.zeros(2, np.float32)}


def asked(node, number=0):
    message = ask(node, record(MODEL))
    message.metadata.__dict__["_message_id"] = f"to {node}.{number}"
    return message


# ---------------------------------------------------------------- what was sent


def answering(node, message):
    return trainer(lambda _: 1)(node, message)


def test_what_each_node_was_sent_is_noted_message_by_message():
    grid = GuardedGrid(FakeGrid([1, 2, 3], answering))
    models = {node: {"w": np.full(2, node, np.float32)} for node in (1, 2, 3)}
    messages = [ask(node, record(model)) for node, model in models.items()]
    for message in messages:
        message.metadata.__dict__["_message_id"] = f"to {message.metadata.dst_node_id}"
    replies = grid.send_and_receive(iter(messages))
    sent = grid.sent(replies)
    assert sent.asked == [1, 2, 3]
    for message in replies:
        node = message.metadata.src_node_id
        base = sent.base_of(node, message, "arrays", sent.arrays_of(message.content["arrays"]))
        assert base.values["w"].tolist() == models[node]["w"].tolist()
    # It has been taken: what answers it later is no reply to another round.
    assert grid.sent(replies) is None


def test_replies_are_those_to_the_exchange_that_they_answer():
    grid = GuardedGrid(FakeGrid([1, 2], answering))
    first, second = ([asked(node, number) for node in nodes] for number, nodes in enumerate([(1, 2), (2, 3)]))
    train = grid.send_and_receive(first)
    grid.send_and_receive(second)
    assert grid.sent(train).asked == [1, 2]
    assert grid.sent([]).asked == [2, 3]
    # A round that a subclass collects from two exchanges.
    grid.send_and_receive(first)
    grid.send_and_receive(second)
    both = grid.sent([Message(RecordDict(), reply_to=message) for message in (first[0], second[1])])
    assert both.asked == [1, 2, 3]
    assert both.by_id.keys() == {"to 1.0", "to 2.0", "to 2.1", "to 3.1"}


def test_nodes_whose_replies_were_filtered_out_are_not_silent():
    grid = GuardedGrid(FakeGrid([1, 2, 3], lambda node, message: None if node == 3 else answering(node, message)))
    replies = grid.send_and_receive([asked(node) for node in (1, 2, 3)])
    assert grid.sent(replies[:1]).heard == {1, 2}


def test_few_exchanges_are_kept():
    grid = GuardedGrid(FakeGrid([1], answering))
    for number in range(3 * KEPT):
        grid.send_and_receive([asked(1, number)])
    assert len(grid._exchanges) == KEPT


def test_everything_else_is_the_grids_own():
    class Other(FakeGrid):
        run = "a run"

        def push_messages(self, messages):
            return [message.metadata.message_id for message in messages]

        def pull_messages(self, message_ids):
            return [reply(1, MODEL)]

        def set_run(self, run):
            self.given = run

        def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
            return (content, message_type, dst_node_id, group_id, ttl)

        def get_nodes(self):
            return ["a node"]

    beneath = Other([1, 2], None)
    grid = GuardedGrid(beneath)
    assert isinstance(grid, Grid)
    grid.set_run("mine")
    assert (beneath.given, grid.run, grid.get_node_ids(), grid.get_nodes()) == ("mine", "a run", [1, 2], ["a node"])
    assert grid.create_message("c", "t", 1, "g") == ("c", "t", 1, "g", None)
    assert grid.push_messages([asked(1)]) == ["to 1.0"]
    (pulled,) = grid.pull_messages(["to 1.0"])
    pulled.metadata.__dict__["_reply_to_message_id"] = "to 1.0"
    assert grid.sent([pulled]).asked == [1]
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        grid.nothing_of_that_name  # noqa: B018


# ---------------------------------------------------------------- decoding


class SuperLink:
    """The calls of a SuperLink's client that Flower's grid makes, from memory."""

    def __init__(self):
        self.replies = []
        self.objects = {}
        self.confirmed = []

    def hold(self, message, node, answered):
        """Hold a reply of this node as the SuperLink stores it; return the ids of its parts by type."""
        message.metadata.__dict__["_message_id"] = message.object_id
        objects = get_all_nested_objects(message)
        self.objects |= {name: part.deflate() for name, part in objects.items()}
        proto = message_to_proto(remove_content_from_message(message))
        proto.metadata.src_node_id, proto.metadata.reply_to_message_id = node, answered
        self.replies.append((answered, proto, get_object_tree(message)))
        return {type(part).__name__: name for name, part in objects.items()}

    def PullMessages(self, request):  # noqa: N802
        found = [(proto, tree) for answered, proto, tree in self.replies if answered in request.message_ids]
        return SimpleNamespace(messages_list=[p for p, _ in found], message_object_trees=[t for _, t in found])

    def PullObject(self, request):  # noqa: N802
        content = self.objects[request.object_id]
        return SimpleNamespace(object_found=True, object_available=True, object_content=content)

    def ConfirmMessageReceived(self, request):  # noqa: N802
        self.confirmed.append(request.message_object_id)


NODES = [11, 12, 13]


@pytest.fixture
def link():
    return SuperLink()


@pytest.fixture
def grid(link, monkeypatch):
    """Flower's grid, connected to what plays the SuperLink, and guarded."""
    beneath = HttpGrid(token="none")
    beneath._client = link
    beneath._run = Run.create_empty(1)
    monkeypatch.setattr(beneath, "push_messages", lambda messages: [m.metadata.message_id for m in messages])
    monkeypatch.setattr("flwr_robust.messages.grid.PAUSE", 0.0)
    return GuardedGrid(beneath, max_reply_bytes=10_000)


def honest(node):
    """A reply of which no part is like one of another node's: a SuperLink keeps what is alike once."""
    arrays = record({name: value + node for name, value in MODEL.items()})
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": node})})
    return Message(content, reply_to=asked(node))


def exchange(grid, link, spoil):
    """Two honest replies, and between them the one of node 12, spoilt."""
    link.hold(honest(11), 11, "to 11.0")
    parts = link.hold(honest(12), 12, "to 12.0")
    spoil(parts)
    link.hold(honest(13), 13, "to 13.0")
    return grid.send_and_receive([asked(node) for node in NODES], timeout=1)


def require_one_bad(grid, replies, reason):
    good = [message for message in replies if not message.has_error()]
    (bad,) = (message for message in replies if message.has_error())
    assert [message.metadata.src_node_id for message in good] == [11, 13]
    for message in good:
        assert (message.content["arrays"]["w"].numpy() == MODEL["w"] + message.metadata.src_node_id).all()
    assert (bad.metadata.src_node_id, bad.metadata.reply_to_message_id) == (12, "to 12.0")
    assert bad.error.code == UNREADABLE
    assert reason in bad.error.reason
    assert grid.sent(replies).heard == set(NODES)


def test_honest_replies_pass_as_flowers_grid_reads_them(grid, link):
    replies = exchange(grid, link, lambda parts: None)
    assert [message.metadata.src_node_id for message in replies] == NODES
    assert len(link.confirmed) == 3


def header(kind, children, body):
    return f"{kind} {','.join(children)} {len(body)}".encode() + b"\x00" + body


@pytest.mark.parametrize("part", ["Message", "RecordDict", "ArrayRecord", "MetricRecord", "Array", "ArrayChunk"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"Array  2\x00{}", b"Message  0\x00", b"Nothing  0\x00", b"RecordDict 00 7\x00garbage", b"\x00"],
    ids=["nothing", "no text", "Array", "Message", "no type", "RecordDict", "no head"],
)
def test_a_part_that_is_garbage_costs_its_reply_alone(grid, link, part, content):
    replies = exchange(grid, link, lambda parts: link.objects.__setitem__(parts[part], content))
    if part == "ArrayChunk" and not next(m for m in replies if m.metadata.src_node_id == 12).has_error():
        return  # what a chunk holds is read with the arrays
    require_one_bad(grid, replies, "")


def test_an_array_that_names_its_chunk_a_million_times_is_never_put_together(grid, link):
    def spoil(parts):
        body = json.dumps({"dtype": "uint8", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": [0] * 5_000})
        link.objects[parts["Array"]] = header("Array", [parts["ArrayChunk"]], body.encode())

    grid.max_reply_bytes = 100_000
    replies = exchange(grid, link, spoil)
    require_one_bad(grid, replies, "bytes, more than 100,000 (max_reply_bytes)")


def test_a_reply_beyond_the_limit_is_not_fetched_to_the_end(grid, link):
    def spoil(parts):
        link.objects[parts["ArrayChunk"]] += b"0" * 20_000

    require_one_bad(grid, exchange(grid, link, spoil), "more than 10,000 bytes (max_reply_bytes)")


@pytest.mark.parametrize(("least", "size", "limit"), [(9_000, 100, 9_000), (9_000, 4_000, None)])
def test_the_limit_is_four_times_what_was_sent_and_not_below_some_size(grid, link, monkeypatch, least, size, limit):
    assert LEAST_LIMIT == 64 * 2**20
    monkeypatch.setattr("flwr_robust.messages.grid.LEAST_LIMIT", least)
    grid.max_reply_bytes = None
    model = record({"w": np.zeros(size, np.uint8)})
    limit = limit or 4 * len(model["w"].data)

    def ask_for(node):
        message = ask(node, model)
        message.metadata.__dict__["_message_id"] = f"to {node}.0"
        return message

    link.hold(honest(11), 11, "to 11.0")
    link.objects[link.hold(honest(12), 12, "to 12.0")["ArrayChunk"]] = b"0" * (limit + 1)
    link.hold(honest(13), 13, "to 13.0")
    replies = grid.send_and_receive([ask_for(node) for node in NODES], timeout=1)
    require_one_bad(grid, replies, f"more than {limit:,} bytes (max_reply_bytes)")


@pytest.mark.parametrize("field", ["_src_node_id", "_reply_to_message_id"])
def test_who_sent_a_reply_is_what_the_superlink_says(grid, link, field):
    forged = honest(12)
    forged.metadata.__dict__[field] = 11 if field == "_src_node_id" else "to 11.0"
    link.hold(honest(11), 11, "to 11.0")
    link.hold(forged, 12, "to 12.0")
    link.hold(honest(13), 13, "to 13.0")
    replies = grid.send_and_receive([asked(node) for node in NODES], timeout=1)
    require_one_bad(grid, replies, "its metadata name another node or another message")


def test_something_else_than_a_message_is_refused(grid, link):
    def spoil(parts):
        link.objects[parts["Message"]] = link.objects[parts["MetricRecord"]]

    require_one_bad(grid, exchange(grid, link, spoil), "a MetricRecord in the place of a message")


def test_a_part_that_the_superlink_refuses_does_not_end_the_run(link, caplog):
    """It does where a node said that it has got a message of which the parts are still on their way."""

    def push_messages(request):
        (tree,) = request.message_object_trees
        return SimpleNamespace(message_ids=[tree.object_id], objects_to_push=[tree.object_id], session_id="s")

    link.PushMessages = push_messages
    link.PushObject = lambda request: SimpleNamespace(stored=False)
    beneath = HttpGrid(token="none")
    beneath._client, beneath._run = link, Run.create_empty(1)
    message = ask(11, record(MODEL))
    with caplog.at_level(logging.WARNING, logger="flwr"):
        (pushed,) = GuardedGrid(beneath).push_messages([message])
    assert pushed == message.metadata.message_id
    assert "The SuperLink refused a part of a message: Failed to push object" in caplog.text
    assert "_try_push_messages" not in vars(beneath)


def test_errors_of_nodes_pass(grid, link):
    link.hold(Message(Error(1, "out of memory"), reply_to=asked(11)), 11, "to 11.0")
    (message,) = grid.send_and_receive([asked(11)], timeout=1)
    assert (message.error.code, message.error.reason) == (1, "out of memory")


def test_a_link_that_fails_still_ends_the_run(grid, link):
    def fail(request):
        raise ConnectionError("gone")

    link.PullMessages = fail
    with pytest.raises(ConnectionError, match="gone"):
        grid.send_and_receive([asked(11)], timeout=1)


def test_replies_that_do_not_come_are_waited_for_until_the_timeout(grid, link):
    link.hold(honest(11), 11, "to 11.0")
    replies = grid.send_and_receive([asked(11), asked(12)], timeout=0.05)
    assert {message.metadata.src_node_id for message in replies} == {11}
