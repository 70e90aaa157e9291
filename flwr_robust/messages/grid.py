"""The grid that `start` puts between a strategy and its nodes: what was sent, and replies that decode one by one.

Flower decodes replies before a strategy sees them, and an exception there ends the ServerApp. Here each reply is
decoded by itself, and one that cannot be becomes an error reply of its node.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import WARNING
from time import sleep, time
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, cast

from flwr.app import Array, Error, Message
from flwr.serverapp import Grid
from flwr.supercore import log
from flwr.supercore.inflatable.inflatable_object import get_object_body, get_object_head_values_from_object_content
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from flwr_robust.messages.replies import UNREADABLE, Question, Sent, metadata_by_hand
from flwr_robust.messages.through import Through

if TYPE_CHECKING:
    from flwr.app import ArrayRecord

# Exchanges that are kept: a round has two, and some strategies ask more.
KEPT = 4
LEAST_LIMIT = 64 * 2**20
# Seconds between two looks for replies, as in Flower's grid.
PAUSE = 3.0
# What Flower's grid calls to decode a reply, to fetch its parts, and to send those of a message.
DECODE, FETCH, SEND = "inflate_object_from_contents", "pull_objects", "push_objects"


@dataclass(eq=False)
class Exchange:
    """Messages that were sent together, and the nodes from which something came in return."""

    questions: list[Question]
    heard: set[int] = field(default_factory=set)

    @property
    def num_bytes(self) -> int:
        """Bytes of the largest set of arrays that a node was sent."""
        records = {id(record): record for q in self.questions for record in (q.records or {}).values()}
        sizes = {key: sum(len(array.data) for array in record.values()) for key, record in records.items()}
        return max((sum(sizes[id(r)] for r in (q.records or {}).values()) for q in self.questions), default=0)

    def ids(self) -> set[str]:
        """Return the ids that the grid gave the messages."""
        return {question.metadata.message_id for question in self.questions} - {""}


class NotingGrid(Through):
    """A grid that takes note of what each node is sent, and changes nothing: replies come as they come without it.

    Parameters
    ----------
    grid : Grid
        What carries the messages.

    Attributes
    ----------
    model : ArrayRecord or None
        The model that the strategy has now, noted by whoever knows it.
    """

    def __init__(self, grid: Grid) -> None:
        super().__init__(grid)
        self.model: ArrayRecord | None = None
        self._exchanges: deque[Exchange] = deque(maxlen=KEPT)

    def __getattr__(self, name: str) -> Any:
        """Look what this class does not change up in the grid beneath."""
        if name.startswith("__") or name == "grid":
            raise AttributeError(name)
        return getattr(self.grid, name)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and return the replies."""
        outgoing, exchange = self._noted(messages)
        replies = list(self.grid.send_and_receive(outgoing, timeout=timeout))
        exchange.heard |= _senders(replies)
        return replies

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, and take note of them."""
        return self.grid.push_messages(self._noted(messages)[0])

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return replies to these messages."""
        replies = list(self.grid.pull_messages(message_ids))
        self._hear(replies)
        return replies

    def sent(self, replies: Iterable[Message]) -> Sent | None:
        """Return what the nodes of these replies were asked; None if nothing was sent since the last call.

        The exchanges in question are those that a reply answers, by default the latest. They, and earlier ones, count
        no more afterwards: what answers them later is no reply to the round that will be on then.
        """
        found = self._answered_by(replies)
        if not found:
            return None
        while self._exchanges[0] is not found[-1]:
            self._exchanges.popleft()
        self._exchanges.popleft()
        return self._sent_in(found)

    def look(self, replies: Iterable[Message]) -> Sent | None:
        """Return what `sent` will return for these replies, for those who only look on."""
        found = self._answered_by(replies)
        return self._sent_in(found) if found else None

    def _answered_by(self, replies: Iterable[Message]) -> list[Exchange]:
        answered = {message.metadata.reply_to_message_id for message in replies}
        return [exchange for exchange in self._exchanges if exchange.ids() & answered] or list(self._exchanges)[-1:]

    def _sent_in(self, found: list[Exchange]) -> Sent:
        questions = [question for exchange in found for question in exchange.questions]
        return Sent(questions, self.model, set().union(*(exchange.heard for exchange in found)))

    def _noted(self, messages: Iterable[Message]) -> tuple[list[Message], Exchange]:
        outgoing = list(messages)
        exchange = Exchange([Question.of(message, with_records=True) for message in outgoing])
        if outgoing:
            self._exchanges.append(exchange)
        return outgoing, exchange

    def _hear(self, replies: Iterable[Message]) -> None:
        for message in replies:
            for exchange in self._exchanges:
                if message.metadata.reply_to_message_id in exchange.ids():
                    exchange.heard |= _senders([message])


