"""The server's own update, for rules that trust it (FLTrust, NNA): trained on a few clean samples, as a node trains."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from flwr.app import ArrayRecord

from simulations.config.run_config import RunConfig
from simulations.config.schedules import parse_schedule
from simulations.data.batches import Plan, draw_batches
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.node import training
from simulations.node.models import build_model

# As many as in FLTrust's experiments.
SAMPLES = 100
# Keeps the draws of the server's samples and batches apart from others with the run's seed.
_ROOT = 17

RootFunction = Callable[[ArrayRecord, int], ArrayRecord]


def root_function(config: RunConfig) -> RootFunction:
    """Return what trains a model on the server's samples: as many of the training set, drawn by the run's seed."""
    data = load_split(config.dataset, "train", config.data_dir)
    random = np.random.default_rng([config.seed, _ROOT])
    indices = random.choice(len(data), size=min(SAMPLES, len(data)), replace=False)
    inputs = Inputs.of(config.dataset, config.normalisation, config.augment)
    plan = Plan(config.batch_size, config.local_steps, config.local_epochs)
    rule = training.HeavyBall(config.momentum, config.weight_decay, config.gradient_clip)

    def train(arrays: ArrayRecord, server_round: int) -> ArrayRecord:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = build_model(config.model, config.dataset).to(device)
        model.load_state_dict(arrays.to_torch_state_dict())
        batches = draw_batches(inputs, data, indices, plan, (config.seed, _ROOT, server_round), device)
        factors = parse_schedule(config.lr_schedule).of_round(server_round, len(batches))
        training.train(model, batches, [config.learning_rate * factor for factor in factors], {}, rule)
        return ArrayRecord({name: value.cpu() for name, value in model.state_dict().items()})

    return train
