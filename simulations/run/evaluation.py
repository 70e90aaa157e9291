"""What the server finds out about the global model: accuracy, loss, success of a backdoor, and what is measured."""

from __future__ import annotations

from typing import Any

import torch
from flwr.app import ArrayRecord, MetricRecord

from simulations.config.catalog import measures_in
from simulations.config.run_config import RunConfig
from simulations.data.batches import Batch, batches_of
from simulations.data.inputs import Inputs
from simulations.data.load import load_split
from simulations.node import training
from simulations.node.models import build_model
from simulations.node.node import Node
from simulations.run.heterogeneity import heterogeneity
from simulations.run.recorder import RunRecorder
from simulations.run.success import Success, shown_predictions

# Test sets whose inputs take at most this many bytes are prepared once and kept.
KEPT = 2**28


class Evaluation:
    """Evaluates the global model in the rounds in which it is due, and records each round."""

    def __init__(self, config: RunConfig, recorder: RunRecorder) -> None:
        self._config = config
        self._recorder = recorder
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = build_model(config.model, config.dataset).to(self._device)
        self._inputs = Inputs.of(config.dataset, config.normalisation, config.augment)
        self._data = load_split(config.dataset, "test", config.data_dir)
        self._success = Success(config, self._device)
        self._kept: list[Batch] | None = None

    def __call__(self, server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        """Evaluate the model of a round, where it is due."""
        config = self._config
        if server_round % config.evaluate_every and server_round != config.num_rounds:
            self._recorder.round(server_round, None, None)
            return None
        self._model.load_state_dict(arrays.to_torch_state_dict())
        accuracy, loss = training.evaluate(self._model, self._batches())
        success = self._success.measure(self._model)
        self._recorder.round(server_round, accuracy, loss, success | self._measures(server_round))
        return MetricRecord({"accuracy": accuracy, "loss": loss, **success})

    def _measures(self, server_round: int) -> dict[str, Any]:
        config, wanted, found = self._config, measures_in(self._config.measure), dict[str, Any]()
        if "xi" in wanted:
            nodes = [Node(place, config.num_nodes, config) for place in range(config.num_nodes)]
            found |= heterogeneity(nodes, self._model, server_round, self._device)
        if "predictions" in wanted and server_round == config.num_rounds:
            found["predictions"] = shown_predictions(config, self._model, self._device)
        return found

    def _batches(self) -> list[Batch]:
        if self._kept is not None:
            return self._kept
        batches = list(batches_of(self._inputs, self._data, self._device))
        if sum(inputs.nbytes for inputs, _ in batches) <= KEPT:
            self._kept = batches
        return batches