class GuardedGrid(NotingGrid):
    """A grid that takes note of what each node is sent, and that no reply can bring down.

    Parameters
    ----------
    grid : Grid
        What carries the messages.
    max_reply_bytes : int, optional
        A larger reply is refused; by default four times what was sent, and at least 64 MB.
    """

    def __init__(self, grid: Grid, max_reply_bytes: int | None = None) -> None:
        super().__init__(grid)
        self.max_reply_bytes = max_reply_bytes

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and return the replies; what cannot be decoded comes as an error reply of its node."""
        pull = _decoding_pull(self.grid)
        if pull is None:
            return super().send_and_receive(messages, timeout=timeout)
        waiting = set(self.push_messages(messages))
        end = None if timeout is None else time() + timeout
        replies = []
        while waiting and (end is None or time() < end):
            found = self._pull(pull, waiting)
            replies += found
            waiting -= {message.metadata.reply_to_message_id for message in found}
            if waiting:
                sleep(PAUSE)
        return replies

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send messages, and take note of them."""
        with _pushing_on(self.grid):
            return super().push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Return replies to these messages; what cannot be decoded comes as an error reply of its node."""
        pull = _decoding_pull(self.grid)
        return super().pull_messages(message_ids) if pull is None else self._pull(pull, message_ids)

    def _pull(self, pull: FunctionType, message_ids: Iterable[str]) -> list[Message]:
        """Pull replies by Flower's own code, with careful hands in the place of two of its functions."""
        limit = self.max_reply_bytes
        if limit is None:
            limit = max(LEAST_LIMIT, 4 * max((exchange.num_bytes for exchange in self._exchanges), default=0))
        desk = _Desk(self.grid, pull, limit)
        replies = list(desk.pull(set(message_ids)))
        self._hear(replies)
        return replies


def _senders(replies: Iterable[Message]) -> set[int]:
    """Return the nodes that replies are from, as their metadata have it."""
    ids = (message.metadata.src_node_id for message in replies)
    return {node for node in ids if isinstance(node, int)}


# ---------------------------------------------------------------- decoding


def _decoding_pull(grid: Grid) -> FunctionType | None:
    """Return the function by which a grid pulls replies, if it decodes them itself."""
    pull = getattr(type(grid), "pull_messages", None)
    names = pull.__code__.co_names if isinstance(pull, FunctionType) else ()
    return cast(FunctionType, pull) if DECODE in names and FETCH in names else None


def _rebuilt(function: FunctionType, **changed: Any) -> FunctionType:
    """Return a function of Flower's that calls others in the place of some of its module."""
    names = {**function.__globals__, **changed}
    return FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)


@contextmanager
def _pushing_on(grid: Grid) -> Iterator[None]:
    """Let a grid go on where the SuperLink refuses a part of a message.

    It does when nobody needs the part any more: a node that says too soon that it has got its message would otherwise
    end the run.
    """
    push = getattr(type(grid), "_try_push_messages", None)
    if not isinstance(push, FunctionType) or SEND not in push.__code__.co_names:
        yield
        return
    send_all: Callable[..., None] = push.__globals__[SEND]

    def send(parts: Any, push_object_fn: Callable[[str, bytes], None], **options: Any) -> None:
        def tolerant(object_id: str, content: bytes) -> None:
            try:
                push_object_fn(object_id, content)
            except ObjectPushError as error:
                log(WARNING, "The SuperLink refused a part of a message: %s", str(error)[:200])

        send_all(parts, push_object_fn=tolerant, **options)

    vars(grid)[push.__name__] = MethodType(_rebuilt(push, **{SEND: send}), grid)
    try:
        yield
    finally:
        del vars(grid)[push.__name__]


class _RefusedError(Exception):
    """Why a reply is not decoded."""


