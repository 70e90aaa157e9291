"""Where Flower messages become updates: every reply is hostile until proved otherwise.

Whatever is wrong with a reply becomes a reason, never an exception. Numbers that nodes report beside their arrays are
taken by their median.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from logging import INFO, WARNING
from math import isfinite
from statistics import median_high, median_low
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np
from flwr.app import ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.updates import Layer, Updates
from flwr_robust.messages.arrays import (
    DTYPE,
    LAYOUT,
    NOT_ARRAYS,
    NOT_FINITE,
    Apart,
    Arrays,
    Layout,
    RejectedError,
    lower_median,
    require_finite,
)

Value = float | list[float]
P = ParamSpec("P")
T = TypeVar("T")
# Code of the error that takes the place of a reply that could not be read; see `flwr_robust.messages.grid`.
UNREADABLE = 7105


_HINTS = {
    LAYOUT: "Let the nodes return arrays of the same names and shapes: the whole model, or the same part of it.",
    DTYPE: "Let the nodes return floats of 16 to 64 bits, or whole numbers where the model has integers.",
    NOT_FINITE: "Look for what diverges where nodes train (a smaller learning rate, clipped gradients); values that "
    "are not finite on purpose, such as masks, must be so in the model that is sent.",
    NOT_ARRAYS: "Let each node return one ArrayRecord of NumPy arrays. Trees, such as XGBoost's bytes, cannot be "
    "averaged: use Flower's FedXgbBagging or FedXgbCyclic for them.",
}


class ConfigurationError(ValueError):
    """The nodes of a project reply in a way that cannot be aggregated, and too many of them to be malicious."""


# ---------------------------------------------------------------- what was asked


@dataclass(frozen=True)
class Question:
    """A message to a node.

    Attributes
    ----------
    metadata : Metadata
        A grid writes the message's id into them when it sends it.
    records : dict of str to ArrayRecord, or None
        The arrays that it carried, by the names of their records; None where that is not known.
    """

    metadata: Metadata
    records: Mapping[str, ArrayRecord] | None = None

    @classmethod
    def of(cls, message: Message, *, with_records: bool = False) -> Question:
        """Take note of a message."""
        has_records = with_records and message.has_content()
        return cls(message.metadata, dict(message.content.array_records) if has_records else None)

    @property
    def node_id(self) -> int:
        """Whom it went to."""
        return self.metadata.dst_node_id

    def record_for(self, name: str, arrays: Iterable[str]) -> ArrayRecord | None:
        """Return what a record of this name, with these arrays, answers to.

        That is the record of its name, else the only one, else the first that has all of its arrays.
        """
        records = self.records or {}
        others = [record for record in records.values() if len(records) == 1 or set(arrays) <= record.keys()]
        return records.get(name) or next(iter(others), None)


class Seeing(Protocol):
    """What is asked of a `flwr_robust.messages.grid.GuardedGrid`."""

    def sent(self, replies: Iterable[Message]) -> Sent | None: ...


class Sent:
    """What the nodes of a round were asked, and with which arrays: what their replies are compared with.

    Parameters
    ----------
    questions : iterable of Question, optional
        Messages to the nodes; by default any node may reply.
    model : ArrayRecord, optional
        The model that the round starts from, if there is one.
    heard : set of int, optional
        Nodes of which it is known that something came from them.

    Attributes
    ----------
    questions : dict of int to Question, or None
        By node id, the last one to each node.
    model, heard
        As given.

    Raises
    ------
    ValueError
        If the model holds arrays that are neither floats up to 64 bits, integers nor bool.
    """

    def __init__(
        self,
        questions: Iterable[Question] | None = None,
        model: ArrayRecord | None = None,
        heard: Iterable[int] = (),
    ) -> None:
        asked = None if questions is None else list(questions)
        self.questions = None if asked is None else {question.node_id: question for question in asked}
        self._asked, self.heard = asked or [], set(heard)
        self.model = model
        self._read: dict[int, Arrays] = {}
        if model is not None:
            self.arrays_of(model)

    @cached_property
    def by_id(self) -> dict[str, Question]:
        """The messages by their ids, as far as a grid gave them some."""
        return {question.metadata.message_id: question for question in self._asked if question.metadata.message_id}

    @property
    def asked(self) -> list[int] | None:
        """The nodes that were asked; None where any may reply."""
        return None if self.questions is None else list(self.questions)

    def unless_seen(self, grid: Seeing | None, replies: Sequence[Message]) -> Sent:
        """Return what a guarded grid saw going to the nodes of these replies; this one, where it saw nothing."""
        return (None if grid is None else grid.sent(replies)) or self

    def layout(self, statistics: Sequence[str]) -> Layout | None:
        """Return the model's own layout; None where no arrays were sent."""
        return Layout.most_common([self.arrays], self.arrays, statistics) if self.arrays and self.model else None

    @property
    def arrays(self) -> Arrays | None:
        """The arrays of the model."""
        return None if self.model is None else self.arrays_of(self.model)

    def arrays_of(self, record: ArrayRecord) -> Arrays:
        """Return what a record that was sent holds; each one is read once."""
        if id(record) not in self._read:
            try:
                self._read[id(record)] = Arrays.of(record)
            except RejectedError as error:
                raise ValueError(f"this model cannot be aggregated: {error}.") from error
        return self._read[id(record)]

    def base_of(self, node_id: int, message: Message, name: str, arrays: Arrays) -> Arrays | None:
        """Return what the arrays of a reply, a record of this name, are compared with; None: with zero."""
        question = self.by_id.get(message.metadata.reply_to_message_id) if self.by_id else None
        question = question or (self.questions or {}).get(node_id)
        if question is None or question.records is None:
            return self.arrays
        record = question.record_for(name, arrays.values)
        return None if record is None else self.arrays_of(record)


