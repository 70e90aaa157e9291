"""Where Flower messages become updates: every reply is hostile until proved otherwise.

Whatever is wrong with a reply becomes a reason, never an exception. Numbers that nodes report beside their arrays are
taken by their median.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import INFO, WARNING
from math import isfinite
from statistics import median_high, median_low
from typing import Any

from flwr.app import ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.engine.updates import Updates
from flwr_robust.messages.arrays import Layout, RejectedError

# The nodes that were asked, and the metadata of the messages that asked them.
Asked = Mapping[int, Metadata]
Value = float | list[float]


@dataclass(frozen=True)
class Sent:
    """What the messages of a round carried, and to whom: what its replies are compared with.

    Attributes
    ----------
    asked : dict of int to Metadata, or None
        Nodes that were asked, and the metadata of the messages that asked them; None: any node may reply.
    arrays : ArrayRecord or None
        The model that was sent, if any.
    layout : Layout or None
        Its layout.
    model : dict of str to array, or None
        Flat views of its arrays.
    """

    asked: Asked | None = None
    arrays: ArrayRecord | None = None
    layout: Layout | None = None
    model: dict[str, NDArray[Any]] | None = None

    @classmethod
    def of(cls, messages: Iterable[Message], arrays: ArrayRecord | None = None) -> Sent:
        """Return what messages carry: the model, where it is given.

        Raises
        ------
        ValueError
            If the model holds arrays that are neither floats up to 64 bits, integers nor bool.
        """
        # A grid writes the ids of the messages into these metadata when it sends them.
        asked = {message.metadata.dst_node_id: message.metadata for message in messages}
        if arrays is None:
            return cls(asked)
        try:
            layout = Layout.of(arrays)
            return cls(asked, arrays, layout, layout.read(arrays))
        except RejectedError as error:
            raise ValueError(f"this model cannot be aggregated: {error}.") from error


@dataclass
class Reply:
    """An accepted reply: its message and flat views of its arrays by name."""

    node_id: int
    message: Message
    arrays: dict[str, NDArray[Any]]


@dataclass
class Inbox:
    """A round's replies: those that can be aggregated, and why the others cannot.

    Attributes
    ----------
    layout : Layout
        The reference: what was sent, else what most replies have.
    accepted : list of Reply
        In order of arrival.
    quarantined : list of (int, str)
        Node id and reason.
    """

    layout: Layout = field(default_factory=lambda: Layout(()))
    accepted: list[Reply] = field(default_factory=list)
    quarantined: list[tuple[int, str]] = field(default_factory=list)

    def updates(self, model: Mapping[str, NDArray[Any]] | None) -> Updates:
        """Return the accepted replies minus the model as updates; without a model they are the updates."""
        layers = self.layout.layers
        sent = None if model is None else [model[layer.name] for layer in layers]
        return Updates.of_replies([[r.arrays[layer.name] for layer in layers] for r in self.accepted], sent, layers)

    @property
    def nodes(self) -> list[int]:
        """Node ids of the accepted replies."""
        return [reply.node_id for reply in self.accepted]

    @property
    def integers(self) -> dict[str, NDArray[Any]]:
        """The integer arrays of the next model: see `Layout.integers`."""
        return self.layout.integers([reply.arrays for reply in self.accepted])

    def quarantine(self, reasons: Mapping[int, str]) -> None:
        """Move accepted replies, given by position, to the quarantined ones."""
        self.quarantined += [(self.accepted[row].node_id, reason) for row, reason in reasons.items()]
        self.accepted = [reply for row, reply in enumerate(self.accepted) if row not in reasons]


def read_replies(replies: Iterable[Message], sent: Sent) -> Inbox:
    """Sort replies to a training round into accepted and quarantined ones.

    Parameters
    ----------
    replies : iterable of Message
        As they arrived; the first reply of a node counts.
    sent : Sent
        Who was asked, and the model that was sent: what replies must look like. Where there was none, that is the
        layout that most of them share.
    """
    inbox = Inbox()
    admitted = admit(replies, sent.asked, inbox.quarantined)
    records: list[tuple[int, Message, ArrayRecord]] = []
    for node_id, message in admitted:
        try:
            records.append((node_id, message, _only_arrays(message)))
        except Exception as error:
            inbox.quarantined.append((node_id, _reason(error)))
    reference = sent.layout or _most_common([record for _, _, record in records])
    for node_id, message, record in records:
        try:
            inbox.accepted.append(Reply(node_id, message, (reference or Layout.of(record)).read(record)))
        except Exception as error:
            inbox.quarantined.append((node_id, _reason(error)))
    inbox.layout = reference or inbox.layout
    counts = (len(inbox.accepted), len(inbox.quarantined))
    log(INFO, "aggregate_train: Received %s usable replies and %s others", *counts)
    return inbox


def read_evaluations(replies: Iterable[Message], sent: Sent) -> list[tuple[int, Message]]:
    """Return the usable replies to an evaluation round, with their node ids; the others are logged."""
    quarantined: list[tuple[int, str]] = []
    admitted = admit(replies, sent.asked, quarantined)
    for node_id, reason in quarantined:
        log(WARNING, "\t> Left out the evaluation reply of node %s: %s", node_id, reason)
    counts = (len(admitted), len(quarantined))
    log(INFO, "aggregate_evaluate: Received %s usable replies and %s others", *counts)
    return admitted


def admit(
    replies: Iterable[Message], asked: Asked | None, quarantined: list[tuple[int, str]]
) -> list[tuple[int, Message]]:
    """Return (node id, message) of replies with content from nodes that were asked, one a node.

    What is wrong with the others is appended to `quarantined`. Replies without a usable node id (mocks
    in unit tests) are numbered in order of arrival.
    """
    admitted: list[tuple[int, Message]] = []
    seen: set[int] = set()
    for position, message in enumerate(replies):
        node_id = position
        try:
            node_id = _sender(message, position, asked)
            _require_asked(message, node_id, asked, seen)
            seen.add(node_id)
            _require_content(message)
        except Exception as error:
            quarantined.append((node_id, _reason(error)))
            continue
        admitted.append((node_id, message))
    return admitted


def _sender(message: Message, position: int, asked: Asked | None) -> int:
    """Return the node that a reply, or an error in its place, is from."""
    source = message.metadata.src_node_id
    if not isinstance(source, int):
        return position
    if asked and source not in asked and message.has_error():
        # The SuperLink writes errors for nodes that are gone under its own id.
        answered = message.metadata.reply_to_message_id
        return next((node for node, question in asked.items() if answered and question.message_id == answered), source)
    return source


def _require_asked(message: Message, node_id: int, asked: Asked | None, seen: set[int]) -> None:
    if asked is not None and isinstance(message.metadata.src_node_id, int):
        if node_id not in asked:
            raise RejectedError("this node was not asked in this round")
        if not message.has_error() and not _is_reply_to(message.metadata, asked[node_id]):
            raise RejectedError("a reply to another message than the one of this round")
    if node_id in seen:
        raise RejectedError("a second reply of the same node")


def _is_reply_to(reply: Metadata, question: Metadata) -> bool:
    """Whether a reply is one to this message, which has an id once a grid has sent it."""
    same_id = not question.message_id or reply.reply_to_message_id == question.message_id
    return same_id and reply.message_type == question.message_type


def _require_content(message: Message) -> None:
    if message.has_error():
        raise RejectedError(f"error reply: {str(message.error.reason)[:200]}")
    if not message.has_content() or not isinstance(message.content, RecordDict):
        raise RejectedError("the reply has no content")


def _only_arrays(message: Message) -> ArrayRecord:
    records = list(message.content.array_records.values())
    if len(records) != 1:
        raise RejectedError(f"{len(records)} ArrayRecords; exactly one is expected")
    return records[0]


def _most_common(records: Sequence[ArrayRecord]) -> Layout | None:
    """Return the layout that most records declare, in the order that most of those have; the first among equals."""
    found: dict[frozenset[Any], Counter[Layout]] = {}
    for record in records:
        try:
            layout = Layout.of(record)
            key = frozenset(layout.entries)
        except Exception:  # noqa: S112 - such a record is quarantined when it is read
            continue
        found.setdefault(key, Counter())[layout] += 1
    return max(found.values(), key=Counter.total).most_common(1)[0][0] if found else None


def _reason(error: Exception) -> str:
    plain = (
        str(error) if isinstance(error, RejectedError) else f"unreadable: {type(error).__name__}: {str(error)[:200]}"
    )
    # It quotes nodes, whose line breaks and control characters would forge lines of the log.
    return "".join(character if character.isprintable() else "?" for character in plain)


def with_content(message: Message, node_id: int, content: RecordDict) -> Message:
    """Return a message like this one, from this node, with other content; the message is left alone."""
    metadata = message.metadata
    if not isinstance(getattr(metadata, "src_node_id", None), int):
        # A mock of a unit test: a real message needs real metadata.
        metadata = metadata_by_hand("train", source=node_id)
    return Message(metadata=metadata, content=content)  # type: ignore[call-overload,no-any-return]


def metadata_by_hand(kind: str, source: int = 0, destination: int = 0) -> Metadata:
    """Return metadata for a message that no grid carried."""
    return Metadata(
        run_id=0,
        message_id="",
        src_node_id=source,
        dst_node_id=destination,
        reply_to_message_id="",
        group_id="",
        created_at=0.0,
        ttl=0.0,
        message_type=kind,
    )


def only_metrics(message: Message) -> MetricRecord:
    """Return the reply's MetricRecord; an empty one unless there is exactly one."""
    records = list(message.content.metric_records.values())
    return records[0] if len(records) == 1 else MetricRecord()


