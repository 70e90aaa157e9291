"""Strategies under the names of their rules, and wrappers under those of pre-aggregations.

A constructor hands its arguments to the rule, whose docstring explains them: it becomes part of the strategy's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from inspect import Parameter, Signature, signature
from types import new_class
from typing import Any, ClassVar, Unpack

from flwr.serverapp.strategy import Strategy

from flwr_robust import rules
from flwr_robust.rules.base import Stage
from flwr_robust.rules.checks import check_f, number
from flwr_robust.strategies.options import Options, WrapperOptions, positional_as_in_flower
from flwr_robust.strategies.robust import PreAggregationStrategy, RobustStrategy, unwrap

Nodes = int | float
_PARAMETERS = re.compile(r"Parameters\n-+\n(.*?)(?=\n\n[A-Z]\w+\n-+\n|\Z)", re.DOTALL)
_F = re.compile(r"^f : int or float.*?(?=^\S|\Z)", re.DOTALL | re.MULTILINE)
_NODES = (
    "num_malicious_nodes : int or float\n    Malicious nodes to tolerate: a number of them, or a fraction in [0, 0.5)."
)


def _docstring(kind: type, stage: type[Stage], first: str, options: str) -> str:
    """Return a strategy's docstring: what its class says, and the parameters of its rule."""
    own = kind.__dict__.get("__doc__") or f"`flwr_robust.rules.{stage.__name__}` as a strategy."
    found = _PARAMETERS.search(_dedented(stage.__doc__ or ""))
    of_rule = _F.sub("", found[1]).strip() if found else ""
    parts = ["Parameters\n----------", first, of_rule, f"**options\n    See `{options}`."]
    return f"{_dedented(own).strip()}\n\n" + "\n".join(filter(None, parts)) + "\n"


def _dedented(text: str) -> str:
    return "\n".join(line.removeprefix("    ") for line in text.splitlines())


# ---------------------------------------------------------------- rules


class NamedStrategy(RobustStrategy):
    """A strategy that runs its `rule_class`."""

    rule_class: ClassVar[type[rules.Rule]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "rule_class"):
            unused = "" if cls.rule_class.takes_f else " Not used by the rule; wrappers around the strategy inherit it."
            cls.__doc__ = _docstring(cls, cls.rule_class, _NODES + unused, "RobustStrategy")


class PlainStrategy(NamedStrategy):
    """A strategy whose rule takes f or nothing."""

    @positional_as_in_flower()
    def __init__(self, *, num_malicious_nodes: Nodes = 0, **options: Unpack[Options]) -> None:
        make: Callable[..., rules.Rule] = self.rule_class
        rule = make(num_malicious_nodes) if self.rule_class.takes_f else make()
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class Mean(PlainStrategy):
    rule_class = rules.Mean


class Median(PlainStrategy):
    rule_class = rules.Median


class TrimmedMean(PlainStrategy):
    rule_class = rules.TrimmedMean


class MeaMed(PlainStrategy):
    rule_class = rules.MeaMed


class MDA(PlainStrategy):
    rule_class = rules.MDA


class FABA(PlainStrategy):
    rule_class = rules.FABA


FedMedian = Median


class FedTrimmedAvg(TrimmedMean):
    """`TrimmedMean` under Flower's name: ``beta`` is the fraction of nodes that is dropped at either end.

    ``num_malicious_nodes``, where it is given, takes its place.
    """

    @positional_as_in_flower(last=("beta",))
    def __init__(
        self, *, beta: float = 0.2, num_malicious_nodes: Nodes | None = None, **options: Unpack[Options]
    ) -> None:
        fraction = number(beta, "beta", "FedTrimmedAvg", at_least=0, below=0.5)
        f = fraction if num_malicious_nodes is None else num_malicious_nodes
        super().__init__(num_malicious_nodes=f, **options)


