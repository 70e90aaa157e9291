"""A federation in this process: Flower's ClientApp without its engine, for tests of whole runs that take no Ray."""

from __future__ import annotations

import random

from flwr.app import ArrayRecord, Context, Message, RecordDict

from simulations.config.run_config import RunConfig
from simulations.node.client import app
from simulations.run.results import RunResult, read_result
from simulations.run.runner import learn_partitions, run
from tests.flower_messages import FakeGrid


class LocalGrid(FakeGrid):
    """Nodes with ids in no order, whose replies come in no order either, as Flower's do."""

    def __init__(self, num_nodes: int, seed: int | None = None) -> None:
        self.draw = random.Random(seed)
        ids = self.draw.sample(range(10_000), num_nodes)
        super().__init__(sorted(ids), lambda node, message: app(message, self.contexts[node]))
        self.contexts = {
            node: Context(1, node, {"partition-id": place, "num-partitions": num_nodes}, RecordDict(), {})
            for place, node in enumerate(ids)
        }
        # Round by round: the partitions that were asked to train, and the model that they were sent.
        self.asked: list[list[int]] = []
        self.models: list[ArrayRecord] = []

    def send_and_receive(self, messages, *, timeout=None) -> list[Message]:
        sent = list(messages)
        if sent and sent[0].metadata.message_type == "train":
            self.asked.append([self._partition(message) for message in sent])
            self.models.append(sent[0].content.array_records["arrays"])
        replies = super().send_and_receive(sent)
        self.draw.shuffle(replies)
        return replies

    def _partition(self, message: Message) -> int:
        return int(self.contexts[message.metadata.dst_node_id].node_config["partition-id"])


def run_locally(config: RunConfig, out_dir, grid: LocalGrid | int) -> RunResult:
    """Do a run with a grid, or a number of nodes, and return its results."""
    grid = LocalGrid(grid) if isinstance(grid, int) else grid
    path = run(grid, config.replace(out_dir=str(out_dir)), learn_partitions(grid, grid.get_node_ids()))
    return read_result(path)