# ---------------------------------------------------------------- what came


@dataclass
class Reply:
    """An accepted reply.

    Attributes
    ----------
    node_id : int
        Whose it is.
    message : Message
        The reply itself.
    arrays : dict of str to 1-D array
        Flat views of its arrays.
    base : Arrays or None
        What the node was sent; None: nothing.
    """

    node_id: int
    message: Message
    arrays: dict[str, NDArray[Any]]
    base: Arrays | None = None


@dataclass(frozen=True)
class Quarantined:
    """A reply that cannot be used: its node, why, and the kind of the reason if it proves the node to be at fault."""

    node_id: int
    reason: str
    kind: str | None = None


@dataclass
class Inbox:
    """A round's replies: those that can be aggregated, and why the others cannot.

    Attributes
    ----------
    layout : Layout
        The reference: the one that more than half of the readable replies share.
    accepted : list of Reply
        By node id.
    quarantined : list of Quarantined
        The others.
    model : Arrays or None
        What the aggregate of the updates is added to; None is zero.
    holes : dict of str to array of int
        Places that need not be finite, since they were not in what was sent.
    """

    layout: Layout = field(default_factory=Layout)
    accepted: list[Reply] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    model: Arrays | None = None
    holes: dict[str, NDArray[np.intp]] = field(default_factory=dict)

    @property
    def nodes(self) -> list[int]:
        """Node ids of the accepted replies."""
        return [reply.node_id for reply in self.accepted]

    @property
    def proved(self) -> int:
        """Number of nodes whose replies prove that they are at fault: neither silence nor an error does."""
        return len({reply.node_id for reply in self.quarantined if reply.kind is not None})

    def updates(self) -> Updates:
        """Return what the accepted replies changed in the learned arrays."""
        layers = self.layout.learned
        dtype = self.layout.dtype_of(layers)
        bases = {id(base): self._values(layers, self.layout.known(base)) for base in _different(self.accepted)}
        return Updates.of_replies(self._rows(layers), [bases[id(r.base)] for r in self.accepted], layers, dtype)

    def statistics(self) -> Updates:
        """Return the running statistics that the accepted replies hold, as rows."""
        layers = self.layout.statistic
        rows = self._rows(layers)
        return Updates.of_replies(rows, [[None] * len(layers)] * len(rows), layers, self.layout.dtype_of(layers))

    def _rows(self, layers: Sequence[Layer]) -> list[list[NDArray[Any]]]:
        return [[self._without_holes(a.name, reply.arrays[a.name]) for a in layers] for reply in self.accepted]

    def _values(self, layers: Sequence[Layer], arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any] | None]:
        """Return the values of some arrays, zero in the holes; None where there are none."""
        return [self._without_holes(a.name, arrays[a.name]) if a.name in arrays else None for a in layers]

    def apart(self, statistics: FloatArray) -> Apart:
        """Return what no rule sees: the running statistics as given, and lower medians.

        Integers have one, and so has what nodes sent in the places of values that are not finite in their model.
        """
        dtypes = {name: dtype for name, dtype, _ in self.layout.entries}
        fixed = {a.name: statistics[a.start : a.stop].astype(dtypes[a.name]) for a in self.layout.statistic}
        for name in self.layout.counted:
            fixed[name] = lower_median([reply.arrays[name] for reply in self.accepted])
        return Apart(fixed, self._patches())

    def _patches(self) -> dict[str, tuple[NDArray[np.intp], NDArray[Any]]]:
        patches = {}
        for name, dtype, _ in self.layout.entries:
            if name in self.holes:
                places = self.holes[name]
                rows = [reply.arrays[name][places].astype(dtype) for reply in self.accepted]
                patches[name] = places, lower_median(rows)
        return patches

    def _without_holes(self, name: str, values: NDArray[Any]) -> NDArray[Any]:
        if name not in self.holes:
            return values
        filled = values.copy()
        filled[self.holes[name]] = 0
        return filled

    def step(self, update: FloatArray, rate: float, apart: Apart) -> ArrayRecord:
        """Return the model moved by an update of the learned arrays, which is overwritten; see `Layout.step`."""
        known = self.layout.known(self.model)
        model = {name: self._without_holes(name, values) for name, values in known.items()}
        return self.layout.step(model, update, rate, apart)

    def require_sense(self, num_malicious: Callable[[int], int], server_round: int) -> None:
        """Refuse replies that fail alike: more than half, and more than `num_malicious` of all, are honest ones.

        Raises
        ------
        ConfigurationError
            If there are such replies. The text says how many, what they sent, what was expected, and what to do.
        """
        # A node counts once, by its first reply, however many it sends.
        first = {reply.node_id: reply for reply in reversed(self.quarantined)}
        failed = [reply for node, reply in first.items() if reply.kind is not None and node not in self.nodes]
        total = len(self.nodes) + len(first.keys() - set(self.nodes))
        f = num_malicious(total)
        for kind, count in Counter(reply.kind for reply in failed).most_common(1):
            if kind is not None and count > f and 2 * count > total:
                reason = Counter(reply.reason for reply in failed if reply.kind == kind).most_common(1)[0][0]
                raise ConfigurationError(
                    f"{count} of {total} replies of round {server_round} cannot be aggregated for the same kind of "
                    f"reason ({kind}), which is a matter of the project and not of {f} malicious nodes: {reason}. "
                    f"{_expected(self.model)} {_HINTS[kind]}"
                )

    def quarantine(self, reasons: Mapping[int, str]) -> None:
        """Move accepted replies, given by position and what was found in their arrays, to the quarantined ones."""
        for row, found in reasons.items():
            reply = self.accepted[row]
            self.quarantined.append(Quarantined(reply.node_id, self._not_finite(reply) or found, NOT_FINITE))
        self.accepted = [reply for row, reply in enumerate(self.accepted) if row not in reasons]

    def _not_finite(self, reply: Reply) -> str | None:
        """Return what the first array holds that is not finite."""
        for layer in self.layout.learned:
            try:
                require_finite(layer.name, reply.arrays[layer.name], self.holes.get(layer.name))
            except RejectedError as error:
                return _printable(str(error))
        return None


