"""The named strategies: the rules they run, what they share with Flower's of the same names, their docstrings."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from flwr.serverapp.strategy.multikrum import select_multikrum

import flwr_robust
from flwr_robust import (
    ARC,
    NNM,
    Bucketing,
    Bulyan,
    FedTrimmedAvg,
    GeometricMedian,
    Krum,
    Mean,
    Median,
    MultiKrum,
    RobustStrategy,
    StaticClipping,
    TrimmedMean,
    rules,
)
from flwr_robust.strategies.named import NamedWrapper
from tests.flower_messages import SHAPES, flat, models, reply, values

STRATEGIES = {stage: getattr(flwr_robust, stage.__name__, None) for stage in rules.REGISTRY.values()}
RULES = {stage: made for stage, made in STRATEGIES.items() if issubclass(stage, rules.Rule)}
# What Flower calls a parameter of the rule, beside its own name.
FLOWERS_NAMES = {MultiKrum: {"num_nodes_to_select": None}, Bulyan: {"selection_rule": None}}


def parameters(call):
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = {name: p.default for name, p in inspect.signature(call).parameters.items() if p.kind in kinds}
    return {name: default for name, default in found.items() if name not in ("self", "strategy")}


def aggregated(strategy, sent):
    arrays, _ = strategy.aggregate_train(1, [reply(node, model) for node, model in enumerate(sent)])
    assert {name: value.shape for name, value in values(arrays).items()} == SHAPES
    return flat(values(arrays))


@pytest.mark.parametrize("stage", STRATEGIES, ids=lambda stage: stage.__name__)
def test_every_rule_has_a_strategy_with_its_parameters_and_docstring(stage):
    strategy = STRATEGIES[stage]
    assert issubclass(strategy, Strategy)
    wrapper = issubclass(strategy, NamedWrapper)
    assert wrapper == issubclass(stage, rules.PreAggregation)
    expected = {name: default for name, default in parameters(stage).items() if name != "f"}
    if not wrapper or "f" in parameters(stage):
        expected["num_malicious_nodes"] = None if wrapper else 0
    assert parameters(strategy.__init__) == expected | FLOWERS_NAMES.get(strategy, {})
    for name in expected:
        assert f"{name} : " in strategy.__doc__
    assert "**options" in strategy.__doc__


@pytest.mark.parametrize("stage", RULES, ids=lambda stage: stage.__name__)
def test_a_named_strategy_runs_its_rule(stage):
    strategy, takes = RULES[stage], parameters(stage)
    seeded = {"seed": 3} if "seed" in takes else {}
    root = models(1, seed=9)[0]
    trained = {"root_fn": lambda arrays, server_round: list(root.values())} if "root" in stage.requires else {}
    made = strategy(num_malicious_nodes=2, fraction_evaluate=0.5, **seeded, **trained)
    rule = stage(**({"f": 2} if "f" in takes else {}), **seeded)
    assert repr(made.rule) == repr(rule)
    assert (made.num_malicious_nodes, made.fraction_evaluate, strategy().num_malicious_nodes) == (2, 0.5, 0)
    sent = models(11)
    # The layers that a rule sees are the arrays, under their names.
    X = np.stack([flat(model) for model in sent])
    expected = rule(X, layers=SHAPES, root=flat(root), model=np.zeros(X.shape[1]))
    np.testing.assert_allclose(aggregated(made, sent), expected, atol=1e-6)


F = 2
ALIKE = {
    "FedAvg": (lambda n: Mean(), flower.FedAvg()),
    "FedMedian": (lambda n: flwr_robust.FedMedian(), flower.FedMedian()),
    "FedTrimmedAvg": (lambda n: FedTrimmedAvg(beta=0.25), flower.FedTrimmedAvg(beta=0.25)),
    "Krum": (lambda n: Krum(num_malicious_nodes=F, num_neighbors=n - F - 2), flower.Krum(num_malicious_nodes=F)),
    "MultiKrum": (
        lambda n: MultiKrum(num_malicious_nodes=F, num_nodes_to_select=3, num_neighbors=n - F - 2),
        flower.MultiKrum(num_malicious_nodes=F, num_nodes_to_select=3),
    ),
    "Bulyan": (
        lambda n: Bulyan(num_malicious_nodes=F, selection_rule=select_multikrum),
        flower.Bulyan(num_malicious_nodes=F),
    ),
}


@pytest.mark.parametrize("name", ALIKE)
def test_with_these_arguments_the_aggregate_is_that_of_flowers_strategy(name, monkeypatch):
    ours, flowers = ALIKE[name]
    # Flower's Bulyan collects garbage after each reply, which takes seconds in a large process.
    monkeypatch.setattr("gc.collect", lambda: 0)
    for n in (11, 12, 13, 14):
        sent = models(n, seed=n)
        np.testing.assert_allclose(aggregated(ours(n), sent), aggregated(flowers, sent), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: FedTrimmedAvg(), "TrimmedMean(f=0.2)"),
        (lambda: FedTrimmedAvg(num_malicious_nodes=1), "TrimmedMean(f=1)"),
        (lambda: MultiKrum(num_malicious_nodes=1, m=3), "MultiKrum(f=1, m=3)"),
        (lambda: Bulyan(selection_rule="mean"), "Bulyan(f=0, selection='mean')"),
        (lambda: ARC(NNM(Median(num_malicious_nodes=3))), "chain(ARC(f=3), NNM(f=3), Median())"),
        (lambda: NNM(Krum(num_malicious_nodes=0.2)), "chain(NNM(f=0.2), Krum(f=0.2))"),
        (lambda: NNM(Krum(num_malicious_nodes=2), num_malicious_nodes=3), "chain(NNM(f=3), Krum(f=2))"),
        (lambda: Bucketing(Krum(num_malicious_nodes=2)), "chain(Bucketing(f=2), Krum(f=2))"),
        (lambda: Bucketing(Krum(num_malicious_nodes=2), 3), "chain(Bucketing(s=3), Krum(f=2))"),
        (lambda: StaticClipping(Median(), 3.0), "chain(StaticClipping(max_norm=3.0), Median())"),
    ],
)
def test_chains(make, rule):
    assert repr(make().rule) == rule


def test_around_ours_the_chain_is_fused_and_the_wrapped_strategy_left_as_it_was():
    inner = TrimmedMean(num_malicious_nodes=2, fraction_evaluate=0.5)
    strategy = ARC(NNM(inner))
    assert repr(strategy.rule) == "chain(ARC(f=2), NNM(f=2), TrimmedMean(f=2))"
    assert repr(inner.rule) == "TrimmedMean(f=2)"
    assert (strategy.num_malicious_nodes, strategy.fraction_evaluate) == (2, 0.5)
    sent = models(9)
    sent[0] = {name: 50 * value for name, value in sent[0].items()}
    rows = np.stack([flat(model) for model in sent])
    np.testing.assert_allclose(aggregated(strategy, sent), strategy.rule(rows), atol=1e-6)
    assert len(strategy.reports) == 1
    for wrapped in (StaticClipping(Median(), 3.0), Bucketing(Krum(num_malicious_nodes=1), s=2, seed=5)):
        fresh = rules.from_spec("static-clipping+median", args={"max_norm": 3.0})
        if wrapped.num_malicious_nodes:
            fresh = rules.chain(rules.Bucketing(s=2, seed=5), rules.Krum(1))
        np.testing.assert_allclose(aggregated(wrapped, sent), fresh(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Krum(num_malicious_nodes=-1), "whole number of rows"),
        (lambda: GeometricMedian(num_malicious_nodes=0.7), "whole number of rows"),
        (lambda: FedTrimmedAvg(beta=0.5), r"FedTrimmedAvg was given beta = 0.5; give a number in \[0, 0.5\)"),
        (lambda: MultiKrum(m=2, num_nodes_to_select=3), "two names of one number"),
        (lambda: MultiKrum(num_nodes_to_select=0), "m = 0; give None or a whole number above 0"),
        (lambda: Bulyan(selection_rule=len), "Bulyan was given selection = <built-in function len>"),
        (lambda: ARC(flower.FedAvg()), "ARC was given no num_malicious_nodes, and FedAvg has none; give it"),
        (lambda: NNM(rules.Krum(1)), "give a Flower strategy"),
        (lambda: StaticClipping(Median(), max_norm=-1), "max_norm = -1"),
        (lambda: RobustStrategy("krum"), "give a rule or chain of flwr_robust.rules"),
        (lambda: RobustStrategy(rules.NNM(1)), "give a rule or chain"),
        (lambda: RobustStrategy(Krum()), "whose .rule is one; give a rule or chain"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
