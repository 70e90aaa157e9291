"""Robust distributed learning as the papers write it down, in plain NumPy and torch.

No Flower, none of the project's training, attacks or rules: with `simulations` it shares the data, who holds them, and
the initial model. What a Flower run of the same parameters must agree with, round by round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import nll_loss
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from simulations.config.catalog import DATASETS
from simulations.data.load import load_split
from simulations.data.partitions import node_partitions
from simulations.node.models import initial_model


@dataclass
class Round:
    """The global model after a round, and what was seen on the way."""

    model: np.ndarray
    accuracy: float
    loss: float
    kappa: float = 0.0
    honest_norm: float = 0.0
    threshold: float = 0.0


def bare_run(config, n):
    """Return round 0, the initial model, and all rounds of a run with one local step a round."""
    f, beta, seed = config.num_malicious, config.momentum, config.seed
    holders = n - f if config.data_holders == "honest" else n
    parts = node_partitions(config.dataset, config.data_dir, config.partition, config.alpha, holders, seed)
    images, labels = tensors(config, "train")
    test_images, test_labels = tensors(config, "test")
    network = initial_model(config.model, config.dataset, seed, config.init_scale)
    model = parameters_to_vector(network.parameters()).detach().numpy().copy()
    momenta, server_momentum = np.zeros((n, model.size)), np.zeros(model.size)
    rounds = [Round(model, *evaluate(network, test_images, test_labels))]
    for t in range(1, config.num_rounds + 1):
        rate = config.learning_rate * decay(config.lr_schedule, t)
        for i in range(n):
            own = parts[i % holders]
            if config.batch_size:
                size = min(config.batch_size, len(own))
                own = np.random.default_rng([seed, i, t]).choice(own, size=size, replace=False)
            flipped = i >= n - f and config.attack == "label-flip"
            g = gradient(network, images[own], 9 - labels[own] if flipped else labels[own])
            g = g + config.weight_decay * model
            if config.gradient_clip:
                g = g * min(1.0, config.gradient_clip / np.linalg.norm(g))
            momenta[i] = beta * momenta[i] + (1 - beta) * g
        updates = -rate * momenta
        honest = updates[: n - f]
        updates[n - f :] = malicious(config, honest, updates[n - f :])
        aggregate, threshold = defend(config.defense, updates, f)
        mean = honest.mean(axis=0)
        spread = np.sqrt(np.mean(np.sum((honest - mean) ** 2, axis=1)))
        server_momentum = config.server_momentum * server_momentum + aggregate
        model = (model + config.server_learning_rate * server_momentum).astype(np.float32)
        vector_to_parameters(torch.from_numpy(model.copy()), network.parameters())
        seen = np.linalg.norm(aggregate - mean) / spread, np.linalg.norm(mean), threshold
        rounds.append(Round(model, *evaluate(network, test_images, test_labels), *seen))
    return rounds


def tensors(config, split):
    spec, data = DATASETS[config.dataset], load_split(config.dataset, split, config.data_dir)
    mean, std = (0.5, 0.5) if config.normalisation == "half" else (spec.mean[0], spec.std[0])
    images = (torch.from_numpy(np.array(data.inputs)).float() / spec.scale - mean) / std
    return images, torch.from_numpy(data.labels)


def decay(schedule, t):
    kind, *numbers = schedule.split(":")
    return {
        "constant": lambda: 1.0,
        "inverse": lambda period: 1 / (1 + t // int(period)),
        "exponential": lambda factor: float(factor) ** (t - 1),
    }[kind](*numbers)


def gradient(network, images, labels):
    network.zero_grad()
    nll_loss(network(images), labels).backward()
    return parameters_to_vector([value.grad for value in network.parameters()]).numpy().astype(np.float64)


def evaluate(network, images, labels):
    with torch.no_grad():
        outputs = network(images)
    return (outputs.argmax(dim=1) == labels).double().mean().item(), nll_loss(outputs, labels).item()


def malicious(config, honest, own):
    """NNM 14.3 with a fixed factor."""
    mean = honest.mean(axis=0)
    if config.attack == "sign-flip":
        return -mean
    if config.attack == "foe":
        return (1 - float(config.attack_args.removeprefix("tau="))) * mean
    if config.attack == "alie":
        return mean + float(config.attack_args.removeprefix("tau=")) * honest.std(axis=0)
    return own  # poisoned labels, or no attack


def defend(chain, updates, f):
    """Return the aggregate and ARC's threshold."""
    threshold, n = 0.0, len(updates)
    for stage in chain.split("+"):
        distances = np.array([[np.linalg.norm(a - b) for b in updates] for a in updates])
        norms = np.linalg.norm(updates, axis=1)
        if stage == "arc":  # Algorithm 2
            threshold = np.sort(norms)[::-1][int(2 * f * (n - f) / n)]
            updates = updates * np.minimum(1, threshold / norms)[:, None]
        elif stage == "nnm":  # Algorithm 2
            updates = np.array([updates[np.argsort(row, kind="stable")[: n - f]].mean(axis=0) for row in distances])
        elif stage == "krum":  # 8.1.2: itself is at distance 0 and adds nothing
            scores = np.sort(distances**2, axis=1)[:, : n - f].sum(axis=1)
            return updates[np.argmin(scores)], threshold
        elif stage == "trimmed-mean":
            return np.sort(updates, axis=0)[f : n - f].mean(axis=0), threshold
        elif stage == "median":
            return np.median(updates, axis=0), threshold
        elif stage == "mean":
            return updates.mean(axis=0), threshold
    raise ValueError(f"the bare loop knows no {chain!r}")
