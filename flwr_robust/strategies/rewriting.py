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

from flwr_robust.devices import CPU, Device
from flwr_robust.engine import look, plan, what_is_needed
from flwr_robust.metrics import median_metrics
from flwr_robust.passes import mix_rows
from flwr_robust.replies import Inbox, Layout, make_array, only_metrics, with_content
from flwr_robust.report import RoundReport
from flwr_robust.rules.base import Needs, PreAggregation, Trace, check_chain
from flwr_robust.strategies.aggregation import median_of_integers, step_from
from flwr_robust.strategies.gate import Gate, refuse_beyond_float32
from flwr_robust.updates import FloatArray, ReplyUpdates

Rewritten = tuple[FloatArray, NDArray[np.float64], Trace]


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
    gate : Gate, optional
        Keeps reports and suspicions; must be new.
    threads : int, optional
        That measure and mix; by default as many as is sensible.
    device : Device
        Where blocks are measured and mixed.
    """

    def __init__(
        self,
        strategy: Strategy,
        stages: Sequence[PreAggregation],
        gate: Gate | None = None,
        threads: int | None = None,
        device: Device = CPU,
    ) -> None:
        self.strategy = strategy
        self.stages = tuple(stages)
        self.gate = gate or Gate()
        self.threads, self.device = threads, device

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
            arrays, metrics, report.skipped = self._hand_on(server_round, rows, inbox)
        arrays = self.gate.arrays if arrays is None else arrays
        self.gate.close(report, inbox)
        metrics = MetricRecord() if metrics is None else metrics
        metrics.update(report.metrics())
        return self.gate.arrays if report.skipped else arrays, metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy aggregate the usable replies, each with the median of the metrics."""
        admitted = self.gate.open_evaluate(replies)
        metrics = self._metrics([message for _, message in admitted])
        made = [with_content(message, node, RecordDict({"metrics": metrics})) for node, message in admitted]
        try:
            return self.strategy.aggregate_evaluate(server_round, made)
        except Exception as error:
            log(WARNING, "%s: the metrics are left out", self._failure(error), exc_info=True)
            return None

    def _check(self, n: int) -> None:
        check_chain(self.stages, n)

    def _rewrite(self, updates: ReplyUpdates) -> Rewritten:
        updates.device = self.device
        geometry, _ = look(updates, max(what_is_needed(self.stages), Needs.NORMS), self.threads)
        norms = geometry.norms * geometry.unit
        refuse_beyond_float32(norms)
        trace = Trace()
        mixing = plan(self.stages, geometry, updates.n, trace).mixing
        return mix_rows(updates, mixing, self.threads), norms, trace

    def _hand_on(
        self, server_round: int, rows: FloatArray, inbox: Inbox
    ) -> tuple[ArrayRecord | None, MetricRecord | None, str | None]:
        """Return the strategy's model and metrics, and why its round cannot count (or None)."""
        layout = inbox.layout or Layout(())
        integers = _integers(inbox, layout)
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

    def _replies(self, rows: FloatArray, inbox: Inbox, integers: Mapping[str, Array]) -> list[Message]:
        """One reply for each row, under the names of the nodes in order (of the first ones, behind Bucketing)."""
        metrics = self._metrics([reply.message for reply in inbox.accepted])
        # Strategies want one name of the record from all nodes: the one that most have.
        names = Counter(next(iter(reply.message.content.array_records)) for reply in inbox.accepted)
        key = names.most_common(1)[0][0]
        made = []
        for row, reply in zip(rows, inbox.accepted, strict=False):
            arrays = self._arrays(row, integers, inbox.layout or Layout(()))
            content = RecordDict({key: arrays, "metrics": metrics})
            made.append(with_content(reply.message, reply.node_id, content))
        return made

    def _arrays(self, row: FloatArray, integers: Mapping[str, Array], layout: Layout) -> ArrayRecord:
        columns = {layer.name: slice(layer.start, layer.stop) for layer in layout.layers}
        made = dict(integers)
        for name, dtype, shape in layout.entries:
            if name in columns:
                values = row[columns[name]]
                step_from(None if self.gate.model is None else self.gate.model[name], values, 1.0, dtype)
                made[name] = make_array(values.astype(dtype, copy=False), shape)
        return ArrayRecord({name: made[name] for name, _, _ in layout.entries})

    def _metrics(self, messages: list[Message]) -> MetricRecord:
        """Median of the nodes' metrics, with the weight that a strategy looks for."""
        weight = getattr(self.strategy, "weighted_by_key", "num-examples")
        metrics = median_metrics([RecordDict({"metrics": only_metrics(m)}) for m in messages], weight)
        metrics[weight] = 1
        return metrics


def _integers(inbox: Inbox, layout: Layout) -> dict[str, Array]:
    """Integer arrays of the next model, such as counters: their coordinate-wise median, as in `RobustStrategy`."""
    return {
        name: make_array(median_of_integers([reply.arrays[name] for reply in inbox.accepted]), shape)
        for name, dtype, shape in layout.entries
        if dtype.kind != "f"
    }


def _as_sent(arrays: ArrayRecord, integers: Mapping[str, Array], layout: Layout) -> ArrayRecord:
    """Return a strategy's model in the dtypes that were sent.

    Averages turn counters into floats: nodes, which go on counting in integers, would then reply in another
    dtype than they were sent.
    """
    dtypes = {name: dtype for name, dtype, _ in layout.entries}
    made: dict[str, Array] = {}
    for name, array in arrays.items():
        made[name] = integers.get(name, array)
        if name in dtypes and made[name].dtype != str(dtypes[name]):
            with np.errstate(over="ignore"):
                made[name] = Array(np.asarray(array.numpy()).astype(dtypes[name]))
    return ArrayRecord(made)


def _is_finite(arrays: ArrayRecord, layout: Layout) -> bool:
    floats = [name for name, dtype, _ in layout.entries if dtype.kind == "f" and name in arrays]
    return all(bool(np.isfinite(arrays[name].numpy()).all()) for name in floats)
