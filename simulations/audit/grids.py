"""What stands between an app's strategy and its nodes: a grid for each of gathering, recording, defending, telling."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from clients.wire import is_train
from flwr_robust.messages.replies import Question, Sent
from flwr_robust.messages.through import Through
from flwr_robust.rules import Rule
from flwr_robust.strategies.handing_on import with_content
from flwr_robust.strategies.robust import RobustAggregation

TAG = "flwr-robust.audit"  # the record by which nodes are told what they need to know
WEIGHTS = ("num-examples", "num_examples")
# Records of Flower's older interface whose entries are metrics, though they are configurations.
LEGACY_METRICS = ("fitres.metrics", "evaluateres.metrics")
# Entries that are no metrics.
NO_METRICS = ("code", "message")


class Gathering(Through):
    """Makes whole rounds of messages, however an app sends them.

    Flower's older interface sends each node's message from a thread of its own; `expect` says how many belong
    together. Messages that an app pushes are answered before `push_messages` returns.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self._turn = threading.Condition()
        self._expected = 0
        self._waiting: list[Message] = []
        self._answers: dict[int, list[Message]] = {}
        self._error: Exception | None = None
        self._replies: dict[str, Message] = {}

    def expect(self, count: int) -> None:
        """Send the next messages, which come one by one, when there are so many of them; 0: at once."""
        with self._turn:
            self._expected, self._waiting, self._answers, self._error = count, [], {}, None

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send a whole round; wait for the others' messages first where they come one by one."""
        outgoing = list(messages)
        if not self._expected or not outgoing:
            return self.grid.send_and_receive(outgoing, timeout=timeout)
        with self._turn:
            self._waiting += outgoing
            if len(self._waiting) >= self._expected:
                self._send(timeout)
                self._turn.notify_all()
            self._turn.wait_for(lambda: id(outgoing[0]) in self._answers or self._error is not None)
            if self._error is not None:
                raise self._error
            return [reply for message in outgoing for reply in self._answers[id(message)]]

    def _send(self, timeout: float | None) -> None:
        try:
            replies = list(self.grid.send_and_receive(self._waiting, timeout=timeout))
        except Exception as error:
            self._error = error
            return
        for message in self._waiting:
            node = message.metadata.dst_node_id
            self._answers[id(message)] = [reply for reply in replies if reply.metadata.src_node_id == node]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, wait for the replies, and keep them for `pull_messages`."""
        outgoing = list(messages)
        for reply in self.grid.send_and_receive(outgoing):
            self._replies[reply.metadata.reply_to_message_id] = reply
        return [message.metadata.message_id for message in outgoing]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies to these messages."""
        return [self._replies.pop(message_id) for message_id in list(message_ids) if message_id in self._replies]


def _nobody_asks(server_round: int) -> None:
    """Do nothing about what is new in a round."""


@dataclass
class Curves:
    """An app's metrics by name: federated ones of the nodes' evaluations and training, central ones, by round.

    `changed` is called with the number of the round whenever there is something new.
    """

    changed: Callable[[int], None] = _nobody_asks
    evaluate: dict[str, dict[int, float | None]] = field(default_factory=dict)
    train: dict[str, dict[int, float | None]] = field(default_factory=dict)
    central: dict[str, dict[int, float | None]] = field(default_factory=dict)
    num_rounds: int | None = None
    strategy: str | None = None
    failure: str | None = None
    """The first error that a node sent in the place of a reply."""

    def add(self, kind: str, server_round: int, values: Mapping[str, Any]) -> None:
        """Take metrics of a round down; those that are no numbers are left out."""
        found: dict[str, dict[int, float | None]] = getattr(self, kind)
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                found.setdefault(name, {})[server_round] = float(value) if isfinite(value) else None
        self.changed(server_round)

    def named(self) -> dict[str, list[tuple[int, float | None]]]:
        """Return all curves: the nodes' evaluations under their own names, others as central-NAME and train-NAME."""
        kinds = {"": self.evaluate, "central-": self.central, "train-": self.train}
        return {
            f"{prefix}{name}": sorted(curve.items()) for prefix, found in kinds.items() for name, curve in found.items()
        }

    def last(self) -> dict[str, float | None]:
        """Return the last value of each curve."""
        return {name: curve[-1][1] for name, curve in self.named().items()}