def read_replies(
    replies: Iterable[Message],
    sent: Sent,
    statistics: Sequence[str] = (),
    place_of: Callable[[int], int] | None = None,
) -> Inbox:
    """Sort replies to a training round into accepted and quarantined ones.

    Parameters
    ----------
    replies : iterable of Message
        As they arrived; the first reply of a node counts.
    sent : Sent
        Who was asked, and what was sent.
    statistics : sequence of str
        See `Layout`.
    place_of : callable, optional
        What accepted replies are ordered by, of a node id; by default the id itself.

    Raises
    ------
    ValueError
        If what was sent cannot be aggregated.
    """
    inbox = Inbox(model=sent.arrays)
    read: list[tuple[int, Message, Arrays, str]] = []
    admitted = admit(replies, sent, inbox.quarantined)
    for node_id, message in admitted if place_of is None else sorted(admitted, key=lambda pair: place_of(pair[0])):
        try:
            name, record = _only_arrays(message)
            arrays = Arrays.of(record)
            _require_a_model(arrays)
            read.append((node_id, message, arrays, name))
        except Exception as error:
            inbox.quarantined.append(_quarantined(node_id, error, NOT_ARRAYS))
    bases = [sent.base_of(node_id, message, name, arrays) for node_id, message, arrays, name in read]
    inbox.model = _current(sent, bases)
    layout = Layout.most_common([arrays for _, _, arrays, _ in read], inbox.model, statistics)
    inbox.layout = layout or inbox.layout
    inbox.holes = _holes(inbox.layout, bases)
    for (node_id, message, arrays, _), base in zip(read, bases, strict=True):
        try:
            if layout is None:
                raise RejectedError(f"no layout is that of most replies; this one has {_described(arrays)}", LAYOUT)
            inbox.accepted.append(Reply(node_id, message, layout.read(arrays, inbox.holes), base))
        except Exception as error:
            inbox.quarantined.append(_quarantined(node_id, error))
    counts = (len(inbox.accepted), len(inbox.quarantined))
    log(INFO, "aggregate_train: Received %s usable replies and %s others", *counts)
    return inbox


