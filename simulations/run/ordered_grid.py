"""A grid in partition order, so that two runs with one seed agree to the last bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Message
from flwr.serverapp import Grid

from flwr_robust.messages.through import Through


class OrderedGrid(Through):
    """Hand over the nodes of a run, their messages and replies, in the order of the nodes' partitions.

    Flower draws node ids afresh in each run and hands over replies as they come; sums of floating-point
    numbers depend on their order.

    Parameters
    ----------
    grid : Grid
        The grid to put in order.
    partition_of : mapping
        The partition id of each node that takes part. Other nodes are not listed; their replies come last, by id.
    """

    def __init__(self, grid: Grid, partition_of: Mapping[int, int]) -> None:
        super().__init__(grid)
        self._partition_of = dict(partition_of)

    def _rank(self, node_id: int) -> tuple[int, int]:
        return self._partition_of.get(node_id, len(self._partition_of)), node_id

    def get_node_ids(self) -> list[int]:
        return sorted(filter(self._partition_of.__contains__, self.grid.get_node_ids()), key=self._rank)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self.grid.push_messages(self._sorted_messages(messages))

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return self._sorted_replies(self.grid.pull_messages(message_ids))

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self._sorted_replies(self.grid.send_and_receive(self._sorted_messages(messages), timeout=timeout))

    def _sorted_messages(self, messages: Iterable[Message]) -> list[Message]:
        return sorted(messages, key=lambda message: self._rank(message.metadata.dst_node_id))

    def _sorted_replies(self, replies: Iterable[Message]) -> list[Message]:
        return sorted(replies, key=lambda message: self._rank(message.metadata.src_node_id))
