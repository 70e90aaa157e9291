"""A colluding, omniscient adversary: a grid that stands between the strategy and the nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp import Grid

from flwr_robust.messages.through import Through

from .attacks.base import Attack
from .attacks.faults import Malformed, Silent
from .attacks.sight import Rule
from .collusion import Collusion, Instruction, instructions_of
from .roles import Roles
from .wire import is_train

# Names of the adversary's own entries in its state, beside the attack's.
_ROUNDS, _MODEL = "adversary.rounds", "adversary.last-model"


@dataclass
class _Batch:
    """Train messages that were pushed together, and the replies that are here so far."""

    instructions: dict[str, Instruction]
    malicious: frozenset[int]
    waiting: set[str]
    arrived: dict[str, Message] = field(default_factory=dict)
    released: set[str] = field(default_factory=set)


class Adversary(Through):
    """Replaces malicious nodes' replies to train messages by an attack on the honest replies of the round.

    All nodes train. Honest replies are passed on as they are (the same objects). A malicious reply keeps
    its metrics, records, keys, shapes, dtypes and integer arrays; its float arrays become those that
    the node was sent plus its malicious update. Evaluate and query messages are not touched.

    Parameters
    ----------
    grid : Grid
        The grid to the nodes. What this class does not change goes to it.
    attack : clients.attacks.Attack
        It sees the updates of all honest nodes that replied (reply minus what was sent, finite, float arrays
        only, float32 or wider), the malicious nodes' own, and the last move of the global model where it counts; f is
        the number of malicious nodes among the round's replies.
    malicious : iterable of int, int or float
        Node ids; or how many nodes, or which fraction of them in [0, 1] (floored), drawn once, when first
        needed, from ``grid.get_node_ids()``.
    strategy : Strategy, optional
        Its ``rule`` is what an attack that knows the rule optimises against, looked up in each round. A
        strategy without one (Flower's own) is taken for the mean, which is logged.
    rule : callable, optional
        ``(n, d) -> (d,)``, instead of the strategy's.
    seed : int, optional
        Seed of the draws; they draw positions in the grid's order of nodes (ascending ids where the grid has no
        order). None: from the operating system.
    sees : float, optional
        Partial knowledge: the fraction (floored) of a round's honest updates that the attack sees, as far as possible
        from the same nodes in each round. Means and deviations then include the attackers' own updates, and their mean
        stands for each update that is not seen (MixTailor A.1.2). None: all are seen.
    redraw : bool
        Draw the malicious nodes anew in each round.
    statistics : bool
        Whether running statistics of batch normalisation (arrays named ``running_mean`` and ``running_var``) are
        attacked; otherwise those of the malicious nodes' own training are sent.

    Raises
    ------
    ValueError
        If the attack is a data attack, or another argument is none of the above; in the first round, if `malicious`
        asks for more nodes than there are.

    Notes
    -----
    - Error replies, unreadable and non-finite ones of honest nodes are passed on and left out of what the
      attack sees. A malicious node that replied with an error is given a reply, with an honest node's
      metrics.
    - A round without malicious or without usable honest replies passes unchanged, and so does one in which
      the rule refuses every factor of an "optimal" attack: the log says so. Attacks that know no more than their
      own updates need no honest replies.
    - Replies of `Silent` nodes are held back.
    - `send_and_receive`, which strategies use, sees a whole round. `pull_messages` hands on an honest reply
      as soon as it is there, and malicious ones once all train messages pushed together are answered
      (an expired message counts as answered); to that end it also collects replies of that push that were not
      asked for, and keeps them for the pull that asks.

    Examples
    --------
    >>> grid = Adversary(grid, attacks.SignFlip(), malicious=2, seed=1)  # doctest: +SKIP
    >>> strategy.start(grid=grid, initial_arrays=arrays)                 # doctest: +SKIP
    """

    def __init__(
        self,
        grid: Grid,
        attack: Attack,
        malicious: Iterable[int] | int | float,
        strategy: Any = None,
        rule: Rule | None = None,
        seed: int | None = None,
        *,
        sees: float | None = None,
        redraw: bool = False,
        statistics: bool = True,
    ) -> None:
        if not isinstance(attack, Attack):
            raise ValueError(f"Adversary was given attack = {attack!r}; give an object of clients.attacks.")
        if attack.knows == "data":
            raise ValueError(
                f"Adversary was given the data attack {attack!r}, which acts where nodes train; use a mod of "
                "clients.mods or clients.PoisonedDataset on the malicious nodes."
            )
        if not attack.makes_updates and not isinstance(attack, Malformed | Silent):
            raise ValueError(
                f"Adversary was given {attack!r}, which makes no updates of updates; call its train() on the malicious "
                "nodes."
            )
        if rule is not None and not callable(rule):
            raise ValueError(f"Adversary was given rule = {rule!r}; give a callable (n, d) -> (d,), or None.")
        super().__init__(grid)
        self._roles = Roles(grid.get_node_ids, malicious, sees, redraw, seed)
        self._collusion = Collusion(attack, strategy, rule)
        self._statistics = statistics
        self._batches: list[_Batch] = []

    @property
    def malicious_ids(self) -> frozenset[int]:
        """The malicious nodes' ids; draws them if that has not happened yet."""
        return self._roles.malicious()

    def state(self) -> ArrayRecord:
        """Return what is kept between rounds (statistics, draws, a model): save it with the strategy's state."""
        kept = {**self._collusion.attack.state(), _ROUNDS: np.array(self._roles.rounds)}
        if self._collusion.last_model is not None:
            kept[_MODEL] = self._collusion.last_model
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned, so that a resumed attack goes on as an unbroken one would."""
        kept = {name: array.numpy() for name, array in state.items()}
        self._roles.rounds = int(kept.pop(_ROUNDS, 0))
        self._collusion.last_model = kept.pop(_MODEL, None)
        self._collusion.attack.load_state(kept)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages, and return the replies with those of malicious nodes replaced."""
        outgoing = list(messages)
        instructions = instructions_of(filter(is_train, outgoing), self._statistics)
        replies = list(self.grid.send_and_receive(outgoing, timeout=timeout))
        if not instructions:
            return replies
        malicious = self._roles.begin_round()
        corrupted = self._collusion.corrupt(instructions, replies, malicious, self._roles.observed)
        return [reply for reply in corrupted if reply is not None]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Push messages, and remember the train messages for `pull_messages`."""
        outgoing = list(messages)
        instructions = instructions_of(filter(is_train, outgoing), self._statistics)
        pushed = list(self.grid.push_messages(outgoing))
        # Grids write the id into the message; one that could not be pushed has none among `pushed`.
        noted = {i.message.metadata.message_id: i for i in instructions}
        noted = {message_id: i for message_id, i in noted.items() if message_id in pushed}
        if noted:
            self._batches.append(_Batch(noted, self._roles.begin_round(), set(noted)))
        return pushed

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Pull replies; those of malicious nodes come when all that were pushed with them are answered."""
        asked = set(message_ids)
        concerned = [batch for batch in self._batches if asked & batch.instructions.keys()]
        noted = {message_id for batch in concerned for message_id in batch.instructions}
        to_pull = (asked - noted).union(*(batch.waiting for batch in concerned))
        replies = []
        for reply in self.grid.pull_messages(to_pull) if to_pull else ():
            answered = reply.metadata.reply_to_message_id
            batch = next((batch for batch in concerned if answered in batch.waiting), None)
            if batch is None:
                replies.append(reply)
            else:
                batch.arrived[answered] = reply
                batch.waiting.discard(answered)
                if not batch.waiting:
                    self._corrupt(batch)
        for batch in concerned:
            replies += self._release(batch, asked)
        self._batches = [b for b in self._batches if len(b.released) < len(b.instructions)]
        return replies

    def _corrupt(self, batch: _Batch) -> None:
        """Attack a batch whose last reply has come."""
        replies = self._collusion.corrupt(
            list(batch.instructions.values()), list(batch.arrived.values()), batch.malicious, self._roles.observed
        )
        together = dict(zip(batch.arrived, replies, strict=True))
        batch.arrived = {message_id: reply for message_id, reply in together.items() if reply is not None}
        batch.released |= {message_id for message_id, reply in together.items() if reply is None}

    def _release(self, batch: _Batch, asked: set[str]) -> Iterator[Message]:
        """Hand on the replies that were asked for and are ready."""
        for message_id, reply in batch.arrived.items():
            ready = not batch.waiting or batch.instructions[message_id].node not in batch.malicious
            if message_id in asked and message_id not in batch.released and ready:
                batch.released.add(message_id)
                yield reply