def _current(sent: Sent, bases: Sequence[Arrays | None]) -> Arrays | None:
    """Return the model that updates are added to: what all nodes were sent, else the strategy's own."""
    different = {id(base): base for base in bases}
    if len(different) == 1:
        return bases[0]
    if sent.model is not None or not bases:
        return sent.arrays
    # Where nobody says what the strategy's model is, the one that most were sent.
    most, _ = Counter(map(id, bases)).most_common(1)[0]
    return different[most]


def _different(replies: Sequence[Reply]) -> list[Arrays | None]:
    """Return what was sent for these replies, each model once."""
    return list({id(reply.base): reply.base for reply in replies}.values())


def _holes(layout: Layout, bases: Sequence[Arrays | None]) -> dict[str, NDArray[np.intp]]:
    found: dict[str, list[NDArray[np.intp]]] = {}
    for base in {id(base): base for base in bases}.values():
        for name in layout.known(base):
            if base is not None and name in base.holes:
                found.setdefault(name, []).append(base.holes[name])
    return {name: np.unique(np.concatenate(places)) for name, places in found.items()}


def log_quarantined(quarantined: Iterable[Quarantined], what: str = "Quarantined the reply") -> None:
    """Log each reason once, with the nodes that share it."""
    nodes: dict[str, list[int]] = {}
    for reply in quarantined:
        nodes.setdefault(reply.reason, []).append(reply.node_id)
    for reason, node_ids in nodes.items():
        log(WARNING, "\t> %s of node %s: %s", what, ", ".join(map(str, sorted(node_ids))), reason)


def read_evaluations(replies: Iterable[Message], sent: Sent) -> list[tuple[int, Message]]:
    """Return the usable replies to an evaluation round, with their node ids; the others are logged."""
    quarantined: list[Quarantined] = []
    admitted = admit(replies, sent, quarantined)
    log_quarantined(quarantined, "Left out the evaluation reply")
    counts = (len(admitted), len(quarantined))
    log(INFO, "aggregate_evaluate: Received %s usable replies and %s others", *counts)
    return admitted


