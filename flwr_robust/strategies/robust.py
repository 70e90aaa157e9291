"""`RobustStrategy`: any rule or chain as a Flower strategy; and what a round of it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from logging import ERROR, INFO, WARNING
from typing import Any, TypeVar, Unpack, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.supercore import log

from flwr_robust.engine.cpu import CPU, kernels_are_loaded
from flwr_robust.engine.device import Device, FloatArray
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
    read_evaluations,
    read_replies,
)
from flwr_robust.record.report import Record, RoundReport
from flwr_robust.rules.base import PreAggregation, Rule, chain, resolve_f
from flwr_robust.rules.checks import check_f, number
from flwr_robust.rules.mean import Mean
from flwr_robust.rules.median import Median
from flwr_robust.rules.run import Aggregate, BadRows, Skipped, outcome_of, run
from flwr_robust.rules.theory import kappa
from flwr_robust.rules.trimmed_mean import TrimmedMean
from flwr_robust.strategies.exclusion import Exclusion
from flwr_robust.strategies.handing_on import Handed, hand_on, hand_on_evaluations
from flwr_robust.strategies.momentum import ServerMomentum
from flwr_robust.strategies.options import (
    FedAvgOptions,
    Options,
    OwnOptions,
    Reading,
    WrapperOptions,
    fedavg_options,
    own_options,
    threads_and_device,
)

Method = TypeVar("Method", bound=Callable[..., Any])


# ---------------------------------------------------------------- what was sent


def guarded(start: Method) -> Method:
    """Give a `start` the guarded grid in the place of the one that it is called with."""

    @wraps(start)
    def guarding(self: Any, *positional: Any, **keywords: Any) -> Any:
        grid = next((value for value in (*positional, *keywords.values()) if isinstance(value, Grid)), None)
        if grid is None:
            return start(self, *positional, **keywords)
        with self._guarding(grid) as guard:
            given = [guard if value is grid else value for value in positional]
            return start(self, *given, **{name: guard if v is grid else v for name, v in keywords.items()})

    return cast(Method, guarding)


def noted(configure_train: Method) -> Method:
    """Take note of the model that a round starts from, whatever a `configure_train` makes of it."""

    @wraps(configure_train)
    def noting(self: Any, server_round: int, arrays: ArrayRecord, *others: Any, **keywords: Any) -> Any:
        if self._guard is not None:
            self._guard.model = arrays
        return configure_train(self, server_round, arrays, *others, **keywords)

    return cast(Method, noting)


class Hooked:
    """Guards what subclasses override: their `start`, and the model that their `configure_train` is given."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, guard in (("start", guarded), ("configure_train", noted)):
            if name in cls.__dict__:
                setattr(cls, name, guard(cls.__dict__[name]))


class Guarded(Hooked):
    """A strategy whose `start` puts a `GuardedGrid` between itself and the nodes.

    Attributes
    ----------
    reading : Reading
        How replies are read.
    record : Record
        Of the nodes' fates.
    sent, sent_evaluate : Sent
        What was sent where no guarded grid saw it: to whom, and which model.
    """

    reading: Reading
    record: Record
    exclusion: Exclusion
    sent: Sent
    sent_evaluate: Sent
    _guard: GuardedGrid | None = None

    @contextmanager
    def _guarding(self, grid: Grid) -> Iterator[GuardedGrid]:
        """Take note of all that passes the grid in a run, and say in the end if nothing was trained."""
        if self._guard is not None:
            yield self._guard
            return
        self.record.require_writable()
        before = self.record.num_trained, self.record.num_skipped
        self._guard = GuardedGrid(grid, self.reading.max_reply_bytes)
        try:
            yield self._guard
        finally:
            self._guard = None
        skipped = self.record.num_skipped - before[1]
        if skipped and self.record.num_trained == before[0]:
            log(ERROR, "No round of this run was trained: all %d were skipped, the model is the initial one", skipped)

    def _report(self, report: RoundReport, inbox: Inbox, sent: Sent) -> None:
        """Complete a report, and keep it."""
        report.complete([(q.node_id, q.reason) for q in inbox.quarantined], self.exclusion.excluded)
        report.unanswered = sent.silent(report.nodes)
        self.record.add(report, sent.asked)

    def _sent_to(self, replies: Sequence[Message], otherwise: Sent) -> Sent:
        """Return what the nodes of these replies were asked, as the guarded grid has it if it saw them."""
        sent = None if self._guard is None else self._guard.sent(replies)
        return otherwise if sent is None else sent


# ---------------------------------------------------------------- a round


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


