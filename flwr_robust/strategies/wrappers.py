"""Pre-aggregations as wrappers around any Flower strategy: NNM, ARC, Bucketing, StaticClipping.

Around one of our strategies they join its chain, which still takes two passes over the replies.
Around any other strategy they rewrite the replies and hand them on.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from flwr_robust import rules
from flwr_robust.rules.base import PreAggregation, Rule
from flwr_robust.rules.chains import chain
from flwr_robust.rules.checks import check_f
from flwr_robust.strategies.options import WrapperOptions, check_wrapper_options, threads_and_device
from flwr_robust.strategies.rewriting import RewritingStrategy
from flwr_robust.strategies.robust import RobustStrategy


class PreAggregationStrategy(Strategy):
    """A strategy with a pre-aggregation in front; everything else is the wrapped strategy's.

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    stage : PreAggregation
        Applied before all that the strategy does.
    **options
        `threads`, `device`, `report_path`, `suspicion` and `exclude_after`, as in `RobustStrategy`; by default the
        wrapped strategy's.

    Attributes
    ----------
    strategy : Strategy
        What runs: a copy of the wrapped strategy with the longer chain, or the rewriting of replies.
    """

    def __init__(self, strategy: Strategy, stage: PreAggregation, **options: Unpack[WrapperOptions]) -> None:
        inner, name = unwrap(strategy), type(self).__name__
        check_wrapper_options(options, name)
        if isinstance(inner, RobustStrategy):
            self.strategy: RobustStrategy | RewritingStrategy = inner.with_rule(chain(stage, inner.rule), **options)
            return
        if not isinstance(inner, RewritingStrategy):
            inner = RewritingStrategy(inner, ())
        self.strategy = RewritingStrategy(
            inner.strategy,
            (stage, *inner.stages),
            inner.gate.anew(name, options),
            *threads_and_device(options, name, inner.threads, inner.device),
        )

    @property
    def rule(self) -> Rule | None:
        """The whole chain; None where it ends in a strategy of another library."""
        return getattr(self.strategy, "rule", None)

    @property
    def num_malicious_nodes(self) -> int | float:
        """Nodes that may lie."""
        return self.strategy.num_malicious_nodes

    def __getattr__(self, name: str) -> Any:
        """Look other attributes (`reports`, FedAvg's settings, ...) up in the strategy that runs."""
        if name.startswith("__") or name == "strategy":
            raise AttributeError(name)
        return getattr(self.strategy, name)

    def summary(self) -> None:
        """Log the configuration of the chain and of the strategy."""
        self.strategy.summary()

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of training."""
        return self.strategy.configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Aggregate training replies."""
        return self.strategy.aggregate_train(server_round, replies)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure the next round of evaluation."""
        return self.strategy.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Aggregate evaluation replies."""
        return self.strategy.aggregate_evaluate(server_round, replies)


def unwrap(strategy: Strategy) -> Strategy:
    """Return the strategy that runs inside our wrappers.

    Raises
    ------
    ValueError
        If it is no Flower strategy.
    """
    if not isinstance(strategy, Strategy):
        raise ValueError(f"a strategy is wrapped around another one, not around {strategy!r}: give a Flower strategy.")
    return strategy.strategy if isinstance(strategy, PreAggregationStrategy) else strategy


def inherited_f(strategy: Strategy, num_malicious_nodes: int | float | None, owner: str) -> int | float:
    """Return f for a wrapper: what is given, else what the wrapped strategy has.

    Raises
    ------
    ValueError
        If neither says how many nodes may lie.
    """
    if num_malicious_nodes is None:
        num_malicious_nodes = getattr(unwrap(strategy), "num_malicious_nodes", None)
    if num_malicious_nodes is None:
        raise ValueError(
            f"{owner} around {type(strategy).__name__} does not know how many nodes may lie: "
            f"give it num_malicious_nodes, as in {owner}({type(strategy).__name__}(...), num_malicious_nodes=2)."
        )
    return check_f(num_malicious_nodes, owner)


class NNM(PreAggregationStrategy):
    """Nearest-neighbour mixing before a strategy (see `flwr_robust.rules.NNM`).

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    num_malicious_nodes : int or float, optional
        Nodes that may lie; by default the wrapped strategy's.
    **options
        See `PreAggregationStrategy`.

    Examples
    --------
    >>> from flwr_robust import ARC, NNM, TrimmedMean
    >>> ARC(NNM(TrimmedMean(num_malicious_nodes=2))).rule
    chain(ARC(f=2), NNM(f=2), TrimmedMean(f=2))
    """

    def __init__(
        self, strategy: Strategy, num_malicious_nodes: int | float | None = None, **options: Unpack[WrapperOptions]
    ) -> None:
        super().__init__(strategy, rules.NNM(inherited_f(strategy, num_malicious_nodes, "NNM")), **options)


class ARC(PreAggregationStrategy):
    """Adaptive robust clipping before a strategy (see `flwr_robust.rules.ARC`).

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    num_malicious_nodes : int or float, optional
        Nodes that may lie; by default the wrapped strategy's.
    **options
        See `PreAggregationStrategy`.
    """

    def __init__(
        self, strategy: Strategy, num_malicious_nodes: int | float | None = None, **options: Unpack[WrapperOptions]
    ) -> None:
        super().__init__(strategy, rules.ARC(inherited_f(strategy, num_malicious_nodes, "ARC")), **options)


class Bucketing(PreAggregationStrategy):
    """Means of random buckets before a strategy (see `flwr_robust.rules.Bucketing`).

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    s : int, optional
        Updates a bucket; by default ``max(1, floor(n / (2 f)))``.
    num_malicious_nodes : int or float, optional
        Nodes that may lie, where `s` is not given; by default the wrapped strategy's.
    seed : int, optional
        Seed of the permutations.
    **options
        See `PreAggregationStrategy`.
    """

    def __init__(
        self,
        strategy: Strategy,
        s: int | None = None,
        num_malicious_nodes: int | float | None = None,
        seed: int | None = None,
        **options: Unpack[WrapperOptions],
    ) -> None:
        f = inherited_f(strategy, num_malicious_nodes, "Bucketing") if s is None else 0
        super().__init__(strategy, rules.Bucketing(s=s, f=f, seed=seed), **options)


class StaticClipping(PreAggregationStrategy):
    """Clipping to a fixed norm before a strategy (see `flwr_robust.rules.StaticClipping`).

    Parameters
    ----------
    strategy : Strategy
        Ours or any other.
    max_norm : float
        Largest norm that an update may keep.
    **options
        See `PreAggregationStrategy`.
    """

    def __init__(self, strategy: Strategy, max_norm: float, **options: Unpack[WrapperOptions]) -> None:
        super().__init__(strategy, rules.StaticClipping(max_norm), **options)