class Recording(Through):
    """Takes down the metrics that nodes report, averaged by their numbers of examples."""

    def __init__(self, grid: Grid, curves: Curves) -> None:
        super().__init__(grid)
        self.curves = curves
        self.round = 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages, and read the metrics of the replies."""
        outgoing = list(messages)
        kinds = {str(message.metadata.message_type).split(".")[0] for message in outgoing}
        self.round += "train" in kinds
        replies = list(self.grid.send_and_receive(outgoing, timeout=timeout))
        failed = (reply.error.reason for reply in replies if reply.has_error())
        self.curves.failure = self.curves.failure or next(failed, None)
        for kind in kinds & {"train", "evaluate"}:
            own = [reply for reply in replies if str(reply.metadata.message_type).split(".")[0] == kind]
            self.curves.add(kind, self.round, mean_metrics([r.content for r in own if r.has_content()]))
        return replies


def mean_metrics(contents: Iterable[RecordDict]) -> dict[str, float]:
    """Return the means of the numbers in replies, weighted by examples where all replies give a sensible number."""
    found = [_numbers(content) for content in contents]
    weights = [next((one[key] for key in WEIGHTS if key in one), 0.0) for one in found]
    if not all(isfinite(weight) and weight > 0 for weight in weights):
        weights = [1.0] * len(found)
    means = {}
    for name in dict.fromkeys(key for one in found for key in one if key not in WEIGHTS):
        pairs = [(one[name], weight) for one, weight in zip(found, weights, strict=True) if name in one]
        means[name] = sum(value * weight for value, weight in pairs) / sum(weight for _, weight in pairs)
    return means


def _numbers(content: RecordDict) -> dict[str, float]:
    records: list[Mapping[str, Any]] = [dict(record) for record in content.metric_records.values()]
    records += [dict(record) for name, record in content.config_records.items() if name in LEGACY_METRICS]
    return {
        key: float(value)
        for record in records
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and key not in NO_METRICS
    }


class Defence(RobustAggregation):
    """A rule whose output takes the place of what every node sent.

    Attributes
    ----------
    seconds : list of float
        What aggregation took, by round.
    """

    def __init__(self, rule: Rule, num_malicious: int) -> None:
        self._set_up(rule, num_malicious, {"keep_reports": None})
        self.seconds: list[float] = []

    def rewritten(self, messages: list[Message], replies: list[Message]) -> list[Message]:
        """Return the usable replies to a round, each with the model that the rule gives; its other records stay.

        In a round that the rule cannot aggregate each node is taken to have changed nothing.
        """
        questions = [Question.of(message, with_records=True) for message in messages]
        begin = time.perf_counter()
        done = self._aggregate_round(len(self.seconds) + 1, replies, Sent(questions))
        self.seconds.append(time.perf_counter() - begin)
        sent = {question.node_id: question for question in questions}
        made = []
        for reply in done.accepted:
            ((name, record),) = reply.message.content.array_records.items()
            model = done.arrays or sent[reply.node_id].record_for(name, record) or record
            content = RecordDict({**reply.message.content, name: _in_order_of(record, model)})
            made.append(with_content(reply.message, reply.node_id, content))
        return made


def _in_order_of(record: ArrayRecord, model: ArrayRecord) -> ArrayRecord:
    """Return a model with the arrays of a record, in their order."""
    return ArrayRecord({name: model.get(name, array) for name, array in record.items()})


class Defended(Through):
    """Hands on train replies that all hold what a rule makes of them, so that any average is the rule's output."""

    def __init__(self, grid: Grid, defence: Defence) -> None:
        super().__init__(grid)
        self.defence = defence

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages, and rewrite the replies to those that ask to train."""
        outgoing = list(messages)
        trained = [message for message in outgoing if is_train(message)]
        replies = list(self.grid.send_and_receive(outgoing, timeout=timeout))
        if not trained:
            return replies
        asked = {message.metadata.dst_node_id for message in trained}
        own = [r for r in replies if r.metadata.src_node_id in asked and (is_train(r) or r.has_error())]
        others = [r for r in replies if not any(r is one for one in own)]
        return others + self.defence.rewritten(trained, own)


class Telling(Through):
    """Tells each node which run this is, and malicious ones which data they poison; see `simulations.audit.client`."""

    def __init__(self, grid: Grid, run_name: str, seed: int, poisoned: Mapping[int, Mapping[str, Any]]) -> None:
        super().__init__(grid)
        self._told = {"run": run_name, "seed": seed}
        self._poisoned = {node: json.dumps(dict(attack)) for node, attack in poisoned.items()}
        self._exchange = 0

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages with a record more."""
        self._exchange += 1
        return self.grid.send_and_receive([self._tagged(message) for message in messages], timeout=timeout)

    def _tagged(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        told: dict[str, Any] = {**self._told, "exchange": self._exchange}
        if is_train(message) and node in self._poisoned:
            told["poison"] = self._poisoned[node]
        # Its metadata are those of the app's message, into which the grid writes the id.
        return with_content(message, node, RecordDict({**message.content, TAG: ConfigRecord(told)}))
