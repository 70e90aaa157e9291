"""`RobustStrategy`: any rule or chain as a Flower strategy."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Unpack

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from flwr_robust.rules.base import Rule
from flwr_robust.strategies.aggregation import RobustAggregation, attempt
from flwr_robust.strategies.momentum import ServerMomentum
from flwr_robust.strategies.options import Options, WrapperOptions, fedavg_options, own_options, threads_and_device


class RobustStrategy(RobustAggregation, FedAvg):
    """Flower's `FedAvg` with a robust rule or chain in place of the weighted average.

    The new model is ``global + server_learning_rate * rule(replies - global)``, with momentum if asked for.
    Integer arrays, such as BatchNorm's counters, take the coordinate-wise median. ``num-examples`` comes
    from the nodes and is not used; metrics are the unweighted median over accepted nodes unless functions are
    given.

    Parameters
    ----------
    rule : Rule
        A rule or chain of `flwr_robust.rules`, or one of your own.
    num_malicious_nodes : int or float, optional
        What wrappers around this strategy inherit; by default the rule's own f.
    **options
        Keyword arguments of Flower's `FedAvg`, and `server_learning_rate`, `server_momentum`, `threads`, `device`,
        `report_path`, `suspicion` and `exclude_after` (see `flwr_robust.strategies.options.Options`).

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
        super().__init__(**fedavg_options(options))
        self._set_up(rule, num_malicious_nodes, own_options(options))

    def with_rule(self, rule: Rule, **options: Unpack[WrapperOptions]) -> RobustStrategy:
        """Return a copy of this strategy that runs another rule and has seen nothing yet.

        It has this one's options where no others are given.
        """
        other, name = copy.copy(self), type(self).__name__
        other.rule = rule
        other.momentum = ServerMomentum(self.momentum.beta, name)
        other.threads, other.device = threads_and_device(options, name, self.threads, self.device)
        other.gate = self.gate.anew(name, options)
        return other

    def summary(self) -> None:
        """Log the chain, f, the least number of replies, kappa where it is proven, and FedAvg's settings."""
        self._log_aggregation(self.min_train_nodes)
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
        arrays, accepted = self._aggregate_round(server_round, replies)
        contents = [reply.message.content for reply in accepted]
        metrics = attempt(self.train_metrics_aggr_fn, contents, self.weighted_by_key) if contents else None
        metrics = MetricRecord() if metrics is None else metrics
        metrics.update(self.reports[-1].metrics())
        return self.gate.arrays if arrays is None else arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the metrics of the usable replies; None where there are none."""
        contents = [message.content for _, message in self.gate.open_evaluate(replies)]
        if not contents:
            return None
        metrics = attempt(self.evaluate_metrics_aggr_fn, contents, self.weighted_by_key)
        return MetricRecord() if metrics is None else metrics
