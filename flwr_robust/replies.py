"""The one place where Flower messages become updates: every reply is hostile until proved otherwise.

Nothing of a payload is interpreted before its header agrees with the model that was sent, arrays are
views of the reply's own bytes, and whatever is wrong with a reply becomes a reason, never an exception.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from math import prod
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from flwr.app import Array, ArrayRecord, Message, Metadata, MetricRecord, RecordDict
from numpy.lib import format as npy
from numpy.typing import NDArray

from flwr_robust.updates import FloatArray, Layer, ReplyUpdates

# numpy.load reads no longer header without the caller's leave either.
MAX_HEADER = 10_000
NUMPY_STYPE = "numpy.ndarray"
# Looked up by name: NumPy's parser of dtypes, which takes whole languages, sees nothing that a node declares.
PLAIN = "bool float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64"
DTYPES = {name: np.dtype(name) for name in PLAIN.split()}

# The nodes that were asked, and the metadata of the messages that asked them.
Questions = Mapping[int, Metadata]


class RejectedError(ValueError):
    """Why a reply cannot be used; the text becomes the reason in the report."""


@dataclass(frozen=True)
class Layout:
    """Names, dtypes and shapes of a model's arrays, in order.

    Attributes
    ----------
    entries : tuple of (name, dtype, shape)
        All arrays.
    """

    entries: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]

    @classmethod
    def of(cls, record: Mapping[str, Array]) -> Layout:
        """Layout that a record declares.

        Raises
        ------
        RejectedError
            If it declares a dtype other than float16, float32, float64, an integer or bool, or a negative size.
        """
        entries = []
        for name, array in record.items():
            dtype = DTYPES.get(str(array.dtype))
            if dtype is None:
                raise RejectedError(
                    f"array {name!r} has the dtype {str(array.dtype)[:40]!r}; floats and integers can be used"
                )
            if any(size < 0 for size in array.shape):
                raise RejectedError(f"array {name!r} has the shape {str(tuple(array.shape))[:80]}")
            entries.append((name, dtype, tuple(array.shape)))
        return cls(tuple(entries))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The float arrays, as columns of the updates."""
        made: list[Layer] = []
        start = 0
        for name, dtype, shape in self.entries:
            if dtype.kind == "f":
                made.append(Layer(name, shape, start, start + prod(shape)))
                start += prod(shape)
        return tuple(made)

    def read(self, record: Mapping[str, Array]) -> dict[str, NDArray[Any]]:
        """Flat views of the arrays of a record that has this layout, in this layout's order.

        Raises
        ------
        RejectedError
            If keys, dtypes, shapes (declared or in the bytes) or lengths differ.
        """
        names = {name for name, _, _ in self.entries}
        if record.keys() != names:
            missing, extra = sorted(names - record.keys()), sorted(record.keys() - names)
            raise RejectedError(f"arrays missing: {str(missing[:3])[:120]}, not asked for: {str(extra[:3])[:120]}")
        return {name: _read_array(name, record[name], dtype, shape) for name, dtype, shape in self.entries}


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
    layout : Layout or None
        The reference; None where no reply could be read.
    accepted : list of Reply
        In order of arrival.
    quarantined : list of (int, str)
        Node id and reason.
    """

    layout: Layout | None = None
    accepted: list[Reply] = field(default_factory=list)
    quarantined: list[tuple[int, str]] = field(default_factory=list)

    def updates(self, model: Mapping[str, NDArray[Any]] | None) -> ReplyUpdates:
        """Return the accepted replies minus the model as updates; without a model they are the updates."""
        layers = self.layout.layers if self.layout else ()
        sent = None if model is None else [model[layer.name] for layer in layers]
        return ReplyUpdates([[r.arrays[layer.name] for layer in layers] for r in self.accepted], sent, layers)

    def quarantine(self, reasons: Mapping[int, str]) -> None:
        """Move accepted replies, given by position, to the quarantined ones."""
        self.quarantined += [(self.accepted[row].node_id, reason) for row, reason in reasons.items()]
        self.accepted = [reply for row, reply in enumerate(self.accepted) if row not in reasons]


def read_replies(replies: Iterable[Message], asked: Questions | None, layout: Layout | None) -> Inbox:
    """Sort replies to a training round into accepted and quarantined ones.

    Parameters
    ----------
    replies : iterable of Message
        As they arrived; the first reply of a node counts.
    asked : dict of int to Metadata, or None
        Nodes that were asked, and the metadata of the messages that asked them; None accepts any.
    layout : Layout or None
        Layout of the model that was sent; None takes the one that most replies share.
    """
    inbox = Inbox()
    admitted = admit(replies, asked, inbox.quarantined)
    records: list[tuple[int, Message, ArrayRecord]] = []
    for node_id, message in admitted:
        try:
            records.append((node_id, message, _only_arrays(message)))
        except Exception as error:
            inbox.quarantined.append((node_id, _reason(error)))
    inbox.layout = layout or _most_common([record for _, _, record in records])
    for node_id, message, record in records:
        try:
            arrays = (inbox.layout or Layout.of(record)).read(record)
            inbox.accepted.append(Reply(node_id, message, arrays))
        except Exception as error:
            inbox.quarantined.append((node_id, _reason(error)))
    return inbox


def admit(
    replies: Iterable[Message], asked: Questions | None, quarantined: list[tuple[int, str]]
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
            _check_sender(message, node_id, asked, seen)
            seen.add(node_id)
            _check_content(message)
        except Exception as error:
            quarantined.append((node_id, _reason(error)))
            continue
        admitted.append((node_id, message))
    return admitted


def _sender(message: Message, position: int, asked: Questions | None) -> int:
    """Return the node that a reply, or an error in its place, is from."""
    source = message.metadata.src_node_id
    if not isinstance(source, int):
        return position
    if asked and source not in asked and message.has_error():
        # The SuperLink writes errors for nodes that are gone under its own id.
        answered = message.metadata.reply_to_message_id
        return next((node for node, question in asked.items() if answered and question.message_id == answered), source)
    return source


def _check_sender(message: Message, node_id: int, asked: Questions | None, seen: set[int]) -> None:
    if asked is not None and isinstance(message.metadata.src_node_id, int):
        if node_id not in asked:
            raise RejectedError("this node was not asked in this round")
        if not message.has_error() and not _answers(message.metadata, asked[node_id]):
            raise RejectedError("this answers another message than the one of this round")
    if node_id in seen:
        raise RejectedError("a second reply of the same node")


def _answers(reply: Metadata, question: Metadata) -> bool:
    """Whether a reply is one to this message, which has an id once a grid has sent it."""
    same_id = not question.message_id or reply.reply_to_message_id == question.message_id
    return same_id and reply.message_type == question.message_type


def _check_content(message: Message) -> None:
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
    # It quotes nodes: line breaks and control characters of theirs would forge lines of the log.
    return "".join(character if character.isprintable() else "?" for character in plain)


def _read_array(name: str, array: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Flat view of an array's bytes, once declaration and header agree with what is expected."""
    if array.stype != NUMPY_STYPE:
        raise RejectedError(f"array {name!r} is serialised as {str(array.stype)[:40]!r}, not {NUMPY_STYPE!r}")
    if DTYPES.get(str(array.dtype)) != dtype or tuple(array.shape) != shape:
        raise RejectedError(
            f"array {name!r} is declared as {str(array.dtype)[:40]} {str(tuple(array.shape))[:80]}, "
            f"but {dtype} {shape} was sent"
        )
    data = array.data
    usual, size = _usual_header(dtype, shape)
    if len(data) == len(usual) + size * dtype.itemsize and data.startswith(usual):
        return np.frombuffer(data, dtype, size, len(usual))
    header = read_header(data)
    if header is None:
        raise RejectedError(f"array {name!r} holds bytes that are no .npy file")
    found_shape, fortran, found_dtype, offset = header
    if found_dtype != dtype or found_shape != shape:
        raise RejectedError(
            f"array {name!r} holds {found_dtype} {str(found_shape)[:80]} in its bytes, not {dtype} {shape}"
        )
    if len(data) != offset + size * dtype.itemsize:
        raise RejectedError(f"array {name!r} holds {len(data)} bytes, not {offset + size * dtype.itemsize}")
    flat = np.frombuffer(data, dtype, size, offset)
    # Fortran order is legal, if rare: bring the values into the order of the others.
    return flat.reshape(shape, order="F").ravel() if fortran and len(shape) > 1 else flat


