"""`RobustFedAvg`: any rule or chain for projects on `flwr.server.strategy`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from logging import WARNING
from typing import Any, TypedDict, Unpack, cast

from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.common import (
    EvaluateIns,
    EvaluateRes,
    FitIns,
    FitRes,
    Metrics,
    MetricsAggregationFn,
    NDArrays,
    Parameters,
    Scalar,
)
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg
from flwr.supercore import log

from flwr_robust.legacy.messages import Failure, node_number, questions, replies_of, to_parameters, to_record
from flwr_robust.messages.replies import MedianMetrics, Sent, attempt, read_evaluations
from flwr_robust.rules import Median, Rule
from flwr_robust.strategies.options import OwnOptions, own_options
from flwr_robust.strategies.robust import RobustAggregation

ConfigFunction = Callable[[int], dict[str, Scalar]]
EvaluateFunction = Callable[[int, NDArrays, dict[str, Scalar]], tuple[float, dict[str, Scalar]] | None]


class LegacyFedAvgOptions(TypedDict, total=False):
    """Keyword arguments of Flower's `flwr.server.strategy.FedAvg`, with its defaults."""

    fraction_fit: float
    fraction_evaluate: float
    min_fit_clients: int
    min_evaluate_clients: int
    min_available_clients: int
    evaluate_fn: EvaluateFunction | None
    on_fit_config_fn: ConfigFunction | None
    on_evaluate_config_fn: ConfigFunction | None
    accept_failures: bool
    initial_parameters: Parameters | None
    fit_metrics_aggregation_fn: MetricsAggregationFn | None
    evaluate_metrics_aggregation_fn: MetricsAggregationFn | None
    inplace: bool


class LegacyOptions(LegacyFedAvgOptions, OwnOptions, total=False):
    """Keyword arguments of `RobustFedAvg`: Flower's `LegacyFedAvgOptions` and our `OwnOptions`."""