class _Desk:
    """Stands in for a grid while its own `pull_messages` runs.

    That function decodes whatever it fetched, in one loop over all replies. It runs here with its two helpers
    replaced: one stops to fetch beyond the limit, the other turns what goes wrong into an error reply. Who sent a reply
    is what the SuperLink says, which checked it, not what the reply says of itself.
    """

    def __init__(self, grid: Grid, pull: FunctionType, limit: int) -> None:
        self._grid, self._limit = grid, limit
        self._origins: dict[str, tuple[int, str]] = {}
        self._refused: dict[int, str] = {}
        self._fetch_all: Callable[..., dict[str, bytes]] = pull.__globals__[FETCH]
        self._decode_one: Callable[..., Any] = pull.__globals__[DECODE]
        self._function = _rebuilt(pull, **{DECODE: self._decode, FETCH: self._fetch})

    def __getattr__(self, name: str) -> Any:
        """Look everything else up in the grid; what its client pulls is taken down."""
        found = getattr(self._grid, name)
        return _Client(found, self._take_down) if hasattr(found, "PullMessages") else found

    def pull(self, message_ids: set[str]) -> Iterable[Message]:
        """Return replies to these messages."""
        return cast(Iterable[Message], self._function(self, message_ids))

    def _take_down(self, response: Any) -> Any:
        for message in response.messages_list:
            metadata = message.metadata
            self._origins[metadata.message_id] = metadata.src_node_id, metadata.reply_to_message_id
        return response

    def _fetch(self, object_ids: list[str], pull_object_fn: Callable[[str], bytes], **options: Any) -> dict[str, bytes]:
        """Fetch the parts of one reply, as long as they stay below the limit."""
        fetched = 0

        def counted(object_id: str) -> bytes:
            nonlocal fetched
            content = pull_object_fn(object_id)
            fetched += len(content)
            if fetched > self._limit:
                raise _RefusedError(f"more than {self._limit:,} bytes (max_reply_bytes)")
            return content

        try:
            return self._fetch_all(object_ids, counted, **options)
        except _RefusedError as error:
            parts: dict[str, bytes] = {}
            self._refused[id(parts)] = str(error)
            return parts

    def _decode(self, message_id: str, parts: dict[str, bytes]) -> Message:
        """Return the reply that these parts make, or an error reply of its node."""
        node, answered = self._origins[message_id]
        try:
            if id(parts) in self._refused:
                raise _RefusedError(self._refused.pop(id(parts)))
            size = _size(parts)
            if size > self._limit:
                raise _RefusedError(f"{size:,} bytes, more than {self._limit:,} (max_reply_bytes)")
            return self._checked(self._decode_one(message_id, parts), node, answered)
        except Exception as error:
            known = isinstance(error, _RefusedError)
            reason = str(error) if known else f"cannot be decoded: {type(error).__name__}: {str(error)[:200]}"
            metadata = metadata_by_hand("train", source=node, answered=answered)
            return Message(metadata=metadata, error=Error(UNREADABLE, reason))  # type: ignore[call-overload,no-any-return]

    @staticmethod
    def _checked(message: Any, node: int, answered: str) -> Message:
        if not isinstance(message, Message):
            raise _RefusedError(f"a {type(message).__name__} in the place of a message")
        if (message.metadata.src_node_id, message.metadata.reply_to_message_id) != (node, answered):
            raise _RefusedError("its metadata name another node or another message than it came as")
        return message


class _Client:
    """A client of the SuperLink, whose pulled messages are taken down."""

    def __init__(self, client: Any, take_down: Callable[[Any], Any]) -> None:
        self._client, self._take_down = client, take_down

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def PullMessages(self, *arguments: Any, **keywords: Any) -> Any:  # noqa: N802
        """Pull messages."""
        return self._take_down(self._client.PullMessages(*arguments, **keywords))


def _size(parts: Mapping[str, bytes]) -> int:
    """Return how many bytes the parts of a reply come to when each array is put together, without doing it.

    An array names its chunks by number, and may name one of them any number of times.
    """
    total = sum(map(len, parts.values()))
    for content in parts.values():
        kind, chunks, _ = get_object_head_values_from_object_content(content)
        if kind == Array.__qualname__:
            described = json.loads(get_object_body(content, Array))
            total += sum(len(parts[chunks[place]]) for place in described["arraychunk_ids"])
    return total
