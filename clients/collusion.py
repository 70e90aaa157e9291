"""One round under attack: the honest replies go in, the malicious ones come out rewritten."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.common.logger import log

from .attacks.base import Attack
from .attacks.faults import Malformed
from .attacks.moments import Matrix, column_means
from .attacks.search import SearchError
from .attacks.sight import Rule
from .wire import SentModel, UnusableReplyError, Vector, replace_arrays


@dataclass(frozen=True)
class Instruction:
    """A train message and the arrays that it carried when it was sent."""

    message: Message
    sent: SentModel

    @property
    def node(self) -> int:
        """The node that the message goes to."""
        return int(self.message.metadata.dst_node_id)


def instructions_of(messages: Iterable[Message], statistics: bool = True) -> list[Instruction]:
    """Return train messages with the models that they carry; those that share their arrays share one model.

    `statistics`: whether running statistics of batch normalisation belong to the updates.
    """
    models: dict[tuple[int, ...], SentModel] = {}
    noted = []
    for message in messages:
        records = message.content.array_records.values()
        key = tuple(id(array) for record in records for array in record.values())
        if key not in models:
            models[key] = SentModel(message.content, statistics)
        noted.append(Instruction(message, models[key]))
    return noted


class Collusion:
    """The malicious nodes together: what they reply to the messages of a round.

    Parameters
    ----------
    attack : Attack
        Computes their updates.
    strategy : object, optional
        Its ``rule`` is the server's rule for attacks that know it, unless `rule` is given.
    rule : callable, optional
        ``(n, d) -> (d,)``.
    """

    def __init__(self, attack: Attack, strategy: Any = None, rule: Rule | None = None) -> None:
        self.attack = attack
        self._strategy = strategy
        self._given_rule = rule
        self._mean_is_logged = False
        self.last_model: Vector | None = None
        """What was sent in the last round, where the attack follows it."""

    def corrupt(
        self,
        instructions: Sequence[Instruction],
        replies: Sequence[Message],
        malicious: Collection[int],
        observe: Callable[[Iterable[int]], Collection[int]],
    ) -> list[Message | None]:
        """Return the replies with those of malicious nodes replaced, or None for them where they are held back.

        All others are the same objects. `observe` returns the honest nodes whose updates the malicious ones see.
        """
        previous = self._follow(instructions)
        corrupted: list[Message | None] = list(replies)
        origins = [(index, _origin(reply, instructions), reply) for index, reply in enumerate(replies)]
        known = [(index, origin, reply) for index, origin, reply in origins if origin is not None]
        attackers = [index for index, origin, _ in known if origin.node in malicious]
        if not attackers:
            return corrupted
        if not self.attack.makes_updates:
            for index in attackers:
                corrupted[index] = self._spoil(replies[index])
            return corrupted
        own = [(origin, reply) for _, origin, reply in known if origin.node in malicious]
        honest = [(origin, reply) for _, origin, reply in known if origin.node not in malicious]
        forged = self._forge(own, _usable(honest, own[0][0].sent.size), observe, previous)
        for index, reply in zip(attackers, forged, strict=True):
            corrupted[index] = reply
        return corrupted

    def _follow(self, instructions: Sequence[Instruction]) -> Vector | None:
        """Return the global model's move since the last round, where it is needed and known; and note the model."""
        if not self.attack.follows_model or not instructions:
            return None
        last, self.last_model = self.last_model, instructions[0].sent.model.copy()
        return None if last is None or last.shape != self.last_model.shape else self.last_model - last

    def _spoil(self, reply: Message) -> Message | None:
        """Return a malicious node's reply with unusable arrays; None where it sends none."""
        if not isinstance(self.attack, Malformed):
            return None
        return reply if reply.has_error() else _with_content(reply, replace_arrays(reply.content, self.attack.spoil))

    def _forge(
        self,
        own: Sequence[tuple[Instruction, Message]],
        honest: Sequence[_Usable],
        observe: Callable[[Iterable[int]], Collection[int]],
        previous: Vector | None,
    ) -> Sequence[Message]:
        """Return the malicious nodes' replies with other updates; as they are where no attack is possible."""
        seen_ids = observe([reply.node for reply in honest])
        seen = [reply for reply in honest if reply.node in seen_ids]
        size = own[0][0].sent.size
        trained = _trained(own, size)
        if not size or not (seen or (trained is not None and (self.attack.knows == "own" or honest))):
            log(WARNING, "Adversary: no attack in this round, because no honest reply can be used.")
            return [reply for _, reply in own]
        rows = np.stack([reply.update for reply in seen]) if seen else np.empty((0, size), own[0][0].sent.dtype)
        order = [*_rows_order(seen, honest), *(origin.node for origin, _ in own)]
        rule = self._rule(own[0][0].sent, order, rows, trained) if self.attack.knows == "rule" else None
        try:
            updates = self.attack(
                rows,
                len(own),
                rule=rule,
                ids=[reply.node for reply in seen],
                own=trained,
                unseen=len(honest) - len(seen),
                previous=previous if previous is not None and len(previous) == size else None,
            )
        except SearchError as error:
            log(WARNING, "Adversary: no attack in this round: %s", error)
            return [reply for _, reply in own]
        template = honest[0].content if honest else None
        return [
            _rewritten(reply, origin, update, template) for (origin, reply), update in zip(own, updates, strict=True)
        ]

    def _rule(self, sent: SentModel, nodes: Sequence[int], honest: Matrix, trained: Matrix | None) -> Rule:
        """Return the server's rule, with what the server tells it, as far as it takes that.

        The attackers guess what the server computes on its own data: the mean of the updates that they know.
        """
        rule = self._given_rule if self._given_rule is not None else getattr(self._strategy, "rule", None)
        if rule is None:
            if not self._mean_is_logged:
                log(INFO, "Adversary: the strategy has no rule, so the attack is optimised against the mean.")
                self._mean_is_logged = True
            return _mean
        told: dict[str, Any] = {"layers": sent.layers, "ids": nodes, "model": sent.model}
        taken = {name: value for name, value in told.items() if name in _parameters(rule)}
        if "root" in _parameters(rule) and "root" in getattr(getattr(rule, "last", rule), "requires", ("root",)):
            taken["root"] = column_means(honest if len(honest) or trained is None else trained)
        any_rule: Any = rule
        return partial(any_rule, **taken) if taken else rule