def admit(replies: Iterable[Message], sent: Sent, quarantined: list[Quarantined]) -> list[tuple[int, Message]]:
    """Return (node id, message) of replies with content from nodes that were asked, one a node, by node id.

    What is wrong with the others is appended to `quarantined`. Replies without a usable node id (mocks
    in unit tests) are numbered in order of arrival.
    """
    admitted: dict[int, Message] = {}
    seen: set[int] = set()
    for position, message in enumerate(replies):
        node_id = position
        try:
            node_id = _sender(message, position, sent)
            _require_asked(message, node_id, sent, seen)
            seen.add(node_id)
            _require_content(message)
        except Exception as error:
            quarantined.append(_quarantined(node_id, error, NOT_ARRAYS if node_id in seen else None))
            continue
        admitted[node_id] = message
    return sorted(admitted.items(), key=lambda pair: pair[0])


def _sender(message: Message, position: int, sent: Sent) -> int:
    """Return the node that a reply, or an error in its place, is from."""
    source = message.metadata.src_node_id
    if not isinstance(source, int):
        return position
    if sent.questions is not None and source not in sent.questions and message.has_error():
        # The SuperLink writes errors for nodes that are gone under its own id.
        question = sent.by_id.get(message.metadata.reply_to_message_id)
        return source if question is None else question.node_id
    return source


def _require_asked(message: Message, node_id: int, sent: Sent, seen: set[int]) -> None:
    if sent.questions is not None and isinstance(message.metadata.src_node_id, int):
        if node_id not in sent.questions:
            raise RejectedError("this node was not asked in this round")
        if not _answers(message.metadata, node_id, sent, any_type=message.has_error()):
            raise RejectedError("this answers another message than the one of this round")
    if node_id in seen:
        raise RejectedError("a second reply of the same node")


def _answers(reply: Metadata, node_id: int, sent: Sent, *, any_type: bool) -> bool:
    """Whether a reply is one to a message to this node, which has an id once a grid has sent it."""
    assert sent.questions is not None
    question = sent.by_id.get(reply.reply_to_message_id)
    if question is None:
        question = sent.questions[node_id]
        # Where the node's message has an id, this reply is one to another.
        if question.metadata.message_id:
            return False
    same_type = any_type or reply.message_type == question.metadata.message_type
    return question.node_id == node_id and same_type


def _require_content(message: Message) -> None:
    if message.has_error():
        if message.error.code == UNREADABLE:
            raise RejectedError(str(message.error.reason)[:200], NOT_ARRAYS)
        raise RejectedError(f"error reply: {str(message.error.reason)[:200]}")
    if not message.has_content() or not isinstance(message.content, RecordDict):
        raise RejectedError("the reply has no content", NOT_ARRAYS)


def _only_arrays(message: Message) -> tuple[str, ArrayRecord]:
    """Return the only ArrayRecord of a reply, and its name."""
    records = list(message.content.array_records.items())
    if len(records) != 1:
        raise RejectedError(f"{len(records)} ArrayRecords; exactly one is expected", NOT_ARRAYS)
    return records[0]


def _require_a_model(arrays: Arrays) -> None:
    """Refuse what is no model, but bytes that other strategies pass on."""
    if [(values.dtype, len(arrays.shapes[name])) for name, values in arrays.values.items()] == [(np.dtype("uint8"), 1)]:
        raise RejectedError("a single array of bytes, such as XGBoost's trees, and no model", NOT_ARRAYS)


def _quarantined(node_id: int, error: Exception, unreadable: str | None = None) -> Quarantined:
    """Return why a reply is not used: what was found, or that reading it failed, which is of this kind."""
    if isinstance(error, RejectedError):
        return Quarantined(node_id, _printable(str(error)), error.kind)
    return Quarantined(node_id, _printable(f"unreadable: {type(error).__name__}: {str(error)[:200]}"), unreadable)


