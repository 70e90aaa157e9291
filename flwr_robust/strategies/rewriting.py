"""Pre-aggregations in front of a strategy of another library: its replies are rewritten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.engine.cpu import CPU
from flwr_robust.engine.device import Device, FloatArray
from flwr_robust.engine.updates import Updates
from flwr_robust.messages.arrays import Layout, make_array
from flwr_robust.messages.replies import (
    Inbox,
    Sent,
    median_metrics,
    only_metrics,
    read_evaluations,
    read_replies,
    with_content,
)
from flwr_robust.record.report import Record, RoundReport
from flwr_robust.rules.base import PreAggregation, resolve_f
from flwr_robust.rules.run import BadRows, Mixed, Skipped, TooFewRowsError, mix, outcome_of, require_rows
from flwr_robust.strategies.cautions import cautions
from flwr_robust.strategies.exclusion import Exclusion


class RewritingStrategy(Strategy):
    """Hands a strategy the usable replies only, with mixed or clipped updates.

    The strategy sees well-formed replies of equal weight (``num-examples`` is 1, because it comes from the
    nodes) with the median of the nodes' metrics and of their integer arrays. What it makes of them comes back in
    the dtypes that were sent; where it raises, or makes NaN or infinity, the round is skipped. It holds all rewritten
    models at once, as such strategies do.

    Parameters
    ----------
    strategy : Strategy
        Any Flower strategy.
    stages : sequence of PreAggregation
        Applied in order.
    record : Record, optional
        Of the nodes' fates; must be new.
    threads : int, optional
        That measure and mix; by default as many as is sensible.
    device : Device
        Where blocks are measured and mixed.
    """

    def __init__(
        self,
        strategy: Strategy,
        stages: Sequence[PreAggregation],
        record: Record | None = None,
        threads: int | None = None,
        device: Device = CPU,
    ) -> None:
        self.strategy = strategy
        self.stages = tuple(stages)
        self.record = record or Record()
        self.threads, self.device = threads, device
        self.exclusion = Exclusion(self.record.suspicion, self._num_malicious, self._accepts)
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
        return max((stage.f for stage in self.stages), default=0)

    def __getattr__(self, name: str) -> Any:
        """Look other attributes up in the strategy."""
        if name.startswith("__") or name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def state(self) -> ArrayRecord:
        """Return what the stages keep between rounds, and the suspicions; see `RobustStrategy.state`."""
        kept = {f"{k}.{name}": v for k, stage in enumerate(self.stages) for name, v in stage.state().items()}
        kept |= self.record.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned."""
        values = self.record.load_state({name: array.numpy() for name, array in state.items()})
        for k, stage in enumerate(self.stages):
            own = {name.partition(".")[2]: v for name, v in values.items() if name.partition(".")[0] == str(k)}
            stage.load_state(own)

    def reset(self) -> None:
        """Forget what the stages keep between rounds, and the suspicions; the strategy is left as it is."""
        for stage in self.stages:
            stage.reset()
        self.record.reset()

    def summary(self) -> None:
        """Log the stages and the strategy's configuration; refuse an unwritable report."""
        self.record.require_writable()
        log(INFO, "\t├──> Replies are rewritten for %s by:", type(self.strategy).__name__)
        for stage in self.stages:
            log(INFO, "\t│\t├── %s", stage)
        if self.record.suspicion is not None:
            log(INFO, "\t│\t├── %s", self.record.suspicion)
        least = getattr(self.strategy, "min_train_nodes", None)
        for caution in cautions(self.stages, None, self.num_malicious_nodes, least) if least is not None else ():
            log(WARNING, "\t│\t    %s", caution)
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training, and remember what is sent to whom."""
        sampled = self.strategy.configure_train(server_round, arrays, config, grid)
        messages = self.exclusion.of_messages(sampled, grid)
        self.record.require_writable()
        self.sent = Sent()
        self.sent = Sent.of(messages, arrays)
        return messages

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation, and remember who is asked."""
        messages = list(self.strategy.configure_evaluate(server_round, arrays, config, grid))
        self.sent_evaluate = Sent.of(messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Rewrite the usable replies and let the strategy aggregate them."""
        inbox = read_replies(replies, self.sent)
        while isinstance(found := self._mix(inbox.updates(self.sent.model)), BadRows):
            inbox.quarantine(dict.fromkeys(found.rows, found.fault))
        chain = " > ".join([*map(repr, self.stages), type(self.strategy).__name__])
        report = RoundReport(server_round, chain, len(inbox.accepted), self.num_malicious_nodes)
        arrays, metrics = None, None
        if isinstance(found, Mixed):
            trace = found.trace
            report.add_accepted(inbox.nodes, norms=found.norms, clip_factors=trace.clip_factors)
            report.threshold, report.drawn = trace.threshold, trace.drawn
            trace.store()
            arrays, metrics, report.skipped = self._hand_on(server_round, found.rows, inbox)
        else:
            report.add_unused(inbox.nodes)
            report.skipped = found.reason
        report.complete(inbox.quarantined, self.exclusion.excluded, self.sent.asked)
        self.record.add(report, self.sent.asked)
        metrics = MetricRecord() if metrics is None else metrics
        metrics.update(report.metrics())
        return self.sent.arrays if report.skipped or arrays is None else arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy aggregate the usable replies, each with the median of the metrics."""
        admitted = read_evaluations(replies, self.sent_evaluate)
        metrics = self._metrics([message for _, message in admitted])
        made = [with_content(message, node, RecordDict({"metrics": metrics})) for node, message in admitted]
        try:
            return self.strategy.aggregate_evaluate(server_round, made)
        except Exception as error:
            log(WARNING, "%s: the metrics are left out", self._failure(error), exc_info=True)
            return None

    def _num_malicious(self, n: int) -> int:
        return resolve_f(self.num_malicious_nodes, n)

    def _accepts(self, n: int) -> bool:
        try:
            require_rows(self.stages, n)
        except TooFewRowsError:
            return False
        return True

    def _mix(self, updates: Updates) -> Mixed | BadRows | Skipped:
        updates.device = self.device
        return outcome_of(lambda: mix(self.stages, updates, self.threads, float32_only=True))

    def _hand_on(
        self, server_round: int, rows: FloatArray, inbox: Inbox
    ) -> tuple[ArrayRecord | None, MetricRecord | None, str | None]:
        """Return the strategy's model and metrics, and why its round cannot count (or None)."""
        layout, integers = inbox.layout, inbox.integers
        try:
            arrays, metrics = self.strategy.aggregate_train(server_round, self._replies(rows, inbox, integers))
            arrays = None if arrays is None else _as_sent(arrays, integers, layout)
        except Exception as error:
            # Too few replies for it, say: the nodes decide how many are usable.
            reason = self._failure(error)
            log(WARNING, "%s", reason, exc_info=True)
            return None, None, reason
        if arrays is not None and not _is_finite(arrays, layout):
            return None, metrics, f"{type(self.strategy).__name__} made NaN or infinity of usable replies"
        return arrays, metrics, None

    def _failure(self, error: Exception) -> str:
        return f"{type(self.strategy).__name__} failed on usable replies: {type(error).__name__}: {str(error)[:200]}"

    def _replies(self, rows: FloatArray, inbox: Inbox, integers: Mapping[str, NDArray[Any]]) -> list[Message]:
        """One reply for each row, under the names of the nodes in order (of the first ones, behind Bucketing)."""
        metrics = self._metrics([reply.message for reply in inbox.accepted])
        # Strategies want one name of the record from all nodes: the one that most have.
        names = Counter(next(iter(reply.message.content.array_records)) for reply in inbox.accepted)
        key = names.most_common(1)[0][0]
        made = []
        for row, reply in zip(rows, inbox.accepted, strict=False):
            arrays = inbox.layout.step(self.sent.model, row, 1.0, integers)
            content = RecordDict({key: arrays, "metrics": metrics})
            made.append(with_content(reply.message, reply.node_id, content))
        return made

    def _metrics(self, messages: list[Message]) -> MetricRecord:
        """Median of the nodes' metrics, with the weight that a strategy looks for."""
        weight = getattr(self.strategy, "weighted_by_key", "num-examples")
        metrics = median_metrics([RecordDict({"metrics": only_metrics(m)}) for m in messages], weight)
        metrics[weight] = 1
        return metrics


def _as_sent(arrays: ArrayRecord, integers: Mapping[str, NDArray[Any]], layout: Layout) -> ArrayRecord:
    """Return a strategy's model in the dtypes that were sent.

    Averages turn counters into floats: nodes, which go on counting in integers, would then reply in another
    dtype than they were sent.
    """
    dtypes = {name: dtype for name, dtype, _ in layout.entries}
    shapes = {name: shape for name, _, shape in layout.entries}
    made: dict[str, Array] = {}
    for name, array in arrays.items():
        made[name] = make_array(integers[name], shapes[name]) if name in integers else array
        if name in dtypes and made[name].dtype != str(dtypes[name]):
            with np.errstate(over="ignore"):
                made[name] = Array(np.asarray(array.numpy()).astype(dtypes[name]))
    return ArrayRecord(made)


def _is_finite(arrays: ArrayRecord, layout: Layout) -> bool:
    floats = [name for name, dtype, _ in layout.entries if dtype.kind == "f" and name in arrays]
    return all(bool(np.isfinite(arrays[name].numpy()).all()) for name in floats)