def _mean(rows: Matrix) -> Vector:
    """Return the mean of the rows, which FedAvg comes close to."""
    return column_means(rows)


def _parameters(rule: Rule) -> Collection[str]:
    """Return the names of a rule's arguments."""
    try:
        return inspect.signature(rule).parameters
    except (TypeError, ValueError):
        # Some callables, such as NumPy's, have no signature.
        return ()


def _rows_order(seen: Sequence[_Usable], honest: Sequence[_Usable]) -> list[int]:
    """Return the honest nodes as their rows come: those that are seen, then the others."""
    known = {reply.node for reply in seen}
    return [reply.node for reply in (*seen, *(reply for reply in honest if reply.node not in known))]


def _origin(reply: Message, instructions: Sequence[Instruction]) -> Instruction | None:
    """Return the instruction that a message is a reply to, or None."""
    answered = reply.metadata.reply_to_message_id
    for instruction in instructions:
        # Error replies that the SuperLink writes carry its own node id.
        if isinstance(answered, str) and answered and answered == instruction.message.metadata.message_id:
            return instruction
    for instruction in instructions:
        if reply.metadata.src_node_id == instruction.node:
            return instruction
    return None


@dataclass(frozen=True)
class _Usable:
    """An honest reply whose update can be read."""

    node: int
    update: Vector
    content: RecordDict


def _usable(rows: Iterable[tuple[Instruction, Message]], size: int) -> list[_Usable]:
    """Return the honest replies that can be used, one a node."""
    found: dict[int, _Usable] = {}
    for origin, reply in rows:
        if reply.has_error() or origin.sent.size != size or size == 0 or origin.node in found:
            continue
        try:
            update = origin.sent.update_of(reply.content)
        except UnusableReplyError as error:
            log(WARNING, "Adversary: the reply of honest node %s is left out: %s.", origin.node, error)
            continue
        found[origin.node] = _Usable(origin.node, update, reply.content)
    return list(found.values())


def _trained(own: Sequence[tuple[Instruction, Message]], size: int) -> Matrix | None:
    """Return the (f, d) updates of the malicious nodes' own training; the mean of the others for unusable ones."""
    updates: list[Vector | None] = []
    for origin, reply in own:
        try:
            usable = not reply.has_error() and origin.sent.size == size
            updates.append(origin.sent.update_of(reply.content) if usable else None)
        except UnusableReplyError as error:
            log(INFO, "Adversary: the own update of malicious node %s is unusable: %s.", origin.node, error)
            updates.append(None)
    shown = [update for update in updates if update is not None]
    if not shown:
        return None
    stand_in = column_means(np.stack(shown)).astype(shown[0].dtype) if len(shown) < len(updates) else shown[0]
    return np.stack([stand_in if update is None else update for update in updates])


def _rewritten(reply: Message, origin: Instruction, update: Vector, template: RecordDict | None) -> Message:
    """Return a malicious node's reply with another update; an unusable one is made from the template."""
    if reply.has_error():
        return reply if template is None else Message(origin.sent.invent(template, update), reply_to=origin.message)
    try:
        content = origin.sent.rewrite(reply.content, update)
    except UnusableReplyError as error:
        if template is None:
            return reply
        log(INFO, "Adversary: the reply of malicious node %s is made from an honest one: %s.", origin.node, error)
        content = origin.sent.invent(template, update)
    return _with_content(reply, content)


def _with_content(reply: Message, content: RecordDict) -> Message:
    forged = copy.copy(reply)
    forged.content = content
    return forged