# ---------------------------------------------------------------- metrics


def median_metrics(contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
    """Median of each metric over the nodes; `weighted_by_key` is read by nobody and left out.

    A metric counts if more than half of the nodes report it, in the kind (a number, or a list of one
    length) that most of them use; values that are not finite are dropped. Unlike a weighted mean,
    fewer than half of the nodes cannot move it beyond what the others report.

    Parameters
    ----------
    contents : list of RecordDict
        Contents of the accepted replies; those with other than one MetricRecord do not count.
    weighted_by_key : str
        Flower's name of the weight, ``"num-examples"``.
    """
    records = [only[0] for content in contents if len(only := list(content.metric_records.values())) == 1]
    counts = Counter(key for record in records for key in record if key != weighted_by_key)
    result = MetricRecord()
    for key in sorted(key for key, count in counts.items() if 2 * count > len(contents)):
        value = _median([record[key] for record in records if key in record])
        if value is not None:
            result[key] = value
    return result


def _median(values: Sequence[Any]) -> Value | None:
    kinds = Counter(_kind(value) for value in values)
    kind, count = kinds.most_common(1)[0]
    if kind is None or 2 * count <= len(values):
        return None
    same = [value for value in values if _kind(value) == kind]
    if kind == -1:
        return _middle(same)
    return [_middle(column) for column in zip(*same, strict=True)]


def _middle(values: Sequence[float]) -> float:
    """Median; halved before they are added, since the sum of the middle two may be more than a float holds."""
    return float(median_low(values)) / 2 + float(median_high(values)) / 2


def _kind(value: Any) -> int | None:
    """-1 for a finite number, the length for a list of them, None for anything else."""
    if isinstance(value, list):
        return len(value) if all(_kind(item) == -1 for item in value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return -1 if isfinite(float(value)) else None
    except OverflowError:
        return None