class RobustFedAvg(RobustAggregation, FedAvg):
    """`flwr.server.strategy.FedAvg` with a robust rule or chain in place of the weighted average.

    It aggregates, quarantines and reports as `flwr_robust.RobustStrategy` does: the new model is
    ``global + server_learning_rate * rule(replies - global)``. ``num_examples`` comes from the nodes and is not
    used; losses and metrics are the unweighted median over usable replies unless functions are given, which get
    the nodes' own numbers. A round with too few usable replies returns the model as it was.
    Rules that name a layer call it by its place in the list of arrays: ``rules.LFighter(output_layer="4")``.
    In ``ServerApp(server_fn=...)`` no reply of a client ends a run; Flower's `DefaultWorkflow` itself fails on
    replies that are no FitRes at all, before a strategy sees them.

    Parameters
    ----------
    rule : Rule, optional
        A rule or chain of `flwr_robust.rules`, or one of your own; by default the coordinate-wise median, which
        needs no f.
    num_malicious_nodes : int or float, optional
        How many nodes `exclude_after` may exclude; by default the rule's own f.
    **options
        Keyword arguments of Flower's `FedAvg` (`inplace` changes nothing), and `server_learning_rate`,
        `server_momentum`, `threads`, `device`, `report_path`, `on_report`, `keep_reports`, `suspicion`, `exclude_after`
        and `forgive_after` (see `flwr_robust.strategies.options.OwnOptions`). Without `initial_parameters` Flower asks
        one random node for the initial model.

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
    >>> from flwr_robust import rules
    >>> from flwr_robust.legacy import RobustFedAvg
    >>> RobustFedAvg(rules.chain(rules.ARC(f=2), rules.NNM(f=2), rules.TrimmedMean(f=2)), fraction_fit=0.5)
    RobustFedAvg(chain(ARC(f=2), NNM(f=2), TrimmedMean(f=2)))
    """

    def __init__(
        self,
        rule: Rule | None = None,
        *,
        num_malicious_nodes: int | float | None = None,
        **options: Unpack[LegacyOptions],
    ) -> None:
        ours = own_options(options)
        super().__init__(**cast(LegacyFedAvgOptions, {k: v for k, v in options.items() if k not in ours}))
        self._set_up(Median() if rule is None else rule, num_malicious_nodes, ours)
        self._model_is_ours = True
        self._parameters: Parameters | None = None
        self._median_metrics = MedianMetrics()

    def __repr__(self) -> str:
        """Return the strategy's name and its rule."""
        return f"{type(self).__name__}({self.rule!r})"

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Return the initial parameters, or None to let Flower ask a node for them; and log the chain."""
        parameters = super().initialize_parameters(client_manager)
        self._log_aggregation(self.min_fit_clients)
        self._model_is_ours = parameters is not None
        if parameters is None:
            log(WARNING, "No initial_parameters: one node, which may be malicious, chooses the initial model")
        return parameters

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, Scalar]] | None:
        """Evaluate the model with `evaluate_fn`; None where that fails on a model that a node chose."""
        try:
            return super().evaluate(server_round, parameters)
        except Exception as error:
            if self._model_is_ours:
                raise
            log(WARNING, "evaluate_fn failed on the initial model, which a node chose: %r", error)
            return None

    def __init_subclass__(cls, **options: Any) -> None:
        """Take note of what a subclass's own `configure_fit` sends."""
        super().__init_subclass__(**options)
        if "configure_fit" in cls.__dict__:
            cls.configure_fit = _noting(cls.__dict__["configure_fit"])  # type: ignore[method-assign]

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Configure the next round of training, and remember what is sent to whom.

        Raises
        ------
        ValueError
            If the model cannot be aggregated, or lacks a layer that the rule needs.
        """
        sampled = super().configure_fit(server_round, parameters, client_manager)
        pairs = self._without_excluded(sampled, client_manager)
        self._note(pairs, parameters)
        return pairs

    def _note(self, pairs: list[tuple[ClientProxy, FitIns]], parameters: Parameters) -> None:
        """Remember the model, and what goes to whom."""
        self._parameters = parameters if parameters.tensors else None
        try:
            self._note_sent(
                questions("train", pairs, with_records=True), to_record(parameters) if parameters.tensors else None
            )
        except ValueError as error:
            if self._model_is_ours:
                raise
            log(WARNING, "A node chose the initial model, and %s The model of most replies counts instead.", error)
            self._note_sent(questions("train", pairs), None)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Configure the next round of evaluation, and remember who is asked."""
        pairs = super().configure_evaluate(server_round, parameters, client_manager)
        self.sent_evaluate = Sent(questions("evaluate", pairs))
        return pairs

    def aggregate_fit(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, FitRes]],
        failures: list[tuple[ClientProxy, FitRes] | BaseException],
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Aggregate the usable results; the report says what became of each node.

        Returns
        -------
        The new model, or the old one where too few results are usable (None if none was sent); and the metrics, with
        ``robust/...`` numbers among them.

        Raises
        ------
        ConfigurationError
            If no round was trained yet, and more results fail alike than malicious nodes can make.
        """
        replies = replies_of("train", results, failures, self.sent.asked)
        done = self._aggregate_round(server_round, replies, self.sent, self._refused(failures))
        first = _first_of_each(results)
        counted = done.accepted if self.fit_metrics_aggregation_fn is None else done.counted
        reported = [(first[reply.node_id].num_examples, first[reply.node_id].metrics) for reply in counted]
        metrics = self._metrics(self.fit_metrics_aggregation_fn, reported) | self.reports[-1].metrics()
        if done.arrays is None:
            return self._parameters, metrics
        self._model_is_ours = True
        return to_parameters(done.arrays), metrics

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Aggregate losses and metrics of the usable results; (None, {}) where there are none."""
        replies = replies_of("evaluate", results, failures, self.sent_evaluate.asked)
        admitted = read_evaluations(replies, self.sent_evaluate)
        refused = self._refused(failures)
        if refused is not None:
            log(WARNING, "The evaluation of round %s is left out: %s", server_round, refused)
        if refused is not None or not admitted:
            return None, {}
        first = _first_of_each(results)
        results_by_node = [first[node] for node, _ in admitted]
        loss = self._medians([{"loss": result.loss} for result in results_by_node]).get("loss")
        metrics = self._metrics(
            self.evaluate_metrics_aggregation_fn, [(result.num_examples, result.metrics) for result in results_by_node]
        )
        return cast(float | None, loss), metrics

    def _without_excluded(
        self, pairs: list[tuple[ClientProxy, FitIns]], client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        def connected() -> dict[int, ClientProxy]:
            return {node_number(client): client for client in list(client_manager.all().values())}

        asked = {node_number(client): (client, ins) for client, ins in pairs}
        places = self.exclusion.of_nodes(list(asked), connected)
        if not self.exclusion.excluded:
            return pairs
        clients = connected() | {node: client for node, (client, _) in asked.items()}
        return [(clients[node], asked[sampled][1]) for sampled, node in places]

    def _unpack(self, arrays: ArrayRecord) -> NDArrays:
        return [array.numpy() for array in arrays.values()]

    def _metrics(self, function: MetricsAggregationFn | None, reported: list[tuple[int, Metrics]]) -> Metrics:
        """Aggregate (num_examples, metrics) of nodes by a user's function, or by medians without one."""
        if not reported:
            return {}
        if function is None:
            return self._medians([metrics for _, metrics in reported])
        return dict(attempt(function, reported) or {})

    def _medians(self, reported: Sequence[Mapping[str, Any]]) -> Metrics:
        """Unweighted median of each number that most nodes report."""
        numbers: list[dict[str, Any]] = [
            {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            for metrics in reported
        ]
        contents = [RecordDict({"metrics": MetricRecord(mine)}) for mine in numbers]
        return cast(Metrics, dict(self._median_metrics(contents, weighted_by_key="")))

    def _refused(self, failures: Sequence[Failure]) -> str | None:
        if self.accept_failures or not failures:
            return None
        return f"there were {len(failures)} failures, and accept_failures is False"


def _first_of_each(results: Sequence[tuple[ClientProxy, Any]]) -> dict[int, Any]:
    """First result of each node, the only one that counts."""
    return {node_number(client): result for client, result in reversed(results)}


def _noting(configure_fit: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(configure_fit)
    def noting(self: RobustFedAvg, server_round: int, parameters: Parameters, client_manager: ClientManager) -> Any:
        pairs = list(configure_fit(self, server_round, parameters, client_manager))
        self._note(pairs, parameters)
        return pairs

    return noting
