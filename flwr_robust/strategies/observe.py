"""`Observe`: rules that are tried on a running federation and change nothing in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Unpack, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from flwr_robust.messages.grid import NotingGrid
from flwr_robust.messages.replies import Question, Sent
from flwr_robust.record.report import RoundReport
from flwr_robust.rules.base import Rule
from flwr_robust.strategies.guard import Hooked, in_the_place_of, own_method
from flwr_robust.strategies.observing import Observer
from flwr_robust.strategies.options import ObserveOptions


class Observe(Hooked, Strategy):
    """Any strategy, with candidates computed beside it from the same replies: try a defence before you trust it.

    Training is what it is without this wrapper, to the last bit: the strategy gets the same messages, its own `start`
    runs, and what goes wrong in a candidate is logged. Each round's report says of each candidate how far its
    aggregate is from the step that training took (the new model minus the one before, so with a server's learning
    rate and momentum), the cosine between the two, which nodes it would have left out, and the seconds that it took:
    the server's time, by which a round becomes longer. After the run `summary` says what would have changed.

    It stands outside all other wrappers, and holds the strategy: attributes that are set on either count for both.

    Parameters
    ----------
    strategy : Strategy
        Ours, Flower's or any other.
    candidates : mapping of str to Rule
        Rules or chains of `flwr_robust.rules`, or your own, by name. They are copied, so that what they remember
        between rounds is theirs alone.
    **options
        See `flwr_robust.strategies.options.ObserveOptions`.

    Attributes
    ----------
    strategy : Strategy
        As it was given.
    reports : list of RoundReport
        One for each of the last training rounds, with `candidates`: the strategy's own report, where it has one.

    Raises
    ------
    ValueError
        If it is no strategy, a candidate is no rule, or an option has a value that makes no sense.

    Examples
    --------
    >>> from flwr.serverapp.strategy import FedAvg
    >>> from flwr_robust import Observe, rules
    >>> strategy = Observe(FedAvg(), {"trimmed": rules.TrimmedMean(f=2)}, report_path="report.jsonl")
    """

    strategy: Strategy
    observer: Observer

    def __init__(self, strategy: Strategy, candidates: Mapping[str, Rule], **options: Unpack[ObserveOptions]) -> None:
        if not isinstance(strategy, Strategy):
            raise ValueError(f"Observe was given strategy = {strategy!r}; give a Flower strategy, such as FedAvg().")
        observer = Observer(candidates, "Observe", options)
        vars(self).update(strategy=strategy, observer=observer, sent=Sent(), _noting=None)

    def __getattr__(self, name: str) -> Any:
        """Look other attributes up in the strategy."""
        if name.startswith("__") or name in ("strategy", "observer", "sent", "_noting"):
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set attributes of the strategy there."""
        if name in vars(self) or hasattr(type(self), name) or not hasattr(self.strategy, name):
            super().__setattr__(name, value)
        else:
            setattr(self.strategy, name, value)

    @property
    def reports(self) -> list[RoundReport]:
        """One report for each of the last training rounds, as many as `keep_reports` says."""
        return self.observer.record.reports

    @property
    def candidates(self) -> dict[str, Rule]:
        """The candidates by name, as they are observed."""
        return self.observer.candidates

    # ------------------------------------------------------------ the loop

    def start(self, grid: Grid, *positional: Any, **keywords: Any) -> Result:
        """Run the strategy's own `start`, and look on; say in the end what would have changed."""
        with in_the_place_of(self.strategy, self):
            result = self.strategy.start(grid, *positional, **keywords)
        self.observer.log_summary(type(self.strategy).__name__)
        return result

    def summary(self) -> None:
        """Log the candidates, or after a run what they would have changed, and the strategy's own summary."""
        self.observer.record.require_writable()
        self.observer.log_summary(type(self.strategy).__name__)
        own_method(self.strategy, "summary")()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let the strategy configure the round, and take note of what it sends to whom."""
        messages = list(own_method(self.strategy, "configure_train")(server_round, arrays, config, grid))
        if self._guard is None:
            self.sent = self.observer.note([Question.of(message, with_records=True) for message in messages], arrays)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the strategy aggregate, and compute the candidates from the same replies."""
        replies = list(replies)
        seen = self.observer.read(replies, self._sent_for(replies))
        made = own_method(self.strategy, "aggregate_train")(server_round, replies)
        self.observer.observe(server_round, seen, made[0] if isinstance(made, tuple) else None, self.strategy)
        return cast(tuple[ArrayRecord | None, MetricRecord | None], made)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Let the strategy configure the evaluation."""
        return cast(
            Iterable[Message], own_method(self.strategy, "configure_evaluate")(server_round, arrays, config, grid)
        )

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Let the strategy aggregate the evaluation."""
        return cast(MetricRecord | None, own_method(self.strategy, "aggregate_evaluate")(server_round, replies))

    # ------------------------------------------------------------ what was sent

    def _sent_for(self, replies: list[Message]) -> Sent:
        guard = self._guard
        try:
            # Ours still has to ask its own guard; what another strategy's grid has noted, nobody else reads.
            found = None if guard is None else guard.sent(replies) if guard is self._noting else guard.look(replies)
        except Exception:
            found = Sent()
        return found or self.sent

    @property
    def _guard(self) -> NotingGrid | None:
        if isinstance(self.strategy, Hooked):
            return cast(NotingGrid | None, self.strategy._guard)  # type: ignore[attr-defined]
        return cast(NotingGrid | None, self._noting)

    @contextmanager
    def _guarding(self, grid: Grid) -> Iterator[NotingGrid]:
        """Use the guard of a strategy of ours; for others, take note and change nothing."""
        self.observer.record.require_writable()
        if isinstance(self.strategy, Hooked):
            with self.strategy._guarding(grid) as guard:  # type: ignore[attr-defined]
                yield guard
            return
        before, vars(self)["_noting"] = self._noting, self._noting or NotingGrid(grid)
        try:
            yield vars(self)["_noting"]
        finally:
            vars(self)["_noting"] = before
