"""`RobustStrategy`: any rule or chain as a Flower strategy."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from logging import INFO, WARNING
from typing import Any, Unpack, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.engine import Aggregate, aggregate
from flwr_robust.replies import Inbox, Layout, make_array
from flwr_robust.report import RoundReport
from flwr_robust.rules.base import Rule
from flwr_robust.rules.checks import check_f, check_positive, check_threads, resolve_f
from flwr_robust.rules.theory import kappa
from flwr_robust.strategies.gate import Gate
from flwr_robust.strategies.options import MetricsFunction, Options, RecordOptions, fedavg_options
from flwr_robust.updates import FloatArray, ReplyUpdates

# Values that are turned into the new model at a time.
CHUNK = 2**16


class RobustStrategy(FedAvg):
    """Flower's `FedAvg` with a robust rule or chain in place of the weighted average.

    The new model is ``global + server_learning_rate * rule(replies - global)``. Integer arrays, such as
    BatchNorm's counters, take the coordinate-wise median. ``num-examples`` comes from the nodes and is
    not used; metrics are the unweighted median over accepted nodes unless functions are given.

    Parameters
    ----------
    rule : Rule
        A rule or chain of `flwr_robust.rules`, or one of your own.
    num_malicious_nodes : int or float, optional
        What wrappers around this strategy inherit; by default the rule's own f.
    **options
        Keyword arguments of Flower's `FedAvg`, and `server_learning_rate`, `report_path`, `suspicion` and
        `exclude_after` (see `flwr_robust.strategies.options.Options`).

    Attributes
    ----------
    reports : list of RoundReport
        One for each training round: what happened to each node, and why.
    suspicions : dict of int to float
        With `suspicion`: how often each node was left out lately, from 0 (never) to 1 (always).

    Raises
    ------
    ValueError
        If the rule is none, or an option has a value that makes no sense.

    Examples
    --------
    >>> from flwr_robust import RobustStrategy, rules
    >>> strategy = RobustStrategy(rules.chain(rules.ARC(f=2), rules.NNM(f=2), rules.TrimmedMean(f=2)))
    """

    def __init__(
        self, rule: Rule, *, num_malicious_nodes: int | float | None = None, **options: Unpack[Options]
    ) -> None:
        name = type(self).__name__
        if not isinstance(rule, Rule):
            raise ValueError(f"{name} was given {rule!r}; give a rule or chain of flwr_robust.rules.")
        rate = check_positive(options.get("server_learning_rate", 1.0), "server_learning_rate", name)
        super().__init__(**fedavg_options(options))
        self.rule = rule
        self.num_malicious_nodes = check_f(rule.f if num_malicious_nodes is None else num_malicious_nodes, name)
        self.server_learning_rate = rate
        self.threads = check_threads(options.get("threads"), name)
        self.gate = Gate().anew(name, cast(RecordOptions, options))

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each training round."""
        return self.gate.reports

    @property
    def suspicions(self) -> dict[int, float]:
        """Suspicion in [0, 1] of each node that took part, by node id; empty where no record is kept."""
        return self.gate.suspicions

    def with_rule(self, rule: Rule, **record: Unpack[RecordOptions]) -> RobustStrategy:
        """Return a copy of this strategy that runs another rule and has seen nothing yet.

        It has this one's options where no others are given.
        """
        other = copy.copy(self)
        other.rule = rule
        other.gate = self.gate.anew(type(self).__name__, record)
        return other

    def state(self) -> ArrayRecord:
        """Return what is kept between rounds (centres, momenta, where random draws stand, suspicions).

        Save it with the model, and give it to `load_state` before resuming a run.
        """
        kept = self.rule.state() | self.gate.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned, so that a resumed run gives what an unbroken one gives.

        Raises
        ------
        ValueError
            If it is the state of another chain, or holds suspicions where no record is kept.
        """
        self.rule.load_state(self.gate.load_state({name: array.numpy() for name, array in state.items()}))

    def reset(self) -> None:
        """Forget what is kept between rounds; excluded nodes are asked again."""
        self.rule.reset()
        self.gate.reset()

    def summary(self) -> None:
        """Log the chain, f, the least number of replies, kappa where it is proven, and FedAvg's settings."""
        rule, nodes = self.rule, max(self.min_train_nodes, self.rule.min_rows)
        log(INFO, "\t├──> Robust aggregation:")
        log(INFO, "\t│\t├── Chain: %s", rule)
        log(INFO, "\t│\t├── Malicious nodes to tolerate: %s", self.num_malicious_nodes)
        log(INFO, "\t│\t├── Least number of replies: %d", rule.min_rows)
        log(INFO, "\t│\t├── Breakdown point of %s: %s", rule.last.name, rule.last.breakdown)
        coefficient = kappa(rule, nodes, resolve_f(self.num_malicious_nodes, nodes))
        known = "not proven" if coefficient is None else f"{coefficient:.4g}"
        log(INFO, "\t│\t├── Robustness coefficient kappa at %d replies: %s", nodes, known)
        if self.gate.suspicion is not None:
            log(INFO, "\t│\t├── %s", self.gate.suspicion)
        log(INFO, "\t│\t└── Server learning rate: %g", self.server_learning_rate)
        unset = [stage.name for stage in (*rule.stages, rule.last) if stage.uses_f and not stage.f]
        if unset:
            log(
                WARNING,
                "\t│\t    num_malicious_nodes is 0, so %s protects from nobody: set it to the nodes that may lie",
                ", ".join(unset),
            )
        if self.gate.suspicion is not None and self.gate.suspicion.exclude_after and not self.num_malicious_nodes:
            log(WARNING, "\t│\t    num_malicious_nodes is 0, so exclude_after excludes nobody: set it")
        super().summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training, and remember what is sent to whom.

        Raises
        ------
        ValueError
            If the model cannot be aggregated, or lacks a layer that the rule needs.
        """
        sampled = super().configure_train(server_round, arrays, config, grid)
        sampled = self.gate.exclude(sampled, grid, self.num_malicious_nodes, self.rule.check)
        messages = self.gate.sent("train", sampled, arrays)
        if self.gate.layout is not None:
            self.rule.check_layers(self.gate.layout.layers)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation, and remember who is asked."""
        return self.gate.sent("evaluate", super().configure_evaluate(server_round, arrays, config, grid), arrays)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the usable replies; the report says what became of each node.

        Returns
        -------
        The new model, or the old one where too few replies are usable (None if none was sent); and
        the metrics, with ``robust/...`` numbers among them.
        """
        inbox = self.gate.open(replies)
        outcome, skipped = self.gate.run(inbox, [self.rule], self.rule.check, self._aggregate)
        report = RoundReport(
            server_round, repr(self.rule), len(inbox.accepted), self.num_malicious_nodes, skipped=skipped
        )
        arrays = self.gate.arrays
        nodes = [reply.node_id for reply in inbox.accepted]
        if outcome is None:
            report.add_unused(nodes)
        else:
            report.add_accepted(nodes, outcome.norms, outcome.weights, outcome.trace, outcome.used)
            arrays = self._new_model(outcome.vector, inbox)
        self.gate.close(report, inbox)
        metrics = self._metrics(self.train_metrics_aggr_fn, [reply.message.content for reply in inbox.accepted])
        metrics.update(report.metrics())
        return arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the metrics of the usable replies; None where there are none."""
        contents = [message.content for _, message in self.gate.open_evaluate(replies)]
        return self._metrics(self.evaluate_metrics_aggr_fn, contents) if contents else None

    def _aggregate(self, updates: ReplyUpdates) -> tuple[Aggregate, NDArray[np.float64]]:
        outcome = aggregate(self.rule, updates, self.threads)
        return outcome, outcome.norms

    def _new_model(self, aggregated: FloatArray, inbox: Inbox) -> ArrayRecord:
        """``global + rate * aggregate`` under the names of the layout; overwrites `aggregated`."""
        layout, model = inbox.layout or Layout(()), self.gate.model
        columns = {layer.name: slice(layer.start, layer.stop) for layer in layout.layers}
        made: dict[str, Array] = {}
        for name, dtype, shape in layout.entries:
            if name in columns:
                values = aggregated[columns[name]]
                step_from(None if model is None else model[name], values, self.server_learning_rate, dtype)
                made[name] = make_array(values.astype(dtype, copy=False), shape)
            else:
                made[name] = make_array(median_of_integers([r.arrays[name] for r in inbox.accepted]), shape)
        return ArrayRecord(made)

    def _metrics(self, function: MetricsFunction, contents: list[RecordDict]) -> MetricRecord:
        """Aggregate metrics; a user's function that fails on what nodes sent costs the metrics, not the run."""
        if not contents:
            return MetricRecord()
        try:
            return function(contents, self.weighted_by_key)
        except Exception as error:
            name = getattr(function, "__name__", repr(function))
            log(
                WARNING,
                "%s failed on the nodes' metrics and is left out: %s: %s",
                name,
                type(error).__name__,
                error,
            )
            return MetricRecord()


def step_from(model: FloatArray | None, update: FloatArray, rate: float, dtype: np.dtype[Any]) -> None:
    """Overwrite the update by ``model + rate * update``, within the range of the model's dtype."""
    largest = float(np.finfo(dtype).max)
    for start in range(0, update.size, CHUNK):
        part = update[start : start + CHUNK]
        values = rate * part.astype(np.float64)
        if model is not None:
            values += model[start : start + CHUNK]
        np.clip(values, -largest, largest, out=values)
        part[:] = values


def median_of_integers(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """Coordinate-wise median in the arrays' own dtype: of an even number the lower of the middle two."""
    result = np.empty_like(rows[0])
    middle = (len(rows) - 1) // 2
    for start in range(0, result.size, CHUNK):
        block = np.stack([row[start : start + CHUNK] for row in rows])
        result[start : start + CHUNK] = np.partition(block, middle, axis=0)[middle]
    return result
