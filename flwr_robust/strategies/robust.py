"""`RobustStrategy`: any rule or chain as a Flower strategy; what a round of it does; and pre-aggregations around it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from logging import INFO, WARNING
from typing import Any, ParamSpec, TypeVar, Unpack

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore import log

from flwr_robust.engine.cpu import CPU, kernels_are_loaded
from flwr_robust.engine.device import Device
from flwr_robust.engine.updates import Updates
from flwr_robust.messages.replies import Inbox, Reply, Sent, read_evaluations, read_replies
from flwr_robust.record.report import Record, RoundReport
from flwr_robust.rules.base import PreAggregation, Rule, chain, resolve_f
from flwr_robust.rules.checks import check_f, number
from flwr_robust.rules.run import Aggregate, BadRows, Skipped, outcome_of, run
from flwr_robust.rules.theory import kappa
from flwr_robust.strategies.exclusion import Exclusion
from flwr_robust.strategies.momentum import ServerMomentum
from flwr_robust.strategies.options import (
    Options,
    OwnOptions,
    WrapperOptions,
    fedavg_options,
    own_options,
    refuse_unknown,
    threads_and_device,
)
from flwr_robust.strategies.rewriting import RewritingStrategy
from flwr_robust.strategies.side_inputs import RootFunction, RoundInputs, Tell, require_root, root_function

P = ParamSpec("P")
T = TypeVar("T")


class RobustAggregation:
    """What our strategies share on either of Flower's interfaces: a rule, a round of it, what is kept between rounds.

    Attributes
    ----------
    rule : Rule
        A rule or chain of `flwr_robust.rules`, or one of your own.
    num_malicious_nodes : int or float
        Malicious nodes to tolerate: a number of them, or a fraction.
    server_learning_rate : float
        What the aggregate is multiplied by before it is added to the model.
    momentum : ServerMomentum
        Of the aggregates.
    threads : int or None
        Threads that aggregate; None for the default.
    device : Device
        Where blocks are aggregated.
    record : Record
        Of the nodes' fates.
    sent, sent_evaluate : Sent
        What the messages of the current round carried, and to whom.
    root_fn : callable or None
        Makes the server's own model, for rules that need one.
    """

    rule: Rule
    num_malicious_nodes: int | float
    server_learning_rate: float
    momentum: ServerMomentum
    threads: int | None
    device: Device
    record: Record
    exclusion: Exclusion
    sent: Sent
    sent_evaluate: Sent
    root_fn: RootFunction | None

    def _set_up(self, rule: Rule, num_malicious_nodes: int | float | None, options: OwnOptions) -> None:
        """Take over what a strategy was constructed with.

        Raises
        ------
        ValueError
            If the rule is none, or an option has a value that makes no sense.
        """
        name = type(self).__name__
        if not isinstance(rule, Rule):
            known = ", whose .rule is one" if isinstance(getattr(rule, "rule", None), Rule) else ""
            raise ValueError(f"{name} was given {rule!r}{known}; give a rule or chain of flwr_robust.rules.")
        self.num_malicious_nodes = check_f(rule.f if num_malicious_nodes is None else num_malicious_nodes, name)
        rate = options.get("server_learning_rate", 1.0)
        self.server_learning_rate = number(rate, "server_learning_rate", name, above=0)
        self.threads, self.device = threads_and_device(options, name)
        self.root_fn = root_function(options.get("root_fn"), name)
        self._begin(rule, ServerMomentum(options.get("server_momentum", 0.0), name), Record().emptied(name, options))

    def _begin(self, rule: Rule, momentum: ServerMomentum, record: Record) -> None:
        """Start with a rule, and without a past."""
        self.rule, self.momentum, self.record = rule, momentum, record
        self.exclusion = Exclusion(record.suspicion, self._num_malicious, rule.accepts)
        self.sent = self.sent_evaluate = Sent()

    def _num_malicious(self, n: int) -> int:
        return resolve_f(self.num_malicious_nodes, n)

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each training round."""
        return self.record.reports

    @property
    def suspicions(self) -> dict[int, float]:
        """Suspicion in [0, 1] of each node that took part, by node id; empty where no record is kept."""
        return self.record.suspicions

    def state(self) -> ArrayRecord:
        """Return what is kept between rounds (centres, momenta, where random draws stand, suspicions).

        Save it with the model, and give it to `load_state` before resuming a run.
        """
        kept = self.rule.state() | self.momentum.state() | self.record.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned, so that a resumed run gives what an unbroken one gives.

        Raises
        ------
        ValueError
            If it is the state of another chain, or holds suspicions or momentum where none are kept.
        """
        kept = {name: array.numpy() for name, array in state.items()}
        self.rule.load_state(self.record.load_state(self.momentum.load_state(kept)))

    def reset(self) -> None:
        """Forget what is kept between rounds; excluded nodes are asked again."""
        self.rule.reset()
        self.momentum.reset()
        self.record.reset()

    def _note_sent(self, messages: Iterable[Message], arrays: ArrayRecord | None) -> None:
        """Remember the nodes that are asked to train, and the model that they get (None: there is none yet).

        Raises
        ------
        ValueError
            If the model cannot be aggregated, or lacks a layer that the rule needs; or if the rule needs a root_fn.
        """
        require_root(self.rule, self.root_fn, type(self).__name__)
        if not kernels_are_loaded():
            log(INFO, "Loading compiled kernels; the first time on a machine they are compiled, in some seconds")
        self.sent = Sent()
        self.sent = Sent.of(messages, arrays)
        if self.sent.layout is not None:
            self.rule.require_layers(self.sent.layout.layers)

    def _aggregate_round(
        self, server_round: int, replies: Iterable[Message], refused: str | None = None
    ) -> tuple[ArrayRecord | None, list[Reply]]:
        """Aggregate the usable replies; the report says what became of each node.

        Parameters
        ----------
        server_round : int
            Number of the round.
        replies : iterable of Message
            As they arrived.
        refused : str, optional
            Why the round is to be skipped, whatever the replies hold.

        Returns
        -------
        The new model, or None where the round is skipped; and the replies that were usable.
        """
        inbox = read_replies(replies, self.sent)
        found = self._usable(server_round, inbox) if refused is None else Skipped(refused)
        report = RoundReport(server_round, repr(self.rule), len(inbox.accepted), self.num_malicious_nodes)
        arrays = None
        if isinstance(found, Aggregate):
            trace = found.trace
            report.add_accepted(
                inbox.nodes,
                norms=found.norms,
                weights=found.weights,
                used=found.used,
                clip_factors=trace.clip_factors,
            )
            report.threshold, report.drawn, report.rule_drawn = trace.threshold, trace.drawn, trace.rule_drawn
            trace.store()
            if self.momentum.beta:
                self.momentum.step(found.vector)
            arrays = inbox.layout.step(self.sent.model, found.vector, self.server_learning_rate, inbox.integers)
        else:
            report.add_unused(inbox.nodes)
            report.skipped = found.reason
        report.complete(inbox.quarantined, self.exclusion.excluded, self.sent.asked)
        self.record.add(report, self.sent.asked)
        return arrays, inbox.accepted

    def _usable(self, server_round: int, inbox: Inbox) -> Aggregate | Skipped:
        """Aggregate what is left when the replies are quarantined that turn out not to be finite."""
        told = RoundInputs(server_round, self.sent.arrays, self.sent.model, self.root_fn, self._unpack)
        while isinstance(found := self._aggregate(inbox.updates(self.sent.model), told.to(inbox.nodes)), BadRows):
            inbox.quarantine(dict.fromkeys(found.rows, found.fault))
        return found

    def _aggregate(self, updates: Updates, tell: Tell) -> Aggregate | BadRows | Skipped:
        updates.device = self.device
        return outcome_of(
            lambda: run(self.rule, updates, self.threads, float32_only=True, side=tell(self.rule, updates))
        )

    def _unpack(self, arrays: ArrayRecord) -> Any:
        """Return what `root_fn` gets: it may change it."""
        return ArrayRecord(dict(arrays))

    def _log_aggregation(self, min_nodes: int) -> None:
        """Log the chain, f, the least number of replies, and kappa where it is proven."""
        rule, nodes, suspicion = self.rule, max(min_nodes, self.rule.min_rows), self.record.suspicion
        log(INFO, "\t├──> Robust aggregation:")
        log(INFO, "\t│\t├── Chain: %s", rule)
        log(INFO, "\t│\t├── Malicious nodes to tolerate: %s", self.num_malicious_nodes)
        log(INFO, "\t│\t├── Least number of replies: %d", rule.min_rows)
        log(INFO, "\t│\t├── Breakdown point of %s: %s", type(rule.last).__name__, rule.last.breakdown)
        coefficient = kappa(rule, nodes, resolve_f(self.num_malicious_nodes, nodes))
        known = "not proven" if coefficient is None else f"{coefficient:.4g}"
        log(INFO, "\t│\t├── Robustness coefficient kappa at %d replies: %s", nodes, known)
        if suspicion is not None:
            log(INFO, "\t│\t├── %s", suspicion)
        if self.device is not CPU:
            log(INFO, "\t│\t├── Device: %s, through torch", self.device.name)
        if self.momentum.beta:
            log(INFO, "\t│\t├── Server momentum: %g", self.momentum.beta)
        log(INFO, "\t│\t└── Server learning rate: %g", self.server_learning_rate)
        unset = [type(stage).__name__ for stage in (*rule.stages, rule.last) if stage.uses_f and not stage.f]
        if unset:
            log(
                WARNING,
                "\t│\t    num_malicious_nodes is 0, so %s tolerates no malicious node: set it to their number",
                ", ".join(unset),
            )
        if suspicion is not None and suspicion.exclude_after and not self.num_malicious_nodes:
            log(WARNING, "\t│\t    num_malicious_nodes is 0, so exclude_after excludes nobody: set it")


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
        `report_path`, `suspicion`, `exclude_after` and `root_fn` (see `flwr_robust.strategies.options.Options`).

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

    def with_rule(self, rule: Rule, owner: str | None = None, **options: Unpack[WrapperOptions]) -> RobustStrategy:
        """Return a copy of this strategy that runs another rule and has seen nothing yet.

        It has this one's options where no others are given; error messages name the owner, by default this class.
        """
        other, name = copy.copy(self), owner or type(self).__name__
        other.threads, other.device = threads_and_device(options, name, self.threads, self.device)
        other._begin(rule, ServerMomentum(self.momentum.beta, name), self.record.emptied(name, options))
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
        messages = self.exclusion.of_messages(super().configure_train(server_round, arrays, config, grid), grid)
        self._note_sent(messages, arrays)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation, and remember who is asked."""
        messages = list(super().configure_evaluate(server_round, arrays, config, grid))
        self.sent_evaluate = Sent.of(messages)
        return messages

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
        return self.sent.arrays if arrays is None else arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the metrics of the usable replies; None where there are none."""
        contents = [message.content for _, message in read_evaluations(replies, self.sent_evaluate)]
        if not contents:
            return None
        metrics = attempt(self.evaluate_metrics_aggr_fn, contents, self.weighted_by_key)
        return MetricRecord() if metrics is None else metrics


def attempt(function: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T | None:
    """Return what a user's function makes of the nodes' metrics; None where it fails on what nodes sent.

    That costs the metrics, not the run.
    """
    try:
        return function(*arguments, **keywords)
    except Exception as error:
        name = getattr(function, "__name__", repr(function))
        log(WARNING, "%s failed on the nodes' metrics and is left out: %s: %s", name, type(error).__name__, error)
        return None


class PreAggregationStrategy(Strategy):
    """A strategy with a pre-aggregation in front; everything else is the wrapped strategy's.

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    stage : PreAggregation
        Applied before all that the strategy does.
    **options
        `threads`, `device`, `report_path`, `suspicion` and `exclude_after`, as in `RobustStrategy`; by default the
        wrapped strategy's.

    Attributes
    ----------
    strategy : Strategy
        What runs: a copy of the wrapped strategy with the longer chain, or the rewriting of replies.
    """

    def __init__(self, strategy: Strategy, stage: PreAggregation, **options: Unpack[WrapperOptions]) -> None:
        inner, name = unwrap(strategy), type(self).__name__
        refuse_unknown(options, name)
        if isinstance(inner, RobustStrategy):
            self.strategy: RobustStrategy | RewritingStrategy = inner.with_rule(
                chain(stage, inner.rule), name, **options
            )
            return
        if not isinstance(inner, RewritingStrategy):
            inner = RewritingStrategy(inner, ())
        threads, device = threads_and_device(options, name, inner.threads, inner.device)
        record = inner.record.emptied(name, options)
        self.strategy = RewritingStrategy(inner.strategy, (stage, *inner.stages), record, threads, device)

    @property
    def rule(self) -> Rule | None:
        """The whole chain; None where it ends in a strategy of another library."""
        return getattr(self.strategy, "rule", None)

    @property
    def num_malicious_nodes(self) -> int | float:
        """Malicious nodes to tolerate."""
        return self.strategy.num_malicious_nodes

    def __getattr__(self, name: str) -> Any:
        """Look other attributes (`reports`, FedAvg's settings, ...) up in the strategy that runs."""
        if name.startswith("__") or name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def summary(self) -> None:
        """Log the configuration of the chain and of the strategy."""
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate training replies."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate evaluation replies."""
        return self.strategy.aggregate_evaluate(server_round, replies)


def unwrap(strategy: Strategy) -> Strategy:
    """Return the strategy that runs inside our wrappers.

    Raises
    ------
    ValueError
        If it is no Flower strategy.
    """
    if not isinstance(strategy, Strategy):
        raise ValueError(f"a strategy is wrapped around another one, not around {strategy!r}: give a Flower strategy.")
    return strategy.strategy if isinstance(strategy, PreAggregationStrategy) else strategy