class Krum(NamedStrategy):
    """`flwr_robust.rules.Krum` as a strategy.

    Flower's `Krum` sums over one neighbour less: with ``num_neighbors=n - f - 2`` the two choose alike.
    """

    rule_class = rules.Krum

    @positional_as_in_flower("num_malicious_nodes")
    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        p: float = 2,
        num_neighbors: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.Krum(num_malicious_nodes, p=p, num_neighbors=num_neighbors), **options)


class MultiKrum(NamedStrategy):
    """`flwr_robust.rules.MultiKrum` as a strategy; ``num_nodes_to_select`` is Flower's name of ``m``.

    Flower's `MultiKrum` averages one node unless it is given a number, and sums over one neighbour less: with
    ``num_neighbors=n - f - 2`` the two choose alike.
    """

    rule_class = rules.MultiKrum

    @positional_as_in_flower("num_malicious_nodes", "num_nodes_to_select")
    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        num_nodes_to_select: int | None = None,
        m: int | None = None,
        p: float = 2,
        num_neighbors: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        if None not in (m, num_nodes_to_select) and m != num_nodes_to_select:
            raise ValueError(
                f"MultiKrum was given m = {m} and num_nodes_to_select = {num_nodes_to_select}, which are "
                "two names of one number; give one of them."
            )
        select = num_nodes_to_select if m is None else m
        super().__init__(rules.MultiKrum(num_malicious_nodes, m=select, p=p, num_neighbors=num_neighbors), **options)
        self.num_nodes_to_select = select


class GeometricMedian(NamedStrategy):
    rule_class = rules.GeometricMedian

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        tol: float = 1e-6,
        max_iterations: int = 100,
        p: float = 2,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.GeometricMedian(tol=tol, max_iterations=max_iterations, p=p)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class Bulyan(NamedStrategy):
    """`flwr_robust.rules.Bulyan` as a strategy; ``selection_rule`` is Flower's name of ``selection``.

    Flower's `Bulyan` chooses all nodes at once where the paper recomputes the scores after each: with
    ``selection_rule="multi-krum"`` (or Flower's `select_multikrum`) the two choose alike.
    """

    rule_class = rules.Bulyan

    @positional_as_in_flower("num_malicious_nodes", last=("selection_rule",))
    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        selection: str = "krum",
        p: float = 2,
        selection_rule: str | Callable[..., Any] | None = None,
        **options: Unpack[Options],
    ) -> None:
        if selection_rule is not None:
            flowers = getattr(selection_rule, "__name__", None) == "select_multikrum"
            selection = "multi-krum" if flowers else selection_rule  # type: ignore[assignment]
        super().__init__(rules.Bulyan(num_malicious_nodes, selection=selection, p=p), **options)


class CenteredClipping(NamedStrategy):
    rule_class = rules.CenteredClipping

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        tau: float | None = None,
        iterations: int = 1,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.CenteredClipping(tau=tau, iterations=iterations)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class SparseFed(NamedStrategy):
    rule_class = rules.SparseFed

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        k: float = 0.5,
        max_norm: float | None = None,
        momentum: float = 0.9,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.SparseFed(k=k, max_norm=max_norm, momentum=momentum)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class DnC(NamedStrategy):
    rule_class = rules.DnC

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        iterations: int = 1,
        subsample: int = 10000,
        filter_fraction: float = 1.0,
        seed: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(rules.DnC(num_malicious_nodes, iterations, subsample, filter_fraction, seed), **options)


class SignGuard(NamedStrategy):
    rule_class = rules.SignGuard

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        lower: float = 0.1,
        upper: float = 3.0,
        fraction: float = 0.1,
        seed: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.SignGuard(lower=lower, upper=upper, fraction=fraction, seed=seed)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class LFighter(NamedStrategy):
    rule_class = rules.LFighter

    def __init__(
        self, *, num_malicious_nodes: Nodes = 0, output_layer: str | None = None, **options: Unpack[Options]
    ) -> None:
        rule = rules.LFighter(output_layer=output_layer)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class LASA(NamedStrategy):
    rule_class = rules.LASA

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        sparsity: float = 0.3,
        magnitude_radius: float = 2.0,
        direction_radius: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.LASA(sparsity=sparsity, magnitude_radius=magnitude_radius, direction_radius=direction_radius)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


