"""Malicious nodes that poison their own data."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from clients.attacks import Backdoor, EdgeCase, LabelPoison
from simulations.config.components import poisons_data
from simulations.config.run_config import RunConfig
from simulations.data.batches import Poison
from simulations.data.edges import edge_inputs
from simulations.data.label_table import Indices
from simulations.node.node import Node

# Keeps the draw of samples that carry a backdoor apart from other draws with the run's seed.
_BACKDOOR = 13


def poison_of(node: Node, seeds: tuple[int, ...], model: nn.Module) -> Poison | None:
    """Return what a malicious node does to its samples; None where the attack leaves them alone.

    The seeds determine which labels are flipped, where that is drawn. Dynamic flips ask the model, as it is when
    labels are flipped: in evaluation mode, which stays on. Backdoors poison the same samples in each round.
    """
    attack = node.config.build_attack(seed=one_seed(seeds))
    if not poisons_data(attack):
        return None
    if isinstance(attack, LabelPoison):
        return _flips(attack, model)
    return backdoored(node)[0]


def backdoored(node: Node) -> tuple[Poison, Indices]:
    """Return what a node with a backdoor does to its samples, and the indices of those that it poisons."""
    config, indices = node.config, node.indices()
    backdoor = real_backdoor(config, one_seed((config.seed, node.partition_id, _BACKDOOR)))
    data = node.samples()
    inputs = node.inputs().plain(data.inputs[indices]) if backdoor.needs_inputs else None
    places = backdoor.places(data.labels[indices], inputs)
    place_of = np.full(len(data), -1, dtype=np.int64)
    place_of[indices] = places

    def poison(chosen: Indices, inputs: torch.Tensor, labels: Indices) -> tuple[torch.Tensor, Indices]:
        return backdoor.apply(inputs, labels, place_of[chosen], node.rank)

    return poison, indices[places >= 0]


def real_backdoor(config: RunConfig, seed: int) -> Backdoor:
    """Return a run's backdoor, with edge inputs where it has some."""
    edge = edge_inputs(config, "train")[0] if isinstance(config.build_backdoor(), EdgeCase) else None
    found = config.build_backdoor(seed, edge)
    assert found is not None
    return found


def _flips(attack: LabelPoison, model: nn.Module) -> Poison:
    def scores(inputs: torch.Tensor) -> torch.Tensor:
        model.eval()
        with torch.no_grad():
            return model(inputs)  # type: ignore[no-any-return]

    return lambda _, inputs, labels: (inputs, attack.flip(labels, lambda: scores(inputs)))


def one_seed(seeds: tuple[int, ...]) -> int:
    """Mix several seeds into one, for generators that take a single number."""
    return int(np.random.SeedSequence(seeds).generate_state(1)[0])