def _printable(text: str) -> str:
    """Return a text that quotes nodes: line breaks and control characters of theirs would forge lines of the log."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _described(arrays: Arrays) -> str:
    entries = ((name, arrays.values[name].dtype, shape) for name, shape in arrays.shapes.items())
    shown = ", ".join(f"{name[:40]!r} {dtype} {shape}" for name, dtype, shape in islice(entries, 3))
    return shown + (f" and {len(arrays.shapes) - 3} more" if len(arrays.shapes) > 3 else "")


def _expected(model: Arrays | None) -> str:
    if model is None or not model.shapes:
        return "Nothing was sent that says what the arrays must be."
    return f"The model that was sent has {_described(model)}."


def metadata_by_hand(kind: str, source: int = 0, destination: int = 0, answered: str = "") -> Metadata:
    """Return metadata for a message that no grid carried."""
    return Metadata(
        run_id=0,
        message_id="",
        src_node_id=source,
        dst_node_id=destination,
        reply_to_message_id=answered,
        group_id="",
        created_at=0.0,
        ttl=0.0,
        message_type=kind,
    )


# ---------------------------------------------------------------- metrics

LONGEST_LIST, LONGEST_NAME = 10_000, 200


class MedianMetrics:
    """Aggregates metrics by the median over the nodes, each counting once; says once which it leaves out.

    A metric counts if more than half of the nodes report it, in the kind (a finite number, or a list of them of one
    length) that most of them use. Unlike a weighted mean, fewer than half of the nodes cannot move it beyond
    what the others report.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, contents: list[RecordDict], weighted_by_key: str) -> MetricRecord:
        """Return the medians; see `median_metrics`."""
        left_out: list[str] = []
        result = median_metrics(contents, weighted_by_key, left_out)
        if result:
            self._say("Metrics are medians over the nodes, unweighted: num-examples is what a node says of itself")
        if left_out:
            self._say(
                f"Metrics left out, since most nodes report neither a finite number nor a list of one length up to "
                f"{LONGEST_LIST:,}: {', '.join(left_out[:20])}"
            )
        return result

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            log(INFO, "%s", text)


def attempt(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T | None:
    """Return what a user's function makes of the nodes' metrics; None where it fails on what nodes sent.

    That costs the metrics, not the run.
    """
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        log(WARNING, "%s failed on the nodes' metrics and is left out: %s: %s", name, type(error).__name__, error)
        return None


def median_metrics(contents: list[RecordDict], weighted_by_key: str, left_out: list[str] | None = None) -> MetricRecord:
    """Median of each metric over the nodes; `weighted_by_key` is read by nobody and left out.

    Parameters
    ----------
    contents : list of RecordDict
        Contents of the accepted replies; those with other than one MetricRecord do not count.
    weighted_by_key : str
        Flower's name of the weight, ``"num-examples"``.
    left_out : list of str, optional
        Gets the names that most nodes report, but not in one kind that has a median.
    """
    records = [only[0] for content in contents if len(only := list(content.metric_records.values())) == 1]
    counts = Counter(key for record in records for key in record if key != weighted_by_key)
    result = MetricRecord()
    for key in sorted(key for key, count in counts.items() if 2 * count > len(contents)):
        value = _median([record[key] for record in records if key in record])
        name = _printable(key[:LONGEST_NAME])
        if value is not None:
            result[name] = value
        elif left_out is not None:
            left_out.append(name)
    return result


def _median(values: Sequence[Any]) -> Value | None:
    kinds = Counter(kind_of(value) for value in values)
    kind, count = kinds.most_common(1)[0]
    if kind is None or 2 * count <= len(values):
        return None
    same = [value for value in values if kind_of(value) == kind]
    if kind == -1:
        return _middle(same)
    return [_middle(column) for column in zip(*same, strict=True)]


def _middle(values: Sequence[float]) -> float:
    """Median; halved before they are added, since the sum of the middle two may be more than a float holds."""
    return float(median_low(values)) / 2 + float(median_high(values)) / 2


def kind_of(value: Any) -> int | None:
    """Return -1 for a finite number, the length for a list of them, None for anything else."""
    if isinstance(value, list):
        return len(value) if len(value) <= LONGEST_LIST and all(kind_of(item) == -1 for item in value) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return -1 if isfinite(float(value)) else None
    except OverflowError:
        return None
