"""The strategy of a run: robust aggregation, nodes drawn by the run's seed, and a record of each round."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from flwr_robust import RobustStrategy
from flwr_robust.engine.rows import Geometry
from flwr_robust.engine.updates import Updates
from flwr_robust.record.report import RoundReport
from flwr_robust.rules import MoNNA, Rule
from flwr_robust.rules.run import Aggregate, BadRows, Skipped
from flwr_robust.rules.theory import deviation, measure_with
from flwr_robust.strategies.side_inputs import Tell
from simulations.config.catalog import FAULTS, measures_in
from simulations.config.run_config import RunConfig
from simulations.config.schedules import parse_schedule
from simulations.run.recorder import RunRecorder
from simulations.run.root import root_function

# Keeps the draw of nodes apart from other draws with the run's seed.
_NODES = 7


class NodeError(RuntimeError):
    """A node's own code failed: what would come out is no result of the run's parameters."""


class RecordedStrategy(RobustStrategy):
    """A robust strategy that selects the same nodes in each run with one seed, and records its rounds.

    The recorder gets each round's train metrics, what is measured, and the seconds that aggregation took.
    """

    def __init__(self, config: RunConfig, recorder: RunRecorder, partition_of: Mapping[int, int]) -> None:
        num_nodes = len(partition_of)
        rule = config.build_rule(num_nodes)
        _trust_by_partition(rule, partition_of)
        super().__init__(
            rule,
            fraction_train=config.fraction_train,
            fraction_evaluate=0.0,
            min_train_nodes=config.selected(num_nodes),
            min_available_nodes=num_nodes,
            server_learning_rate=config.server_learning_rate,
            server_momentum=config.server_momentum,
            report_path=recorder.reports_path,
            root_fn=root_function(config) if "root" in rule.last.requires else None,
        )
        self._config = config
        self._recorder = recorder
        self._rate_factor = parse_schedule(config.server_lr_schedule)
        self._partition_of = partition_of
        self._honest = {node for node, place in partition_of.items() if place < num_nodes - config.num_malicious}
        self._measures = measures_in(config.measure) & {"kappa", "clipping"}
        self._measured: Geometry | None = None
        self._measuring = 0.0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Draw the round's nodes by the run's seed; the grid lists them by partition."""
        with seeded(self._config.seed, _NODES, server_round):
            return super().configure_train(server_round, arrays, config, grid)

    def place_of(self, node_id: int) -> int:
        """Order rows by partition: a simulation draws its nodes' ids anew each time."""
        return self._partition_of[node_id]

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate, and record metrics, time and what is measured.

        Raises
        ------
        NodeError
            If a node answered with an error, unless malicious ones are at fault on purpose.
        """
        replies = list(replies)
        if self._config.attack != FAULTS:
            _raise_for_errors(replies, server_round)
        self._measured, self._measuring = None, 0.0
        self.server_learning_rate = self._config.server_learning_rate * self._rate_factor(server_round)
        started = perf_counter()
        arrays, metrics = super().aggregate_train(server_round, replies)
        seconds = perf_counter() - started - self._measuring
        found = self._deviation(self.reports[-1])
        self._recorder.train_metrics({**(metrics or {}), "aggregation-seconds": round(seconds, 6), **found})
        return arrays, metrics

    def _aggregate(self, updates: Updates, tell: Tell | None = None, proved: int = 0) -> Aggregate | BadRows | Skipped:
        """Measure updates and aggregate where both are at hand: the aggregate is soon overwritten."""
        outcome = super()._aggregate(updates, tell, proved)
        if self._measures and isinstance(outcome, Aggregate):
            started = perf_counter()
            self._measured = measure_with(updates, outcome.vector)
            self._measuring += perf_counter() - started
        return outcome

    def _deviation(self, report: RoundReport) -> dict[str, float]:
        """Return NNM's kappa-hat, ARC's threshold and the norms of honest updates, as far as asked for."""
        rows = [node for node, fate in report.nodes.items() if fate.accepted]
        honest = [row for row, node in enumerate(rows) if node in self._honest]
        if self._measured is None or report.skipped or not honest:
            return {}
        found = deviation(self._measured, honest)
        values: dict[str, float] = {}
        if "kappa" in self._measures:
            values["measure/kappa"] = found.kappa
        if "clipping" in self._measures:
            values["measure/honest-norm"] = found.mean_norm
            norms = self._measured.norms[honest] * self._measured.unit
            for name, of in (("least", np.min), ("median", np.median), ("largest", np.max)):
                values[f"measure/norm-{name}"] = float(of(norms))
            if report.threshold is not None:
                values["measure/threshold"] = report.threshold
        return values


def _trust_by_partition(rule: Rule, partition_of: Mapping[int, int]) -> None:
    """Let MoNNA trust the node with a partition: the ids of a run's nodes are drawn anew each time."""
    if isinstance(rule.last, MoNNA):
        node_of: dict[Hashable, int] = {partition: node for node, partition in partition_of.items()}
        rule.last.reference = node_of.get(rule.last.reference, rule.last.reference)


def _raise_for_errors(replies: Iterable[Message], server_round: int) -> None:
    for reply in replies:
        if reply.has_error():
            raise NodeError(f"node {reply.metadata.src_node_id} failed in round {server_round}: {reply.error.reason}")


@contextmanager
def seeded(*seeds: int) -> Iterator[None]:
    """Let Python's own generator, which Flower draws nodes with, draw by these seeds for a while."""
    before = random.getstate()
    random.seed(int(np.random.SeedSequence(seeds).generate_state(2, np.uint64)[0]))
    try:
        yield
    finally:
        random.setstate(before)
