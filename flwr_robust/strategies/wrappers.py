"""Pre-aggregations in front of a strategy, which they hold and do not copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Unpack, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from flwr_robust.messages.grid import GuardedGrid
from flwr_robust.rules.base import PreAggregation, Rule, chain
from flwr_robust.strategies.options import WrapperOptions, refuse_unknown
from flwr_robust.strategies.rewriting import RewritingStrategy
from flwr_robust.strategies.robust import Hooked, RobustStrategy

# What Flower's loop calls.
CALLED = ("summary", "configure_train", "aggregate_train", "configure_evaluate", "aggregate_evaluate")


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
            if _is_flowers(self.strategy):
                return super().start(grid, *positional, **keywords)
            with _in_the_place_of(self.strategy, self):
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


def _is_flowers(strategy: Strategy) -> bool:
    """Whether a strategy's `start` is Flower's loop, also that of what it wraps."""
    owner = next(kind for kind in type(strategy).__mro__ if "start" in vars(kind))
    if "start" in vars(strategy) or owner not in (Strategy, RobustStrategy, PreAggregationStrategy):
        return False
    return not isinstance(strategy, PreAggregationStrategy) or _is_flowers(strategy.strategy)


@contextmanager
def _in_the_place_of(strategy: Strategy, leader: Strategy) -> Iterator[None]:
    """Let a strategy's `start` call the leader's methods, which find its own ones as their `original`."""
    before = {name: vars(strategy).get(name) for name in CALLED}
    for name in CALLED:
        vars(strategy)[name] = _leaders(leader, name, getattr(strategy, name))
    try:
        yield
    finally:
        for name, own in before.items():
            if own is None:
                del vars(strategy)[name]
            else:
                vars(strategy)[name] = own


def _leaders(leader: Strategy, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*positional: Any, **keywords: Any) -> Any:
        return getattr(leader, name)(*positional, **keywords)

    call.original = original  # type: ignore[attr-defined]
    return call
