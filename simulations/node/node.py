"""A simulated node: its place in the run, the samples that it holds, and the parameters that the server sends."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.app import ConfigRecord, Context, Message

from simulations.config.run_config import RunConfig
from simulations.data.inputs import Inputs
from simulations.data.label_table import Indices
from simulations.data.load import Split, load_split
from simulations.data.partitions import node_partitions


@dataclass(frozen=True)
class Node:
    """A node's place in a run.

    The server says how many nodes take part (``num-nodes``): there may be more of them.
    """

    partition_id: int
    num_nodes: int
    config: RunConfig

    @classmethod
    def of(cls, message: Message, context: Context) -> Node:
        """Read the place from the node's configuration and the parameters from the server's message."""
        config = RunConfig.from_record(parameters_of(message))
        return cls(int(context.node_config["partition-id"]), config.num_nodes, config)

    @property
    def malicious(self) -> bool:
        """Whether the node is one of the last, which are malicious."""
        return self.rank >= 0

    @property
    def rank(self) -> int:
        """Its number among the malicious nodes, from 0; below 0 for honest ones."""
        return self.partition_id - (self.num_nodes - self.config.num_malicious)

    def indices(self) -> Indices:
        """Return the indices of the node's training samples."""
        parts = run_partitions(self.config, self.num_nodes)
        return parts[self.partition_id % len(parts)]

    def samples(self) -> Split:
        """Return the training set that the indices refer to."""
        return load_split(self.config.dataset, "train", self.config.data_dir)

    def inputs(self) -> Inputs:
        """Return how the node reads its samples."""
        return Inputs.of(self.config.dataset, self.config.normalisation, self.config.augment)


def run_partitions(config: RunConfig, num_nodes: int) -> tuple[Indices, ...]:
    """Split the training set among the nodes that hold data of their own."""
    holders = num_nodes - config.num_malicious if config.data_holders == "honest" else num_nodes
    return node_partitions(config.dataset, config.data_dir, config.partition, config.alpha, holders, config.seed)


def parameters_of(message: Message) -> ConfigRecord:
    """Return the run's parameters, round and token, which the server sends with each message."""
    return message.content.config_records["config"]
