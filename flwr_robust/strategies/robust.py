"""`RobustStrategy`: any rule or chain as a Flower strategy; and what a round of it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Any, Unpack, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy
from flwr.supercore import log

from flwr_robust.engine.cpu import CPU, is_first_use
from flwr_robust.engine.device import FloatArray
from flwr_robust.engine.updates import Updates
from flwr_robust.messages.arrays import Apart
from flwr_robust.messages.grid import GuardedGrid
from flwr_robust.messages.replies import (
    Inbox,
    MedianMetrics,
    Question,
    Reply,
    Sent,
    attempt,
    log_quarantined,
    read_evaluations,
    read_replies,
)
from flwr_robust.record.report import Record, RoundReport
from flwr_robust.rules.base import PreAggregation, Rule, chain, resolve_f
from flwr_robust.rules.checks import check_f, number
from flwr_robust.rules.function import Function
from flwr_robust.rules.mean import Mean
from flwr_robust.rules.run import Aggregate, BadRows, Skipped, outcome_of, run
from flwr_robust.strategies.guard import Guarded, Hooked, has_flowers_start, in_the_place_of
from flwr_robust.strategies.handing_on import Handed, hand_on, hand_on_evaluations, require_inner
from flwr_robust.strategies.momentum import ServerMomentum
from flwr_robust.strategies.options import (
    FedAvgOptions,
    Options,
    OwnOptions,
    Reading,
    WrapperOptions,
    fedavg_options,
    own_options,
    refuse_unknown,
)
from flwr_robust.strategies.rewriting import RewritingStrategy
from flwr_robust.strategies.side_inputs import RootFunction, RoundInputs, Tell, reads, require_root, root_function
from flwr_robust.strategies.statistics import statistics_of
from flwr_robust.strategies.summary import log_aggregation

VectorFunction = Callable[[Any], Any]


@dataclass
class Round:
    """What came of a round.

    Attributes
    ----------
    arrays : ArrayRecord or None
        The new model; None where the round is skipped.
    metrics : MetricRecord or None
        Those of the strategy that the model was handed on to.
    accepted, counted : list of Reply
        The usable replies, and those of them that the metrics functions of users see.
    """

    arrays: ArrayRecord | None
    metrics: MetricRecord | None
    accepted: list[Reply]
    counted: list[Reply]


class RobustAggregation(Guarded):
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
    front : tuple of PreAggregation
        What wrappers have put in front of the rule, while they lead.
    root_fn : callable or None
        Makes the server's own model, for rules that need one.
    """

    rule: Rule
    num_malicious_nodes: int | float
    server_learning_rate: float
    momentum: ServerMomentum
    front: tuple[PreAggregation, ...] = ()
    root_fn: RootFunction | None = None

    def _set_up(
        self, rule: Rule | VectorFunction, num_malicious_nodes: int | float | None, options: OwnOptions
    ) -> None:
        """Take over what a strategy was constructed with.

        Raises
        ------
        ValueError
            If the rule is none, or an option has a value that makes no sense.
        """
        name = type(self).__name__
        if callable(rule) and not isinstance(rule, Rule | PreAggregation | type):
            rule = Function(rule, 0 if num_malicious_nodes is None else num_malicious_nodes)
        if not isinstance(rule, Rule):
            known = ", whose .rule is one" if isinstance(getattr(rule, "rule", None), Rule) else ""
            raise ValueError(
                f"{name} was given {rule!r}{known}; give a rule or chain of flwr_robust.rules, or a function "
                "(n, d) array -> (d,)."
            )
        self.num_malicious_nodes = check_f(rule.f if num_malicious_nodes is None else num_malicious_nodes, name)
        rate = options.get("server_learning_rate", 1.0)
        self.server_learning_rate = number(rate, "server_learning_rate", name, above=0)
        self.rule, self.momentum = rule, ServerMomentum(options.get("server_momentum", 0.0), name)
        self.threads, self.device, self.reading, self.record = None, CPU, Reading(), Record()
        self.root_fn = root_function(options.get("root_fn"), name)
        self._is_told = reads(rule)
        self.take_options(options, name)
        self.sent = self.sent_evaluate = Sent()

    @property
    def chain(self) -> Rule:
        """The rule, behind what wrappers have put in front of it."""
        return cast(Rule, chain(*self.front, self.rule)) if self.front else self.rule

    def _num_malicious(self, n: int) -> int:
        return resolve_f(self.num_malicious_nodes, n)

    def _accepts(self, n: int) -> bool:
        return self.chain.accepts(n)

    def place_of(self, node_id: int) -> int:
        """Return what rows are ordered by: the node's id, so that the order of arrival changes nothing."""
        return node_id

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each of the last training rounds, as many as `keep_reports` says."""
        return self.record.reports

    @property
    def suspicions(self) -> dict[int, float]:
        """Suspicion in [0, 1] of each node that took part, by node id; empty where no record is kept."""
        return self.record.suspicions

    def _log_aggregation(self, min_nodes: int) -> None:
        self.record.require_writable()
        log_aggregation(
            self.chain,
            self.num_malicious_nodes,
            min_nodes,
            suspicion=self.record.suspicion,
            device=self.device,
            momentum=self.momentum.beta,
            rate=self.server_learning_rate,
        )

    def state(self) -> ArrayRecord:
        """Return what is kept between rounds (centres, momenta, where random draws stand, suspicions).

        Save it with the model, and give it to `load_state` before resuming a run.
        """
        kept = self.chain.state() | self.momentum.state() | self.record.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned, so that a resumed run gives what an unbroken one gives.

        Raises
        ------
        ValueError
            If it is the state of another chain, or holds suspicions or momentum where none are kept.
        """
        kept = {name: array.numpy() for name, array in state.items()}
        self.chain.load_state(self.record.load_state(self.momentum.load_state(kept)))

    def reset(self) -> None:
        """Forget what is kept between rounds; excluded nodes are asked again."""
        self.chain.reset()
        self.momentum.reset()
        self.record.reset()

    def _note_sent(self, questions: Sequence[Question], arrays: ArrayRecord | None) -> None:
        """Remember the nodes that are asked to train, and the model that they get (None: there is none yet).

        Raises
        ------
        ValueError
            If the model cannot be aggregated, or lacks a layer that the rule needs; or if the rule needs a root_fn.
        """
        require_root(self.chain, self.root_fn, type(self).__name__)
        self._is_told = reads(self.rule)
        self.record.require_writable()
        if is_first_use():
            log(INFO, "Loading compiled kernels; the first time on a machine they are compiled, in some seconds")
        self.sent = Sent()
        self.sent = Sent(questions, arrays)
        layout = self.sent.layout(self.reading.statistics)
        if layout is not None and isinstance(self.rule.last, Function):
            d, dtype = sum(layer.size for layer in layout.learned), layout.dtype_of(layout.learned)
            log(
                INFO,
                "%r gets all updates as one matrix: %d x %d values, %.0f MB",
                *(self.rule.last, len(questions), d, len(questions) * d * dtype.itemsize / 2**20),
            )
        if layout is not None:
            self.chain.require_layers(layout.learned)

    def _aggregate_round(
        self, server_round: int, replies: Iterable[Message], sent: Sent, refused: str | None = None
    ) -> Round:
        """Aggregate the usable replies; the report says what became of each node.

        Parameters
        ----------
        server_round : int
            Number of the round.
        replies : iterable of Message
            As they arrived.
        sent : Sent
            What they answer.
        refused : str, optional
            Why the round is to be skipped, whatever the replies hold.

        Raises
        ------
        ConfigurationError
            If no round was trained yet, and more replies fail alike than malicious nodes can make.
        """
        inbox = read_replies(replies, sent, self.reading.statistics, self.place_of)
        found = self._usable(server_round, inbox, sent) if refused is None else Skipped(refused)
        if not self.record.num_trained:
            inbox.require_sense(self._num_malicious, server_round)
        report = RoundReport(server_round, repr(self.chain), len(inbox.accepted), self.num_malicious_nodes)
        done = Round(None, None, inbox.accepted, inbox.accepted)
        if isinstance(found, Aggregate):
            done = self._finish(server_round, inbox, found, report)
        else:
            report.add_unused(inbox.nodes)
            report.skipped = found.reason
        log_quarantined(inbox.quarantined)
        fates = [(reply.node_id, reply.reason) for reply in inbox.quarantined]
        report.complete(fates, self.exclusion.excluded, sent.asked, sent.heard)
        self.record.add(report, sent.asked)
        return done

    def _usable(self, server_round: int, inbox: Inbox, sent: Sent) -> Aggregate | Skipped:
        """Aggregate what is left when the replies are quarantined that turn out not to be finite."""
        told = None
        if self._is_told:
            model = None if inbox.model is None else inbox.model.values
            told = RoundInputs(server_round, sent.model, model, self.root_fn, self._unpack)
        while True:
            tell = None if told is None else told.to(inbox.nodes)
            found = self._aggregate(inbox.updates(), tell, inbox.proved)
            if not isinstance(found, BadRows):
                return found
            inbox.quarantine(dict.fromkeys(found.rows, found.fault))

    def _aggregate(self, updates: Updates, tell: Tell | None = None, proved: int = 0) -> Aggregate | BadRows | Skipped:
        updates.device = self.device
        rule = self.chain

        def aggregate() -> Aggregate:
            side = None if tell is None else tell(rule, updates)
            return run(rule, updates, self.threads, float32_only=True, proved=proved, side=side, evidence=True)

        return outcome_of(aggregate)

    def _unpack(self, arrays: ArrayRecord) -> Any:
        """Return what `root_fn` gets: it may change it."""
        return ArrayRecord(dict(arrays))

    def _finish(self, server_round: int, inbox: Inbox, found: Aggregate, report: RoundReport) -> Round:
        """Write the new model, and take the aggregate down."""
        trace = found.trace
        report.add_accepted(
            inbox.nodes, norms=found.norms, weights=found.weights, used=found.used, clip_factors=trace.clip_factors
        )
        if found.evidence is not None:
            seen = found.evidence
            report.add_evidence(inbox.nodes, seen.weights, seen.distances, seen.cosines, spread=seen.spread)
            report.weights_exact = None if seen.weights is None else seen.exact
        report.threshold, report.drawn, report.rule_drawn = trace.threshold, trace.drawn, trace.rule_drawn
        if trace.lowered:
            text = "Too few replies are left for num_malicious_nodes = %s: it is lowered by the %d that are quarantined"
            log(WARNING, text, self.num_malicious_nodes, trace.lowered)
        f = max(0, self._num_malicious(len(inbox.accepted)) - trace.lowered)
        statistics: FloatArray = np.empty(0)
        if inbox.layout.statistic:
            statistics = statistics_of(inbox, f, self.threads, mean=isinstance(self.chain, Mean))
        apart = inbox.apart(statistics)
        trace.store()
        if self.momentum.beta:
            self.momentum.step(found.vector)
        arrays = inbox.step(found.vector, self.server_learning_rate, apart)
        counted = inbox.accepted
        if self.reading.metrics_of == "selected":
            counted = [reply for reply in counted if report.nodes[reply.node_id].left_out < 1.0] or counted
        model, metrics, report.skipped = self._handed_on(server_round, inbox, arrays, apart)
        return Round(model, metrics, inbox.accepted, counted)

    def _handed_on(self, server_round: int, inbox: Inbox, arrays: ArrayRecord, apart: Apart) -> Handed:
        """Return the model as it is; or what another strategy makes of it."""
        return arrays, None, None


