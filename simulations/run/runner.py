"""One run on a grid: check, defend, attack, train, record."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from logging import ERROR, INFO
from pathlib import Path
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from clients import Adversary
from clients.attacks import AlterMin
from flwr_robust import RobustStrategy
from simulations.config.components import poisons_data
from simulations.config.run_config import ConfigurationError, RunConfig
from simulations.experiments.experiment import load_experiment
from simulations.node.models import initial_model
from simulations.node.node import run_partitions
from simulations.run.evaluation import Evaluation
from simulations.run.ordered_grid import OrderedGrid
from simulations.run.recorder import RunRecorder
from simulations.run.strategy import NodeError, RecordedStrategy

NODES_TIMEOUT = 10.0  # seconds until the nodes that a run needs must have connected
NODES_INTERVAL = 0.5  # seconds without a new node after which no more are expected
QUERY_TIMEOUT = 600.0  # the first round trip includes the start of the simulation's processes
ROUND_TIMEOUT = 3600.0


def needed_nodes(config: RunConfig) -> int:
    """Return the least number of nodes that must be connected for a run."""
    if config.num_nodes:
        return config.num_nodes
    experiment = (load_experiment(config.experiment).num_supernodes or 1) if config.experiment else 1
    return max(config.least_nodes(), experiment)


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
        time.sleep(NODES_INTERVAL)
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
            raise RuntimeError(f"node {reply.metadata.src_node_id} did not report its partition: {reply.error.reason}")
        partition_of[reply.metadata.src_node_id] = int(reply.content.config_records["node"]["partition-id"])  # type: ignore[arg-type]
    if sorted(partition_of.values()) != list(range(len(queries))):
        raise RuntimeError(
            f"{len(queries)} nodes reported the partition ids {sorted(partition_of.values())}; each id from 0 to "
            f"{len(queries) - 1} must occur once: start each node with its own partition-id."
        )
    return partition_of


def run_all(grid: Grid, configs: Iterable[RunConfig], needed: int) -> None:
    """Do one run after another with the same nodes, once the number of nodes that is needed has connected.

    A run that fails does not stop the others, unless a node failed, which may not come back. The first
    failure is raised at the end.
    """
    partition_of = learn_partitions(grid, wait_for_nodes(grid, needed))
    failures: list[Exception] = []
    for config in configs:
        try:
            path = run(grid, config, partition_of)
            log(INFO, "Results: %s", path.resolve())
        except NodeError:
            raise
        except Exception as error:
            log(ERROR, "The run %s failed.", config.run_name(), exc_info=True)
            failures.append(error)
    if failures:
        raise failures[0]


def run(grid: Grid, config: RunConfig, partition_of: dict[int, int]) -> Path:
    """Train once and return the path of the results.

    Of the connected nodes, whose partition ids are given, those with the first ids take part.
    """
    num_nodes = config.participants(len(partition_of))
    partition_of = {node: partition for node, partition in partition_of.items() if partition < num_nodes}
    counted = config.replace(num_nodes=num_nodes)
    recorder = RunRecorder(config, num_nodes, partition_of)
    order: dict[str, Any] = {**counted.to_run_config(), "run-token": uuid.uuid4().hex}
    try:
        run_partitions(config, num_nodes)  # data that cannot be split stop the run here, not at every node
        start = initial_model(config.model, config.dataset, config.seed, config.init_scale)
        strategy = RecordedStrategy(counted, recorder, partition_of)
        strategy.start(
            grid=_attacked(grid, config, partition_of, strategy),
            initial_arrays=ArrayRecord(start.state_dict()),
            num_rounds=config.num_rounds,
            timeout=ROUND_TIMEOUT,
            train_config=ConfigRecord(order),
            evaluate_fn=Evaluation(counted, recorder),
        )
    except BaseException as error:
        recorder.fail(error)
        raise
    recorder.end()
    return recorder.path


def _attacked(grid: Grid, config: RunConfig, partition_of: dict[int, int], strategy: RobustStrategy) -> Grid:
    """Put the adversary between strategy and nodes, and both sides of it in order."""
    ordered = OrderedGrid(grid, partition_of)
    attack = config.build_attack()
    if poisons_data(attack):
        attack = config.build_delivery()
    if attack is None or isinstance(attack, AlterMin):
        return ordered  # what malicious nodes do, they do alone
    first_malicious = len(partition_of) - config.num_malicious
    malicious = [node for node in ordered.get_node_ids() if partition_of[node] >= first_malicious]
    adversary = Adversary(
        ordered, attack, malicious=malicious, strategy=strategy, seed=config.seed, sees=config.seen_share()
    )
    return OrderedGrid(adversary, partition_of)
