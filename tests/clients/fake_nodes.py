"""A grid in memory, with nodes that train on noise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from clients import Adversary, attacks

Reply = Callable[[Message], Message]


class FakeGrid(Grid):
    """Nodes that answer at once by a function, kept until they are pulled."""

    def __init__(self, nodes: Iterable[int], answer: Reply) -> None:
        self.nodes, self.answer = nodes, answer
        self.box: dict[str, Message] = {}
        self.slow: set[int] = set()
        self.given: list[Message] = []
        self.pushed = 0

    def set_run(self, run: Any) -> None:
        self.known_run = run

    @property
    def run(self) -> Any:
        return self.known_run

    def create_message(self, content: Any, message_type: Any, dst_node_id: Any, group_id: Any, ttl: Any = None) -> Any:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return self.nodes

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            self.pushed += 1
            message.metadata.__dict__["_message_id"] = f"m{self.pushed}"
            reply = self.answer(message)
            self.given.append(reply)
            self.box[message.metadata.message_id] = reply
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ready = [i for i in message_ids if i in self.box and self.box[i].metadata.src_node_id not in self.slow]
        return [self.box.pop(i) for i in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))


def model(dtype: Any = np.float32) -> ArrayRecord:
    rng = np.random.default_rng(0)
    return ArrayRecord(
        {
            "w": Array(rng.normal(size=(3, 4)).astype(dtype)),
            "seen": Array(np.array(5, dtype=np.int64)),
            "b": Array(rng.normal(size=4).astype(dtype)),
        }
    )


def trained(message: Message) -> Message:
    """Answer as an honest node: add noise to the floats, count the batches; in a record of another name."""
    node = message.metadata.dst_node_id
    arrays = {}
    for key, array in next(iter(message.content.array_records.values())).items():
        values = array.numpy()
        if values.dtype.kind == "f":
            noise = np.random.default_rng(node).normal(size=values.shape) * 0.1
            arrays[key] = Array(np.asarray(values + noise, dtype=values.dtype))
        else:
            arrays[key] = Array(np.asarray(values + node))
    metrics = MetricRecord({"num-examples": 10 * node, "loss": 0.5})
    content = RecordDict({"model": ArrayRecord(arrays), "metrics": metrics, "notes": ConfigRecord({"node": node})})
    return Message(content, reply_to=message)


def failing(*nodes: int) -> Reply:
    def answer(message: Message) -> Message:
        if message.metadata.dst_node_id in nodes:
            return Message(Error(code=0, reason="out of memory"), reply_to=message)
        return trained(message)

    return answer


def instructions(nodes: Iterable[int], kind: str = MessageType.TRAIN, arrays: ArrayRecord | None = None) -> Any:
    content = RecordDict({"arrays": arrays or model(), "config": ConfigRecord({"lr": 0.1})})
    return [Message(content, node, kind, group_id="1") for node in nodes]


def floats(content: RecordDict) -> Any:
    """Return the float arrays as one float64 vector."""
    arrays = next(iter(content.array_records.values()))
    return np.concatenate([arrays[key].numpy().astype(np.float64).ravel() for key in ("w", "b")])


def update(reply: Message, arrays: ArrayRecord | None = None) -> Any:
    return floats(reply.content) - floats(RecordDict({"arrays": arrays or model()}))


def arrays_of(reply: Message) -> ArrayRecord:
    return next(iter(reply.content.array_records.values()))


def with_statistics() -> ArrayRecord:
    """The model with running statistics of batch normalisation."""
    zeros, ones = Array(np.zeros(4, np.float32)), Array(np.ones(4, np.float32))
    return ArrayRecord({**model(), "bn.running_mean": zeros, "bn.running_var": ones})


class Spy(attacks.SignFlip):
    """Keeps what it was shown."""

    def __init__(self) -> None:
        object.__setattr__(self, "shown", [])

    def craft(self, sight: attacks.Sight) -> Any:
        self.shown.append(sight)
        return super().craft(sight)


def by_node(replies: Iterable[Message]) -> dict[int, Message]:
    return {reply.metadata.src_node_id: reply for reply in replies}


def attacked(attack: attacks.Attack, malicious: Any, answer: Reply = trained, **options: Any) -> tuple[FakeGrid, Any]:
    grid = FakeGrid(range(1, 7), answer)
    return grid, Adversary(grid, attack, malicious=malicious, **options)
