"""One run on a grid: check, defend, attack, train, record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from clients import Adversary
from flwr_robust import RobustStrategy
from simulations import training
from simulations.client_app import run_partitions
from simulations.components import build_attack, build_rule, poisons_data, seen_share
from simulations.config import ConfigurationError, RunConfig
from simulations.data import load_split
from simulations.experiments import load_experiment
from simulations.models import build_model
from simulations.ordered_grid import OrderedGrid
from simulations.results import RunRecorder

NODES_TIMEOUT = 10.0  # seconds until the nodes that a run needs must have connected
NODES_SETTLE = 0.5  # seconds without a new node after which no more are expected
QUERY_TIMEOUT = 600.0  # the first round trip includes the start of the simulation's processes
ROUND_TIMEOUT = 3600.0


class RecordedStrategy(RobustStrategy):
    """A robust strategy that hands each round's train metrics to the run's recorder."""

    def __init__(self, rule: Any, recorder: RunRecorder, **options: Any) -> None:
        super().__init__(rule, **options)
        self._recorder = recorder

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate and record the metrics."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        self._recorder.train_metrics(dict(metrics or {}))
        return arrays, metrics


def needed_nodes(config: RunConfig) -> int:
    """Return the least number of nodes that a configuration makes sense with."""
    needs: list[int] = [build_rule(config).min_rows, 2 * config.num_malicious + 1, 1]
    if config.experiment:
        needs.append(load_experiment(config.experiment).num_supernodes or 1)
    return max(needs)


def wait_for_nodes(grid: Grid, needed: int, timeout: float = NODES_TIMEOUT) -> list[int]:
    """Return the ids of the connected nodes once there are enough and no more come.

    Raises
    ------
    ConfigurationError
        If there are too few when time is up.
    """
    deadline = time.monotonic() + timeout
    nodes = list(grid.get_node_ids())
    while True:
        time.sleep(NODES_SETTLE)
        before, nodes = nodes, list(grid.get_node_ids())
        if len(nodes) >= needed and len(nodes) == len(before):
            return nodes
        if time.monotonic() > deadline:
            break
    raise ConfigurationError(
        f"{len(nodes)} nodes are connected, but this configuration needs at least {needed}; "
        f'run it with: --federation-config "num-supernodes={needed}"'
    )


def learn_partitions(grid: Grid, nodes: Iterable[int]) -> dict[int, int]:
    """Ask each node for its partition id.

    Raises
    ------
    RuntimeError
        If a node does not answer, or the answers are not 0 to n - 1.
    """
    queries = [Message(content=RecordDict(), message_type=MessageType.QUERY, dst_node_id=node) for node in nodes]
    partition_of = {}
    for reply in grid.send_and_receive(queries, timeout=QUERY_TIMEOUT):
        if reply.has_error():
            raise RuntimeError(f"node {reply.metadata.src_node_id} did not tell its partition: {reply.error.reason}")
        partition_of[reply.metadata.src_node_id] = int(reply.content.config_records["node"]["partition-id"])  # type: ignore[arg-type]
    if sorted(partition_of.values()) != list(range(len(queries))):
        raise RuntimeError(
            f"{len(queries)} nodes told the partition ids {sorted(partition_of.values())}; each id from 0 to "
            f"{len(queries) - 1} must occur once: start each node with its own partition-id."
        )
    return partition_of


def run(grid: Grid, config: RunConfig, partition_of: dict[int, int]) -> Path:
    """Train once and return the path of the results.

    Parameters
    ----------
    grid : Grid
        The nodes.
    config : RunConfig
        What to run.
    partition_of : dict
        The partition id of each node.
    """
    num_nodes = len(partition_of)
    run_partitions(config, num_nodes)  # data that cannot be split stop the run here, not at every node
    recorder = RunRecorder(config, num_nodes, partition_of)
    try:
        strategy = _strategy(config, recorder, num_nodes)
        strategy.start(
            grid=_attacked(grid, config, partition_of, strategy),
            initial_arrays=ArrayRecord(build_model(config.model, config.dataset, config.seed).state_dict()),
            num_rounds=config.num_rounds,
            timeout=ROUND_TIMEOUT,
            train_config=ConfigRecord({**config.to_run_config(), "run-token": uuid.uuid4().hex}),
            evaluate_fn=_evaluation(config, recorder),
        )
    except BaseException as error:
        recorder.fail(error)
        raise
    recorder.end()
    return recorder.path


def _strategy(config: RunConfig, recorder: RunRecorder, num_nodes: int) -> RecordedStrategy:
    return RecordedStrategy(
        build_rule(config),
        recorder,
        fraction_evaluate=0.0,
        min_train_nodes=num_nodes,
        min_available_nodes=num_nodes,
        report_path=recorder.reports_path,
    )


def _attacked(grid: Grid, config: RunConfig, partition_of: dict[int, int], strategy: RobustStrategy) -> Grid:
    """Put the adversary between strategy and nodes, and both sides of it in order."""
    ordered = OrderedGrid(grid, partition_of)
    attack = build_attack(config)
    if attack is None or poisons_data(attack):
        return ordered
    first_malicious = len(partition_of) - config.num_malicious
    malicious = [node for node in ordered.get_node_ids() if partition_of[node] >= first_malicious]
    adversary = Adversary(
        ordered, attack, malicious=malicious, strategy=strategy, seed=config.seed, sees=seen_share(config)
    )
    return OrderedGrid(adversary, partition_of)


def _evaluation(config: RunConfig, recorder: RunRecorder) -> Any:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = build_model(config.model, config.dataset).to(device)
    data = load_split(config.dataset, "test", config.data_dir)

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round % config.evaluate_every and server_round != config.num_rounds:
            recorder.round(server_round, None, None)
            return None
        model.load_state_dict(arrays.to_torch_state_dict())
        accuracy, loss = training.evaluate(model, config.dataset, data, device)
        recorder.round(server_round, accuracy, loss)
        return MetricRecord({"accuracy": accuracy, "loss": loss})

    return evaluate
