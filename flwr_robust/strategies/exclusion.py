"""Asking other nodes in place of excluded ones."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from flwr.app import Message


def ask_others(messages: Sequence[Message], excluded: Iterable[int], node_ids: Iterable[int]) -> list[Message]:
    """Return the messages without those to excluded nodes, which go to nodes that were not sampled, if there are.

    A uniform sample of all nodes becomes a uniform sample of the nodes that are not excluded.

    Parameters
    ----------
    messages : sequence of Message
        One to each sampled node.
    excluded : iterable of int
        Nodes to ask nothing of.
    node_ids : iterable of int
        All connected nodes.
    """
    barred = set(excluded)
    kept = [message for message in messages if message.metadata.dst_node_id not in barred]
    freed = [message for message in messages if message.metadata.dst_node_id in barred]
    asked = {message.metadata.dst_node_id for message in messages}
    others = [node for node in node_ids if node not in asked | barred]
    # Drawn as Flower draws its sample, so that the user's `random.seed` settles both.
    chosen = random.sample(others, min(len(freed), len(others)))
    return kept + [_to(node, message) for node, message in zip(chosen, freed, strict=False)]


def _to(node_id: int, message: Message) -> Message:
    metadata = message.metadata
    return Message(
        message.content,
        dst_node_id=node_id,
        message_type=metadata.message_type,
        ttl=metadata.ttl,
        group_id=metadata.group_id,
    )
