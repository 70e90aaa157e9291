"""The Flower ClientApp of a simulation: one node's data, momentum and local steps."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from torch.nn.utils import parameters_to_vector

from clients.attacks import AlterMin
from clients.wire import is_train
from simulations.config.catalog import FAULTS
from simulations.config.components import fault_mod
from simulations.config.run_config import RunConfig
from simulations.config.schedules import parse_schedule
from simulations.data.batches import Batch, Plan, Poison, batches_of, draw_batches
from simulations.data.label_table import Indices
from simulations.node import training
from simulations.node.alternating import projection, train_in_turns
from simulations.node.models import shared_model
from simulations.node.node import Node, parameters_of
from simulations.node.poisoning import backdoored, one_seed, poison_of

# Records that a node keeps between rounds, the last one names the run.
MOMENTUM, LAST_MODEL, OWNER = "momentum", "last-model", "momentum-of"


def use_faults(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Let a malicious node be at fault, as a mod: where ``attack = "faults"``."""
    if not is_train(message) or parameters_of(message)["attack"] != FAULTS:
        return call_next(message, context)
    node = Node.of(message, context)
    if not node.malicious:
        return call_next(message, context)
    faulty: Message = fault_mod(node.rank)(message, context, call_next)
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
    config, server_round = node.config, int(parameters_of(message)["server-round"])  # type: ignore[arg-type]
    model = _received_model(message, config, device)
    seeds = (config.seed, node.partition_id, server_round)
    _seed_torch(one_seed(seeds), device)
    indices = node.indices()
    plan = Plan(config.batch_size, config.local_steps, config.local_epochs)
    delivery = config.build_delivery() if node.malicious else None
    if isinstance(delivery, AlterMin):
        loss = _train_in_turns(model, node, delivery, plan, seeds, device, _last_move(message, context, model))
        return _reply(message, model, len(indices), loss)
    poison = poison_of(node, seeds, model) if node.malicious else None
    # Labels are drawn before the model is trained, so dynamic flips ask the global one.
    batches = draw_batches(node.inputs(), node.samples(), indices, plan, seeds, device, poison)
    factors = parse_schedule(config.lr_schedule).of_round(server_round, len(batches))
    momentum, loss = training.train(
        model,
        batches,
        [config.learning_rate * factor for factor in factors],
        {} if config.reset_momentum else _kept_momentum(message, context, device),
        training.HeavyBall(config.momentum, config.weight_decay, config.gradient_clip),
        projection(model, delivery),
    )
    if config.momentum and not config.reset_momentum:
        context.state[MOMENTUM] = ArrayRecord({name: value.cpu() for name, value in momentum.items()})
        context.state[OWNER] = ConfigRecord({"run-token": _token(message)})
    return _reply(message, model, len(indices), loss)


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


def _reply(message: Message, model: torch.nn.Module, num_examples: int, loss: float) -> Message:
    metrics = MetricRecord({"num-examples": num_examples, "train-loss": loss})
    return Message(
        content=RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message
    )


def _train_in_turns(
    model: torch.nn.Module,
    node: Node,
    attack: AlterMin,
    plan: Plan,
    seeds: tuple[int, ...],
    device: torch.device,
    centre: torch.Tensor | None,
) -> float:
    """Train by alternating minimisation; honestly, where the node has nothing to poison."""
    poison, poisoned = backdoored(node)

    def batches(indices: Indices, how: Poison | None, place: int) -> list[Batch]:
        return draw_batches(node.inputs(), node.samples(), indices, plan, (*seeds, place), device, how)

    clean = batches(node.indices(), None, 0)
    return train_in_turns(model, attack, batches(poisoned, poison, 1) if len(poisoned) else clean, clean, centre)


def _last_move(message: Message, context: Context, model: torch.nn.Module) -> torch.Tensor | None:
    """Return how far the global model has moved since the node's last round in this run, if known; and note it."""
    now = parameters_to_vector(model.parameters()).detach().cpu().clone()
    owner = context.state.config_records.get(OWNER)
    known = owner is not None and owner["run-token"] == _token(message)
    before = context.state.array_records[LAST_MODEL].to_torch_state_dict()["model"] if known else None
    context.state[LAST_MODEL] = ArrayRecord({"model": now})
    context.state[OWNER] = ConfigRecord({"run-token": _token(message)})
    return None if before is None else (now - before).to(next(model.parameters()).device)


def _received_model(message: Message, config: RunConfig, device: torch.device) -> torch.nn.Module:
    model = shared_model(config.model, config.dataset, device)
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return model


def _token(message: Message) -> str:
    return str(parameters_of(message)["run-token"])


def _kept_momentum(message: Message, context: Context, device: torch.device) -> training.Momentum:
    """Return the momentum of the node's last round in this run; a server may do several runs."""
    owner = context.state.config_records.get(OWNER)
    if owner is None or owner["run-token"] != _token(message):
        return {}
    kept = context.state.array_records[MOMENTUM].to_torch_state_dict()
    return {name: value.to(device) for name, value in kept.items()}