class MixTailor(NamedStrategy):
    rule_class = rules.MixTailor

    def __init__(
        self,
        *,
        num_malicious_nodes: Nodes = 0,
        pool: Sequence[rules.Rule] | None = None,
        seed: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        rule = rules.MixTailor(pool, seed=seed, f=num_malicious_nodes)
        super().__init__(rule, num_malicious_nodes=num_malicious_nodes, **options)


# ---------------------------------------------------------------- rules whose strategies add nothing


class RuleStrategy(NamedStrategy):
    """A strategy with the parameters of its rule, where ``num_malicious_nodes`` stands for f."""

    def __init_subclass__(cls, rule: type[rules.Rule], **options: Any) -> None:
        cls.rule_class = rule
        super().__init_subclass__(**options)
        cls.__init__ = _constructor(rule)  # type: ignore[method-assign]

    def __init__(self, *, num_malicious_nodes: Nodes = 0, **options: Any) -> None:
        own = [name for name in signature(self.rule_class).parameters if name != "f" and name in options]
        given = {name: options.pop(name) for name in own}
        if self.rule_class.takes_f:
            given["f"] = num_malicious_nodes
        make: Callable[..., rules.Rule] = self.rule_class
        super().__init__(make(**given), num_malicious_nodes=num_malicious_nodes, **options)


@cache
def strategy_of(rule: type[rules.Rule]) -> type[RuleStrategy]:
    """Return a class for a rule that has none here: editors and mypy know those that are written down."""
    made: type[RuleStrategy] = new_class(rule.__name__, (RuleStrategy,), {"rule": rule})
    return made


def _constructor(rule: type[rules.Rule]) -> Callable[..., None]:
    """Return a constructor that says what it takes: mypy, which sees no more than the class, takes any keyword."""

    def __init__(self: RuleStrategy, **options: Any) -> None:  # noqa: N807
        RuleStrategy.__init__(self, **options)

    first, nodes, options = signature(PlainStrategy.__init__).parameters.values()
    own = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in signature(rule).parameters.values() if p.name != "f"]
    __init__.__signature__ = Signature([first, nodes, *own, options])  # type: ignore[attr-defined]
    return __init__


class Aksel(RuleStrategy, rule=rules.Aksel): ...


class Auror(RuleStrategy, rule=rules.Auror): ...


class AutoGM(RuleStrategy, rule=rules.AutoGM): ...


class CAF(RuleStrategy, rule=rules.CAF): ...


class CGE(RuleStrategy, rule=rules.CGE): ...


class ClippedClustering(RuleStrategy, rule=rules.ClippedClustering): ...


class CRFL(RuleStrategy, rule=rules.CRFL): ...


class CrossRound(RuleStrategy, rule=rules.CrossRound): ...


class FLAME(RuleStrategy, rule=rules.FLAME): ...


class FLANDERS(RuleStrategy, rule=rules.FLANDERS): ...


class FLDetector(RuleStrategy, rule=rules.FLDetector): ...


class FLTrust(RuleStrategy, rule=rules.FLTrust): ...


class FoolsGold(RuleStrategy, rule=rules.FoolsGold): ...


class GeometricMedianOfMeans(RuleStrategy, rule=rules.GeometricMedianOfMeans): ...


class Medoid(RuleStrategy, rule=rules.Medoid): ...


class MoNNA(RuleStrategy, rule=rules.MoNNA): ...


class NNA(RuleStrategy, rule=rules.NNA): ...


class NormClipping(RuleStrategy, rule=rules.NormClipping): ...


class ResidualReweighting(RuleStrategy, rule=rules.ResidualReweighting): ...


class RFA(RuleStrategy, rule=rules.RFA): ...


