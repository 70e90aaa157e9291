"""`Observe` on Flower's older interface: rules that are tried on a running federation and change nothing in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from flwr.common import EvaluateIns, EvaluateRes, FitIns, FitRes, Parameters, Scalar
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import Strategy

from flwr_robust.legacy.messages import questions, replies_of, to_record
from flwr_robust.messages.replies import Sent
from flwr_robust.record.report import RoundReport
from flwr_robust.rules import Rule
from flwr_robust.strategies.observing import Observer, Seen
from flwr_robust.strategies.options import ObserveOptions

Results = list[tuple[ClientProxy, FitRes]]
Failures = list[tuple[ClientProxy, FitRes] | BaseException]


class Observe(Strategy):
    """Any strategy of `flwr.server.strategy`, with candidates computed beside it; see `flwr_robust.Observe`.

    Training is what it is without this wrapper, to the last bit. Flower's older loop calls nothing when a run is over:
    call `summary` then, which says what would have changed.

    Parameters
    ----------
    strategy : Strategy
        Ours, Flower's or any other. Attributes that this class does not have are the strategy's.
    candidates : mapping of str to Rule
        Rules or chains of `flwr_robust.rules`, or your own, by name; they are copied.
    **options
        See `flwr_robust.strategies.options.ObserveOptions`.

    Raises
    ------
    ValueError
        If it is no strategy, a candidate is no rule, or an option has a value that makes no sense.
    """

    def __init__(self, strategy: Strategy, candidates: Mapping[str, Rule], **options: Unpack[ObserveOptions]) -> None:
        if not isinstance(strategy, Strategy):
            raise ValueError(
                f"Observe was given strategy = {strategy!r}; give a strategy of flwr.server.strategy, such as FedAvg()."
            )
        self.strategy, self.observer = strategy, Observer(candidates, "Observe", options)
        self.sent = Sent()

    def __getattr__(self, name: str) -> Any:
        """Look other attributes up in the strategy."""
        if name.startswith("__") or name in ("strategy", "observer", "sent"):
            raise AttributeError(name)
        return getattr(self.strategy, name)

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each of the last training rounds, as many as `keep_reports` says."""
        return self.observer.record.reports

    @property
    def candidates(self) -> dict[str, Rule]:
        """The candidates by name, as they are observed."""
        return self.observer.candidates

    def summary(self) -> None:
        """Log the candidates; after a run, what they would have changed."""
        self.observer.log_summary(type(self.strategy).__name__)

    def initialize_parameters(self, client_manager: ClientManager) -> Parameters | None:
        """Let the strategy say where training starts."""
        self.observer.record.require_writable()
        self.summary()
        return self.strategy.initialize_parameters(client_manager)

    def configure_fit(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, FitIns]]:
        """Let the strategy configure the round, and take note of what it sends to whom."""
        pairs = self.strategy.configure_fit(server_round, parameters, client_manager)
        pairs = pairs if isinstance(pairs, list) else list(pairs)
        try:
            model = to_record(parameters) if parameters.tensors else None
            self.sent = self.observer.note(questions("train", pairs, with_records=True), model)
        except Exception:
            self.sent = Sent()
        return pairs

    def aggregate_fit(
        self, server_round: int, results: Results, failures: Failures
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Let the strategy aggregate, and compute the candidates from the same results."""
        seen = self._read(results, failures)
        made = self.strategy.aggregate_fit(server_round, results, failures)
        try:
            model = to_record(made[0]) if made[0] is not None else None
        except Exception:
            model = None
        self.observer.observe(server_round, seen, model, self.strategy)
        return made

    def _read(self, results: Results, failures: Failures) -> Seen | None:
        try:
            replies = replies_of("train", results, failures, self.sent.asked)
        except Exception:
            replies = []
        return self.observer.read(replies, self.sent)

    def configure_evaluate(
        self, server_round: int, parameters: Parameters, client_manager: ClientManager
    ) -> list[tuple[ClientProxy, EvaluateIns]]:
        """Let the strategy configure the evaluation."""
        return self.strategy.configure_evaluate(server_round, parameters, client_manager)

    def aggregate_evaluate(
        self,
        server_round: int,
        results: list[tuple[ClientProxy, EvaluateRes]],
        failures: list[tuple[ClientProxy, EvaluateRes] | BaseException],
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Let the strategy aggregate the evaluation."""
        return self.strategy.aggregate_evaluate(server_round, results, failures)

    def evaluate(self, server_round: int, parameters: Parameters) -> tuple[float, dict[str, Scalar]] | None:
        """Let the strategy evaluate the model."""
        return self.strategy.evaluate(server_round, parameters)
