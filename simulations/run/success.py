"""How often the global model falls for a run's backdoor: central evaluation on triggered test data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.attacks import Backdoor, EdgeCase, SemanticLabelSwap, attack_success_rate
from simulations.config.run_config import RunConfig
from simulations.data.batches import EVALUATION_BATCH
from simulations.data.edges import edge_inputs
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.node import training
from simulations.run.results import SUCCESS

Array = NDArray[Any]
Labels = NDArray[np.int64]
SHOWN = 10  # samples whose predictions are kept


class Success:
    """The triggered test data of a run, and what a model says of them.

    Parameters
    ----------
    config : RunConfig
        The run.
    device : torch.device
        Where the model is.
    """

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self._device = device
        self._backdoor = config.build_backdoor()
        if self._backdoor is not None:
            self._inputs, self._labels = triggered_test(config, self._backdoor)

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Return the attack success rate; nothing in runs without a backdoor, whose model is not asked."""
        if self._backdoor is None:
            return {}
        said = predict(model, self._inputs, self._device)
        return {SUCCESS: attack_success_rate(said, self._labels, self._backdoor.target)}


def triggered_test(config: RunConfig, backdoor: Backdoor) -> tuple[Array, Labels]:
    """Return the test inputs that are to fool a model, and their true labels, none of which is the target.

    Test samples with the trigger; held-out edge inputs; test samples that meet the condition, as they are.
    """
    if isinstance(backdoor, EdgeCase):
        inputs, labels = edge_inputs(config, "test")
    else:
        data = load_split(config.dataset, "test", config.data_dir)
        inputs = Inputs.of(config.dataset, config.normalisation, "none").plain(np.asarray(data.inputs))
        labels = data.labels
    fooled = labels != backdoor.target
    if isinstance(backdoor, SemanticLabelSwap):
        fooled &= backdoor.condition(inputs, labels)
    return backdoor.trigger(inputs[fooled]), labels[fooled]


def shown_predictions(config: RunConfig, model: nn.Module, device: torch.device) -> dict[str, list[int]]:
    """Return what a model says of test samples of all classes but the target, clean and triggered.

    One sample a class: the first ones of the test set; edge inputs and semantic backdoors have no clean version.
    """
    if config.build_backdoor() is None:
        return {}
    shown = shown_data(config)
    return {
        "clean": predict(model, shown.clean, device).tolist(),
        "triggered": predict(model, shown.triggered, device).tolist(),
    }


@dataclass(frozen=True)
class ShownData:
    """Test samples clean and triggered, as a model is given them, with their labels and the attackers' target."""

    clean: Array
    triggered: Array
    labels: Labels
    target: int


def shown_data(config: RunConfig) -> ShownData:
    """Return the first test sample of each class but the target, of `SHOWN` classes at most."""
    backdoor = config.build_backdoor()
    assert backdoor is not None
    data = load_split(config.dataset, "test", config.data_dir)
    classes, first = np.unique(data.labels, return_index=True)
    chosen = first[classes != backdoor.target][:SHOWN]
    clean = Inputs.of(config.dataset, config.normalisation, "none").plain(np.asarray(data.inputs[chosen]))
    return ShownData(clean, backdoor.trigger(clean), data.labels[chosen], backdoor.target)


def predict(model: nn.Module, inputs: Array, device: torch.device) -> Labels:
    """Return the class that a model gives each input."""
    if not len(inputs):
        return np.empty(0, dtype=np.int64)
    parts: list[Array] = np.array_split(inputs, range(EVALUATION_BATCH, len(inputs), EVALUATION_BATCH))
    return training.predict(model, (torch.from_numpy(part).to(device) for part in parts))
