"""Real Flower messages without a SuperLink, and a grid that answers with given replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

SERVER = 1
# A small model's arrays, one of no dimension and one without a value among them.
SHAPES = {"conv.weight": (4, 1, 3, 3), "conv.bias": (4,), "scalar": (), "empty": (0, 3), "fc.weight": (5, 7)}


def set_identity():
    """Give this process the identity that `Message` asks for."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, SERVER


def record(arrays):
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})


def values(arrays):
    return {name: array.numpy() for name, array in arrays.items()}


def models(n, seed=0, dtype=np.float32):
    """Draw n models of these shapes."""
    rng = np.random.default_rng(seed)
    return [{name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()} for _ in range(n)]


def flat(model):
    """Return a model's values as one vector."""
    return np.concatenate([np.ravel(value) for value in model.values()])


def ask(node_id, arrays=None, kind="train"):
    content = RecordDict({"arrays": arrays or ArrayRecord(), "config": ConfigRecord()})
    return Message(content, dst_node_id=node_id, message_type=kind)


def reply(node_id, arrays, metrics=None, kind="train"):
    metrics = {"num-examples": 10} if metrics is None else metrics
    content = {"arrays": arrays if isinstance(arrays, ArrayRecord) else record(arrays)}
    if metrics:
        content["metrics"] = MetricRecord(metrics)
    return Message(RecordDict(content), reply_to=ask(node_id, kind=kind))


def error(node_id, reason="out of memory"):
    return Message(Error(0, reason), reply_to=ask(node_id))


def mock_reply(arrays, num_examples=1.0):
    """A reply as Flower's own unit tests make them."""
    message = Mock(spec=Message)
    message.content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": num_examples})})
    message.has_error.side_effect = lambda: False
    message.has_content.side_effect = lambda: True
    return message


class FakeGrid(Grid):
    """Nodes that answer through a function ``(node_id, message) -> reply, or None for silence``."""

    def __init__(self, node_ids: list[int], answer: Callable[[int, Message], Message | None]):
        self.node_ids = node_ids
        self.answer = answer

    def set_run(self, run):
        raise NotImplementedError

    @property
    def run(self):
        raise NotImplementedError

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        raise NotImplementedError

    def get_node_ids(self):
        return self.node_ids

    def get_nodes(self):
        raise NotImplementedError

    def push_messages(self, messages):
        raise NotImplementedError

    def pull_messages(self, message_ids):
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout=None):
        answers = [self.answer(message.metadata.dst_node_id, message) for message in messages]
        return [answer for answer in answers if answer is not None]


class RunGrid(FakeGrid):
    """A grid that knows its run, as Flower's older loops ask for it."""

    @property
    def run(self):
        return SimpleNamespace(run_id=1)


def trainer(step):
    """Nodes that answer with ``model + step(node_id)`` and an accuracy."""

    def answer(node_id, message):
        sent = values(message.content["arrays"]) if "arrays" in message.content else {}
        if message.metadata.message_type == "evaluate":
            return Message(
                RecordDict({"metrics": MetricRecord({"num-examples": 5, "accuracy": 0.5})}), reply_to=message
            )
        moved = {k: (v + step(node_id)).astype(v.dtype) for k, v in sent.items()}
        content = RecordDict({"arrays": record(moved), "metrics": MetricRecord({"num-examples": 5, "loss": 1.0})})
        return Message(content, reply_to=message)

    return answer


# Modules of tests make messages while they are collected.
set_identity()
