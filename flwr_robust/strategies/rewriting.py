"""Pre-aggregations in front of a strategy of another library: its replies are rewritten."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from logging import INFO
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore import log
from numpy.typing import NDArray

from flwr_robust.engine import look, plan, what_is_needed
from flwr_robust.metrics import median_metrics
from flwr_robust.passes import mix_rows
from flwr_robust.replies import Inbox, Layout, make_array, only_metrics, with_content
from flwr_robust.report import RoundReport
from flwr_robust.rules.base import Needs, PreAggregation, Trace, check_chain
from flwr_robust.strategies.gate import Gate
from flwr_robust.strategies.robust import step_from
from flwr_robust.updates import FloatArray, ReplyUpdates

Rewritten = tuple[FloatArray, NDArray[np.float64], Trace]


class RewritingStrategy(Strategy):
    """Hands a strategy the usable replies only, with mixed or clipped updates.

    The strategy sees well-formed replies of equal weight (``num-examples`` is 1, because it comes from the
    nodes) with the median of the nodes' metrics. It holds all rewritten models at once, as such strategies do.

    Parameters
    ----------
    strategy : Strategy
        Any Flower strategy.
    stages : sequence of PreAggregation
        Applied in order.
    gate : Gate, optional
        Keeps reports and suspicions; must be new.
    """

    def __init__(self, strategy: Strategy, stages: Sequence[PreAggregation], gate: Gate | None = None) -> None:
        self.strategy = strategy
        self.stages = tuple(stages)
        self.gate = gate or Gate()

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each training round."""
        return self.gate.reports

    @property
    def suspicions(self) -> dict[int, float]:
        """See `RobustStrategy`; what weights the strategy gives is not known here, so quarantines alone count."""
        return self.gate.suspicions

    @property
    def num_malicious_nodes(self) -> int | float:
        """Nodes that may lie, as the stages have it."""
        return max((stage.f for stage in self.stages), default=0)

    def __getattr__(self, name: str) -> Any:
        """Look other attributes up in the strategy."""
        if name.startswith("__") or name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def state(self) -> ArrayRecord:
        """Return what the stages keep between rounds, and the suspicions; see `RobustStrategy.state`."""
        kept = {f"{k}.{name}": v for k, stage in enumerate(self.stages) for name, v in stage.state().items()}
        kept |= self.gate.state()
        return ArrayRecord({name: Array(np.asarray(value)) for name, value in kept.items()})

    def load_state(self, state: ArrayRecord) -> None:
        """Take over what `state` returned."""
        values = self.gate.load_state({name: array.numpy() for name, array in state.items()})
        for k, stage in enumerate(self.stages):
            own = {name.partition(".")[2]: v for name, v in values.items() if name.partition(".")[0] == str(k)}
            stage.load_state(own)

    def reset(self) -> None:
        """Forget what the stages keep between rounds, and the suspicions; the strategy is left as it is."""
        for stage in self.stages:
            stage.reset()
        self.gate.reset()

    def summary(self) -> None:
        """Log the stages and the strategy's configuration."""
        log(INFO, "\t├──> Replies are rewritten for %s by:", type(self.strategy).__name__)
        for stage in self.stages:
            log(INFO, "\t│\t├── %s", stage)
        if self.gate.suspicion is not None:
            log(INFO, "\t│\t├── %s", self.gate.suspicion)
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training, and remember what is sent to whom."""
        sampled = self.strategy.configure_train(server_round, arrays, config, grid)
        sampled = self.gate.exclude(sampled, grid, self.num_malicious_nodes, self._check)
        return self.gate.sent("train", sampled, arrays)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation, and remember who is asked."""
        messages = self.strategy.configure_evaluate(server_round, arrays, config, grid)
        return self.gate.sent("evaluate", messages, arrays)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Rewrite the usable replies and let the strategy aggregate them."""
        inbox = self.gate.open(replies)
        outcome, skipped = self.gate.run(inbox, self.stages, self._check, self._rewrite)
        chain = " > ".join([*map(repr, self.stages), type(self.strategy).__name__])
        report = RoundReport(server_round, chain, len(inbox.accepted), self.num_malicious_nodes, skipped=skipped)
        nodes = [reply.node_id for reply in inbox.accepted]
        arrays, metrics = None, None
        if outcome is None:
            report.add_unused(nodes)
        else:
            rows, norms, trace = outcome
            report.add_accepted(nodes, norms, None, trace)
            arrays, metrics = self.strategy.aggregate_train(server_round, self._replies(rows, inbox))
        arrays = self.gate.arrays if arrays is None else arrays
        self.gate.close(report, inbox)
        metrics = MetricRecord() if metrics is None else metrics
        metrics.update(report.metrics())
        return arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy aggregate the usable replies, each with the median of the metrics."""
        admitted = self.gate.open_evaluate(replies)
        metrics = self._metrics([message for _, message in admitted])
        return self.strategy.aggregate_evaluate(
            server_round,
            [with_content(message, node, RecordDict({"metrics": metrics})) for node, message in admitted],
        )

    def _check(self, n: int) -> None:
        check_chain(self.stages, n)

    def _rewrite(self, updates: ReplyUpdates) -> tuple[Rewritten, NDArray[np.float64]]:
        geometry, _ = look(updates, max(what_is_needed(self.stages), Needs.NORMS))
        trace = Trace()
        mixing = plan(self.stages, geometry, updates.n, trace).mixing
        norms = geometry.norms * geometry.unit
        return (mix_rows(updates, mixing), norms, trace), norms

    def _replies(self, rows: FloatArray, inbox: Inbox) -> list[Message]:
        """One reply for each row, under the names of the nodes in order (of the first ones, behind Bucketing)."""
        metrics = self._metrics([reply.message for reply in inbox.accepted])
        made = []
        for row, reply in zip(rows, inbox.accepted, strict=False):
            arrays = self._arrays(row, reply.arrays, inbox.layout or Layout(()))
            key = next(iter(reply.message.content.array_records))
            content = RecordDict({key: arrays, "metrics": metrics})
            made.append(with_content(reply.message, reply.node_id, content))
        return made

    def _arrays(self, row: FloatArray, own: dict[str, NDArray[Any]], layout: Layout) -> ArrayRecord:
        columns = {layer.name: slice(layer.start, layer.stop) for layer in layout.layers}
        made: dict[str, Array] = {}
        for name, dtype, shape in layout.entries:
            values = own[name]
            if name in columns:
                values = row[columns[name]]
                step_from(None if self.gate.model is None else self.gate.model[name], values, 1.0, dtype)
            made[name] = make_array(values.astype(dtype, copy=False), shape)
        return ArrayRecord(made)

    def _metrics(self, messages: list[Message]) -> MetricRecord:
        """Median of the nodes' metrics, with the weight that a strategy looks for."""
        weight = getattr(self.strategy, "weighted_by_key", "num-examples")
        metrics = median_metrics([RecordDict({"metrics": only_metrics(m)}) for m in messages], weight)
        metrics[weight] = 1
        return metrics
