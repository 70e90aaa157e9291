"""Asking other nodes in place of excluded ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from flwr.app import Message


def substitute(sampled: Sequence[int], excluded: Iterable[int], node_ids: Iterable[int]) -> list[tuple[int, int]]:
    """Return (sampled node, node to ask in its place) without excluded nodes, as long as there are others.

    A uniform sample of all nodes becomes a uniform sample of the nodes that are not excluded.

    Parameters
    ----------
    sampled : sequence of int
        Nodes that the round would ask.
    excluded : iterable of int
        Nodes to ask nothing of.
    node_ids : iterable of int
        All connected nodes.
    """
    barred = set(excluded)
    kept = [(node, node) for node in sampled if node not in barred]
    freed = [node for node in sampled if node in barred]
    taken = barred | set(sampled)
    others = [node for node in node_ids if node not in taken]
    # Drawn as Flower draws its sample, so that the user's `random.seed` settles both.
    chosen = random.sample(others, min(len(freed), len(others)))
    return kept + list(zip(freed, chosen, strict=False))


def addressed_to(node_id: int, message: Message) -> Message:
    """Return the message with another recipient."""
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