class RobustStrategy(RobustAggregation, FedAvg):
    """Flower's `FedAvg` with a robust rule or chain in place of the weighted average.

    The new model is ``global + server_learning_rate * rule(replies - global)``, with momentum if asked for.
    Running statistics, such as BatchNorm's, and integer arrays are aggregated apart. ``num-examples`` comes
    from the nodes and is not used; metrics are the unweighted median over nodes unless functions are given.

    Parameters
    ----------
    rule : Rule or callable
        A rule or chain of `flwr_robust.rules`, or one of your own; or a function ``(n, d) array -> (d,)``, see
        `flwr_robust.rules.Function`.
    num_malicious_nodes : int or float, optional
        What wrappers around this strategy inherit; by default the rule's own f.
    strategy : Strategy, optional
        A strategy that gets the new model as what every node sent, such as `FedAdam`: it also chooses whom to ask.
    **options
        Keyword arguments of Flower's `FedAvg` (with `strategy`, that one has them), and
        `flwr_robust.strategies.options.OwnOptions`.

    Attributes
    ----------
    reports : list of RoundReport
        One for each of the last training rounds: what happened to each node, and why.
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
        self,
        rule: Rule | VectorFunction,
        *,
        num_malicious_nodes: int | float | None = None,
        strategy: Strategy | None = None,
        **options: Unpack[Options],
    ) -> None:
        chosen = fedavg_options(options)
        name = type(self).__name__
        if strategy is not None:
            require_inner(strategy, [key for key in options if key in FedAvgOptions.__annotations__], name)
            chosen = cast(
                FedAvgOptions, {k: v for k, v in vars(strategy).items() if k in FedAvgOptions.__annotations__}
            )
        super().__init__(**chosen)
        self.strategy = strategy
        self._set_up(rule, num_malicious_nodes, own_options(options))

    start = FedAvg.start

    def summary(self) -> None:
        """Log the chain, f, the least number of replies, kappa where it is proven, and FedAvg's settings."""
        self._log_aggregation(self.min_train_nodes)
        if self.strategy is None:
            super().summary()
        else:
            log(INFO, "\t├──> What comes out is handed on to %s:", type(self.strategy).__name__)
            self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training, and remember what is sent to whom.

        Raises
        ------
        ValueError
            If the model cannot be aggregated, or lacks a layer that the rule needs.
        """
        configure = super().configure_train if self.strategy is None else self.strategy.configure_train
        messages = self.exclusion.of_messages(configure(server_round, arrays, config, grid), grid)
        self._note_sent([Question.of(message, with_records=True) for message in messages], arrays)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation, and remember who is asked."""
        configure = super().configure_evaluate if self.strategy is None else self.strategy.configure_evaluate
        messages = list(configure(server_round, arrays, config, grid))
        self.sent_evaluate = Sent(Question.of(message) for message in messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate the usable replies; the report says what became of each node.

        Returns
        -------
        The new model, or the old one where too few replies are usable (None if none was sent); and
        the metrics, with ``robust/...`` numbers among them.

        Raises
        ------
        ConfigurationError
            If no round was trained yet, and more replies fail alike than malicious nodes can make.
        """
        replies = list(replies)
        sent = self.sent.unless_seen(self._guard, replies)
        done = self._aggregate_round(server_round, replies, sent)
        function = self.train_metrics_aggr_fn
        # Medians stand up to whoever was selected by mistake only if there are enough others.
        counted = done.accepted if isinstance(function, MedianMetrics) else done.counted
        contents = [reply.message.content for reply in counted]
        metrics = done.metrics
        if self.strategy is None and contents:
            metrics = attempt(function, contents, self.weighted_by_key)
        # In a record of its own: users keep theirs.
        metrics = MetricRecord({**(metrics or {}), **self.reports[-1].metrics()})
        return sent.model if done.arrays is None else done.arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate the metrics of the usable replies; None where there are none."""
        replies = list(replies)
        admitted = read_evaluations(replies, self.sent_evaluate.unless_seen(self._guard, replies))
        if self.strategy is not None:
            return hand_on_evaluations(self.strategy, server_round, admitted)
        contents = [message.content for _, message in admitted]
        if not contents:
            return None
        metrics = attempt(self.evaluate_metrics_aggr_fn, contents, self.weighted_by_key)
        return MetricRecord() if metrics is None else metrics

    def _handed_on(self, server_round: int, inbox: Inbox, arrays: ArrayRecord, apart: Apart) -> Handed:
        if self.strategy is None:
            return arrays, None, None
        return hand_on(self.strategy, server_round, inbox, [arrays] * len(inbox.accepted), apart)


class PreAggregationStrategy(Hooked, Strategy):
    """A strategy with a pre-aggregation in front; everything else is the wrapped strategy's.

    It holds that strategy: attributes that are set on either count for both, and a `start` that it overrides runs.

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    stage : PreAggregation
        Applied before all that the strategy does.
    **options
        `flwr_robust.strategies.options.WrapperOptions`; by default the wrapped strategy's.

    Attributes
    ----------
    strategy : Strategy
        The wrapped strategy, as it was given.
    """

    strategy: Strategy
    stage: PreAggregation
    _runs: RobustStrategy | RewritingStrategy | PreAggregationStrategy

    def __init__(self, strategy: Strategy, stage: PreAggregation, **options: Unpack[WrapperOptions]) -> None:
        refuse_unknown(options, type(self).__name__)
        inner = unwrap(strategy)
        ours = strategy is not inner or isinstance(inner, RobustStrategy | RewritingStrategy)
        held = {"strategy": strategy, "stage": stage, "_runs": strategy if ours else RewritingStrategy(strategy)}
        vars(self).update(held)
        self._core.take_options(options, type(self).__name__)

    @property
    def _core(self) -> RobustStrategy | RewritingStrategy:
        """What runs behind all wrappers."""
        return self._runs._core if isinstance(self._runs, PreAggregationStrategy) else self._runs

    @property
    def rule(self) -> Rule | None:
        """The whole chain; None where it ends in a strategy of another library."""
        inner = getattr(self._runs, "rule", None)
        return None if inner is None else chain(self.stage, inner)

    @property
    def num_malicious_nodes(self) -> int | float:
        """Malicious nodes to tolerate."""
        with self._leading():
            return self._core.num_malicious_nodes

    def __getattr__(self, name: str) -> Any:
        """Look other attributes (`reports`, FedAvg's settings, ...) up in the strategy that runs."""
        if name.startswith("__") or name in ("strategy", "stage", "_runs"):
            raise AttributeError(name)
        return getattr(self._runs, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set attributes of the wrapped strategy there."""
        if name in vars(self) or hasattr(type(self), name) or not hasattr(self._runs, name):
            super().__setattr__(name, value)
        else:
            setattr(self._runs, name, value)

    # ------------------------------------------------------------ the loop

    def start(self, grid: Grid, *positional: Any, **keywords: Any) -> Result:
        """Run the strategy's own `start`, with this one's methods in the place of its own."""
        with self._leading():
            if has_flowers_start(self.strategy):
                return super().start(grid, *positional, **keywords)
            with in_the_place_of(self.strategy, self):
                return self.strategy.start(grid, *positional, **keywords)

    def summary(self) -> None:
        """Log the configuration of the chain and of the strategy."""
        self._led("summary")()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        return cast(Iterable[Message], self._led("configure_train")(server_round, arrays, config, grid))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate training replies."""
        return cast(tuple[ArrayRecord | None, MetricRecord | None], self._led("aggregate_train")(server_round, replies))

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation."""
        return cast(Iterable[Message], self._led("configure_evaluate")(server_round, arrays, config, grid))

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate evaluation replies."""
        return cast(MetricRecord | None, self._led("aggregate_evaluate")(server_round, replies))

    # ------------------------------------------------------------ what is kept

    def state(self) -> ArrayRecord:
        """Return what is kept between rounds; see `RobustStrategy.state`."""
        return cast(ArrayRecord, self._led("state")())

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned."""
        self._led("load_state")(state)

    def reset(self) -> None:
        """Forget what is kept between rounds."""
        self._led("reset")()

    def take_options(self, options: WrapperOptions, owner: str) -> None:
        """Hand options on to what runs."""
        self._core.take_options(options, owner)

    # ------------------------------------------------------------ leading

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Put the stages in front of what runs, for a while."""
        core, before = self._core, self._core.front
        core.front = before if self.stage in before else (*before, self.stage)
        try:
            yield
        finally:
            core.front = before

    def _led(self, name: str) -> Callable[..., Any]:
        """Return a method of the wrapped strategy's own that runs with the stage in front of it."""

        def led(*positional: Any, **keywords: Any) -> Any:
            with self._leading():
                method = getattr(self._runs, name)
                return getattr(method, "original", method)(*positional, **keywords)

        return led

    @property
    def _guard(self) -> GuardedGrid | None:
        return self._core._guard

    @contextmanager
    def _guarding(self, grid: Grid) -> Iterator[GuardedGrid]:
        with self._core._guarding(grid) as guard:
            yield guard


def unwrap(strategy: Strategy) -> Strategy:
    """Return the strategy inside our wrappers.

    Raises
    ------
    ValueError
        If it is no Flower strategy.
    """
    if not isinstance(strategy, Strategy):
        raise ValueError(f"a strategy is wrapped around another one, not around {strategy!r}: give a Flower strategy.")
    return unwrap(strategy.strategy) if isinstance(strategy, PreAggregationStrategy) else strategy