def statistics_of(inbox: Inbox, f: int, threads: int | None, *, mean: bool = False) -> FloatArray:
    """Aggregate running statistics by the trimmed mean: never outside what honest nodes sent.

    That is the median where f is 0 or too large. Behind the mean there is no defence, and the mean has no bias.
    """
    rows = inbox.statistics()
    if not rows.d:
        return np.empty(0)
    rule: Rule = Mean() if mean else TrimmedMean(f) if 0 < 2 * f < rows.n else Median()
    return run(rule, rows, threads).vector


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
    threads : int or None
        Threads that aggregate; None for the default.
    device : Device
        Where blocks are aggregated.
    front : tuple of PreAggregation
        What wrappers have put in front of the rule, while they lead.
    """

    rule: Rule
    num_malicious_nodes: int | float
    server_learning_rate: float
    momentum: ServerMomentum
    threads: int | None
    device: Device
    front: tuple[PreAggregation, ...] = ()

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
        self.rule, self.momentum = rule, ServerMomentum(options.get("server_momentum", 0.0), name)
        self.threads, self.device, self.reading, self.record = None, CPU, Reading(), Record()
        self.take_options(options, name)
        self.sent = self.sent_evaluate = Sent()

    def take_options(self, options: WrapperOptions, owner: str) -> None:
        """Change what these options name: a wrapper's are those of the strategy in it.

        Raises
        ------
        ValueError
            If an option has a value that makes no sense; the text names the owner.
        """
        self.threads, self.device = threads_and_device(options, owner, self.threads, self.device)
        self.reading = self.reading.changed_by(options, owner)
        self.record = self.record.changed_by(options, owner)
        self.exclusion = Exclusion(self.record.suspicion, self._num_malicious, self._accepts)

    @property
    def chain(self) -> Rule:
        """The rule, behind what wrappers have put in front of it."""
        return cast(Rule, chain(*self.front, self.rule)) if self.front else self.rule

    def _num_malicious(self, n: int) -> int:
        return resolve_f(self.num_malicious_nodes, n)

    def _accepts(self, n: int) -> bool:
        return self.chain.accepts(n)

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
            If the model cannot be aggregated, or lacks a layer that the rule needs.
        """
        if not kernels_are_loaded():
            log(INFO, "Loading compiled kernels; the first time on a machine they are compiled, in some seconds")
        self.sent = Sent()
        self.sent = Sent(questions, arrays)
        layout = self.sent.layout(self.reading.statistics)
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
        inbox = read_replies(replies, sent, self.reading.statistics)
        found = self._usable(inbox) if refused is None else Skipped(refused)
        if not self.record.num_trained:
            inbox.require_sense(self._num_malicious, server_round)
        report = RoundReport(server_round, repr(self.chain), len(inbox.accepted), self.num_malicious_nodes)
        done = Round(None, None, inbox.accepted, inbox.accepted)
        if isinstance(found, Aggregate):
            done = self._finish(server_round, inbox, found, report)
        else:
            report.add_unused(inbox.nodes)
            report.skipped = found.reason
        self._report(report, inbox, sent)
        return done

    def _usable(self, inbox: Inbox) -> Aggregate | Skipped:
        """Aggregate what is left when the replies are quarantined that turn out not to be finite."""
        while isinstance(found := self._aggregate(inbox.updates(), inbox.proved), BadRows):
            inbox.quarantine(dict.fromkeys(found.rows, found.fault))
        return found

    def _aggregate(self, updates: Updates, proved: int = 0) -> Aggregate | BadRows | Skipped:
        updates.device = self.device
        rule = self.chain
        return outcome_of(lambda: run(rule, updates, self.threads, float32_only=True, proved=proved))

    def _finish(self, server_round: int, inbox: Inbox, found: Aggregate, report: RoundReport) -> Round:
        """Write the new model, and take the aggregate down."""
        trace = found.trace
        report.add_accepted(
            inbox.nodes, norms=found.norms, weights=found.weights, used=found.used, clip_factors=trace.clip_factors
        )
        report.threshold, report.drawn, report.rule_drawn = trace.threshold, trace.drawn, trace.rule_drawn
        if trace.lowered:
            text = "Too few replies are left for num_malicious_nodes = %s: it is lowered by the %d that are quarantined"
            log(WARNING, text, self.num_malicious_nodes, trace.lowered)
        f = max(0, self._num_malicious(len(inbox.accepted)) - trace.lowered)
        apart = inbox.apart(statistics_of(inbox, f, self.threads, mean=isinstance(self.chain, Mean)))
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

    def _log_aggregation(self, min_nodes: int) -> None:
        """Log the chain, f, the least number of replies, and kappa where it is proven."""
        rule, suspicion = self.chain, self.record.suspicion
        nodes = max(min_nodes, rule.min_rows)
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
    Running statistics, such as BatchNorm's, and integer arrays are aggregated apart. ``num-examples`` comes
    from the nodes and is not used; metrics are the unweighted median over nodes unless functions are given.

    Parameters
    ----------
    rule : Rule
        A rule or chain of `flwr_robust.rules`, or one of your own.
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
        self,
        rule: Rule,
        *,
        num_malicious_nodes: int | float | None = None,
        strategy: Strategy | None = None,
        **options: Unpack[Options],
    ) -> None:
        chosen = fedavg_options(options)
        name = type(self).__name__
        if strategy is not None:
            _require_inner(strategy, [key for key in options if key in FedAvgOptions.__annotations__], name)
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
        sent = self._sent_to(replies, self.sent)
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
        admitted = read_evaluations(replies, self._sent_to(replies, self.sent_evaluate))
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


def _require_inner(strategy: Any, misplaced: Sequence[str], owner: str) -> None:
    if not isinstance(strategy, Strategy):
        raise ValueError(f"{owner} was given strategy = {strategy!r}; give a Flower strategy, such as FedAdam().")
    if isinstance(strategy, Guarded):
        raise ValueError(
            f"{owner} was given strategy = {type(strategy).__name__}(...), which has a rule of its own; give one of "
            "Flower's, or chain the rules."
        )
    if misplaced:
        raise ValueError(
            f"{owner} was given {', '.join(misplaced)} beside strategy = {type(strategy).__name__}(...), which chooses "
            "whom to ask and what becomes of metrics: give them to that one."
        )
