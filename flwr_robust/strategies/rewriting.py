"""Pre-aggregations in front of a strategy of another library: its replies are rewritten."""

from __future__ import annotations

from collections.abc import Iterable
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.updates import Updates
from flwr_robust.messages.replies import Inbox, Question, Sent, log_quarantined, read_evaluations, read_replies
from flwr_robust.record.report import Record, RoundReport
from flwr_robust.rules.base import PreAggregation, resolve_f
from flwr_robust.rules.run import BadRows, Mixed, Skipped, TooFewRowsError, mix, outcome_of, require_rows
from flwr_robust.strategies.cautions import cautions
from flwr_robust.strategies.guard import Guarded, own_method
from flwr_robust.strategies.handing_on import Handed, hand_on, hand_on_evaluations
from flwr_robust.strategies.options import Reading
from flwr_robust.strategies.statistics import statistics_of


class RewritingStrategy(Guarded, Strategy):
    """Hands a strategy the usable replies only, with mixed or clipped updates.

    The strategy sees well-formed replies of equal weight (``num-examples`` is 1, because it comes from the
    nodes), each with its node's metrics under the names that most nodes use; its functions of metrics see what the
    nodes sent. What it makes of them comes back in the dtypes that were sent; where it raises, or makes NaN or
    infinity, the round is skipped. It holds all rewritten models at once, as such strategies do.

    Parameters
    ----------
    strategy : Strategy
        Any Flower strategy.

    Attributes
    ----------
    front : tuple of PreAggregation
        What wrappers put in front of it, while they lead.
    """

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.front: tuple[PreAggregation, ...] = ()
        self.threads, self.device, self.reading, self.record = None, CPU, Reading(), Record()
        self.take_options({}, type(self).__name__)
        self.sent = self.sent_evaluate = Sent()

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each of the last training rounds, as many as `keep_reports` says."""
        return self.record.reports

    @property
    def suspicions(self) -> dict[int, float]:
        """By node id; what weights the strategy gives is not known here, so quarantines alone count."""
        return self.record.suspicions

    @property
    def num_malicious_nodes(self) -> int | float:
        """Malicious nodes to tolerate, as the stages have it."""
        return max((stage.f for stage in self.front), default=0)

    def __getattr__(self, name: str) -> Any:
        """Look other attributes up in the strategy."""
        if name.startswith("__") or name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set attributes of the strategy there."""
        strategy = vars(self).get("strategy")
        own = strategy is None or name in vars(self) or hasattr(type(self), name) or not hasattr(strategy, name)
        if own:
            super().__setattr__(name, value)
        else:
            setattr(strategy, name, value)

    def state(self) -> ArrayRecord:
        """Return what the stages keep between rounds, and the suspicions; see `RobustStrategy.state`."""
        kept = {f"{k}.{name}": v for k, stage in enumerate(self.front) for name, v in stage.state().items()}
        kept |= self.record.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned."""
        values = self.record.load_state({name: array.numpy() for name, array in state.items()})
        for k, stage in enumerate(self.front):
            own = {name.partition(".")[2]: v for name, v in values.items() if name.partition(".")[0] == str(k)}
            stage.load_state(own)

    def reset(self) -> None:
        """Forget what the stages keep between rounds, and the suspicions; the strategy is left as it is."""
        for stage in self.front:
            stage.reset()
        self.record.reset()

    def summary(self) -> None:
        """Log the stages and the strategy's configuration; refuse an unwritable report."""
        self.record.require_writable()
        log(INFO, "\t├──> Replies are rewritten for %s by:", type(self.strategy).__name__)
        for stage in self.front:
            log(INFO, "\t│\t├── %s", stage)
        if self.record.suspicion is not None:
            log(INFO, "\t│\t├── %s", self.record.suspicion)
        least = getattr(self.strategy, "min_train_nodes", None)
        for caution in cautions(self.front, None, self.num_malicious_nodes, least) if least is not None else ():
            log(WARNING, "\t│\t    %s", caution)
        own_method(self.strategy, "summary")()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training, and remember what is sent to whom."""
        sampled = own_method(self.strategy, "configure_train")(server_round, arrays, config, grid)
        messages = self.exclusion.of_messages(sampled, grid)
        self.record.require_writable()
        self.sent = Sent()
        self.sent = Sent((Question.of(message, with_records=True) for message in messages), arrays)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation, and remember who is asked."""
        messages = list(own_method(self.strategy, "configure_evaluate")(server_round, arrays, config, grid))
        self.sent_evaluate = Sent(Question.of(message) for message in messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Rewrite the usable replies and let the strategy aggregate them.

        Raises
        ------
        ConfigurationError
            If no round was trained yet, and more replies fail alike than malicious nodes can make.
        """
        replies = list(replies)
        sent = self.sent.unless_seen(self._guard, replies)
        inbox = read_replies(replies, sent, self.reading.statistics)
        while isinstance(found := self._mix(inbox.updates(), inbox.proved), BadRows):
            inbox.quarantine(dict.fromkeys(found.rows, found.fault))
        if not self.record.num_trained:
            inbox.require_sense(self._num_malicious, server_round)
        names = " > ".join([*map(repr, self.front), type(self.strategy).__name__])
        report = RoundReport(server_round, names, len(inbox.accepted), self.num_malicious_nodes)
        arrays, metrics = None, None
        if isinstance(found, Mixed):
            trace = found.trace
            report.add_accepted(inbox.nodes, norms=found.norms, clip_factors=trace.clip_factors)
            report.threshold, report.drawn = trace.threshold, trace.drawn
            trace.store()
            arrays, metrics, report.skipped = self._hand_on(server_round, found, inbox)
        else:
            report.add_unused(inbox.nodes)
            report.skipped = found.reason
        log_quarantined(inbox.quarantined)
        fates = [(reply.node_id, reply.reason) for reply in inbox.quarantined]
        report.complete(fates, self.exclusion.excluded, sent.asked, sent.heard)
        self.record.add(report, sent.asked)
        metrics = MetricRecord({**(metrics or {}), **report.metrics()})
        return sent.model if report.skipped or arrays is None else arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy aggregate the usable replies."""
        replies = list(replies)
        admitted = read_evaluations(replies, self.sent_evaluate.unless_seen(self._guard, replies))
        return hand_on_evaluations(self.strategy, server_round, admitted)

    def _num_malicious(self, n: int) -> int:
        return resolve_f(self.num_malicious_nodes, n)

    def _accepts(self, n: int) -> bool:
        try:
            require_rows(self.front, n)
        except TooFewRowsError:
            return False
        return True

    def _mix(self, updates: Updates, proved: int) -> Mixed | BadRows | Skipped:
        updates.device = self.device
        stages = self.front
        return outcome_of(lambda: mix(stages, updates, self.threads, float32_only=True, proved=proved))

    def _hand_on(self, server_round: int, found: Mixed, inbox: Inbox) -> Handed:
        """Return the strategy's model and metrics, and why its round cannot count (or None)."""
        f = max(0, self._num_malicious(len(inbox.accepted)) - found.trace.lowered)
        apart = inbox.apart(statistics_of(inbox, f, self.threads))
        models = (inbox.step(row, 1.0, apart) for row in found.rows)
        return hand_on(self.strategy, server_round, inbox, models, apart)
