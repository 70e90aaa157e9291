"""Asking other nodes to train in the place of the most suspicious ones."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from logging import WARNING

from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore import log

from flwr_robust.record.suspicion import Suspicion, max_excluded


class Exclusion:
    """Which nodes are not asked to train.

    Parameters
    ----------
    suspicion : Suspicion or None
        Says who is a candidate; without it, or without its `exclude_after`, nobody is excluded.
    num_excluded : callable
        Returns how many of n connected nodes may be excluded at most.
    enough : callable
        Whether the rule can work on this number of replies: that many nodes are asked in any case.

    Attributes
    ----------
    excluded : list of int
        Nodes that the last round left out.
    """

    def __init__(
        self, suspicion: Suspicion | None, num_excluded: Callable[[int], int], enough: Callable[[int], bool]
    ) -> None:
        self.suspicion, self._num_excluded, self._enough = suspicion, num_excluded, enough
        self.excluded: list[int] = []

    def of_messages(self, messages: Iterable[Message], grid: Grid) -> list[Message]:
        """Return requests to train, addressed to other nodes where they would go to excluded ones."""
        kept = list(messages)
        asked = {message.metadata.dst_node_id: message for message in kept}
        pairs = self.of_nodes(list(asked), grid.get_node_ids)
        return [_addressed_to(node, asked[sampled]) for sampled, node in pairs] if self.excluded else kept

    def of_nodes(self, sampled: Sequence[int], connected: Callable[[], Iterable[int]]) -> list[tuple[int, int]]:
        """Return (sampled node, node to ask in its place); `connected` returns all nodes."""
        before, self.excluded = self.excluded, []
        if self.suspicion is None or self.suspicion.exclude_after is None or not sampled:
            return [(node, node) for node in sampled]
        nodes = list(connected())
        for node in self.suspicion.forgive():
            log(
                WARNING,
                "Node %s is asked to train again: it was excluded for %s rounds",
                node,
                self.suspicion.forgive_after,
            )
        most = max_excluded(len(sampled), len(nodes), self._num_excluded(len(nodes)), self._enough)
        self.excluded = self.suspicion.above(nodes, most)
        self.suspicion.count(self.excluded)
        for node in self.excluded:
            if node not in before:
                value, threshold = self.suspicion.values[node], self.suspicion.exclude_after
                log(
                    WARNING,
                    "Node %s is excluded from training: its suspicion is %.3f, above %g",
                    node,
                    value,
                    threshold,
                )
        return substitute(sampled, self.excluded, nodes)


def substitute(sampled: Sequence[int], excluded: Iterable[int], node_ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return (sampled node, node to ask in its place) without excluded nodes, as long as there are others.

    A uniform sample of all nodes becomes a uniform sample of the nodes that are not excluded.

    Parameters
    ----------
    sampled : sequence of int
        Nodes that the round would ask.
    excluded : iterable of int
        Nodes that are not to be asked.
    node_ids : iterable of int
        All connected nodes.
    """
    barred = set(excluded)
    kept = [(node, node) for node in sampled if node not in barred]
    freed = [node for node in sampled if node in barred]
    taken = barred | set(sampled)
    others = [node for node in node_ids if node not in taken]
    # Drawn as Flower draws its sample, so that the user's `random.seed` makes both reproducible.
    chosen = random.sample(others, min(len(freed), len(others)))
    return kept + list(zip(freed, chosen, strict=False))


def _addressed_to(node_id: int, message: Message) -> Message:
    metadata = message.metadata
    if metadata.dst_node_id == node_id:
        return message
    return Message(
        message.content,
        dst_node_id=node_id,
        message_type=metadata.message_type,
        ttl=metadata.ttl,
        group_id=metadata.group_id,
    )