class RLR(RuleStrategy, rule=rules.RLR): ...


class SimpleClustering(RuleStrategy, rule=rules.SimpleClustering): ...


class SLSGD(RuleStrategy, rule=rules.SLSGD): ...


class SMEA(RuleStrategy, rule=rules.SMEA): ...


class ThreeSigma(RuleStrategy, rule=rules.ThreeSigma): ...


# ByzPy's name.
MeanOfMedians = MeaMed


# ---------------------------------------------------------------- pre-aggregations


class NamedWrapper(PreAggregationStrategy):
    """A wrapper that runs its `stage_class`."""

    stage_class: ClassVar[type[rules.PreAggregation]]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if hasattr(cls, "stage_class"):
            inherits = cls.stage_class.takes_f
            nodes = f"\n{_NODES} By default as many as the wrapped strategy tolerates." if inherits else ""
            first = f"strategy : Strategy\n    Ours or any other.{nodes}"
            cls.__doc__ = _docstring(cls, cls.stage_class, first, "PreAggregationStrategy")


class NNM(NamedWrapper):
    """`flwr_robust.rules.NNM` before a strategy."""

    stage_class = rules.NNM

    def __init__(
        self, strategy: Strategy, num_malicious_nodes: Nodes | None = None, **options: Unpack[WrapperOptions]
    ) -> None:
        super().__init__(strategy, rules.NNM(inherited_f(strategy, num_malicious_nodes, "NNM")), **options)


class ARC(NamedWrapper):
    """`flwr_robust.rules.ARC` before a strategy."""

    stage_class = rules.ARC

    def __init__(
        self, strategy: Strategy, num_malicious_nodes: Nodes | None = None, **options: Unpack[WrapperOptions]
    ) -> None:
        super().__init__(strategy, rules.ARC(inherited_f(strategy, num_malicious_nodes, "ARC")), **options)


class Bucketing(NamedWrapper):
    """`flwr_robust.rules.Bucketing` before a strategy."""

    stage_class = rules.Bucketing

    def __init__(
        self,
        strategy: Strategy,
        s: int | None = None,
        num_malicious_nodes: Nodes | None = None,
        seed: int | None = None,
        **options: Unpack[WrapperOptions],
    ) -> None:
        f = inherited_f(strategy, num_malicious_nodes, "Bucketing") if s is None else 0
        super().__init__(strategy, rules.Bucketing(s=s, f=f, seed=seed), **options)


class StaticClipping(NamedWrapper):
    """`flwr_robust.rules.StaticClipping` before a strategy."""

    stage_class = rules.StaticClipping

    def __init__(self, strategy: Strategy, max_norm: float, **options: Unpack[WrapperOptions]) -> None:
        super().__init__(strategy, rules.StaticClipping(max_norm), **options)


class SimilarityFilter(NamedWrapper):
    """`flwr_robust.rules.SimilarityFilter` before a strategy."""

    stage_class = rules.SimilarityFilter

    def __init__(
        self, strategy: Strategy, cosine: float = 0.999, norm: float = 0.01, **options: Unpack[WrapperOptions]
    ) -> None:
        super().__init__(strategy, rules.SimilarityFilter(cosine, norm), **options)


def inherited_f(strategy: Strategy, num_malicious_nodes: Nodes | None, owner: str) -> Nodes:
    """Return f for a wrapper: what is given, else what the wrapped strategy has.

    Raises
    ------
    ValueError
        If neither has a number of malicious nodes.
    """
    unwrap(strategy)
    if num_malicious_nodes is None:
        num_malicious_nodes = getattr(strategy, "num_malicious_nodes", None)
    if num_malicious_nodes is None:
        raise ValueError(
            f"{owner} was given no num_malicious_nodes, and {type(strategy).__name__} has none; "
            f"give it, as in {owner}({type(strategy).__name__}(...), num_malicious_nodes=2)."
        )
    return check_f(num_malicious_nodes, owner)