@lru_cache(maxsize=4096)
def _usual_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[bytes, int]:
    """Return the header that NumPy writes before such an array, and how many values follow.

    Nearly all replies begin with it: to compare it is quicker than to take it apart.
    """
    stream = BytesIO()
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(stream, described)
    header = stream.getvalue()
    return header, prod(shape)


def read_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int] | None:
    """Return shape, Fortran order, dtype and offset of the values of a .npy file; None if it is none."""
    version = data[6:8]
    width = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}.get(version)
    if data[:6] != npy.MAGIC_PREFIX or width is None:
        return None
    offset = 8 + width + int.from_bytes(data[8 : 8 + width], "little")
    if offset > min(MAX_HEADER, len(data)):
        return None
    return _parse_header(data[:offset])


@lru_cache(maxsize=512)
def _parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int] | None:
    stream = BytesIO(header)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        with catch_warnings():
            # What a node sends neither warns the user of odd spellings nor, where warnings are errors, raises.
            simplefilter("ignore")
            shape, fortran, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, UnicodeDecodeError):
        return None
    return shape, fortran, dtype, len(header)


def make_array(values: FloatArray | NDArray[Any], shape: tuple[int, ...]) -> Array:
    """Serialise flat C-ordered values with one copy, where ``Array(ndarray)`` makes several."""
    stream = BytesIO()
    npy.write_array_header_1_0(
        stream, {"descr": npy.dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
    )
    data = b"".join((stream.getvalue(), np.ascontiguousarray(values).data.cast("B") if values.size else b""))
    return Array(dtype=str(values.dtype), shape=shape, stype=NUMPY_STYPE, data=data)


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
