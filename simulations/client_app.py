"""The Flower ClientApp of a simulation: one node's data, momentum and local steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

from clients.wire import is_train
from simulations import training
from simulations.batches import Indices, Plan, batches_of, draw_batches
from simulations.components import FAULTS, fault_mod
from simulations.config import RunConfig
from simulations.data import Split, load_split
from simulations.inputs import Inputs
from simulations.models import shared_model
from simulations.partitions import node_partitions
from simulations.poisoning import label_map, one_seed
from simulations.schedules import parse_schedule

# Records that a node keeps between rounds.
MOMENTUM, OWNER = "momentum", "momentum-of"


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
        config = RunConfig.from_record(_order(message))
        return cls(int(context.node_config["partition-id"]), config.num_nodes, config)

    @property
    def malicious(self) -> bool:
        """Whether the node is one of the last, which are malicious."""
        return self.partition_id >= self.num_nodes - self.config.num_malicious

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


def use_faults(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let a malicious node be at fault, as a mod: where ``attack = "faults"``."""
    if not is_train(message) or _order(message)["attack"] != FAULTS:
        return call_next(message, context)
    node = Node.of(message, context)
    if not node.malicious:
        return call_next(message, context)
    place = node.partition_id - (node.num_nodes - node.config.num_malicious)
    faulty: Message = fault_mod(place)(message, context, call_next)
    return faulty


app = ClientApp(mods=[use_faults])


def node_device() -> torch.device:
    """Return the GPU that the node was given, else the CPU, on which a node takes one thread."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.set_num_threads(1)  # nodes run side by side: more threads would fight for the same cores
    return torch.device("cpu")


@app.query()
def identify(message: Message, context: Context) -> Message:
    """Tell the server which partition the node holds."""
    place = {key: int(context.node_config[key]) for key in ("partition-id", "num-partitions")}
    return Message(content=RecordDict({"node": ConfigRecord(dict(place))}), reply_to=message)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take the round's local steps from the global model."""
    node, device = Node.of(message, context), node_device()
    config, server_round = node.config, int(_order(message)["server-round"])  # type: ignore[arg-type]
    model = _received_model(message, config, device)
    seeds = (config.seed, node.partition_id, server_round)
    _seed_torch(one_seed(seeds), device)
    indices = node.indices()
    plan = Plan(config.batch_size, config.local_steps, config.local_epochs)
    relabel = label_map(config, seeds, model) if node.malicious else None
    # Labels are drawn before the model is trained, so dynamic flips ask the global one.
    batches = draw_batches(node.inputs(), node.samples(), indices, plan, seeds, device, relabel)
    factors = parse_schedule(config.lr_schedule).of_round(server_round, len(batches))
    momentum, loss = training.train(
        model,
        batches,
        [config.learning_rate * factor for factor in factors],
        {} if config.reset_momentum else _kept_momentum(message, context, device),
        training.HeavyBall(config.momentum, config.weight_decay, config.gradient_clip),
    )
    if config.momentum and not config.reset_momentum:
        context.state[MOMENTUM] = ArrayRecord({name: value.cpu() for name, value in momentum.items()})
        context.state[OWNER] = ConfigRecord({"run-token": _token(message)})
    metrics = MetricRecord({"num-examples": len(indices), "train-loss": loss})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message
    )


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the global model on the node's own samples."""
    node, device = Node.of(message, context), node_device()
    model = _received_model(message, node.config, device)
    indices = node.indices()
    accuracy, loss = training.evaluate(model, batches_of(node.inputs(), node.samples(), device, indices))
    metrics = MetricRecord({"num-examples": len(indices), "accuracy": accuracy, "loss": loss})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=message)


def _seed_torch(seed: int, device: torch.device) -> None:
    """Seed the generator that dropout draws from.

    `torch.manual_seed` seeds those of all kinds of devices: where there are none, it takes note of the caller's
    stack for each, at every call, which costs a node more than a small model's step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _received_model(message: Message, config: RunConfig, device: torch.device) -> torch.nn.Module:
    model = shared_model(config.model, config.dataset, device)
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return model


def _order(message: Message) -> ConfigRecord:
    """Return the run's parameters, round and token, which the server sends with each message."""
    return message.content.config_records["config"]


def _token(message: Message) -> str:
    return str(_order(message)["run-token"])


def _kept_momentum(message: Message, context: Context, device: torch.device) -> training.Momentum:
    """Return the momentum of the node's last round in this run; a server may do several runs."""
    owner = context.state.config_records.get(OWNER)
    if owner is None or owner["run-token"] != _token(message):
        return {}
    kept = context.state.array_records[MOMENTUM].to_torch_state_dict()
    return {name: value.to(device) for name, value in kept.items()}
